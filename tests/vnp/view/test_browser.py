"""The page in a browser, while workers fill the store and samples and scores come."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.open import open_store
from tests.vnp.report.conftest import Opened
from tests.vnp.view.stores import append, keep_scores
from vnp.cli.main import main

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
GATED = ROOT / "tests/vnp/launch/gated.py"
LAMBDA = ROOT / "vnp/data/lambda_phage.fa.gz"
HOSTILE = "<img/src=x/onerror=window.hacked=1>"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An unfilled store of a demo model and one that waits at a gate; contigs of an odd name."""
    path = tmp_path / "run.zarr"
    letters = "".join(gzip.decompress(LAMBDA.read_bytes()).decode().split("\n")[1:])
    fasta = tmp_path / "sample.fa"
    parts = [letters[at : at + 5000] for at in range(0, len(letters), 5000)]
    fasta.write_text("".join(f">{HOSTILE}{n}\n{part}\n" for n, part in enumerate(parts)))
    words = ["--model", "demo_esm2", "--model", "gated", "--plugin", str(GATED)]
    assert main(["init", str(path), *words, "--block-rows", "8", "-q"]) == 0
    assert main(["append", str(path), str(fasta), "-q"]) == 0
    return path


@contextlib.contextmanager
def command(*words: str, gate: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VNP_TEST_GATE": str(gate)}
    run = subprocess.Popen(
        [sys.executable, "-m", "vnp", *words],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    try:
        yield run
    finally:
        run.kill()
        run.communicate()


def test_the_page_follows_what_happens_to_the_store(
    store: Path, tmp_path: Path, browser: Any
) -> None:
    gate = tmp_path / "gate"
    context = browser.new_context(viewport={"width": 1100, "height": 1400})
    words = ["view", str(store), "--port", "0", "--json", "--no-umap"]
    with command(*words, gate=gate) as run:
        assert run.stdout is not None
        address = json.loads(run.stdout.readline())["url"]
        home = address.partition("?")[0]
        view = Opened(context.new_page())
        page = view.page
        page.set_default_timeout(60_000)
        page.goto(address)
        page.wait_for_selector("html[data-ready]")
        assert page.url == home, "the token has left the address"
        assert page.evaluate("document.cookie") == "", "no script can read it"
        page.locator(".pill", has_text="Incomplete").wait_for()
        page.locator("header .live", has_text="No worker running").wait_for()
        page.locator("#operator summary").click()

        worker = ("worker", str(store), "-q", "--no-linger")
        with command(*worker, "--model", "demo_esm2", gate=gate) as filling:
            assert filling.wait(120) == 0
        fill = page.locator("#operator-body", has_text=re.compile(r"demo_esm2 100\s%.*gated 0\s%"))
        fill.wait_for()
        models = ("--model", "gated", "--plugin", str(GATED))
        with command(*worker, *models, gate=gate) as filling:
            page.locator("header .live", has_text="1 worker running").wait_for()
            # It waits in the middle of a block, and the page answers.
            page.locator("#search").fill("HACKED=1>7")
            page.locator("#contigs .status", has_text=re.compile("1 of 1 contig$")).wait_for()
            page.locator(".contigs tbody button.open").click()
            page.locator(".contigs tr.track svg").first.wait_for()
            page.locator("#search").fill("")
            page.locator(".pill", has_text="Incomplete").wait_for()
            gate.touch()
            assert filling.wait(120) == 0
        page.locator(".pill.complete", has_text="Complete").wait_for()
        page.locator("#operator-body", has_text=re.compile(r"gated 100\s%")).wait_for()

        opened = open_store(store)
        title = page.locator("#map h3", has_text=f"PCA of {opened.n_rows} certified records")
        title.wait_for()
        page.locator("#map canvas").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.locator("#map h3", has_text="Most similar to").wait_for()
        every = f"{opened.n_rows} of {opened.n_rows} certified records."
        page.locator("#map .searched", has_text=every).wait_for()
        shown = [text.strip() for text in page.locator("#map table tbody th").all_inner_texts()]
        chosen = page.locator("#map h3", has_text="Most similar to").inner_text()
        ids = opened.column("id").decode()
        row = next(n for n, each in enumerate(ids) if each in chosen)
        hits = opened.search(opened.merged()[row], 21).rows[0]
        assert shown == [ids[hit] for hit in hits.tolist() if hit != row][:20]

        keep_scores(opened)
        page.locator("#viral h2", has_text="What is viral").wait_for()
        page.locator("#contigs th", has_text="Mean score2").wait_for()
        append(opened, "later", 30)
        page.locator("#viral .samples", has_text="later").wait_for()
        page.locator("#sample option", has_text="later").wait_for(state="attached")
        page.locator("#contigs .status", has_text="contig").wait_for()
        page.locator("#search").fill("contig_5")
        page.locator(".contigs tbody th", has_text="contig_5").wait_for()

        assert page.evaluate("window.hacked") is None
        assert view.trouble == []
        assert {url for url in view.asked if not url.startswith((home, "data:", "blob:"))} == set()
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 130
        page.locator("p.trouble", has_text="does not answer").wait_for()
    context.close()
    filled = opened.merged()[: opened.schema.samples[0].stop]
    assert np.isfinite(filled).all(), "the workers were not disturbed"


def test_another_site_gets_nothing_from_the_server(
    store: Path, browser: Any, tmp_path: Path
) -> None:
    """A page of another port of this machine, which is the same site for cookies."""
    with (
        command("view", str(store), "--port", "0", "--json", gate=tmp_path / "gate") as run,
        command("view", str(store), "--port", "0", "--json", gate=tmp_path / "gate") as other,
    ):
        assert run.stdout is not None
        assert other.stdout is not None
        address = json.loads(run.stdout.readline())["url"]
        elsewhere = json.loads(other.stdout.readline())["url"]
        context = browser.new_context()
        context.new_page().goto(address)
        page = context.new_page()
        page.goto("about:blank")
        home = address.partition("?")[0]
        assert context.request.get(f"{home}api/overview").status == 200, "the cookie is there"
        page.goto(elsewhere)
        read = f"fetch('{home}api/overview', {{credentials: 'include'}}).then(() => 1, () => 0)"
        assert page.evaluate(read) == 0
        context.close()
