"""Which backend a location means: told by its scheme and suffix."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from store.backend import Backend
from store.errors import StoreError, UsageError
from store.io.optional import require
from store.io.replace import refuse_inside_store
from store.location import Location, S3Location, location
from store.schema import DEFAULT_BLOCK_ROWS, STANDARD_CODE, Model, Schema
from store.store import Store

HDF5_SUFFIXES = (".h5", ".hdf5", ".h5ad")


class BackendKind(Protocol):
    """How the stores of a backend are made and opened; each takes its own kind of location."""

    def taken(self, place: Any) -> str | None:
        """What is in the way of a new store; None if nothing is."""

    def new(self, place: Any, schema: Schema) -> Backend:
        """Make an empty store at a free place; it appears whole or not at all."""

    def open(self, place: Any) -> Backend:
        """Open a store at its last commit."""

    def probe(self, place: Any) -> None:
        """Raise `UsageError` if what a store is built on does not work at its place."""

    def discard(self, place: Any) -> None:
        """Remove a store, and what lies beside it."""


def backend(place: Location) -> BackendKind:
    """Return the backend of the stores at such a location."""
    if isinstance(place, S3Location):
        if place.suffix == ".zarr":
            from store.s3.backend import S3Backend

            return S3Backend
        if place.suffix in HDF5_SUFFIXES:
            raise UsageError(
                f"{place}: an HDF5 store cannot be worked on in S3, where a part of an object "
                "cannot be changed; only 'vnp convert' reads and writes one there. Convert it to "
                "s3://BUCKET/run.zarr, or to a file"
            )
        raise UsageError(f"{place}: the name of a store in S3 ends in .zarr")
    if place.suffix == ".zarr":
        from store.zarr.backend import ZarrBackend

        return ZarrBackend
    if place.suffix in HDF5_SUFFIXES:
        require("h5py", for_what=f"{place}: an HDF5 store")
        from store.hdf5.backend import Hdf5Backend

        return Hdf5Backend
    raise UsageError(
        f"{place}: the name of a store ends in .zarr (a directory) or "
        f"{', '.join(HDF5_SUFFIXES)} (one file)"
    )


def create_store(
    path: str | os.PathLike[str] | S3Location,
    *,
    models: Iterable[Model],
    segment_length: int,
    block_rows: int = DEFAULT_BLOCK_ROWS,
    mixed_precision: bool = False,
    genetic_code: int = STANDARD_CODE,
    contig_lengths: bool = True,
) -> Store:
    """Make an empty store; it appears whole or not at all.

    ``contig_lengths`` False makes one without the column ``contig_length``, as earlier code did.

    Raises
    ------
    UsageError
        If something exists at ``path`` already, or the arguments are out of range.
    """
    place = _resolved(location(path))
    kind = _kind_of_new(place)
    schema = Schema(
        block_rows=block_rows,
        segment_length=segment_length,
        models=tuple(models),
        mixed_precision=mixed_precision,
        genetic_code=genetic_code,
        contig_lengths=contig_lengths,
    )
    return Store(kind.new(place, schema))


def check_new(path: str | Location, *, segment_length: int, block_rows: int) -> None:
    """Refuse, as `create_store` would, a path or geometry that no store can be made with."""
    _kind_of_new(_resolved(location(path)))
    Schema(block_rows=block_rows, segment_length=segment_length)


def _kind_of_new(place: Location) -> BackendKind:
    kind = backend(place)  # of what a link leads to: it is opened under that name
    if isinstance(place, Path):
        refuse_inside_store(place)
    if (found := kind.taken(place)) is not None:
        raise UsageError(_refusal(place, found))
    return kind


def discard_empty(store: Store) -> None:
    """Remove a store that holds no sample, and what lies beside it.

    UsageError if it holds one: nothing of it is removed then.
    """
    if store.snapshot().schema.samples:
        raise UsageError(f"{store.path} holds samples and is not removed")
    backend(store.path).discard(store.path)


def is_there(place: Location) -> bool:
    """Whether there is anything where a store would be."""
    if isinstance(place, Path):
        return place.exists()
    return backend(place).taken(place) is not None


def _refusal(place: Location, found: str) -> str:
    """Say what is in the way of a new store."""
    try:
        open_store(place)
    except (StoreError, OSError):
        return f"{place} exists already and is not a vnp store but {found}: choose another path"
    return f"{place} exists already, as a vnp store: append to it, or choose another path"


def open_store(path: str | os.PathLike[str] | S3Location) -> Store:
    """Open a store at its last commit.

    Raises
    ------
    NotAStoreError
        If there is none, or it was made by a newer vnp.
    """
    place = location(path)
    resolved = _resolved(place)
    linked = isinstance(place, Path) and place.is_symlink()
    return Store(backend(resolved if linked else place).open(resolved))


def _resolved(place: Location) -> Location:
    """Follow links; `Path.resolve` raises other errors than OSError where they lead in a circle."""
    return place if isinstance(place, S3Location) else Path(os.path.realpath(place))
