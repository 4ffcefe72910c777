"""What `vnp view` costs on a large store: first paint, searches, memory; in Chromium.

The store is synthetic (`tools/synthetic_store.py` says what of it is real). The server is a process
of its own; paints and searches are timed by the page itself, in Chromium. Run::

    python -m tools.bench_view --rows 1e7 --contigs 3e6 --folder DIR
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

QUERIES: tuple[dict[str, Any], ...] = (
    {},
    {"text": "7"},
    {"text": "K"},
    {"text": "141_1"},
    {"text": "k141_12"},
    {"text": "1234567"},
    {"text": "absent"},
    {"text": "99", "min_length": 2000, "min_score": 0.5, "viral": "true"},
    {"sample": "sample_100", "text": "1"},
    {"sort": "bases", "descending": "true"},
    {"sort": "score"},
    {"text": "7", "sort": "score"},
    {"sort": "viral"},
    {"sort": "contig"},
    {"text": "7", "sort": "contig", "descending": "true"},
    {"offset": 1_000_000, "limit": 100},
)
TYPED = ("7", "k", "k141_12", "1234567")
_REPEATS = 5


@dataclass(frozen=True)
class Server:
    """A ``vnp view`` that runs."""

    url: str
    pid: int
    seconds: float  # until it printed the address

    def memory(self) -> dict[str, int]:
        """Memory in MB: at most so far, and now without and with mapped files."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        found = {line.split(":")[0]: line.split()[1] for line in lines if line[:2] in ("Vm", "Rs")}
        names = {"VmHWM": "peak", "RssAnon": "anonymous", "RssFile": "files"}
        return {shown: int(found[name]) // 1000 for name, shown in names.items()}

    def processor(self) -> float:
        """Seconds of processor time."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(store: Path) -> Iterator[Server]:
    """Run ``vnp view``."""
    command = [
        sys.executable,
        "-m",
        "vnp",
        "view",
        str(store),
        "--port",
        "0",
        "--json",
        "--no-umap",
    ]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        try:
            url = json.loads(run.stdout.readline())["url"]
            yield Server(url, run.pid, time.perf_counter() - began)
        finally:
            run.terminate()
            ended = time.perf_counter()
            print(f"ended with {run.wait(30)} in {time.perf_counter() - ended:.2f} s")


def asking(server: Server) -> Callable[[str, Mapping[str, Any]], Any]:
    """Return what asks the server, with the cookie."""
    opener = _opener(server)
    home = server.url.partition("?")[0]

    def ask(name: str, query: Mapping[str, Any]) -> Any:
        with opener.open(f"{home}api/{name}?{urlencode(query)}", timeout=600) as answer:
            return json.load(answer)

    return ask


def _opener(server: Server) -> urllib.request.OpenerDirector:
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    opener.open(server.url).read()
    return opener


def measure_first(server: Server, browser: Any) -> None:
    """Open the page at once, while the index is made, and wait for the index and the map."""
    began = time.perf_counter()
    page = browser.new_page()
    page.goto(server.url)
    page.wait_for_selector("h2")
    print(f"first page, while the contigs are read: {json.dumps(_paints(page))}", flush=True)
    page.wait_for_selector("table.contigs tbody tr button.open")
    print(f"  first contigs listed: {time.perf_counter() - began:.1f} s", flush=True)
    page.wait_for_selector("#viral h2:has-text('What is viral')", timeout=600_000)
    said = f"{time.perf_counter() - began:.1f} s, {server.processor():.1f} s of the processor"
    print(f"  every contig read and called: {said}, MB {server.memory()}", flush=True)
    page.wait_for_selector("html[data-ready]", timeout=600_000)
    said = f"{time.perf_counter() - began:.1f} s, {server.processor():.1f} s of the processor"
    print(f"  map drawn: {said}, MB {server.memory()}", flush=True)
    page.close()


def measure_paints(server: Server, browser: Any) -> None:
    """Open the page again and again."""
    found = []
    for _ in range(_REPEATS):
        page = browser.new_context().new_page()
        page.goto(server.url)
        page.wait_for_selector("table.contigs tbody tr button.open")
        found.append(_paints(page))
        page.context.close()
    medians = {name: round(statistics.median(each[name] for each in found)) for name in found[0]}
    print(f"page opened {_REPEATS} times, median ms: {json.dumps(medians)}", flush=True)


def measure_typing(server: Server, browser: Any) -> None:
    """Type into the search field; the page says when its table has changed."""
    page = browser.new_page()
    page.goto(server.url)
    page.wait_for_selector("html[data-ready]", timeout=600_000)
    for text in TYPED:
        seconds = []
        for _ in range(_REPEATS):
            page.evaluate(_TYPE, "absent")
            seconds.append(page.evaluate(_TYPE, text))
        print(f"typed {text!r} (the field waits for 120 ms): {_spread(seconds)}", flush=True)
    page.close()


def measure_queries(server: Server) -> None:
    """Ask for pages of contigs, whole requests without a browser."""
    ask = asking(server)
    for query in QUERIES:
        before, seconds = server.processor(), []
        for _ in range(_REPEATS):
            began = time.perf_counter()
            total = ask("contigs", {"limit": 25, **query})["total"]
            seconds.append(1e3 * (time.perf_counter() - began))
        spent = 1e3 * (server.processor() - before) / _REPEATS
        print(
            f"{json.dumps(query)}: {total:,} found, {_spread(seconds)}, processor {spent:.0f} ms",
            flush=True,
        )
    print(f"after these, MB: {server.memory()}")


def measure_neighbours(server: Server) -> None:
    """Compare a record with all others, and ask for contigs meanwhile."""
    opener = _opener(server)
    ask, home = asking(server), server.url.partition("?")[0]
    before, began = server.processor(), time.perf_counter()
    first, seconds = 0.0, []
    with opener.open(f"{home}api/neighbours?row=5", timeout=600) as answer:
        for line in answer:
            if not line.startswith(b"data: "):
                continue
            part = json.loads(line[6:])
            if not part.get("records") or part["done"] == part["of"]:
                continue
            first = first or time.perf_counter() - began
            asked = time.perf_counter()
            ask("contigs", {"text": "7", "limit": 25})
            seconds.append(1e3 * (time.perf_counter() - asked))
    said = (
        f"{time.perf_counter() - began:.1f} s, {server.processor() - before:.1f} s of the processor"
    )
    print(f"similar records among {part['of']:,}: {said}; first shown after {first:.1f} s")
    print(f"  a search for '7' meanwhile: {_spread(seconds)}; after these, MB: {server.memory()}")


def measure_idle(server: Server, browser: Any, *, seconds: int = 30) -> None:
    """Leave a page open."""
    page = browser.new_page()
    page.goto(server.url)
    page.wait_for_selector("html[data-ready]", timeout=600_000)
    page.wait_for_timeout(15_000)  # by then it looks as seldom as it ever does
    before = server.processor()
    page.wait_for_timeout(1000 * seconds)
    share = (server.processor() - before) / seconds
    print(f"a page that is left open: {100 * share:.1f} % of a core of the server")
    page.close()


_TYPE = """
(text) => new Promise((done) => {
  const field = document.getElementById("search");
  const began = performance.now();
  const watcher = new MutationObserver(() => {
    watcher.disconnect();
    requestAnimationFrame(() => done(performance.now() - began));
  });
  watcher.observe(document.querySelector("table.contigs tbody"), { childList: true });
  field.value = text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
})
"""


def _paints(page: Any) -> dict[str, int]:
    """Milliseconds since the navigation began."""
    paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    return {
        "first contentful paint": round(page.evaluate(paint)),
        "what was waited for": round(page.evaluate("performance.now()")),
    }


def _spread(milliseconds: list[float]) -> str:
    return f"median {statistics.median(milliseconds):.0f} ms, at most {max(milliseconds):.0f} ms"


def main() -> None:
    """Make the store, serve it, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=float, default=1e7)
    parser.add_argument("--contigs", type=float, default=3e6)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where to make the store (default: temporary)")
    parser.add_argument("--store", type=Path, help="measure this store")
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    folder, path = None, options.store
    try:
        if path is None:
            from tools.synthetic_store import make_store

            folder = Path(tempfile.mkdtemp(dir=options.folder))
            path = folder / "run.zarr"
            rows, contigs = int(options.rows), int(options.contigs)
            make_store(
                path, rows=rows, samples=options.samples, workers=100, filled=0.6, certified=True,
                contigs=contigs,
            )  # fmt: skip
        print(f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()}")
        with serving(path) as server, sync_playwright() as driver:
            print(f"{path} served after {server.seconds:.1f} s")
            browser = driver.chromium.launch(
                executable_path=options.chromium, args=["--no-sandbox", "--disable-gpu"]
            )
            measure_first(server, browser)
            measure_paints(server, browser)
            measure_typing(server, browser)
            measure_queries(server)
            measure_neighbours(server)
            measure_idle(server, browser)
            browser.close()
        print(f"load {os.getloadavg()}")
    finally:
        if folder is not None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
