"""A store as PyTorch datasets: by index, or shuffled in bounded memory.

>>> from vnp.exchange.torch_datasets import to_torch              # doctest: +SKIP
>>> data = to_torch(store.open("run.zarr"), shuffle=True, seed=1)       # doctest: +SKIP
>>> loader = DataLoader(data, batch_size=256, num_workers=4)            # doctest: +SKIP
>>> for epoch in range(10):                                             # doctest: +SKIP
...     data.set_epoch(epoch)
...     for rows in loader: ...

Both datasets hold a view, which has no file open: DataLoader workers may be forked or spawned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from store.errors import UsageError
from store.read.first_rows import FirstRows
from store.read.indexing import Ints, row_positions
from store.read.view import View
from store.store import Store
from vnp.models.held import held_models

Item: TypeAlias = Tensor | tuple[Tensor, Tensor]

_READ_ROWS = 1024  # rows of a shuffled group that are read at a time


@overload
def to_torch(
    store: Store,
    *,
    models: Sequence[str] | None = ...,
    rows: Any = ...,
    labels: ArrayLike | None = ...,
    dtype: torch.dtype = ...,
    shuffle: Literal[False] = ...,
) -> RowDataset: ...
@overload
def to_torch(
    store: Store,
    *,
    models: Sequence[str] | None = ...,
    rows: Any = ...,
    labels: ArrayLike | None = ...,
    dtype: torch.dtype = ...,
    shuffle: Literal[True],
    seed: int = ...,
    buffer_blocks: int = ...,
    rank: int = ...,
    world_size: int = ...,
) -> ShuffledRows: ...
def to_torch(
    store: Store,
    *,
    models: Sequence[str] | None = None,
    rows: Any = None,
    labels: ArrayLike | None = None,
    dtype: torch.dtype = torch.float32,
    shuffle: bool = False,
    seed: int = 0,
    buffer_blocks: int = 8,
    rank: int = 0,
    world_size: int = 1,
) -> RowDataset | ShuffledRows:
    """Make a dataset of the merged embeddings of a store.

    Parameters
    ----------
    store
        The store.
    models
        Names of the models, left to right; by default all in the store's order.
    rows
        Which rows: slice, mask or row numbers. By default those certified for every model; rows
        named here must be.
    labels
        A number for each row of the *store*, shape (N,); items are then ``(row, label)``.
    dtype
        Of the items. The store holds float16.
    shuffle
        Give an `IterableDataset` in shuffled order, not a dataset by index.
    seed, buffer_blocks, rank, world_size
        See `ShuffledRows`; only with ``shuffle``.

    Raises
    ------
    UsageError
        If a row asked for is not certified, or an option does not fit.
    """
    view = store.merged(held_models(store.schema, models) if models else None)
    certified = view.certified
    chosen: Ints | FirstRows = certified
    if rows is not None:
        chosen = row_positions(rows, len(view))
        open_rows = chosen[~certified.holds(chosen)]
        if len(open_rows):
            raise UsageError(
                f"{len(open_rows):,} of the rows are not certified, the first is row "
                f"{open_rows[0]}; choose certified rows, or fill these with 'vnp embed'"
            )
    numbers = None
    if labels is not None:
        numbers = np.asarray(labels)
        if numbers.shape != (len(view),):
            raise UsageError(
                f"labels have shape {numbers.shape}; the store has {len(view)} rows, and each "
                "needs a label (those of rows not chosen may be anything)"
            )
    source = _Source(view, numbers, dtype)
    if not shuffle:
        return RowDataset(source, rows=chosen)
    return ShuffledRows(
        source,
        rows=chosen,
        seed=seed,
        buffer_blocks=buffer_blocks,
        rank=rank,
        world_size=world_size,
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """Where items come from."""

    view: View
    labels: NDArray[Any] | None  # of each row of the view
    dtype: torch.dtype  # of the items

    def items(self, rows: Ints) -> list[Item]:
        """Read the items of some rows at once."""
        values = torch.from_numpy(self.view[rows]).to(self.dtype)
        if self.labels is None:
            return list(values)
        return list(zip(values, torch.from_numpy(self.labels[rows]), strict=True))


class RowDataset(Dataset[Item]):
    """Rows by index; a DataLoader gets the rows of a batch in one read."""

    def __init__(self, source: _Source, *, rows: Ints | FirstRows) -> None:
        self._source = source
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> Ints:
        """Row number of each item, shape (n,); of all certified rows it is made when asked for."""
        if isinstance(self._rows, FirstRows):
            return self._rows.span(0, len(self._rows))
        return self._rows

    def __getitem__(self, index: int) -> Item:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """Return several items; DataLoader calls this instead of asking one by one."""
        at = np.asarray(indices, dtype=np.int64)
        if isinstance(self._rows, FirstRows):
            if len(at) and not -len(self) <= at.min() <= at.max() < len(self):
                raise IndexError(f"an index is out of bounds for {len(self):,} items")
            return self._source.items(self._rows.rows(np.where(at < 0, at + len(self), at)))
        return self._source.items(self._rows[at])


class ShuffledRows(IterableDataset[Item]):
    """Every row once an epoch, in an order that differs from epoch to epoch.

    Blocks are shuffled and dealt to ranks and workers; each takes ``buffer_blocks`` of its blocks
    at a time and yields their rows in shuffled order. The buffer holds row numbers only; rows are
    read when they are yielded. The order depends on seed, epoch, ranks and workers alone.

    Parameters
    ----------
    seed
        Of the order.
    buffer_blocks
        Blocks whose rows are mixed: with 1 a batch comes from one block; more of them come closer
        to a full shuffle and scatter the reads.
    rank, world_size
        This process among those of a distributed training; each row goes to one of them. Ranks
        may have different numbers of rows.
    """

    def __init__(
        self,
        source: _Source,
        *,
        rows: Ints | FirstRows,
        seed: int,
        buffer_blocks: int,
        rank: int,
        world_size: int,
    ) -> None:
        if buffer_blocks < 1:
            raise UsageError(f"buffer_blocks is {buffer_blocks}: it must be positive")
        if not 0 <= rank < world_size:
            raise UsageError(f"rank {rank} is not one of {world_size}, counted from 0")
        self._source = source
        self._rows = rows if isinstance(rows, FirstRows) else np.sort(rows)
        self._seed = seed
        self._buffer_blocks = buffer_blocks
        self._rank = rank
        self._world_size = world_size
        # In shared memory, so that persistent workers see it change.
        self._epoch: Tensor = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next epoch; call it before each one."""
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[Item]:
        info = get_worker_info()
        for rows in self.order(*((0, 1) if info is None else (info.id, info.num_workers))):
            for first in range(0, len(rows), _READ_ROWS):
                yield from self._source.items(rows[first : first + _READ_ROWS])

    def order(self, worker: int, workers: int) -> Iterator[Ints]:
        """Yield the row numbers of one worker of this rank, group by group, in their order."""
        epoch = int(self._epoch)
        starts, ends = self._parts()
        shuffled = np.random.default_rng([self._seed, epoch]).permutation(len(starts))
        share = self._rank * workers + worker
        mine = shuffled[share :: self._world_size * workers]
        rng = np.random.default_rng([self._seed, epoch, share])
        for first in range(0, len(mine), self._buffer_blocks):
            group = mine[first : first + self._buffer_blocks]
            rows = np.concatenate([self._part(int(starts[b]), int(ends[b])) for b in group])
            yield rng.permutation(rows)

    def _parts(self) -> tuple[Ints, Ints]:
        """Where the rows of each block that has any begin and end among ours."""
        if isinstance(self._rows, FirstRows):
            counts = self._rows.counts[self._rows.counts > 0]
            ends = np.cumsum(counts)
            return ends - counts, ends
        block = self._rows // self._source.view.block_rows
        starts = np.flatnonzero(np.diff(block, prepend=-1))
        return starts, np.append(starts[1:], len(block))

    def _part(self, start: int, stop: int) -> Ints:
        if isinstance(self._rows, FirstRows):
            return self._rows.span(start, stop)
        return self._rows[start:stop]
