"""Publishing one block of an HDF5 store: rows, certificate, ``filled``, each durable in turn.

Places are known (:mod:`store.hdf5.file`), so each step is one write of the block's own bytes; no
worker writes a byte that belongs to another block::

    obsm/X_<model>           rows x dim float16 at the block's chunk
    obs/certificate_<model>  one sealed record of 1 KiB: rows, their CRC-32C, by whom and how
    obs/filled_<model>       rows ones

A worker that wakes up after its block was stolen can only write the rows that it computed, at
their place, and a block's rows depend on the block alone. Should they differ all the same (another
kind of device), their CRC-32C is not the certified one: :func:`certify` reads the rows of every
block that had more than one owner, and opens such a block again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from store.certificate import (
    Certificate,
    Certification,
    check_values,
    parse_certificate,
    require_claim,
)
from store.errors import ClaimLostError, DamageError, UsageError
from store.geometry import block_bounds, n_blocks, once_partial, rows_wanted
from store.hdf5.columns import pread
from store.hdf5.file import Places
from store.hdf5.layout import CERTIFICATE_BYTES
from store.hdf5.overlay import write_all
from store.io.checksummed_json import seal, unseal
from store.layout import certificate_column, embedding_column, filled_column
from store.schema import Schema

_CERTIFICATES_PER_CHUNK = 16
_F16 = np.dtype("<f2")


@dataclass(frozen=True, slots=True)
class BlockPlace:
    """Where one block of one model lies."""

    name: str  # for people
    rows: int  # rows the block has
    row_bytes: int  # of the embeddings
    block_rows: int  # R: rows its chunk has room for
    values_at: int  # first byte of the embeddings
    certificate_at: int
    filled_at: int


def block_place(places: Places, *, model: str, block: int) -> BlockPlace:
    """Locate a block."""
    schema = places.schema
    spec = schema.model(model)
    start, stop = block_bounds(block, schema.n_rows, schema.block_rows)
    chunk, slot = divmod(block, _CERTIFICATES_PER_CHUNK)
    return BlockPlace(
        name=f"{model} block {block}",
        rows=stop - start,
        row_bytes=spec.dim * _F16.itemsize,
        block_rows=schema.block_rows,
        values_at=int(places.chunks[embedding_column(schema, spec).path][block]),
        certificate_at=int(places.chunks[certificate_column(schema, spec).path][chunk])
        + slot * CERTIFICATE_BYTES,
        filled_at=int(places.chunks[filled_column(schema, spec).path][block]),
    )


def publish_block(
    fd: int,
    places: Places,
    *,
    model: str,
    block: int,
    values: NDArray[np.float16],
    worker: str,
    epoch: int,
    published: str,
    details: Mapping[str, Any],
    is_current: Callable[[], bool],
) -> Certificate:
    """Publish the rows of a block; see `store.store.Store.publish`.

    Parameters
    ----------
    fd
        The file, open for durable writing.
    places
        The commit the block was claimed at: it says how many rows the block has.
    """
    check_values(values, schema=places.schema, model=model, block=block)
    place = block_place(places, model=model, block=block)
    require_claim(is_current, model=model, block=block)
    body = np.ascontiguousarray(values, dtype=_F16).tobytes()
    crc = f"{google_crc32c.value(body):08x}"
    standing = _standing(fd, place)
    if standing is not None and standing.rows > place.rows:
        raise ClaimLostError(f"{place.name}: a later owner published {standing.rows} rows")
    if (
        standing is not None
        and standing.rows == place.rows
        and _crc_on_disk(fd, place, place.rows) == standing.crc32c
    ):
        certificate = standing  # the first writer wins; it may have died before the last step
    else:
        write_all(fd, body, place.values_at)
        if _crc_on_disk(fd, place, place.rows) != crc:
            raise DamageError(f"{place.name}: the bytes read back are not those written")
        # The write may have been a long one: whoever took over meanwhile certifies its own.
        require_claim(is_current, model=model, block=block)
        certificate = Certificate(place.rows, crc, worker, epoch, published, dict(details))
        write_all(fd, _certificate_bytes(certificate), place.certificate_at)
    require_claim(is_current, model=model, block=block)
    if filled_rows(fd, place) != place.rows:
        write_all(fd, b"\1" * place.rows, place.filled_at)
    return certificate


def read_certificate(fd: int, place: BlockPlace) -> Certificate | None:
    """Return the certificate of a block, or None.

    Raises
    ------
    DamageError
        If it is damaged.
    """
    what = f"{place.name}: certificate"
    record = unseal(pread(fd, place.certificate_at, CERTIFICATE_BYTES, what), what=what)
    return None if record is None else parse_certificate(json.dumps(record).encode())


def filled_rows(fd: int, place: BlockPlace) -> int:
    """Count the rows of a block that are filled: always its first ones.

    Raises
    ------
    DamageError
        If the flags are neither 0 nor 1, or have a hole.
    """
    raw = pread(fd, place.filled_at, place.block_rows, f"{place.name}: filled")
    count = len(raw) - raw.count(0)
    if raw[:count] != b"\1" * count:
        raise DamageError(f"{place.name}: filled rows have a hole, or are no booleans")
    return count


def rows_filled(fd: int, places: Places, *, model: str) -> NDArray[np.int64]:
    """Filled rows of every block, shape (n_blocks,); damaged flags count as no rows.

    A worker fills all rows a block has, in order, so one byte of each block is read: the flag of
    its last row. Only where it is not set, the others are.
    """
    schema = places.schema
    filled = rows_wanted(schema)
    offsets = places.chunks[filled_column(schema, schema.model(model)).path]
    where = f"obs/filled_{model}"
    for block, (offset, rows) in enumerate(zip(offsets.tolist(), filled.tolist(), strict=True)):
        if pread(fd, offset + rows - 1, 1, where) != b"\1":
            filled[block] = filled_of_block(fd, places, model=model, block=block)
    return filled


def filled_of_block(fd: int, places: Places, *, model: str, block: int) -> int:
    """Filled rows of one block, capped at the rows the schema knows."""
    place = block_place(places, model=model, block=block)
    try:
        return min(filled_rows(fd, place), place.rows)
    except DamageError:
        return 0


def read_values(fd: int, place: BlockPlace) -> NDArray[np.float16]:
    """Certified rows of a block, compared with their checksum: float16 (rows, dim).

    Raises
    ------
    DamageError
        If they do not match it.
    """
    certificate = read_certificate(fd, place)
    if certificate is None:
        raise DamageError(f"{place.name}: filled, but its certificate is missing")
    size = certificate.rows * place.row_bytes
    raw = pread(fd, place.values_at, size, place.name)
    if f"{google_crc32c.value(raw):08x}" != certificate.crc32c:
        raise DamageError(f"{place.name}: checksum does not match its {size} bytes")
    return np.frombuffer(raw, dtype=_F16).reshape(certificate.rows, -1)


def reopen_block(fd: int, place: BlockPlace) -> None:
    """Make a block open again: ``filled`` goes first, so no row counts without its data."""
    write_all(fd, bytes(place.block_rows), place.filled_at)
    write_all(fd, bytes(CERTIFICATE_BYTES), place.certificate_at)
    write_all(fd, bytes(place.block_rows * place.row_bytes), place.values_at)


def certify(fd: int, places: Places, *, model: str) -> Certification:
    """Check what certifies each filled block of a model.

    Every certificate is read, and the rows themselves of each block that had an owner before the
    one that certified it (a higher epoch, or a partial tail that grew): only there can somebody
    have written later.
    """
    schema = places.schema
    filled, wanted = rows_filled(fd, places, model=model), rows_wanted(schema)
    partial = once_partial((sample.stop for sample in schema.samples), schema.block_rows)
    failed: list[tuple[int, str]] = []
    certified = 0
    for block in np.flatnonzero(filled).tolist():
        place = block_place(places, model=model, block=block)
        try:
            certificate = check_certificate(fd, place, filled=int(filled[block]))
            if certificate.epoch > 1 or block in partial:
                read_values(fd, place)
            certified += int(filled[block])
        except DamageError as error:
            failed.append((block, str(error)))
    return Certification(
        model=model,
        rows=schema.n_rows,
        certified=certified,
        open_blocks=tuple(np.flatnonzero(filled < wanted).tolist()),
        failed=tuple(failed),
    )


def check_certificate(fd: int, place: BlockPlace, *, filled: int) -> Certificate:
    """Return the certificate of a filled block.

    Raises
    ------
    DamageError
        If it is missing, damaged or covers too few rows.
    """
    certificate = read_certificate(fd, place)
    if certificate is None:
        raise DamageError("certificate is missing")
    if certificate.rows < filled:
        raise DamageError(f"certificate covers {certificate.rows} rows, {filled} are filled")
    if not 0 <= certificate.rows <= place.block_rows:
        raise DamageError(f"certificate covers {certificate.rows} rows of {place.block_rows}")
    return certificate


def partial_ends(schema: Schema) -> dict[int, set[int]]:
    """Row counts that each once partial block had at some commit."""
    ends: dict[int, set[int]] = {}
    for sample in schema.samples:
        block, rows = divmod(sample.stop, schema.block_rows)
        if rows and block < n_blocks(schema.n_rows, schema.block_rows):
            ends.setdefault(block, set()).add(rows)
    return ends


def _standing(fd: int, place: BlockPlace) -> Certificate | None:
    try:
        return read_certificate(fd, place)
    except DamageError:
        return None


def _crc_on_disk(fd: int, place: BlockPlace, rows: int) -> str:
    raw = pread(fd, place.values_at, rows * place.row_bytes, place.name)
    return f"{google_crc32c.value(raw):08x}"


def _certificate_bytes(certificate: Certificate) -> bytes:
    """Seal a certificate, leaving out details, the longest first, until it fits its field."""
    record = asdict(certificate)
    while True:
        try:
            return seal(record, size=CERTIFICATE_BYTES)
        except UsageError:
            details = {key: value for key, value in record["details"].items() if key != "omitted"}
            if not details:
                raise
            longest = max(details, key=lambda key: len(json.dumps(details[key])))
            del details[longest]
            omitted = record["details"].get("omitted", 0) + 1
            record["details"] = {**details, "omitted": omitted}
