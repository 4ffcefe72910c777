"""Publishing one block: the chunk, its certificate, and ``filled`` last.

The three files of a block appear in this order, each durable before the next::

    obsm/X_<model>/c.<b>.0         the rows, with their CRC-32C
    obs/certificate_<model>/c.<b>  how many rows, which CRC-32C, by whom and how
    obs/filled_<model>/c.<b>       only now do the rows count

A full block's chunk is created with ``link()``: the first writer wins, and a worker that wakes
up after its block was stolen and finished changes nothing. Only a block that was once the
partial tail is ever replaced, under the claim; should a frozen owner still replace it later, its
CRC-32C no longer is the certified one, and certifying opens the block again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.certificate import Certificate, check_values, parse_certificate, require_claim
from store.errors import ClaimLostError, DamageError
from store.io.files import publish_new, publish_replace, remove_durable
from store.io.ragged import from_items
from store.layout import Column, certificate_column, embedding_column, filled_column
from store.schema import Schema
from store.zarr.codec import (
    CRC_BYTES,
    decode_numbers,
    decode_strings,
    encode_numbers,
    encode_strings,
    stored_crc,
)


@dataclass(frozen=True, slots=True)
class BlockFiles:
    """The columns of one model and the paths of one of its blocks."""

    embedding: Column
    certificate: Column
    filled: Column
    chunk_path: Path
    certificate_path: Path
    filled_path: Path


def block_files(root: Path, *, schema: Schema, model: str, block: int) -> BlockFiles:
    """Locate the three files of a block."""
    spec = schema.model(model)
    embedding = embedding_column(schema, spec)
    certificate = certificate_column(schema, spec)
    filled = filled_column(schema, spec)
    return BlockFiles(
        embedding=embedding,
        certificate=certificate,
        filled=filled,
        chunk_path=root / embedding.chunk_key(block, 0),
        certificate_path=root / certificate.chunk_key(block),
        filled_path=root / filled.chunk_key(block),
    )


def publish_block(
    root: Path,
    *,
    schema: Schema,
    model: str,
    block: int,
    values: NDArray[np.float16],
    worker: str,
    epoch: int,
    published: str,
    details: Mapping[str, Any],
    is_current: Callable[[], bool],
    tmp_dir: Path,
) -> Certificate:
    """Publish the rows of a block.

    Parameters
    ----------
    root, schema
        The store, and its schema as of the claim: it says how many rows the block has.
    values
        float16, shape (rows of the block, dim), finite.
    worker, epoch, published, details
        Recorded in the certificate.
    is_current
        Whether the claim still has the highest epoch; asked before anything is replaced.
    tmp_dir
        Directory on the same file system for temporary files.

    Returns
    -------
    Certificate
        The certificate that stands in the store now.

    Raises
    ------
    ClaimLostError
        If another worker owns, or has finished, the block.
    DataError
        If a value is NaN or infinite, or the shape is not the block's.
    DamageError
        If the bytes on disk are not the bytes written.
    """
    files = block_files(root, schema=schema, model=model, block=block)
    start, stop = check_values(values, schema=schema, model=model, block=block)
    rows = stop - start
    require_claim(is_current, model=model, block=block)
    content = encode_numbers(values, column=files.embedding)
    crc = stored_crc(content)
    if not publish_new(tmp_dir, files.chunk_path, [content]):
        kept = _crc_to_keep(files, rows=rows)
        if kept is None:  # the tail as it was before it grew, or a damaged chunk
            require_claim(is_current, model=model, block=block)
            publish_replace(tmp_dir, files.chunk_path, [content])
        else:
            crc = kept
    check_trailer(files.chunk_path, size=len(content), crc=crc)

    certificate = Certificate(rows, crc, worker, epoch, published, dict(details))
    sealed = encode_strings(from_items([certificate.to_json()]), column=files.certificate)
    if not publish_new(tmp_dir, files.certificate_path, [sealed]):
        standing = _standing_certificate(files)
        if standing is not None and (standing.rows, standing.crc32c) == (rows, crc):
            certificate = standing
        else:
            require_claim(is_current, model=model, block=block)
            publish_replace(tmp_dir, files.certificate_path, [sealed])

    flags = np.ones(rows, dtype=np.bool_)
    mask = encode_numbers(flags, column=files.filled)
    if not publish_new(tmp_dir, files.filled_path, [mask]) and _standing_rows(files) != rows:
        require_claim(is_current, model=model, block=block)
        publish_replace(tmp_dir, files.filled_path, [mask])
    return certificate


def read_certificate(files: BlockFiles) -> Certificate | None:
    """Return the certificate of a block, or None if there is none.

    Raises
    ------
    DamageError
        If it is damaged.
    """
    try:
        raw = files.certificate_path.read_bytes()
    except FileNotFoundError:
        return None
    return parse_certificate(decode_strings(raw, column=files.certificate)[0])


def filled_rows(files: BlockFiles) -> int:
    """Count the rows of a block that are filled: always its first ones.

    Raises
    ------
    DamageError
        If the chunk is damaged, or has a hole.
    """
    try:
        raw = files.filled_path.read_bytes()
    except FileNotFoundError:
        return 0
    flags = decode_numbers(raw, column=files.filled)
    count = int(np.count_nonzero(flags))
    if not flags[:count].all():
        raise DamageError("filled rows have a hole")
    return count


def check_trailer(path: Path, *, size: int, crc: str) -> None:
    """Re-read the end of a chunk: its length and the checksum it carries.

    Raises
    ------
    DamageError
        If the file is missing, has another length or another checksum.
    """
    try:
        with path.open("rb") as file:
            found = file.seek(0, 2)
            file.seek(max(found - CRC_BYTES, 0))
            trailer = file.read()
    except FileNotFoundError:
        raise DamageError("chunk is missing") from None
    if found != size:
        raise DamageError(f"length is {found} bytes where {size} belong")
    if stored_crc(trailer) != crc:
        raise DamageError(f"chunk carries checksum {stored_crc(trailer)}, its certificate {crc}")


def reopen_block(files: BlockFiles) -> None:
    """Make a block open again, safe to be killed in between.

    ``filled`` goes first, so no row counts without its data. The certificate goes last: while it
    stands no worker takes over a chunk that is not the certified one.
    """
    for path in (files.filled_path, files.chunk_path, files.certificate_path):
        remove_durable(path)


def _crc_to_keep(files: BlockFiles, *, rows: int) -> str | None:
    """Checksum of the chunk on disk if it is a first writer's, of just these rows; else None.

    A worker that was killed leaves a chunk without a certificate, or with its own. A chunk under
    another certificate is a damaged one, or the tail from before it grew.

    Raises
    ------
    ClaimLostError
        If it holds more rows: the store has grown and a later owner published already.
    """
    try:
        raw = files.chunk_path.read_bytes()
        chunk = decode_numbers(raw, column=files.embedding)
    except (DamageError, FileNotFoundError):
        return None
    present = int(np.count_nonzero(np.isfinite(chunk).all(axis=1)))
    if present > rows:
        raise ClaimLostError(f"{files.chunk_path.name}: a later owner published {present} rows")
    crc = stored_crc(raw)
    standing = _standing_certificate(files)
    if present != rows or (standing is not None and standing.crc32c != crc):
        return None
    return crc


def _standing_rows(files: BlockFiles) -> int:
    try:
        return filled_rows(files)
    except DamageError:
        return -1


def _standing_certificate(files: BlockFiles) -> Certificate | None:
    try:
        return read_certificate(files)
    except DamageError:
        return None
