"""An appender killed before each of its file operations: the committed rows always stand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from store.io.files import DiskFullError
from store.open import create_store, open_store
from store.zarr import transaction
from tests.rows import MODELS, append, batch, expected, publish

pytestmark = pytest.mark.slow

SCRIPT = """
import os, sys
from pathlib import Path
import store.zarr.transaction as transaction
from store.io.files import DiskFullError
from store.open import create_store, open_store
from tests.rows import append

left = int(sys.argv[2])
def count_down(owner, name):
    original = getattr(owner, name)
    def counted(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return original(*args, **kwargs)
    setattr(owner, name, counted)
count_down(transaction, "publish_replace")
count_down(transaction, "write_staged")
count_down(transaction, "fsync_dir")
count_down(transaction._Moves, "move")
store = open_store(Path(sys.argv[1]))
append(store, "b", 40, step=11)
print("done")
"""


def kill_after(path: Path, operations: int) -> bool:
    """Append in a process that ends after so many operations; True if it got through."""
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), str(operations)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert run.returncode in (0, 9), run.stderr
    return run.returncode == 0


def test_a_kill_at_every_operation_loses_nothing(tmp_path: Path) -> None:
    store = create_store(tmp_path / "run.zarr", models=MODELS, segment_length=500, block_rows=16)
    append(store, "a", 21)
    publish(store, "small", 0)
    publish(store, "small", 1)
    rows_a = batch("a", 0, 21)
    operations, through = 0, False
    while not through:
        through = kill_after(store.path, operations)
        again = open_store(store.path)
        assert again.n_rows == (61 if through else 21), f"after {operations} operations"
        assert again.column("id", 0, 21).tolist() == rows_a.id.tolist()
        assert again.column("contig_length", 0, 21).tolist() == rows_a.contig_length.tolist()
        assert again.column("protein", 0, 21).tolist() == rows_a.protein.tolist()
        assert (again.read("small", 0, 21) == expected(again, "small")[:21]).all()
        damage = [finding for finding in again.verify() if finding.is_damage]
        if not through:  # metadata of single arrays may be ahead of the root, nothing else
            assert all(finding.path.endswith("zarr.json") for finding in damage), damage
        operations += 4  # the operations between run in threads, in no fixed order
    assert operations > 40, "the append was killed at many points"
    assert list(open_store(store.path).verify()) == []


def test_an_error_while_writing_surfaces_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create_store(tmp_path / "run.zarr", models=MODELS, segment_length=500, block_rows=16)
    append(store, "a", 21)
    before = {p: p.read_bytes() for p in store.path.rglob("*") if p.is_file()}

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    def write_much() -> None:
        with store.appending() as appending:
            monkeypatch.setattr(transaction, "write_staged", full)
            for first in range(0, 400, 40):
                appending.write(batch("b", first, 40))

    with pytest.raises(DiskFullError, match=r"run.zarr could .* No space .* is as it was"):
        write_much()
    assert {p: p.read_bytes() for p in store.path.rglob("*") if p.is_file()} == before
