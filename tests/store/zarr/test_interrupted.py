"""A change killed at any operation of its commit: it is said so, and undone by what comes next."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.findings import Kind
from store.open import open_store
from store.repair import repair, verify_store
from store.schema import Model
from store.store import Store
from store.zarr import change, transaction
from store.zarr.transaction import _Moves
from tests.rows import append, expected, filled_store
from tests.store.faulty_backend import Stopped
from vnp.cli.main import main

pytestmark = pytest.mark.slow

SCORES = np.arange(200, dtype=np.float32).reshape(-1, 2)


def save(store: Store, digest: str) -> None:
    rows = [(0, store.n_rows)]
    store.save_scores("phage", digest=digest, values=SCORES, rows=rows, replace=True)


CHANGES: dict[str, Callable[[Store], None]] = {
    "append": lambda store: append(store, "late", 30),
    "models --add": lambda store: store.add_model(Model("late", 4)),
    "predict --save": lambda store: save(store, "sha256:1"),
    "predict --save --replace": lambda store: save(store, "sha256:2"),
}


@contextmanager
def killed(monkeypatch: pytest.MonkeyPatch, operations: int) -> Iterator[list[str]]:
    """Stop before the operation of that number, and do nothing after it; yield what was done."""
    done: list[str] = []

    def count(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            if len(done) >= operations:
                raise Stopped
            done.append(name)
            return original(*arguments, **options)

        patched.setattr(owner, name, counted)

    with monkeypatch.context() as patched:
        for name in ("publish_replace", "write_staged", "fsync_dir", "make_dir"):
            count(transaction, name)
        count(transaction.shutil, "rmtree")
        count(transaction.os, "link")
        count(_Moves, "undo")
        patched.setattr(change, "ThreadPoolExecutor", InTurn)
        yield done


class InTurn:
    """Runs what is submitted at once: the operations are in the same order each time."""

    def __init__(self, max_workers: int) -> None:
        pass

    def submit(self, work: Callable[..., None], *arguments: Any) -> Any:
        from concurrent.futures import Future

        future: Future[None] = Future()
        future.set_result(work(*arguments))
        return future

    def shutdown(self, **_options: Any) -> None:
        pass


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = filled_store(tmp_path_factory.mktemp("pristine") / "run.zarr", rows=40)
    save(store, "sha256:1")
    return store.path.parent


def is_as_before(store: Store) -> bool:
    """Whether the committed rows and scores are all there, whatever else is."""
    assert store.column("id").tolist()[:40] == [
        *(f"first_{n}_chunk_1F1".encode() for n in range(27)),
        *(f"second_{n}_chunk_1F1".encode() for n in range(13)),
    ]
    for model in ("small", "wide"):
        assert (store.read(model, 0, 40) == expected(store, model)[:40]).all()
    for scores in store.schema.scores:
        assert (store.scores(scores.name)[:40] == SCORES[:40]).all()
    return True


@pytest.mark.parametrize(
    ("change", "first", "step"),
    [
        *(("append", first, 4) for first in range(4)),  # of 137 operations: minutes in one test
        *((change, 0, 1) for change in CHANGES if change != "append"),
    ],
)
def test_a_kill_at_every_operation_is_no_damage_and_is_undone(
    pristine: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    first: int,
    step: int,
) -> None:
    operations, stopped, seen = first, True, set()
    while stopped:
        folder = tmp_path / str(operations)
        shutil.copytree(pristine, folder)
        store = open_store(folder / "run.zarr")
        if change == "predict --save":  # of a new name
            with store._changing() as removing:
                removing.commit(store.schema.without_scores("phage"))
            repair(store, list(verify_store(store)))
        stopped = False
        try:
            with killed(monkeypatch, operations):
                CHANGES[change](store)
        except Stopped:
            stopped = True
        store = open_store(store.path)
        found = list(verify_store(store))
        seen |= {finding.kind for finding in found}
        assert seen <= {Kind.INTERRUPTED, Kind.ORPHAN, Kind.UNCERTIFIED}, found
        assert is_as_before(store)
        other = tmp_path / f"{operations}.next"
        shutil.copytree(folder, other)
        repair(store, found)
        assert list(verify_store(open_store(store.path))) == [], operations
        assert is_as_before(open_store(store.path))
        then = open_store(other / "run.zarr")
        append(then, "next", 10)
        assert list(then.verify()) == [], operations
        assert is_as_before(then)
        shutil.rmtree(folder)
        shutil.rmtree(other)
        operations += step
    assert operations > 10
    assert seen >= {Kind.INTERRUPTED, Kind.ORPHAN}


def test_an_interrupted_append_is_named_and_repair_undoes_it(
    pristine: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(pristine, tmp_path / "copy")
    path = tmp_path / "copy/run.zarr"
    with killed(monkeypatch, 10**6) as done:
        append(open_store(path), "late", 30)
    last = len(done) - 1 - done[::-1].index("publish_replace")  # that of the root
    shutil.rmtree(tmp_path / "copy")
    shutil.copytree(pristine, tmp_path / "copy")
    with killed(monkeypatch, last), pytest.raises(Stopped):
        append(open_store(path), "late", 30)
    before = {model: open_store(path).read(model) for model in ("small", "wide")}
    assert main(["verify", str(path)]) == 0
    said = capsys.readouterr().out
    assert "interrupted" in said
    assert "0 of them damage" in said
    assert "damaged" not in said
    assert main(["verify", str(path), "--repair"]) == 0
    capsys.readouterr()
    assert main(["verify", str(path)]) == 0
    assert "40 rows: 0 findings" in capsys.readouterr().out
    for model, values in before.items():
        assert (open_store(path).read(model) == values).all()


def test_changed_metadata_is_damage_where_nothing_was_interrupted(
    pristine: Path, tmp_path: Path
) -> None:
    shutil.copytree(pristine, tmp_path / "copy")
    store = open_store(tmp_path / "copy/run.zarr")
    document = store.path / "obs/start/zarr.json"
    document.write_bytes(document.read_bytes().replace(b'"shape":[40]', b'"shape":[44]'))
    [finding] = verify_store(store)
    assert (finding.kind, finding.path) == (Kind.DAMAGED, "obs/start/zarr.json")
