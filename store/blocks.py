"""A block's life: published, certified, counted, read, verified, opened again.

The three cells of a block are written in this order, each durable before the next::

    values       the rows
    certificate  how many rows, their checksum, by whom and how
    filled       only now do the rows count

Where the backend can create a cell atomically, the first writer of a full block wins, and a worker
that wakes up after its block was stolen and finished changes nothing. Where it cannot, such a
worker can only write the rows it computed, at their place; if these differ from the certified
ones, `certify` finds it and the block is opened again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from store.backend import Backend, Cell, Part, Rows
from store.certificate import (
    BlockClaim,
    Certificate,
    Certification,
    all_finite,
    check_values,
    parse_certificate,
)
from store.counts import bounds_of, filled_of_block, filled_rows, rows_filled, rows_or_none
from store.errors import ClaimLostError, DamageError
from store.findings import Finding, Kind, Remedy
from store.geometry import partial_ends, rows_wanted
from store.io.clock import utc_now
from store.io.concurrent import MOST, in_order
from store.io.words import count
from store.schema import Schema

_MEMORY = 512 << 20  # bytes for blocks that are read concurrently
_COPIES = 3  # of a block while it is checked: as it lies on the disk, decoded, its comparisons


def publish(
    backend: Backend,
    claim: BlockClaim,
    values: Rows,
    details: Mapping[str, Any],
    *,
    origin: Certificate | None = None,
) -> Certificate:
    """Publish the embeddings of a block; see `store.store.Store.publish`."""
    model, block = claim.model, claim.block
    start, stop = check_values(values, schema=backend.schema, model=model, block=block)
    rows = stop - start
    _require(claim)
    content, crc = backend.encode(model, values)
    known = _certificate_or_none(backend, model, block)
    if known is not None and known.rows > rows:
        raise ClaimLostError(
            f"{model} block {block}: a later owner published {count(known.rows, 'row')}"
        )
    cell = Cell(Part.VALUES, model, block)
    if known is not None and known.rows == rows and _is_intact(backend, cell, known):
        certificate = known  # the first writer won; it may have died before the last step
    else:
        if not backend.create(cell, content):
            kept = _crc_to_keep(backend, cell, rows=rows)
            if kept is None:  # the tail as it was before it grew, or damaged
                _require(claim)
                backend.replace(cell, content)
            else:
                crc = kept
        found = backend.checksum(cell, rows)
        if found != crc:
            raise DamageError(
                f"{model} block {block}: {found or 'nothing'} is the checksum on disk of what was "
                f"written with {crc}"
            )
        # Writing may have taken long: a worker that took over meanwhile certifies its own.
        _require(claim)
        certificate = Certificate(
            rows=rows,
            crc32c=crc,
            worker=origin.worker if origin else claim.worker,
            epoch=origin.epoch if origin else claim.epoch,
            published=origin.published if origin else utc_now(),
            details=dict(details),
        )
        certificate = _certify_as(backend, claim, certificate)
    _require(claim)
    flags = Cell(Part.FILLED, model, block)
    if rows_or_none(backend, flags) != rows and not backend.create(flags, b"\1" * rows):
        _require(claim)
        backend.replace(flags, b"\1" * rows)
    return certificate


def reopen(backend: Backend, model: str, block: int) -> None:
    """Make a block open again, safe to be killed in between; the caller holds its claim.

    ``filled`` goes first, so no row counts without its data. The certificate goes last: while it is
    there no worker takes over values that are not the certified ones.
    """
    for part in (Part.FILLED, Part.VALUES, Part.CERTIFICATE):
        backend.remove(Cell(part, model, block))


def copy_block(source: Backend, target: Backend, model: str, block: int) -> None:
    """Copy a filled block as it was certified to a backend with the same rows, not in use yet."""
    certificate = certificate_of(source, model, block)
    if certificate is None:
        raise DamageError(f"{model} block {block}: filled, but its certificate is missing")
    filled = filled_of_block(source, model, block)
    values = read_block(source, model, block, filled)[: certificate.rows]
    target.create(Cell(Part.VALUES, model, block), target.encode(model, values)[0])
    target.create(Cell(Part.CERTIFICATE, model, block), certificate.to_json())
    target.create(Cell(Part.FILLED, model, block), b"\1" * filled)


def certificate_of(backend: Backend, model: str, block: int) -> Certificate | None:
    """Return the certificate of a block, or None; DamageError if it is damaged."""
    content = backend.read(Cell(Part.CERTIFICATE, model, block))
    return None if content is None else parse_certificate(content)


def read_block(backend: Backend, model: str, block: int, filled: int) -> Rows:
    """Rows of a filled block, at least ``filled``, compared with their checksum."""
    certificate = None
    if not backend.checks_itself:
        certificate = certificate_of(backend, model, block)
        if certificate is None:
            raise DamageError(f"{model} block {block}: filled, but its certificate is missing")
    return _checked_values(backend, Cell(Part.VALUES, model, block), certificate, filled)


def read_rows(
    backend: Backend, model: str, block: int, filled: int, *, first: int, out: Rows
) -> None:
    """Read filled rows of a block, from its ``first`` on, into ``out`` (n, dim).

    The block is compared with its checksum as a whole.
    """
    cell, rows, certified = Cell(Part.VALUES, model, block), filled, None
    if not backend.checks_itself:
        certificate = certificate_of(backend, model, block)
        if certificate is not None:
            rows, certified = certificate.rows, certificate.crc32c
    crc = backend.read_rows(cell, rows, first, out)
    if crc is None or (crc != certified and not backend.checks_itself):
        # Read again, to say what is wrong; or it was being written, and now is whole.
        out[:] = read_block(backend, model, block, filled)[first : first + len(out)]


def certify(backend: Backend, model: str, *, threads: int | None = None) -> Certification:
    """Check that every filled block still is as it was certified.

    Where values carry no checksum, rows are read of the blocks that had more than one owner: only
    there can an earlier one have written later. Several blocks are looked at concurrently, see
    `store.io.concurrent.in_order` for ``threads``.
    """
    schema = backend.schema
    filled, wanted = rows_filled(backend, model), rows_wanted(schema)
    partial = () if backend.checks_itself else partial_ends(schema).keys()
    flagged = np.flatnonzero(filled)

    def trouble_of(block: int) -> str | None:
        rows = int(filled[block])
        try:
            _check_flags(backend, model, block, rows)
            certificate = _checked_certificate(backend, model, block, rows)
            if backend.checks_itself or certificate.epoch > 1 or block in partial:
                _check_checksum(backend, Cell(Part.VALUES, model, block), certificate)
        except DamageError as error:
            return str(error)
        return None

    most = MOST if backend.checks_itself else threads_for(schema, model)
    troubles = in_order(trouble_of, map(int, flagged), threads=threads, most=most)
    failed = [
        (block, trouble)
        for block, trouble in zip(map(int, flagged), troubles, strict=True)
        if trouble is not None
    ]
    lost = sum(int(filled[block]) for block, _ in failed)
    return Certification(
        model=model,
        rows=schema.n_rows,
        certified=int(filled.sum()) - lost,
        open_blocks=tuple(np.flatnonzero(filled < wanted).tolist()),
        failed=tuple(failed),
    )


def threads_for(schema: Schema, model: str) -> int:
    """Most threads that read blocks of a model whole: their copies must fit into memory."""
    block = schema.block_rows * schema.model(model).dim * np.dtype(np.float16).itemsize
    return max(1, min(MOST, _MEMORY // (_COPIES * max(block, 1))))


def verify_block(
    backend: Backend, model: str, block: int, *, buffer: Rows | None = None
) -> Iterator[Finding]:
    """Read one block whole, into ``buffer`` (R, dim) if given; yield what is not as it must be."""
    cells = {part: Cell(part, model, block) for part in Part}

    def found(part: Part, detail: str, kind: Kind = Kind.DAMAGED) -> Finding:
        remedy = Remedy.NOTHING if kind is Kind.UNCERTIFIED else Remedy.REOPEN
        return Finding(kind, backend.name(cells[part]), detail, remedy, model, block)

    def damage(part: Part, error: DamageError) -> Finding:
        missing = not _is_written(backend, cells[part])
        return found(part, str(error), Kind.MISSING if missing else Kind.DAMAGED)

    start, stop = bounds_of(backend.schema, block)
    try:
        filled = filled_rows(backend, cells[Part.FILLED])
    except DamageError as error:
        yield found(Part.FILLED, str(error))
        return
    if filled == 0:
        for part in (Part.CERTIFICATE, Part.VALUES):
            if _is_written(backend, cells[part]):
                detail = f"block {block} of {model} is not filled, but its {part} cell is written"
                yield found(part, detail, Kind.UNCERTIFIED)
        return
    # Rows are filled all at once, so the count is what the block has, or had at some commit.
    if filled != stop - start and filled not in partial_ends(backend.schema).get(block, ()):
        detail = f"filled are {count(filled, 'row')} where the block has {stop - start}"
        yield found(Part.FILLED, detail)
        return
    try:
        certificate = _checked_certificate(backend, model, block, filled)
    except DamageError as error:
        yield damage(Part.CERTIFICATE, error)
        return
    if certificate.rows > filled:
        detail = f"certified are {count(certificate.rows, 'row')}, filled {filled} of them"
        yield found(Part.FILLED, detail, Kind.UNCERTIFIED)
    if buffer is None:
        buffer = np.empty((filled, backend.schema.model(model).dim), np.float16)
    values = buffer[:filled]
    try:
        crc = backend.read_rows(cells[Part.VALUES], certificate.rows, 0, values)
        if crc != certificate.crc32c:
            read = _checked_values(backend, cells[Part.VALUES], certificate, filled)
            values[:] = read[:filled]
    except DamageError as error:
        yield damage(Part.VALUES, error)
        return
    if not all_finite(values):
        finite = int(np.count_nonzero(np.isfinite(values).all(axis=1)))
        detail = f"{filled - finite} filled rows hold NaN or infinity"
        yield found(Part.VALUES, detail, Kind.NOT_FINITE)


def _require(claim: BlockClaim) -> None:
    if not claim.is_current():
        raise ClaimLostError(f"{claim.model} block {claim.block}: a newer claim exists")


def _certificate_or_none(backend: Backend, model: str, block: int) -> Certificate | None:
    try:
        return certificate_of(backend, model, block)
    except DamageError:
        return None


def _checked_certificate(backend: Backend, model: str, block: int, filled: int) -> Certificate:
    certificate = certificate_of(backend, model, block)
    if certificate is None:
        raise DamageError("certificate is missing")
    if certificate.rows < filled:
        raise DamageError(
            f"certificate covers {count(certificate.rows, 'row')}, filled are {filled}"
        )
    if not 0 <= certificate.rows <= backend.schema.block_rows:
        raise DamageError(
            f"certificate covers {count(certificate.rows, 'row')} of {backend.schema.block_rows}"
        )
    return certificate


def _is_written(backend: Backend, cell: Cell) -> bool:
    """Whether anything was ever written into a cell of a block, whole or not."""
    try:
        if cell.part is not Part.VALUES:
            return backend.read(cell) is not None
        read = backend.read_values(cell, backend.schema.block_rows)
        return read is not None and bool(read[0].view(np.uint16).any())  # zeros: never written
    except DamageError:
        return True


def _is_intact(backend: Backend, cell: Cell, certificate: Certificate) -> bool:
    """Whether the values on disk still are the certified ones."""
    try:
        return backend.checksum(cell, certificate.rows) == certificate.crc32c
    except DamageError:
        return False


def _crc_to_keep(backend: Backend, cell: Cell, *, rows: int) -> str | None:
    """Checksum of the values on disk if they are a first writer's, of just these rows; else None.

    A worker that was killed leaves values without a certificate, or with its own. Values under
    another certificate are damaged, or the tail from before it grew.
    """
    try:
        read = backend.read_values(cell, backend.schema.block_rows)
    except DamageError:
        return None
    if read is None:
        return None
    values, crc = read
    present = int(np.count_nonzero(np.isfinite(values).all(axis=1)))
    if present > rows:
        raise ClaimLostError(
            f"{backend.name(cell)}: a later owner published {count(present, 'row')}"
        )
    known = _certificate_or_none(backend, cell.model, cell.block)
    if present != rows or (known is not None and known.crc32c != crc):
        return None
    return crc


def _certify_as(backend: Backend, claim: BlockClaim, certificate: Certificate) -> Certificate:
    """Write a certificate, unless one of the same rows and values is there; return that of both."""
    cell = Cell(Part.CERTIFICATE, claim.model, claim.block)
    if not backend.create(cell, certificate.to_json()):
        known = _certificate_or_none(backend, claim.model, claim.block)
        wanted = certificate.rows, certificate.crc32c
        if known is not None and (known.rows, known.crc32c) == wanted:
            return known
        _require(claim)
        backend.replace(cell, certificate.to_json())
    return certificate


def _check_flags(backend: Backend, model: str, block: int, rows: int) -> None:
    flagged = filled_of_block(backend, model, block)
    if flagged != rows:
        raise DamageError(f"flagged as filled are {count(flagged, 'row')} where {rows} should be")


def _check_checksum(backend: Backend, cell: Cell, certificate: Certificate) -> None:
    crc = backend.checksum(cell, certificate.rows)
    if crc is None:
        raise DamageError("values are missing")
    if crc != certificate.crc32c:
        raise DamageError(f"values have checksum {crc}, their certificate {certificate.crc32c}")


def _checked_values(
    backend: Backend, cell: Cell, certificate: Certificate | None, filled: int
) -> Rows:
    """Values of a filled block, compared with its certificate if it is given."""
    read = backend.read_values(cell, filled if certificate is None else certificate.rows)
    if read is None:
        raise DamageError(f"values are missing, of {count(filled, 'filled row')}")
    values, crc = read
    if certificate is not None and crc != certificate.crc32c:
        raise DamageError(
            f"{cell.model} block {cell.block}: checksum {crc} of the values is not that of their "
            f"certificate, {certificate.crc32c}"
        )
    return values
