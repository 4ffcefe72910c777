"""A change of a Zarr store: everything is staged, moved in at the commit, the root metadata last.

While an append runs, its chunks lie in a folder beside the store. The commit moves them in, then
the metadata of the arrays, then the root's::

    rows      0 ........ N ............ N + n
    chunk 0   [committed | new]              replaced by a superset
    chunk 1              [new        ]       beyond the committed end: no reader gets there
    zarr.json                                of every array, then of the root: the commit

Killed before the root is renamed, the committed N is what counts, and the next change (or repair)
undoes what was moved; an error or Ctrl-C until then moves everything back. An appender that was
frozen and lost its lock has written to its own folder only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from store.errors import AfterCommitError, ClaimLostError, DamageError, StoreError
from store.findings import Remedy
from store.io.files import fsync_dir, make_dir, naming, publish_replace, write_staged
from store.io.json import LONGEST
from store.io.regular import read_regular
from store.layout import score_columns
from store.schema import Schema
from store.sidecar import Sidecar
from store.zarr.cells import ZarrTree
from store.zarr.change import ZarrChange, changed_documents, new_columns, replaced_scores
from store.zarr.metadata import ROOT_DOCUMENT, documents, is_of_a_commit
from store.zarr.strays import clear_folder, remove_array, remove_stray, stray_files

_SYNCING = 8  # threads that sync a file or a folder each: what waits together is written together
_COMMITTING = "committing"  # a file that is in it from the first move on
_STAGING = "append"  # kind of a change's own folder, see `Sidecar.temporary`


class ZarrTransaction(ZarrChange):
    """One change of the store at ``root``; see `store.backend.Transaction`."""

    def __init__(
        self, tree: ZarrTree, *, root: Path, sidecar: Sidecar, guard: Callable[[], None]
    ) -> None:
        for leftover in _staging_folders(sidecar):  # of a killed append: the lock is ours now
            shutil.rmtree(leftover, ignore_errors=True)
        self._root = root
        self._tmp_dir = sidecar.tmp
        self._staging = sidecar.temporary(_STAGING)
        make_dir(self._staging)
        self._staged: list[tuple[Path, Path]] = []  # file, and its path in the store
        self._half_done = False  # metadata of some arrays are ahead of the root's
        super().__init__(tree, guard=guard)

    def commit(self, schema: Schema) -> None:
        """Move chunks and metadata in, the root last; on any error before that, back again."""
        self._guard()  # an appender that took the lock over has removed what is staged here
        self._finish_chunks()
        for column in new_columns(self._schema, schema):
            clear_folder(self._root, column, schema=self._schema)
        publish_replace(self._staging, self._staging / _COMMITTING, [])
        self._drop_scores(schema)
        self._stage_samples(schema)
        changed = changed_documents(self._schema, schema).items()
        writes = [(self._writer(name), content) for name, content in changed]
        with ThreadPoolExecutor(_SYNCING) as pool:
            list(pool.map(lambda each: each[0](each[1]), writes))
        fsync_dir(self._staging)
        self._move_in(documents(schema)[ROOT_DOCUMENT])
        shutil.rmtree(self._staging, ignore_errors=True)

    def abort(self) -> None:
        """Drop what is staged; the store was not touched, or the next change finds what was."""
        self._cancel()
        if not self._half_done:
            shutil.rmtree(self._staging, ignore_errors=True)

    def _move_in(self, content: bytes) -> None:
        root = self._root / ROOT_DOCUMENT
        before = read_regular(root, most=LONGEST)
        moves = _Moves(self._staging)
        try:
            for staged, path in self._staged:
                self._guard()
                with naming(path):
                    moves.move(staged, path)
            moves.sync()
            self._guard()
            publish_replace(self._tmp_dir, root, [content])
        except BaseException as error:
            # Once the root is renamed the rows are committed. If the lock is lost, another
            # appender's files may lie where ours did.
            if read_regular(root, most=LONGEST) == before:
                with suppress(ClaimLostError):
                    self._guard()
                    moves.undo()
            elif isinstance(error, (StoreError, OSError)):
                raise AfterCommitError(f"{self._root}: the change", error) from error
            raise

    def _drop_scores(self, schema: Schema) -> None:
        """Commit the loss of scores that another classifier replaces, so that they never mix."""
        replaced = replaced_scores(self._schema, schema)
        if not replaced:
            return
        self._guard()
        without = self._schema
        for name in replaced:
            without = without.without_scores(name)
        self._half_done = True
        write_documents(self._root, before=self._schema, after=without, tmp_dir=self._tmp_dir)
        self._half_done = False
        self._schema = without
        for name in replaced:
            for column in score_columns(schema, name):
                remove_array(self._root, column)
        fsync_dir(self._root / "obs")

    def _writer(self, key: str) -> Callable[[bytes], None]:
        """Write into the folder beside the store."""
        staged = self._staging / f"{len(self._staged)}"
        self._staged.append((staged, self._root / key))
        return lambda content: write_staged(staged, [content])  # the commit syncs the folder


def is_committing(sidecar: Sidecar) -> bool:
    """Whether a commit was begun and is not over: it is being made, or was interrupted."""
    return any(os.path.lexists(path / _COMMITTING) for path in _staging_folders(sidecar))


def undo_interrupted(root: Path, *, schema: Schema, sidecar: Sidecar) -> None:
    """Undo what a commit that was killed has moved in; the caller holds the appender's lock."""
    if not is_committing(sidecar):
        return
    for name, content in documents(schema).items():
        with suppress(FileNotFoundError, DamageError):
            found = read_regular(root / name, most=LONGEST)
            if found != content and is_of_a_commit(found, content):
                publish_replace(sidecar.tmp, root / name, [content])
    for finding in list(stray_files(root, schema=schema)):
        if finding.remedy is Remedy.REMOVE:
            remove_stray(root, finding.path)
    for folder in _staging_folders(sidecar):
        shutil.rmtree(folder, ignore_errors=True)


def _staging_folders(sidecar: Sidecar) -> list[Path]:
    return [path for path in sidecar.temporaries() if path.name.startswith(f"{_STAGING}-")]


class _Moves:
    """Moves staged files into the store, keeping what they replace in the folder ``aside``."""

    def __init__(self, aside: Path) -> None:
        self._aside = aside
        self._folders: set[Path] = set()
        self._done: list[tuple[Path, Path | None]] = []  # path, and what was there before

    def move(self, staged: Path, path: Path) -> None:
        if path.parent not in self._folders:
            make_dir(path.parent)
            self._folders.add(path.parent)
        before = self._aside / f"{len(self._done)}.before"
        try:
            os.link(path, before)
        except FileNotFoundError:
            self._done.append((path, None))
        else:
            self._done.append((path, before))
        staged.replace(path)

    def sync(self) -> None:
        with ThreadPoolExecutor(_SYNCING) as pool:
            list(pool.map(fsync_dir, sorted(self._folders)))

    def undo(self) -> None:
        """Put everything back, the last move first."""
        while self._done:
            path, before = self._done.pop()
            if before is None:
                path.unlink(missing_ok=True)
            else:
                before.replace(path)


def write_documents(root: Path, *, before: Schema | None, after: Schema, tmp_dir: Path) -> None:
    """Write every ``zarr.json`` that the change of schema touches, the root last."""
    old = documents(before) if before is not None else {}
    for name, content in documents(after).items():  # the root is last in the mapping
        if old.get(name) != content:
            path = root / name
            make_dir(path.parent)
            publish_replace(tmp_dir, path, [content])
