"""Install the wheel of vnp by itself, use it, and see that what it lacks is named by its extra.

``python tools/check_package.py [--python python3.11 --python python3.13 ...] [--wheel FILE]
[--embed]``

For each Python (default: this one): a fresh environment, the wheel (built first, unless one is
named) and what it depends on, nothing else; then `STEPS`, in one process; then the program itself,
the man page and the completions. With ``--embed`` the extra is added to that environment, gigabytes
where torch brings CUDA, and what the steps have made is filled: `FILLING`. Needs `hatchling` to
build.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What is done, the exit code, and words of its output or of its error.
STEPS: tuple[tuple[str, int, str], ...] = (
    ("--version", 0, "."),
    ("init run.zarr --recipe demo", 0, ""),
    ("append run.zarr EXAMPLE", 0, "45 records"),
    ("status run.zarr", 0, "0 of 45 rows"),
    ("verify run.zarr", 3, "45 rows"),
    ("convert run.zarr run.h5", 0, ""),
    ("status run.h5 --json", 0, '"rows": 45'),
    ("export run.zarr --to run.npy --incomplete nan", 0, ""),
    ("models", 0, "esm2_3b"),
    ("launch slurm run.zarr --workers 2 --dry-run", 0, "sbatch"),
    ("completion bash", 0, "_shtab_vnp"),
    ("append run.zarr x.bam", 1, "'vnp[bam]'"),
    ("embed run.zarr", 2, "'vnp[embed]'"),
    ("report run.zarr", 2, "'vnp[embed]'"),
    ("export run.zarr --to x.parquet --incomplete nan", 2, "'vnp[export]'"),
    ("export run.zarr --to x.zarr --incomplete nan", 2, "'vnp[read]'"),
    ("export run.zarr --to x.lance --incomplete nan", 2, "'vnp[lance]'"),
    ("export run.zarr --to x.faiss --incomplete nan", 2, "'vnp[faiss]'"),
    ("launch ray run.zarr --workers 1", 2, "'vnp[ray]'"),
    ("status s3://bucket/run.zarr", 2, "'vnp[s3]'"),
)
# What is done with the extra `embed`.
FILLING: tuple[tuple[str, int, str], ...] = (
    ("embed run.zarr", 0, "complete: every row is certified"),
    ("embed run.h5", 0, "complete: every row is certified"),
    ("verify run.zarr", 0, "45 rows: 0 findings"),
    ("verify run.h5", 0, "45 rows: 0 findings"),
    ("export run.h5 --to full.npy", 0, "45 rows"),
    ("report run.zarr", 0, "run.zarr.report.html"),
    ("export run.zarr --to x.parquet", 2, "'vnp[export]'"),
)
# Runs the steps in the folder it is started in, and reads the store as a library; prints a line of
# JSON for each step: exit code and what it printed.
STEPPER = r"""
import contextlib, gzip, io, json, sys
from importlib.resources import files
import numpy as np
import store, vnp
from store.errors import UsageError
from vnp.cli.main import main

example = str(files("vnp") / "data/lambda_phage.fa.gz")
open("x.bam", "wb").write(gzip.compress(b"BAM\1" + bytes(8)))
for line in json.loads(sys.stdin.read()):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = main([example if word == "EXAMPLE" else word for word in line.split()])
        except SystemExit as end:
            code = end.code or 0
    print(json.dumps([code, said.getvalue()]))

for name in ("run.zarr", "run.h5"):
    run = vnp.open(name)
    assert run.read("demo_esm2", 0, 45).shape == (45, 128) and not run.filled("demo_esm2").any()
    view = run.merged()
    assert view.shape == (45, sum(model.dim for model in run.schema.models)), view.shape
    assert np.isnan(view[3:9]).all() and run["demo_esm2"][[1, 4]].shape == (2, 128)
    assert set(run.column("protein", 0, 1).decode()[0]) <= set("ACDEFGHIKLMNPQRSTVWYX")
    assert vnp.status(run).rows == 45
    try:
        run.obs
    except UsageError as error:
        assert "'vnp[read]'" in str(error), error
    else:
        raise AssertionError("pandas is here")
