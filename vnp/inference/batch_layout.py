"""Where the records of a batch lie, as the kernels need it, in one array of integers.

Everything that goes to the device for a batch is one copy::

    ids (rows)            token ids, then padding up to the number of rows
    positions (rows)      of each token in its record, from 0; of padding 0
    tiles (4 a tile)      first token of the record, its tokens, first and last (excluded) query
    bounds (2 a record)   first and last (excluded) token that enter the record's (first) pooling

A tile is a record that is short enough for its keys to stay on the chip, or up to ``TILE_ROWS``
queries of a longer one, whose tiles are about equal. Tiles that the same kernel takes are
neighbours, as records come in order of length; which one takes a record depends on its length
alone. Padding belongs to no tile and to no record: no result depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from store.io.ragged import offsets_of
from vnp.models.packing import Batch, Group
from vnp.models.pooling import parts_of

Lengths = TypeVar("Lengths", int, NDArray[np.int64])

MOST_RESIDUES = 1024  # that enter a mean

TILE_ROWS = 256  # four blocks of queries

BLOCK_KEYS = 64
# Up to this many blocks of keys and values, keeping a whole record on the chip pays in Triton:
# above, too few programs fit beside each other.
MOST_BLOCKS = 4


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotary positions: by what the columns of queries and keys are rotated."""

    tables: tuple[Tensor, Tensor]  # cosines and sines, (positions, K / 2), float16 or float32
    positions: Tensor  # int32 (T,)
    columns: int  # that are rotated, from the left
    neighbours: bool = False  # whether pairs are neighbours, rather than of a head's two halves
    # What operations in plain torch keep from one layer to the next.
    kept: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """Tiles that one kernel takes."""

    blocks: int  # blocks of keys that each record has, or 0 for tiles of longer records
    start: int  # first tile
    stop: int  # last tile, excluded


@dataclass(frozen=True, slots=True)
class BatchLayout:
    """The records of a batch, on the device; the four tensors are parts of one."""

    ids: Tensor  # int32 (rows,)
    positions: Tensor  # int32 (rows,)
    tiles: Tensor  # int32 (n_tiles, 4)
    bounds: Tensor  # int32 (n_records, 2)
    parts: tuple[Part, ...]  # they cover the tiles
    groups: tuple[Group, ...]  # records of equal length, in order; on the host
    pooling: str  # which tokens of a record enter its mean
    longest: int  # tokens of the longest record
    # What operations in plain torch keep from one layer to the next.
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Tokens and padding."""
        return self.ids.shape[0]

    @property
    def n_records(self) -> int:
        """Number of records."""
        return self.bounds.shape[0]


@dataclass(frozen=True, slots=True)
class LayoutPlan:
    """The same on the host, before it is written into a buffer."""

    ids: NDArray[np.int32]  # (tokens,)
    positions: NDArray[np.int32]  # (tokens,)
    rows: int  # tokens and padding
    tiles: NDArray[np.int32]  # (n_tiles, 4)
    bounds: NDArray[np.int32]  # (n_records, 2)
    parts: tuple[Part, ...]
    groups: tuple[Group, ...]
    pooling: str
    longest: int

    @property
    def size(self) -> int:
        """Integers it takes."""
        return 2 * self.rows + self.tiles.size + self.bounds.size

    def write(self, buffer: NDArray[np.int32], *, padding: int) -> None:
        """Write the four arrays end to end; ``padding`` is the id of padding tokens."""
        used, rows = len(self.ids), self.rows
        buffer[:used] = self.ids
        buffer[used:rows] = padding
        buffer[rows : rows + used] = self.positions
        buffer[rows + used : 2 * rows] = 0
        tiles_end = 2 * rows + self.tiles.size
        buffer[2 * rows : tiles_end] = self.tiles.ravel()
        buffer[tiles_end : self.size] = self.bounds.ravel()

    def on(self, buffer: Tensor) -> BatchLayout:
        """Describe a device's copy of what ``write`` wrote."""
        rows, tiles_end = self.rows, 2 * self.rows + self.tiles.size
        return BatchLayout(
            ids=buffer[:rows],
            positions=buffer[rows : 2 * rows],
            tiles=buffer[2 * rows : tiles_end].view(-1, 4),
            bounds=buffer[tiles_end : self.size].view(-1, 2),
            parts=self.parts,
            groups=self.groups,
            pooling=self.pooling,
            longest=self.longest,
        )


def pooled_span(part: str, lengths: Lengths) -> tuple[int, Lengths]:
    """Which tokens of records of so many tokens enter a pooling, as [first, last).

    One special token stands at each end; of ``mean_residues_1024`` at most the first 1024 between
    them count (see `vnp.models.pooling`).
    """
    if part == "mean_all_tokens":
        return 0, lengths
    if part == "cls":
        return 0, lengths - lengths + 1
    if part == "mean_residues_1024":
        return 1, np.minimum(lengths - 1, 1 + MOST_RESIDUES)
    return 1, lengths - 1


def plan_layout(batch: Batch, ids: NDArray[np.int32], *, rows: int, pooling: str) -> LayoutPlan:
    """Lay out a batch.

    Parameters
    ----------
    batch
        The records, in their order.
    ids
        Their token ids, end to end.
    rows
        Rows that the batch is padded to.
    pooling
        Which tokens enter the mean; see ``pooled_span``.
    """
    lengths = batch.lengths
    starts = offsets_of(lengths)[:-1]
    blocks = -(-lengths // BLOCK_KEYS)
    blocks[blocks > MOST_BLOCKS] = 0
    counts = np.where(blocks > 0, 1, -(-lengths // TILE_ROWS))
    of_record = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(of_record)) - np.repeat(offsets_of(counts)[:-1], counts)
    # Of whole blocks; those that a record has more of than its tiles share go to the first ones.
    blocks_of, tiles_of = -(-lengths // BLOCK_KEYS)[of_record], counts[of_record]
    ends = [((number + more) * blocks_of + tiles_of - 1) // tiles_of for more in (0, 1)]
    first_query, last_query = (BLOCK_KEYS * end for end in ends)
    last_query = np.minimum(last_query, lengths[of_record])
    tiles = np.stack([starts[of_record], lengths[of_record], first_query, last_query], axis=1)
    first, last = pooled_span(parts_of(pooling)[0], lengths)
    positions = np.arange(len(ids)) - np.repeat(starts, lengths)
    return LayoutPlan(
        ids=ids,
        positions=positions.astype(np.int32),
        rows=rows,
        tiles=tiles.astype(np.int32),
        bounds=np.stack([starts + first, starts + last], axis=1).astype(np.int32),
        parts=_parts(blocks[of_record]),
        groups=batch.groups,
        pooling=pooling,
        longest=int(lengths.max()),
    )


def _parts(blocks: NDArray[np.int64]) -> tuple[Part, ...]:
    """Runs of tiles with the same number of blocks."""
    cuts = np.flatnonzero(np.diff(blocks)) + 1
    bounds = [0, *cuts.tolist(), len(blocks)]
    return tuple(Part(int(blocks[start]), start, stop) for start, stop in pairwise(bounds))
