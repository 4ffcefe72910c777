"""Re-reading a whole HDF5 store, and naming whatever is not as it must be.

Every byte below the committed end is covered by one checksum: rows of a block by its certificate,
the appender's columns by ``obs/vnp/checksums``, the commit record and provenances by the one they
carry, and all the rest (the library's own structures) by the commit record's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from store.errors import DamageError
from store.findings import Finding, Kind, Remedy
from store.geometry import block_bounds, n_blocks
from store.hdf5.blocks import (
    BlockPlace,
    block_place,
    check_certificate,
    filled_rows,
    partial_ends,
    read_certificate,
    read_values,
)
from store.hdf5.columns import pread, read_block_column
from store.hdf5.commit import COMMIT_BYTES, check_metadata
from store.hdf5.file import Places, reading
from store.io.checksummed_json import unseal
from store.layout import provenance_column, row_columns


def verify_file(path: Path, places: Places) -> Iterator[Finding]:
    """Read every byte of the store; yield findings in the order of the tree.

    Parameters
    ----------
    path
        The store's file.
    places
        A commit of it. If the store grows meanwhile, the metadata of the newer commit is left to
        the next look; its rows of this commit are checked.
    """
    schema = places.schema
    with reading(path) as fd:
        yield from _verify_metadata(fd, places)
        for name, column in row_columns(schema).items():
            for block in range(n_blocks(schema.n_rows, schema.block_rows)):
                start, stop = block_bounds(block, schema.n_rows, schema.block_rows)
                try:
                    read_block_column(path, places, name, block=block, rows=stop - start)
                except DamageError as error:
                    detail = f"{error}; rows {start} to {stop - 1} of {column.path} are lost"
                    yield Finding(
                        Kind.DAMAGED, f"{column.path}[{start}:{stop}]", detail, Remedy.NONE
                    )
        for model in schema.models:
            yield from _verify_provenance(fd, places, model.name)
            for block in range(n_blocks(schema.n_rows, schema.block_rows)):
                yield from _verify_block(fd, places, model.name, block)


def verify_block(path: Path, places: Places, *, model: str, block: int) -> list[Finding]:
    """Read one block whole; return what is not as it must be."""
    with reading(path) as fd:
        return list(_verify_block(fd, places, model, block))


def _verify_metadata(fd: int, places: Places) -> Iterator[Finding]:
    try:
        check_metadata(fd, places.commit)
    except DamageError as error:
        detail = f"{error}; restore the file from a copy"
        if pread(fd, places.record_at, COMMIT_BYTES, "commit record") == places.record:
            yield Finding(Kind.DAMAGED, "metadata", detail, Remedy.NONE)
        # else a newer commit stands


def _verify_provenance(fd: int, places: Places, model: str) -> Iterator[Finding]:
    path = provenance_column(places.schema.model(model)).path
    try:
        record = unseal(pread(fd, *places.fixed[path], path), what=path)
    except DamageError as error:
        yield Finding(Kind.DAMAGED, path, str(error), Remedy.REPIN, model)
        return
    if record is None and _any_filled(fd, places, model):
        detail = f"blocks of {model} are filled but its provenance is missing"
        yield Finding(Kind.MISSING, path, detail, Remedy.REPIN, model)


def _any_filled(fd: int, places: Places, model: str) -> bool:
    blocks = n_blocks(places.schema.n_rows, places.schema.block_rows)
    for block in range(blocks):
        try:
            if filled_rows(fd, block_place(places, model=model, block=block)):
                return True
        except DamageError:
            continue
    return False


def _verify_block(fd: int, places: Places, model: str, block: int) -> Iterator[Finding]:
    schema = places.schema
    place = block_place(places, model=model, block=block)
    start = block * schema.block_rows
    names = [
        f"obs/filled_{model}[{start}:{start + place.rows}]",
        f"obs/certificate_{model}[{block}]",
        f"obsm/X_{model}[{start}:{start + place.rows}]",
    ]

    def damage(at: int, detail: str, kind: Kind = Kind.DAMAGED) -> Finding:
        return Finding(kind, names[at], detail, Remedy.REOPEN, model, block)

    try:
        filled = filled_rows(fd, place)
    except DamageError as error:
        yield damage(0, str(error))
        return
    if filled == 0:
        yield from _verify_unfilled(fd, place, names, model, block)
        return
    # Rows are filled all at once, so the count is what the block has, or had at some commit.
    if filled != place.rows and filled not in partial_ends(schema).get(block, ()):
        yield damage(0, f"{filled} rows are filled where the block has {place.rows}")
        return
    try:
        certificate = check_certificate(fd, place, filled=filled)
    except DamageError as error:
        yield damage(1, str(error), _kind_of_certificate(fd, place))
        return
    if certificate.rows > filled:
        detail = f"{certificate.rows} rows are certified, {filled} of them filled"
        yield Finding(Kind.UNCERTIFIED, names[0], detail, Remedy.NOTHING, model, block)
    try:
        values = read_values(fd, place)
    except DamageError as error:
        yield damage(2, str(error))
        return
    finite = int(np.count_nonzero(np.isfinite(values[:filled]).all(axis=1)))
    if finite < filled:
        detail = f"{filled - finite} filled rows hold NaN or infinity"
        yield damage(2, detail, Kind.NOT_FINITE)


def _verify_unfilled(
    fd: int, place: BlockPlace, names: list[str], model: str, block: int
) -> Iterator[Finding]:
    """Tell of what a worker left that was killed before its last step."""
    try:
        left = read_certificate(fd, place) is not None
    except DamageError:
        left = True
    if left:
        detail = f"{place.name} is not filled, but has a certificate"
        yield Finding(Kind.UNCERTIFIED, names[1], detail, Remedy.NOTHING, model, block)
    if any(pread(fd, place.values_at, place.rows * place.row_bytes, names[2])):
        detail = f"{place.name} is not filled, but rows of it are written"
        yield Finding(Kind.UNCERTIFIED, names[2], detail, Remedy.NOTHING, model, block)


def _kind_of_certificate(fd: int, place: BlockPlace) -> Kind:
    try:
        return Kind.MISSING if read_certificate(fd, place) is None else Kind.DAMAGED
    except DamageError:
        return Kind.DAMAGED