heavy = {"torch", "pandas", "zarr", "anndata", "dask", "numba"} & set(sys.modules)
assert not heavy, heavy
"""


def wrong(answers: str) -> list[str]:
    """Say which of the answers of `STEPPER` are not what `STEPS` expect."""
    found = [json.loads(line) for line in answers.splitlines()]
    if len(found) != len(STEPS):
        return [f"{len(STEPS)} steps, {len(found)} answers"]
    compared = zip(STEPS, found, strict=True)
    return [fault for step, (code, said) in compared for fault in fault_of(step, code, said)]


def fault_of(step: tuple[str, int, str], code: int, said: str) -> list[str]:
    """Say what is wrong with the outcome of a step; nothing if it is as expected."""
    line, expected, words = step
    if code == expected and words in said:
        return []
    return [f"{line}: exit code {code}, expected {expected} and {words!r}: {said[:2000]}"]


def steps() -> str:
    """What `STEPPER` reads."""
    return json.dumps([line for line, _, _ in STEPS])


def build(folder: Path) -> Path:
    """Build the wheel."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("*.whl"))


def install(folder: Path, what: str) -> None:
    """Install into the environment; print what is in it then."""
    pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check"]
    began = time.perf_counter()
    subprocess.run([*pip, "install", "--quiet", what], check=True)
    seconds = time.perf_counter() - began
    listed = subprocess.run(
        [*pip, "list", "--format=json"], check=True, capture_output=True, text=True
    )
    names = [f"{line['name']} {line['version']}" for line in json.loads(listed.stdout)]
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    print(f"{what}: installed in {seconds:.0f} s, {size:.0f} MiB: {', '.join(names)}", flush=True)


def fill(folder: Path, wheel: Path) -> list[str]:
    """Add the extra `embed` to the environment and fill what the steps made there."""
    install(folder, f"{wheel}[embed]")
    problems = []
    for step in FILLING:
        done = subprocess.run(
            [str(folder / "bin/vnp"), *step[0].split()],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd=folder / "work", check=False,
        )  # fmt: skip
        problems += fault_of(step, done.returncode, done.stdout)
    return problems


def check(python: str, wheel: Path, folder: Path, *, embed: bool) -> list[str]:
    """Install into a fresh environment and use it; return what is wrong."""
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    own = folder / "bin/python"
    install(folder, str(wheel))
    work = folder / "work"
    work.mkdir()
    done = subprocess.run(
        [str(own), "-c", STEPPER],
        input=steps(), capture_output=True, text=True, cwd=work, check=False,
    )  # fmt: skip
    problems = wrong(done.stdout) + ([done.stderr] if done.returncode else [])
    said = subprocess.run(
        [str(folder / "bin/vnp"), "--version"], capture_output=True, text=True, check=False
    )
    if said.stdout.strip() != wheel.name.split("-")[1]:
        problems.append(f"vnp --version says {said.stdout!r} {said.stderr}")
    for place in ("man/man1/vnp.1", "bash-completion/completions/vnp"):
        if not (folder / "share" / place).is_file():
            problems.append(f"share/{place} is missing")
    return problems + (fill(folder, wheel) if embed else [])


def main() -> int:
    """Check under every Python that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", action="append", help="a Python to check with (repeatable)")
    parser.add_argument("--wheel", type=Path, help="the wheel (default: built from this tree)")
    parser.add_argument("--embed", action="store_true", help="then add the extra, and embed")
    given = parser.parse_args()
    problems = []
    with tempfile.TemporaryDirectory(prefix="vnp-package-") as name:
        folder = Path(name)
        wheel = given.wheel.resolve() if given.wheel else build(folder)
        for number, python in enumerate(given.python or [sys.executable]):
            fresh = folder / str(number)
            found = check(python, wheel, fresh, embed=given.embed)
            shutil.rmtree(fresh)
            done = len(STEPS) + (len(FILLING) if given.embed else 0)
            print(f"{python}: {done} steps, {len(found)} wrong", flush=True)
            problems += found
    print("\n".join(problems))
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
