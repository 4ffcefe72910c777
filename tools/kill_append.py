"""Kill an appender of an HDF5 store before, and in the middle of, each of its file operations.

    python -m tools.kill_append [--stride N]

A child process appends 40 rows to a copy of a small store, whose two samples share a block with
each other and with the new rows, and ends at its k-th operation that changes a file (write,
truncate, sync, link, unlink), for k = 0, N, 2N, ...; a write is cut in half every other time.
After each kill the store is opened: it must have the old rows or all of the new ones, every old
row and every certified embedding must be as it was, `verify` must find no damage, and the append
must succeed when it is run again. Plain h5py must either read the old rows or be refused.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from store.hdf5.file import reading
from store.hdf5.journal import is_blanked
from store.open import open_store
from store.store import Store
from tests.rows import MODELS, append, filled_store

KILLED = 9
OPERATIONS = ("pwrite", "ftruncate", "fsync", "link", "unlink", "write", "writev")
MODEL = MODELS[0].name


def die_at(operation: int, *, torn: bool) -> None:
    """End this process when its main thread comes to the given operation on a file."""
    left = operation

    def counted(name: str) -> None:
        original = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            if threading.current_thread() is threading.main_thread():
                left -= 1
                if left < 0:
                    if torn and name == "pwrite" and len(arguments[1]) > 1:
                        half = memoryview(arguments[1])[: len(arguments[1]) // 2]
                        original(arguments[0], half, arguments[2])
                    os._exit(KILLED)
            return original(*arguments, **options)

        setattr(os, name, call)

    for name in OPERATIONS:
        counted(name)


def run_killed(path: Path, operation: int, *, torn: bool) -> bool:
    """Append in a child that ends at the given operation; True if it got through."""
    child = os.fork()
    if child == 0:
        try:
            store = open_store(path)
            die_at(operation, torn=torn)
            append(store, "third", 40, step=11)
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - a child must not run the parent's code
            print(f"child: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, KILLED):
        raise SystemExit(f"the child ended with {code} at operation {operation}")
    return code == 0


def facts(store: Store, rows: int) -> dict[str, Any]:
    """Everything that a store says about its first rows."""
    names = ("id", "contig", "sample", "start", "digest", "twin", "nucleotide", "protein")
    columns = {name: store.column(name, 0, rows) for name in (*names, "contig_length")}
    return {
        **{
            name: values.tolist() if not isinstance(values, np.ndarray) else values.tobytes()
            for name, values in columns.items()
        },
        "filled": store.filled(MODEL)[:rows].tobytes(),
        "embeddings": store.read(MODEL, 0, rows).tobytes(),
    }


def check(path: Path, before: dict[str, Any], rows: int) -> int:
    """Compare the store with what it was; return its rows."""
    try:
        with h5py.File(path, "r") as tree:
            plain = tree["obsm/X_merged"].shape[0]
            if plain not in (rows, rows + 40):
                raise SystemExit(f"plain h5py sees {plain} rows")
            tree["obs/protein"][:]
    except OSError:
        with reading(path) as fd:
            if not is_blanked(fd):
                raise
    store = open_store(path)
    if store.n_rows not in (rows, rows + 40):
        raise SystemExit(f"{store.n_rows} rows after the kill")
    now = facts(store, rows)
    for name, value in before.items():
        if now[name] != value:
            raise SystemExit(f"{name} is not what it was")
    damage = list(store.verify())
    if damage:
        raise SystemExit(f"findings: {damage}")
    return store.n_rows


def main() -> int:
    """Kill, check, repeat."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stride", type=int, default=1, help="test every N-th operation")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pristine = filled_store(Path(folder) / "pristine.h5", rows=57).path
        before = facts(open_store(pristine), 57)
        copy = Path(folder) / "run.h5"
        kills = committed = operation = 0
        through = False
        while not through:
            for torn in (False, True):
                shutil.rmtree(f"{copy}.vnp", ignore_errors=True)
                shutil.copyfile(pristine, copy)
                through = run_killed(copy, operation, torn=torn)
                rows = check(copy, before, 57)
                if rows == 57:
                    append(open_store(copy), "third", 40)
                    check(copy, before, 57)
                    if through:
                        raise SystemExit("the append was lost")
                kills += not through
                committed += rows > 57 and not through
            operation += options.stride
        print(
            f"{kills} kills at {operation - options.stride} operations, {committed} of them after "
            "the commit: nothing was lost"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
