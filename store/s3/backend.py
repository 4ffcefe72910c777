"""A store in S3: the tree of the Zarr directory, an object a file, and conditions instead of links.

a cell     PUT If-None-Match: *     the first writer wins
a tail     PUT If-Match             replaces what its writer has judged, nothing else
a commit   PUT If-Match             of the root: see `store.s3.transaction`
a claim    PUT If-None-Match: *     beside the store: see `store.s3.room`
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Self

from store.backend import Cell, Rows
from store.errors import ClaimLostError, DamageError, NotAStoreError, UsageError
from store.findings import Finding, Remedy
from store.io.json import LONGEST
from store.io.words import count
from store.layout import Column, row_columns
from store.location import S3Location
from store.s3.listing import ChunkListing
from store.s3.objects import Objects
from store.s3.probe import require_conditions
from store.s3.room import ObjectRoom
from store.s3.root import Root, SampleObjects, Stamp, parse_root, root_document
from store.s3.strays import stray_objects
from store.s3.transaction import Metadata, S3Transaction
from store.samples import StoredSamples
from store.schema import Schema
from store.sidecar import RemoteSidecar
from store.zarr.cells import ZarrTree
from store.zarr.codec import longest_chunk
from store.zarr.metadata import ROOT_DOCUMENT
from store.zarr.verify import verify_tree

_ROWS_UNCHECKED = 1 << 24  # fewer rows cannot cost much memory
_JUDGED = 64  # objects whose ETag is remembered until they are replaced


class S3Backend(ZarrTree):
    """One commit of a store in S3; see `store.backend.Backend`."""

    trouble = ""  # as of a Zarr directory

    def __init__(self, path: S3Location, root: Root, listing: ChunkListing | None = None) -> None:
        self.path = path
        self.schema = root.schema
        self.sidecar = _sidecar_of(path)
        self._root = root
        self._objects = Objects(path)
        self._listing = listing if listing is not None else ChunkListing()
        self._judged: dict[str, str] = {}  # key -> ETag of what was last read there

    def __reduce__(self) -> tuple[Any, ...]:
        return S3Backend, (self.path, self._root)

    @staticmethod
    def taken(path: S3Location) -> str | None:
        """What is in the way of a new store."""
        page = next(Objects(path).pages(""), None)
        return None if page is None else "other objects"

    @staticmethod
    def discard(path: S3Location) -> None:
        """Remove every object of the store and beside it, the root first."""
        for place in (path, _beside(path)):
            objects = Objects(place)
            names = objects.names("")
            for name in sorted(names, key=lambda name: name != ROOT_DOCUMENT):
                objects.delete(name)

    @classmethod
    def new(cls, path: S3Location, schema: Schema) -> Self:
        """Make an empty store: it is there with its root."""
        schema = replace(schema, samples=StoredSamples(read=SampleObjects(path)))
        objects = Objects(path)
        require_conditions(Objects(_beside(path)))
        stamp = Stamp.first()
        etag = objects.create(ROOT_DOCUMENT, root_document(schema, stamp))
        if etag is None:
            raise UsageError(f"{path} was created by someone else just now")
        Metadata(path).write(schema, stamp)
        return cls(path, Root(schema, stamp, etag))

    @classmethod
    def open(cls, path: S3Location) -> Self:
        """Open a store at its last commit, with one request."""
        root = parse_root(Objects(path).get(ROOT_DOCUMENT, most=LONGEST), where=path)
        return cls(path, root)._checked()

    @staticmethod
    def probe(path: S3Location) -> None:
        """Try whether the server honours conditions; see `store.s3.probe`."""
        require_conditions(Objects(_beside(path)))

    # -- commits --------------------------------------------------------------------------------

    def newest(self, *, locked: bool = False) -> Self:
        """Return the last commit; under the lock the metadata of its arrays are as the root's."""
        found = self._objects.changed(ROOT_DOCUMENT, self._root.etag)
        newest = self
        if found is not None:
            root = parse_root(found, where=self.path)
            newest = type(self)(self.path, root, self._listing)._checked()
        if locked:
            metadata = Metadata(self.path)
            if not metadata.is_of(newest._root.stamp):
                metadata.write(newest.schema, newest._root.stamp)
        return newest

    def begin(self, guard: Callable[[], None]) -> S3Transaction:
        """Begin a change."""
        require_conditions(Objects(_beside(self.path)))
        return S3Transaction(self, path=self.path, root=self._root, guard=guard)

    def repair(self, finding: Finding) -> None:
        """Write every ``zarr.json`` but the root's again, or remove an object."""
        if finding.remedy is Remedy.REWRITE:
            Metadata(self.path).write(self.schema, self._root.stamp)
        else:
            self._objects.delete(finding.path)

    # -- files ----------------------------------------------------------------------------------

    def read_file(self, key: str, *, column: Column) -> bytes:
        """Read an object, and remember which one it was."""
        most = longest_chunk(column)
        found = self._objects.get(key, most=most)
        if found is None:
            raise FileNotFoundError(key)
        if len(self._judged) >= _JUDGED:
            self._judged.clear()
        self._judged[key] = found.etag
        if found.size > most:
            raise DamageError(f"length is {count(found.size, 'byte')} where at most {most} belong")
        return found.content

    def read_document(self, key: str) -> bytes:
        """Read an object of metadata."""
        found = self._objects.get(key, most=LONGEST)
        if found is None:
            raise FileNotFoundError(key)
        return found.content

    def read_end(self, key: str, size: int) -> tuple[int, bytes]:
        """Read the end of an object with a suffix range."""
        found = self._objects.tail(key, size)
        if found is None:
            raise FileNotFoundError(key)
        return found.size, found.content

    def make_file(self, key: str, content: bytes) -> bool:
        """Create an object."""
        return self._objects.create(key, content) is not None

    def write_file(self, key: str, content: bytes) -> None:
        """Replace what was last read under the key, or is there now.

        ClaimLostError if somebody else has replaced it since: the block is another's by now.
        """
        etag = self._judged.pop(key, None) or self._objects.etag(key)
        if etag is None:
            done = self._objects.create(key, content) is not None
        else:
            done = self._objects.swap(key, content, etag) is not None
        if done:
            return
        found = self._objects.get(key)
        if found is None or found.content != content:
            raise ClaimLostError(f"{self.path}/{key} was written by another worker meanwhile")

    def remove_file(self, key: str) -> None:
        """Remove an object."""
        self._objects.delete(key)
        self._judged.pop(key, None)
        folder, _, name = key.rpartition("/")
        self._listing.forget(folder, name)

    def chunk_names(self, column: Column, chunks: int) -> Iterable[str]:
        """Names of chunks; those seen before are not listed again, see `store.s3.listing`."""
        return self._listing.names(self._objects, column.path, chunks)

    def read_rows(self, cell: Cell, rows: int, first: int, out: Rows) -> None:
        """Read nothing: an object is fetched whole, so the caller reads the block."""

    # -- for people and for memory mapping ------------------------------------------------------

    def values_file(self, cell: Cell) -> None:
        """Return None: an object cannot be mapped."""

    def verify(self) -> Iterator[Finding]:
        """Re-read metadata and columns; see `store.zarr.verify.verify_tree`."""
        stamp = self._root.stamp
        behind = not Metadata(self.path).is_of(stamp)
        yield from verify_tree(self, interrupted=behind, stamp=stamp.to_json())
        yield from stray_objects(self._objects, schema=self.schema)

    def _checked(self) -> Self:
        """Refuse very many rows of which the last are not there: they would cost memory."""
        if self.schema.n_rows > _ROWS_UNCHECKED:
            column = row_columns(self.schema)["id"]
            last = column.chunk_key((self.schema.n_rows - 1) // column.chunk[0])
            if self._objects.etag(last) is None:
                raise NotAStoreError(
                    f"{self.path} says that it holds {self.schema.n_rows:,} rows, but {last} is "
                    "missing: it is damaged; restore it from a copy"
                )
        return self


def _beside(path: S3Location) -> S3Location:
    return path.with_name(f"{path.name}.vnp")


def _sidecar_of(path: S3Location) -> RemoteSidecar:
    beside = _beside(path)
    return RemoteSidecar(beside.name, ObjectRoom(beside))
