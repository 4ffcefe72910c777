"""A change of a store in S3: chunks go where they belong at once, and count with the root's swap.

Nothing can be renamed, so nothing is staged. What a reader of the old root reaches stays readable::

    rows      0 ........ N ............ N + n
    chunk 0   [committed | new]              at the commit, a superset, If-Match
    chunk 1              [new        ]       at once, If-None-Match: *; no reader gets there
    zarr.json                                of the root, If-Match: the commit
    */zarr.json                              of the arrays, afterwards; a mark beside the store
                                             says of which commit they are

Killed before the swap, there are chunks past the end (replaced by the next append, or removed by
``vnp verify --repair``) and perhaps a superset, and the rows N count. Killed after it, the next
change writes the metadata of the arrays; those who read by the root's consolidated metadata, as
zarr and AnnData do, never look at them.

Every request that could touch another appender's chunk has a condition, so one that was frozen,
or a request that was delayed on its way, finds that it is refused. Compared are ETags, which equal
contents share; therefore a chunk that replaces an equal one gets other bytes (`with_nonce`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from store.errors import AfterCommitError, ClaimLostError, DamageError, StoreError, UsageError
from store.io.json import LONGEST, parse_json
from store.layout import Column
from store.location import S3Location
from store.s3.objects import Objects, RequestError
from store.s3.root import Root, Stamp, parse_root, root_document
from store.schema import Schema
from store.zarr.cells import ZarrTree
from store.zarr.change import ZarrChange, changed_documents, new_columns, replaced_scores
from store.zarr.codec import encode_numbers, longest_chunk, with_nonce
from store.zarr.metadata import ROOT_DOCUMENT, array_document, documents, is_of_a_commit
from store.zarr.strays import SCORE_ARRAY, is_chunk

_MARK = "documents"  # beside the store: of which commit the metadata of the arrays are
_TRIES = 3  # to replace a chunk that somebody else replaces at the same time
_THREADS = 8  # that write metadata


class Metadata:
    """The ``zarr.json`` of arrays and groups, which follow the root's."""

    def __init__(self, path: S3Location) -> None:
        self._objects = Objects(path)
        self._beside = Objects(path.with_name(f"{path.name}.vnp"))

    def is_of(self, stamp: Stamp) -> bool:
        """Whether they were all written for a commit."""
        found = self._beside.get(_MARK, most=4096)
        try:
            value = parse_json(found.content) if found is not None else None
        except ValueError:
            return False
        return bool(value == stamp.to_json())

    def write(self, schema: Schema, stamp: Stamp, *, before: Schema | None = None) -> None:
        """Write those that differ from an earlier commit's, or all; then the mark."""
        if before is None:
            contents = {k: v for k, v in documents(schema).items() if k != ROOT_DOCUMENT}
        else:
            contents = changed_documents(before, schema)
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda item: self._objects.put(*item), contents.items()))
        self._beside.put(_MARK, json.dumps(stamp.to_json()).encode())


