"""The check behind exit code 0: every filled block still stands as it was certified.

For each filled block the files are opened again: the chunk has its full length, its trailing
checksum is the one in the certificate, which covers the rows, and ``filled`` says the same.
That reads a few kilobytes a block; :mod:`store.zarr.verify` reads everything.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from store.certificate import Certification
from store.errors import DamageError
from store.geometry import block_bounds, rows_wanted
from store.schema import Schema
from store.zarr.blocks import block_files, check_trailer, filled_rows, read_certificate
from store.zarr.codec import CRC_BYTES, numpy_dtype
from store.zarr.progress import rows_filled


def certify(root: Path, *, schema: Schema, model: str) -> Certification:
    """Re-read what certifies each filled block of a model."""
    filled, wanted = rows_filled(root, schema=schema, model=model), rows_wanted(schema)
    failed: list[tuple[int, str]] = []
    certified = 0
    for block in np.flatnonzero(filled).tolist():
        try:
            check_block(root, schema=schema, model=model, block=block, filled=int(filled[block]))
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


def check_block(root: Path, *, schema: Schema, model: str, block: int, filled: int) -> None:
    """Check the certificate and the trailer of one filled block.

    Raises
    ------
    DamageError
        Naming what does not stand.
    """
    start, stop = block_bounds(block, schema.n_rows, schema.block_rows)
    files = block_files(root, schema=schema, model=model, block=block)
    flagged = min(filled_rows(files), stop - start)
    if flagged != filled:
        raise DamageError(f"{flagged} rows are flagged as filled where {filled} should be")
    certificate = read_certificate(files)
    if certificate is None:
        raise DamageError("certificate is missing")
    if certificate.rows < filled:
        raise DamageError(f"certificate covers {certificate.rows} rows, {filled} are filled")
    chunk = files.embedding
    size = prod(chunk.chunk) * numpy_dtype(chunk).itemsize + CRC_BYTES
    check_trailer(files.chunk_path, size=size, crc=certificate.crc32c)
