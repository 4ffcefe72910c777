"""Which backend a path means: told by its suffix."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from store.backend import Backend
from store.errors import StoreError, UsageError
from store.io.optional import require
from store.io.replace import refuse_inside_store
from store.schema import DEFAULT_BLOCK_ROWS, STANDARD_CODE, Model, Schema
from store.sidecar import sidecar_of
from store.store import Store

HDF5_SUFFIXES = (".h5", ".hdf5", ".h5ad")


class BackendKind(Protocol):
    """How the stores of a backend are made and opened."""

    makes_directories: bool  # or else files

    def new(self, path: Path, schema: Schema) -> Backend:
        """Make an empty store at a free path; it appears whole or not at all."""

    def open(self, path: Path) -> Backend:
        """Open a store at its last commit."""


def backend(path: Path) -> BackendKind:
    """Return the backend of the stores that have this path's suffix."""
    if path.suffix == ".zarr":
        from store.zarr.backend import ZarrBackend

        return ZarrBackend
    if path.suffix in HDF5_SUFFIXES:
        require("h5py", for_what=f"{path}: an HDF5 store")
        from store.hdf5.backend import Hdf5Backend

        return Hdf5Backend
    raise UsageError(
        f"{path}: the name of a store ends in .zarr (a directory) or "
        f"{', '.join(HDF5_SUFFIXES)} (one file)"
    )


def create_store(
    path: str | Path,
    *,
    models: Iterable[Model],
    segment_length: int,
    block_rows: int = DEFAULT_BLOCK_ROWS,
    mixed_precision: bool = False,
    genetic_code: int = STANDARD_CODE,
) -> Store:
    """Make an empty store; it appears whole or not at all.

    Raises
    ------
    UsageError
        If something exists at ``path`` already, or the arguments are out of range.
    """
    path = _resolved(Path(path))
    kind = _kind_of_new(path)
    schema = Schema(
        block_rows=block_rows,
        segment_length=segment_length,
        models=tuple(models),
        mixed_precision=mixed_precision,
        genetic_code=genetic_code,
    )
    sidecar = sidecar_of(path)
    ours = not os.path.lexists(sidecar.path)
    try:
        return Store(kind.new(path, schema))
    except BaseException:
        if ours:
            sidecar.discard()
        raise


def check_new(path: str | Path, *, segment_length: int, block_rows: int) -> None:
    """Refuse, as `create_store` would, a path or geometry that no store can be made with."""
    _kind_of_new(_resolved(Path(path)))
    Schema(block_rows=block_rows, segment_length=segment_length)


def _kind_of_new(path: Path) -> BackendKind:
    kind = backend(path)  # of what a link leads to: it is opened under that name
    refuse_inside_store(path)
    if os.path.lexists(path) and not (kind.makes_directories and _is_empty_directory(path)):
        raise UsageError(_taken(path))
    return kind


def discard_empty(store: Store) -> None:
    """Remove a store that holds no sample, and what lies beside it.

    UsageError if it holds one: nothing of it is removed then.
    """
    if store.snapshot().schema.samples:
        raise UsageError(f"{store.path} holds samples and is not removed")
    for path in (store.path, store.sidecar.path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _is_empty_directory(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _taken(path: Path) -> str:
    """Say what is in the way of a new store."""
    try:
        open_store(path)
    except (StoreError, OSError):
        what = "a directory with other files in it" if path.is_dir() else "another file"
        return f"{path} exists already and is not a vnp store but {what}: choose another path"
    return f"{path} exists already, as a vnp store: append to it, or choose another path"


def open_store(path: str | Path) -> Store:
    """Open a store at its last commit.

    Raises
    ------
    NotAStoreError
        If there is none, or it was made by a newer vnp.
    """
    path = Path(path)
    resolved = _resolved(path)
    return Store(backend(resolved if path.is_symlink() else path).open(resolved))


def _resolved(path: Path) -> Path:
    """Follow links; `Path.resolve` raises other errors than OSError where they lead in a circle."""
    return Path(os.path.realpath(path))
