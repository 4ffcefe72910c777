"""What the system refuses to write is named with a remedy, and with what became of the store."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.errors import AfterCommitError, StoreError
from store.io.files import DiskFullError, WriteError, explained
from store.open import open_store
from store.repair import verify_store
from store.schema import Model
from store.store import Store
from tests.rows import append, filled_store
from vnp.cli.main import main

pytestmark = pytest.mark.slow

CALLS = ("open", "writev", "fsync", "link", "replace", "mkdir")
ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)
SCORES = np.arange(200, dtype=np.float32).reshape(-1, 2)
CHANGES: dict[str, Callable[[Store], None]] = {
    "append": lambda store: append(store, "late", 30),
    "models --add": lambda store: store.add_model(Model("late", 4)),
    "predict --save": lambda store: store.save_scores(
        "phage", digest="sha256:1", values=SCORES, rows=[(0, store.n_rows)]
    ),
}


@contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch, at: int, number: int, *, after: bool = False
) -> Iterator[list[str]]:
    """Let the writing call of that number fail, before it has an effect or ``after`` it."""
    done: list[str] = []

    def fail_in(name: str) -> None:
        original = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            writes = name != "open" or bool(arguments[1] & os.O_CREAT)
            if writes:
                done.append(name)
            if not writes or len(done) - 1 != at:
                return original(*arguments, **options)
            if after and name in ("link", "replace"):
                original(*arguments, **options)
            named = [arguments[0]] if name not in ("writev", "fsync") else []
            raise OSError(number, os.strerror(number), *map(str, named))

        patched.setattr(os, name, call)

    with monkeypatch.context() as patched:
        for name in CALLS:
            fail_in(name)
        yield done


@pytest.fixture(scope="module", params=["zarr", "h5"])
def pristine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine")
    return filled_store(folder / f"run.{request.param}", rows=40).path


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_an_error_at_every_write_is_a_sentence_and_the_store_is_as_it_was_or_says_so(
    pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    at, refused, came = 0, 0, True
    while came:
        shutil.copytree(pristine.parent, tmp_path / str(at))
        store = open_store(tmp_path / str(at) / pristine.name)
        before = store.schema
        number = ERRORS[at % len(ERRORS)]
        error: StoreError | None = None
        with failing(monkeypatch, at, number, after=bool(at % 2)) as done:
            try:
                CHANGES[change](store)
            except StoreError as caught:
                error = caught
        came = len(done) > at
        store = open_store(store.path)
        if error is not None:
            assert "[Errno" not in str(error)
            assert str(tmp_path / str(at)) in str(error)
        if isinstance(error, AfterCommitError):
            assert "is committed: do not repeat it" in str(error)
        elif error is not None:
            refused += 1
            assert isinstance(error, DiskFullError if number in ERRORS[:2] else WriteError), error
            assert store.schema == before, error
        if store.schema == before:
            CHANGES[change](store)
        assert not any(finding.is_damage for finding in verify_store(store)), at
        assert store.schema != before
        shutil.rmtree(tmp_path / str(at))
        at += 1
    assert refused > 5


@pytest.mark.parametrize("what", ["tidying", "looking", "unlocking"])
def test_an_error_after_the_commit_says_that_the_rows_are_in(
    pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    shutil.copytree(pristine.parent, tmp_path / "copy")
    store = open_store(tmp_path / "copy" / pristine.name)
    before = store.schema
    begin = type(store._backend).begin

    def fail(*_: object, **__: object) -> None:
        if what == "unlocking":
            raise WriteError("claims/append/0.1.released: No space left on device", errno=28)
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(store.path))

    def begun(backend: Any, guard: Callable[[], None]) -> Any:
        transaction = begin(backend, guard)
        commit = transaction.commit

        def then(schema: Any) -> None:
            commit(schema)
            if what == "tidying":
                transaction.abort = fail
            elif what == "looking":
                monkeypatch.setattr(store, "refresh", fail)
            else:
                monkeypatch.setattr("store.claims.files.ClaimFiles.mark_released", fail)

        transaction.commit = then
        return transaction

    monkeypatch.setattr(type(store._backend), "begin", begun)
    if what == "unlocking":  # the lock is free when this process has ended
        append(store, "late", 30)
    else:
        with pytest.raises(AfterCommitError, match="is committed: do not repeat it"):
            append(store, "late", 30)
    monkeypatch.undo()
    assert open_store(store.path).schema != before
    assert open_store(store.path).n_rows == 70


def test_a_command_names_the_file_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = filled_store(tmp_path / "run.zarr", rows=40)
    fasta = tmp_path / "a.fa"
    fasta.write_text(f">a\n{'ATGGCC' * 100}\n")
    with failing(monkeypatch, 40, errno.ENOSPC) as done:
        assert main(["append", str(store.path), str(fasta)]) == 1
    assert len(done) > 40
    said = capsys.readouterr().err
    assert "could not be written: No space left on device. Free some space" in said
    assert "The store is as it was." in said
    assert "Errno" not in said


def test_every_error_of_the_system_is_a_sentence() -> None:
    for number in ERRORS:
        error = OSError(number, os.strerror(number), "some/file")
        said = explained(error)
        assert said.startswith(f"some/file: {os.strerror(number)}. ")
        assert len(said) > len(f"some/file: {os.strerror(number)}. "), "what to do"
    assert "No file is named" in explained(OSError(errno.EBADF, "x"))
    assert explained(OSError("plain")) == "plain."
