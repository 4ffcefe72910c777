"""Does vnp reproduce VirNucPro? Fetches what was published, runs both, says how far they agree.

::

    python tools/reproduce.py WORK                             against published results
    python tools/reproduce.py WORK --run-published-code        against the published code, run here

WORK is a folder on a disk with room. All files are fetched by pinned hash (the list, with where
each hash was found, is tools/reproducing/published.json). Weights and classifiers are read by vnp
as data. Nothing that is fetched is executed, unless --run-published-code says so: then the
published scripts, the modelling code in DNABERT-S's repository and the packages of the published
requirements run on this machine, in a virtual environment and with your rights. Use a machine, or
a container, where you would run any stranger's code.

The same command again goes on where the last one stopped. The golden file that it writes is for
``vnp doctor --golden`` on every other machine.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import platform
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import xopen

import vnp
from store.errors import BusyError, DataError, StoreError, UsageError
from store.io.files import explained
from store.io.replace import write_whole
from tools.reproducing import published
from tools.reproducing.agreement import features, scores, told, write_golden
from tools.reproducing.fetch import Pinned, digest_of, fetch, read_list
from tools.reproducing.published import Cost, Results
from vnp.cli.exit_codes import DATA_ERROR, DONE, of_error
from vnp.exchange.golden import TOLERANCES

FILES = Path(__file__).parent / "reproducing/published.json"
SAMPLE = "example"
_ENVIRONMENT = 8 << 30  # bytes that torch with CUDA and the rest take, roughly


def parser() -> argparse.ArgumentParser:
    """Describe the options."""
    made = argparse.ArgumentParser(
        prog="reproduce.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    made.add_argument("work", type=Path, metavar="WORK", help="folder of downloads and results")
    about = "execute the published code, and what its requirements install (see above)"
    made.add_argument("--run-published-code", action="store_true", help=about)
    about = "file for both (default: the reference set); needs --run-published-code"
    made.add_argument("--fasta", type=Path, metavar="FASTA", help=about)
    about = "300 or 500 (default): windows, and which classifier"
    made.add_argument("--segment-length", type=int, choices=(300, 500), default=500, help=about)
    about = "of vnp (default float32, as published; the published values know no other)"
    made.add_argument("--precision", choices=sorted(TOLERANCES), default="float32", help=about)
    about = "of vnp: auto (default), cpu, cuda or cuda:N; the published code takes the first GPU"
    made.add_argument("--device", default="auto", help=about)
    made.add_argument(
        "--python",
        default=sys.executable,
        metavar="PYTHON",
        help="interpreter, 3.8 to 3.11, from which the published code's environment is made",
    )
    about = (
        "interpreter of an environment that has the published requirements; nothing is installed"
    )
    made.add_argument("--environment", metavar="PYTHON", help=about)
    about = "price of this machine, to tell what a run costs"
    made.add_argument("--price-per-hour", type=float, metavar="PRICE", help=about)
    about = "another list of pinned files (a port of VirNucPro, a mirror)"
    made.add_argument("--files", type=Path, default=FILES, metavar="JSON", help=about)
    made.add_argument("--json", action="store_true", help="print the report as JSON")
    return made


@dataclass(frozen=True, slots=True)
class Plan:
    """One comparison: where its files are, and what it is of."""

    downloads: Path
    run: Path  # of this FASTA file, segment length and precision
    fasta: str  # its text
    classifier: Path
    content: dict[str, Any]  # the list of pinned files
    given: argparse.Namespace

    @property
    def recipe(self) -> str:
        """Of the store."""
        return str(self.content["recipe"])


def say(text: str) -> None:
    """Tell what is done now."""
    print(text, file=sys.stderr, flush=True)


def reproduce(given: argparse.Namespace) -> dict[str, Any]:
    """Do it all; returns the report."""
    content, pinned = read_list(given.files)
    if given.fasta is not None and not given.run_published_code:
        raise UsageError(
            "there are published results of the reference set alone: for --fasta also give "
            "--run-published-code, and read in --help what that executes"
        )
    if given.segment_length != 500 and not given.run_published_code:
        raise UsageError("the published results are of 500 bp: give --run-published-code too")
    parts = {"weights", f"classifier {given.segment_length}"}
    parts |= {"code"} if given.run_published_code else {"reference"}
    parts |= {"example"} if given.fasta is None else set()
    wanted = [file for file in pinned if file.part in parts]
    if absent := parts - {file.part for file in wanted}:
        raise UsageError(f"{given.files} lists no file for: {', '.join(sorted(absent))}")
    downloads = given.work / "downloads"
    needs_room = given.run_published_code and given.environment is None
    files = fetch(wanted, downloads, room=_ENVIRONMENT if needs_room else 0, say=say)
    paths = {file.part: path for path, file in files.items()}
    fasta = _text(paths["example"] if given.fasta is None else given.fasta)
    named = hashlib.sha256(fasta.encode()).hexdigest()[:12]
    run = given.work / f"{named}-{given.segment_length}-{given.precision}"
    classifier = paths[f"classifier {given.segment_length}"].resolve()
    plan = Plan(downloads, run, fasta, classifier, content, given)
    # Ours first: it reads every pickle as data, and refuses what is more than that.
    ours = _ours(plan)
    theirs, packages = _theirs(plan, files)
    golden = run / "golden_merged.pt"
    write_golden(theirs.merged, golden, recipe=plan.recipe)
    store = vnp.open(run / "run.zarr")
    found = features(store, golden, recipe=plan.recipe, precision=given.precision)
    tables = run / "calls" / SAMPLE
    called = scores(
        (tables / theirs.records.name, tables / theirs.segments.name),
        (theirs.records, theirs.segments),
    )
    golden_check = (
        f"vnp doctor --golden {golden} --fasta {run / published.INPUT} "
        f"--segment-length {given.segment_length} --weights {downloads / 'weights'}"
    )
    report = {
        "reproduced": called.reproduced and all(band.reproduced for band in found),
        "against": "published code, run here" if given.run_published_code else "published results",
        "records": store.n_rows,
        "features": [asdict(band) for band in found],
        "scores": asdict(called) | {"reproduced": called.reproduced},
        "cost": {
            name: None if cost is None else asdict(cost)
            for name, cost in (("vnp", ours), ("published", theirs.cost))
        },
        "precision": given.precision,
        "device": given.device,
        "machine": platform.platform(),
        "vnp": vnp.__version__,
        "published_packages": packages,
        "files": {
            str(file.path): {"sha256": digest_of(path, "sha256"), "url": file.url}
            for path, file in files.items()
        },
        "golden": str(golden),
        "golden_check": golden_check,
    }
    write_whole(run / "report.json", json.dumps(report, indent=1).encode())
    costs = [("vnp", ours), ("published", theirs.cost)]
    report["lines"] = [
        *told(found, called),
        *(_priced(name, cost, store.n_rows, given.price_per_hour) for name, cost in costs if cost),
        f"golden file: {golden}",
        f"check another machine with: {golden_check}",
        f"all of it: {run / 'report.json'}",
        "vnp reproduces the published tool here"
        if report["reproduced"]
        else "vnp does NOT reproduce the published tool here",
    ]
    return report


def _text(path: Path) -> str:
    """Text of a FASTA file, decompressed."""
    try:
        with xopen.xopen(path, "rt") as file:
            text = str(file.read())
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if not text.startswith(">"):
        raise DataError(f"{path} is not FASTA, which is all that the published code reads")
    return text


def _ours(plan: Plan) -> Cost | None:
    """Embed and call with vnp; returns what it took, None if it went on with an earlier run."""
    plan.run.mkdir(parents=True, exist_ok=True)
    store, kept = plan.run / "run.zarr", plan.run / "vnp_cost.json"
    fasta = plan.run / published.INPUT
    write_whole(fasta, plan.fasta.encode())
    fresh = not store.exists()
    say(f"running vnp on {store}")
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    vnp.append(
        store,
        fasta,
        sample=SAMPLE,
        create=True,
        recipe=plan.recipe,
        segment_length=plan.given.segment_length,
        existing="skip",
    )
    embedded = vnp.embed(
        store,
        in_process=True,
        device=plan.given.device,
        precision=plan.given.precision,
        weights=plan.downloads / "weights",
    )
    if not embedded.complete:
        reasons = "; ".join(embedded.problems) or "it was interrupted"
        raise DataError(f"vnp did not fill {store}: {reasons}; run this again to go on")
    vnp.predict(store, plan.classifier, output=plan.run / "calls", device=plan.given.device)
    if fresh:
        after = resource.getrusage(resource.RUSAGE_SELF)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        cost = Cost(time.monotonic() - began, spent, after.ru_maxrss * 1024)
        write_whole(kept, json.dumps(asdict(cost)).encode())
    return Cost(**json.loads(kept.read_text())) if kept.exists() else None


def _theirs(plan: Plan, files: dict[Path, Pinned]) -> tuple[Results, list[str]]:
    """Results of the published code, and the packages with which it ran."""
    code, given = plan.content["code"], plan.given
    if not given.run_published_code:
        found = {path.name: path for path, file in files.items() if file.part == "reference"}
        merged = tuple(path for name, path in sorted(found.items()) if name.endswith("_merged.pt"))
        return Results(
            merged,
            found["prediction_results.txt"],
            found["prediction_results_highestscore.csv"],
            None,
        ), []
    say("--run-published-code: code of others is executed now")
    python = given.environment or published.environment(
        given.work / "environment",
        python=given.python,
        requirements=plan.downloads / "code" / code["requirements"],
        also=code["also"],
        without=code["without"],
        say=say,
    )
    results = published.run(
        plan.run / "published",
        python=python,
        downloads=plan.downloads,
        code=code,
        fasta=plan.fasta,
        segment_length=given.segment_length,
        classifier=plan.classifier,
        say=say,
    )
    return results, published.versions(python)


def _priced(name: str, cost: Cost, records: int, price: float | None) -> str:
    each = 1000 * cost.seconds / max(records, 1)
    line = (
        f"{name}: {cost.seconds:,.1f} s with loading the models ({each:,.1f} s per 1,000 records), "
        f"{cost.cpu_seconds:,.1f} s of processors, {cost.peak_bytes / 1e9:.1f} GB of memory"
    )
    return (
        line if price is None else f"{line}; {cost.seconds / 3600 * price:.4f} at {price} an hour"
    )


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Hold the folder: two runs in it would write the same files."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"another run is at work in {work}: wait, or name another folder"
            ) from None
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and print what was found; the exit codes are vnp's, 1 also for what differs."""
    given = parser().parse_args(arguments)
    try:
        given.work = given.work.resolve()
        with _alone(given.work):
            report = reproduce(given)
    except (StoreError, OSError, KeyboardInterrupt) as error:
        said = explained(error) if isinstance(error, OSError) else str(error) or "interrupted"
        print(f"reproduce.py: {said}", file=sys.stderr)
        return of_error(error)
    lines = report.pop("lines")
    print(json.dumps(report) if given.json else "\n".join(lines))
    return DONE if report["reproduced"] else DATA_ERROR


if __name__ == "__main__":
    sys.exit(main())