class S3Transaction(ZarrChange):
    """One change; see `store.backend.Transaction`."""

    def __init__(
        self, tree: ZarrTree, *, path: S3Location, root: Root, guard: Callable[[], None]
    ) -> None:
        super().__init__(tree, guard=guard)
        self._path = path
        self._objects = Objects(path)
        self._root = root
        self._tails: dict[str, str] = {}  # key -> ETag of a chunk that committed rows share
        self._late: dict[str, bytes] = {}  # what is written in their place, at the commit
        self._made: dict[str, str] = {}  # key -> ETag of what was created here
        self._scores: list[Callable[[], None]] = []
        self._lock = Lock()

    def write_scores(
        self,
        name: str,
        values: NDArray[np.float32],
        ranges: Iterable[tuple[int, int]],
        *,
        kept: int,
    ) -> None:
        """Write scores when the commit is made: until then the old ones may not be touched."""
        chosen, write = list(ranges), super().write_scores
        self._scores.append(lambda: write(name, values, chosen, kept=kept))

    def commit(self, schema: Schema) -> None:
        """Write what is left, swap the root, then bring the metadata of the arrays after it."""
        self._guard()
        self._finish_chunks()
        self._drop_scores(schema)
        for column in new_columns(self._schema, schema):
            self._clear(column)
        for write in self._scores:
            write()
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(self._write_tail, self._late))
        self._stage_samples(schema)
        self._guard()
        before = self._schema
        self._swap_root(schema)
        try:
            self._guard()  # metadata are written without a condition
            Metadata(self._path).write(schema, self._root.stamp, before=before)
        except (StoreError, OSError) as error:
            raise AfterCommitError(f"{self._path}: the change", error) from error

    def abort(self) -> None:
        """Empty the chunks that were made: under a condition, which a removal cannot have."""
        self._cancel()
        made, self._made = self._made, {}
        if made:
            with suppress(StoreError, OSError):
                self._guard()
                for key, etag in made.items():
                    self._objects.swap(key, b"", etag)

    # -- chunks ---------------------------------------------------------------------------------

    def _writer(self, key: str) -> Callable[[bytes], None]:
        """Write where the chunk belongs; a chunk of committed rows waits for the commit."""
        return lambda content: self._write(key, content)

    def _old_chunk(self, column: Column, chunk: int) -> bytes:
        """Read the last chunk, and note which one it was."""
        key = column.chunk_key(chunk)
        found = self._objects.get(key, most=longest_chunk(column))
        if found is None:
            raise DamageError(f"{key} is missing; run 'vnp verify' on the store")
        self._tails[key] = found.etag
        return found.content

    def _write(self, key: str, content: bytes) -> None:
        if key in self._tails:
            with self._lock:
                self._late[key] = content
            return
        etag = self._objects.create(key, content)
        if etag is None:  # left by an append that was killed, or in use for fewer rows
            self._replace(key, content)
            return
        with self._lock:
            self._made[key] = etag

    def _write_tail(self, key: str) -> None:
        """Replace a chunk of committed rows by one of these and more."""
        if self._objects.swap(key, self._late[key], self._tails[key]) is None:
            self._replace(key, self._late[key])

    def _replace(self, key: str, content: bytes) -> None:
        """Replace what is there now, while the lock is held."""
        for _ in range(_TRIES):
            found = self._objects.get(key)
            self._guard()
            if found is None:
                if self._objects.create(key, content) is not None:
                    return
                continue
            if found.content == content:
                content = with_nonce(content)
            if self._objects.swap(key, content, found.etag) is not None:
                return
        raise ClaimLostError(f"{self._path}/{key} is being written by another appender")

    def _clear(self, column: Column) -> None:
        """Void what an interrupted change left where an array of the next commit goes.

        UsageError if others have put something there that the array would be read from.
        """
        ours = SCORE_ARRAY.fullmatch(column.path) is not None
        nothing = encode_numbers(np.empty(0, np.float32), column=column) if ours else b""
        for page in self._objects.pages(column.path):
            for name in page:
                key = f"{column.path}/{name}"
                if ours and is_chunk(name, column):
                    self._replace(key, nothing)
                elif not (ours and name == ROOT_DOCUMENT and self._is_of(key, column)):
                    raise UsageError(
                        f"{self._path}/{column.path} is there already and is not vnp's: move it "
                        "away, or choose another name"
                    )

    def _is_of(self, key: str, column: Column) -> bool:
        found = self._objects.get(key, most=LONGEST)
        return found is not None and is_of_a_commit(found.content, array_document(column))

    def _drop_scores(self, schema: Schema) -> None:
        """Commit the loss of scores that another classifier replaces, so that they never mix.

        What they leave is voided as what an interrupted change leaves.
        """
        without = self._schema
        for name in replaced_scores(self._schema, schema):
            without = without.without_scores(name)
        if without != self._schema:
            self._guard()
            self._swap_root(without)

    # -- the root -------------------------------------------------------------------------------

    def _swap_root(self, schema: Schema) -> None:
        stamp = self._root.stamp.next()
        try:
            etag = self._objects.swap(ROOT_DOCUMENT, root_document(schema, stamp), self._root.etag)
        except RequestError:
            etag = self._settle(stamp)
            if etag is None:
                raise
        if etag is None:
            self._guard()  # most likely it says why
            raise ClaimLostError(f"{self._path}: its root was changed by somebody else meanwhile")
        self._made.clear()  # committed: nothing of it may be emptied
        self._root = Root(schema, stamp, etag)
        self._schema = schema

    def _settle(self, stamp: Stamp) -> str | None:
        """Find out whether a swap without an answer was made; if not, make sure it never will be.

        The old schema is committed once more, under a stamp of its own: the swap that may still be
        under way then finds another ETag than it wants. Its ETag if it was made, else None.
        """
        made, self._made = self._made, {}  # what was made stays, unless the swap surely failed
        old, fence = self._root, self._root.stamp.next()
        with suppress(RequestError, StoreError):
            self._objects.swap(ROOT_DOCUMENT, root_document(old.schema, fence), old.etag)
            found = parse_root(self._objects.get(ROOT_DOCUMENT, most=LONGEST), where=self._path)
            if found.stamp == stamp:
                return found.etag
            if found.stamp == fence:
                self._made = made
        return None
