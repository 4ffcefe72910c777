"""Which backend a path means: told by its suffix."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from store.errors import UsageError
from store.schema import DEFAULT_BLOCK_ROWS, Model
from store.store import Store

HDF5_SUFFIXES = (".h5", ".hdf5", ".h5ad")


def backend(path: Path) -> type[Store]:
    """Return the class of the stores that have this path's suffix.

    Raises
    ------
    UsageError
        If it is no suffix of a store, or h5py is not installed.
    """
    if path.suffix == ".zarr":
        from store.zarr.backend import ZarrStore

        return ZarrStore
    if path.suffix in HDF5_SUFFIXES:
        try:
            from store.hdf5.backend import Hdf5Store
        except ModuleNotFoundError as error:
            if error.name != "h5py":
                raise
            raise UsageError(
                f"{path}: an HDF5 store needs the package h5py: pip install h5py"
            ) from None
        return Hdf5Store
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
) -> Store:
    """Make an empty store; see `store.store.Store.create`."""
    path = Path(path)
    return backend(path).create(
        path, models=models, segment_length=segment_length, block_rows=block_rows
    )


def open_store(path: str | Path) -> Store:
    """Open a store at its last commit; see `store.store.Store.open`."""
    path = Path(path)
    return backend(path.resolve() if path.is_symlink() else path).open(path)
