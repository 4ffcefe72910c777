"""Run the tests of readers, exports and the store with the oldest and the newest packages allowed.

``python tools/check_readers.py [--python python3.11 ...] [--only oldest|newest] [-- PYTEST ...]``

For each Python (default: this one): an environment with the lowest versions that the bounds in
pyproject.toml allow (found by `uv`), and one with the newest that pip finds. Neither has torch: the
tests below need none. Prints a line of the table in docs/install.md for each; ends with 1 if a test
failed. Packages come from the index: minutes, and not what continuous integration does each time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "packaging"))

from requirements import requirements  # noqa: E402

EXTRAS = ["read", "export"]
TOOLS = ["pytest", "hypothesis", "pyfive", "jsonschema", "PyYAML", "pytest-xdist"]
TESTS = [
    "tests/store/read",
    "tests/store/hdf5",
    "tests/store/zarr",
    "tests/store/test_convert.py",
    "tests/store/test_memory_store.py",
    "tests/store/test_samples.py",
    "tests/test_format1.py",
    "tests/vnp/exchange/test_export.py",
    "tests/vnp/exchange/test_export_formats.py",
    "tests/vnp/exchange/test_import_anndata_x.py",
    "tests/vnp/exchange/test_import_columns.py",
    "tests/vnp/exchange/test_import_embeddings.py",
]
SHOWN = ("zarr", "anndata", "pandas", "numpy", "xarray", "dask")


def check(python: str, which: str, folder: Path, passed_on: list[str]) -> bool:
    """Make an environment and run the tests in it; print a line of the table."""
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    own = str(folder / "bin/python")
    needed = requirements(EXTRAS)
    pip = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if which == "oldest":
        lowest = ["--resolution", "lowest-direct", "--only-binary", ":all:"]
        install = ["uv", "pip", "install", "--quiet", "--python", own, *lowest]
    else:
        install = pip
    subprocess.run([*install, *needed], check=True)
    subprocess.run([*pip, *TOOLS], check=True)
    done = subprocess.run(
        [own, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS, *passed_on],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    code = "import importlib.metadata as m, json, platform; print(json.dumps(["
    code += f"platform.python_version(), *map(m.version, {SHOWN})]))"
    found = subprocess.run([own, "-c", code], check=True, capture_output=True, text=True)
    version, *versions = json.loads(found.stdout)
    print(f"| {version} | {which} | {' | '.join(versions)} |", flush=True)
    print(f"<!-- {done.stdout.splitlines()[-1]} -->", flush=True)
    if done.returncode:
        print(done.stdout, done.stderr)
    return done.returncode == 0


def main() -> int:
    """Check every Python that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", action="append", help="a Python to check with (repeatable)")
    parser.add_argument("--only", choices=("oldest", "newest"), help="one of the two")
    parser.add_argument("pytest", nargs="*", help="options of pytest, after --")
    given = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory(prefix="vnp-readers-") as name:
        for number, python in enumerate(given.python or [sys.executable]):
            for which in [given.only] if given.only else ["oldest", "newest"]:
                good &= check(python, which, Path(name) / f"{number}-{which}", given.pytest)
    return not good


if __name__ == "__main__":
    sys.exit(main())
