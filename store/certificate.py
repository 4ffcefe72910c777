"""Block certificates, and what re-reading them says about a model: the same in every backend."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from store.errors import DamageError, DataError
from store.geometry import block_bounds
from store.io.json import parse_json
from store.io.words import count
from store.schema import Schema


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was published for a block, and how it came to be."""

    rows: int  # rows the block had when it was published
    crc32c: str  # of the chunk's values, eight hex digits
    worker: str  # uuid of the publishing worker
    epoch: int  # its claim's epoch
    published: str  # UTC, ISO 8601
    details: dict[str, Any]  # the worker's device, precision, fallbacks, versions, seconds

    def to_json(self) -> bytes:
        """Return the certificate as it is kept in the store."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()


_KINDS = [(field.name, str(field.type).partition("[")[0]) for field in fields(Certificate)]


def parse_certificate(text: bytes) -> Certificate:
    """Read a certificate back; DamageError if it is not JSON of the right form."""
    try:
        value = parse_json(text)
        certificate = Certificate(**{name: value[name] for name, _ in _KINDS})
    except (ValueError, KeyError, TypeError) as error:
        raise DamageError(f"certificate is unreadable: {error}") from None
    for name, kind in _KINDS:
        if type(getattr(certificate, name)).__name__ != kind:
            raise DamageError(f"certificate is unreadable: {name} is not {kind}")
    return certificate


@dataclass(frozen=True, slots=True)
class Certification:
    """Result of re-reading one model's blocks."""

    model: str
    rows: int  # rows of the store
    certified: int  # of these, rows whose block passed the check
    open_blocks: tuple[int, ...]  # not (wholly) filled
    failed: tuple[tuple[int, str], ...]  # filled, but not as certified: block and reason

    @property
    def complete(self) -> bool:
        """Whether every row of the store is certified for this model."""
        return self.certified == self.rows


class BlockClaim(Protocol):
    """What publishing needs of a claim; see `store.claims.claims.Claim`."""

    @property
    def model(self) -> str:
        """Model whose block it is."""

    @property
    def block(self) -> int:
        """Number of the block."""

    @property
    def epoch(self) -> int:
        """Number of the claim on the block; the highest one owns it."""

    @property
    def worker(self) -> str:
        """Id of the worker that made the claim."""

    def is_current(self) -> bool:
        """Whether it still is the highest claim."""


_EXPONENT = np.uint16(0x7C00)  # all its bits set: NaN or infinity

LARGEST = float(np.finfo(np.float16).max)  # of what a store keeps


def all_finite(values: NDArray[np.float16]) -> bool:
    """Whether no number is NaN or infinity: by its exponent, as NumPy takes longer for float16."""
    bits = np.ascontiguousarray(values).view(np.uint16)
    return bool(((bits & _EXPONENT).max(initial=0)) < _EXPONENT)


def check_values(
    values: NDArray[np.float16], *, schema: Schema, model: str, block: int
) -> tuple[int, int]:
    """Check that embeddings are finite and have a block's shape; return the block's bounds."""
    start, stop = block_bounds(block, schema.n_rows, schema.block_rows)
    shape = (stop - start, schema.model(model).dim)
    if values.shape != shape:
        raise DataError(f"{model} block {block}: embeddings have shape {values.shape}, not {shape}")
    if not all_finite(values):
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        raise DataError(
            f"{model} block {block}: NaN or infinity in {len(bad)} of "
            f"{count(stop - start, 'row')}, the first is row {start + int(bad[0])}; nothing was "
            "published"
        )
    return start, stop
