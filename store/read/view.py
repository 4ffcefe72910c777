"""Views: the embeddings of one model, or of several side by side, as a lazy read-only array.

A view reads what an index asks for and nothing else. Each block is one chunk of a file that is
memory-mapped for the read only, so a view holds no file open, can be pickled and is safe to use
after a fork and from any thread.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from typing import Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from store.errors import DamageError, DataError, UsageError
from store.geometry import chunks_of, rows_wanted
from store.io.words import count
from store.read.first_rows import FirstRows
from store.read.indexing import Axis, one_by_one, selection
from store.read.mapping import map_chunk
from store.read.plan import Bands, Piece, Span, Uniform, below, pieces, positions
from store.read.source import Source
from store.schema import Model

Missing: TypeAlias = Literal["nan", "raise"]
Rows: TypeAlias = NDArray[np.float16]
Mask: TypeAlias = NDArray[np.bool_]

_THREADS = 8  # at most, that copy large parts of blocks concurrently
_THREADED_BYTES = 1 << 20  # of a block; copying less is faster than handing it to a thread
_OPENED = 64  # blocks mapped at a time, so that the disk reads their rows concurrently
_SCATTERED = 8  # below one row in 8, read-ahead would read mostly other rows


class MissingRowsError(DataError):
    """A view with ``missing="raise"`` was asked for rows that are not certified."""


class View:
    """Embeddings of one or more models as a read-only array, shape (N, sum of dims), float16.

    Indexing follows NumPy (`store.read.indexing`) and gives NumPy arrays. A view keeps the rows of
    the moment it was made, and which of them were certified; make a new one for newer rows.

    Parameters
    ----------
    models
        Names of the models, left to right; by default all of the store.
    missing
        Rows that are not certified read as NaN (``"nan"``) or raise `MissingRowsError`
        (``"raise"``).
    verify
        Compare checksums on every read, which reads each block touched as a whole. Without it
        only ``vnp verify`` finds damage on the disk.
    """

    dtype = np.dtype(np.float16)
    ndim = 2

    def __init__(
        self,
        store: Source,
        *,
        models: str | Sequence[str] | None = None,
        missing: Missing = "nan",
        verify: bool = False,
    ) -> None:
        if models is None:
            models = [model.name for model in store.schema.models]
        elif isinstance(models, str):
            models = [models]
        if not models:
            raise UsageError(
                "a view needs at least one model; the store has none or none was named"
            )
        if len(set(models)) != len(models):
            raise UsageError(f"a model is named twice: {', '.join(models)}")
        if missing not in ("nan", "raise"):
            raise UsageError(f"missing is {missing!r}: use 'nan' or 'raise'")
        self._store = copy.copy(store)  # a refresh of the caller's object must not move this one
        self._models = tuple(store.schema.model(name) for name in models)
        self._blocks = Uniform(store.schema.block_rows)
        self._bands = Bands((0, *accumulate(model.dim for model in self._models)))
        self._wanted = rows_wanted(store.schema)
        self._filled = tuple(store.rows_filled(model.name) for model in self._models)
        self._complete = tuple(bool((has >= self._wanted).all()) for has in self._filled)
        self.shape = (store.schema.n_rows, self._bands.edges[-1])
        self.missing: Missing = missing
        self.verify = verify

    def __repr__(self) -> str:
        bands = ", ".join(f"{name} {b.start}:{b.stop}" for name, b in self.bands.items())
        return f"<view of {self._store.path}: {self.shape} float16; {bands}>"

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """Numbers in the view."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of all numbers in memory."""
        return self.size * self.dtype.itemsize

    @property
    def models(self) -> tuple[Model, ...]:
        """Models, left to right."""
        return self._models

    @property
    def bands(self) -> dict[str, slice]:
        """Columns of each model."""
        edges = pairwise(self._bands.edges)
        return {model.name: slice(*edge) for model, edge in zip(self._models, edges, strict=True)}

    @property
    def columns(self) -> list[tuple[str, int]]:
        """Of each column the model, and the number of the column within the model."""
        return [(model.name, index) for model in self._models for index in range(model.dim)]

    @property
    def block_rows(self) -> int:
        """Rows of a block: reads that keep to blocks are the cheapest."""
        return self._blocks.size

    @property
    def token(self) -> str:
        """A name that is equal for views of equal content, as dask needs it."""
        digest = hashlib.sha256(repr((self._store.path, self._models, self.missing)).encode())
        digest.update(repr(self._store.schema).encode())
        for filled in self._filled:
            digest.update(filled.tobytes())
        return digest.hexdigest()[:32]

    def __dask_tokenize__(self) -> str:
        return self.token

    @property
    def filled(self) -> Mask:
        """Rows certified for every model of the view, shape (N,)."""
        size = self.block_rows
        return filled_rows(self.filled_of_blocks, size=size, start=0, stop=self.shape[0])

    @property
    def certified(self) -> FirstRows:
        """Rows certified for every model of the view, without a mask of all rows."""
        return FirstRows(self.filled_of_blocks, block_rows=self.block_rows)

    @property
    def filled_of_blocks(self) -> NDArray[np.int64]:
        """First rows of each block that are certified for every model of the view, (n_blocks,)."""
        counts: NDArray[np.int64] = np.minimum.reduce(self._filled)
        return counts

    @overload
    def __getitem__(self, key: tuple[int, int]) -> np.float16: ...
    @overload
    def __getitem__(self, key: Any) -> Rows: ...
    def __getitem__(self, key: Any) -> Rows | np.float16:
        chosen = selection(key, self.shape)
        result = self._read(chosen.rows, chosen.columns).reshape(chosen.shape)
        return result if chosen.shape else result[()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a view is on disk: as an array it is always a copy")
        values = self[:]
        return values if dtype is None else values.astype(dtype, copy=False)

    def __iter__(self) -> Iterator[Rows]:
        for _, values in self.batches():
            yield from values

    def batches(
        self, start: int = 0, stop: int | None = None, *, reuse: bool = False
    ) -> Iterator[tuple[int, Rows]]:
        """Yield the rows block by block: the number of the first row, and the rows (n, columns).

        With ``reuse`` every batch is put into the same memory, which is faster: the next one
        overwrites it.
        """
        stop = self.shape[0] if stop is None else min(stop, self.shape[0])
        columns = range(self.shape[1])
        buffer = np.empty((self.block_rows, self.shape[1]), np.float16) if reuse else None
        while start < stop:
            end = min((start // self.block_rows + 1) * self.block_rows, stop)
            out = buffer[: end - start] if buffer is not None else None
            yield start, self._read(range(start, end), columns, out)
            start = end

    def block(self, number: int) -> list[Rows]:
        """Rows of a block that are certified for all models, (n, dim) of each model.

        Nothing is copied where the store's files can be mapped; the arrays are read-only.
        """
        start = number * self.block_rows
        if self.missing == "raise":
            rows = range(start, min(start + self.block_rows, self.shape[0]))
            self._require(rows, list(pieces(range(self.shape[1]), self._bands)))
        count = int(min(filled[number] for filled in self._filled))
        if not count:
            return [np.empty((0, model.dim), np.float16) for model in self._models]
        span = slice(0, count)
        return [self._chunk(band, number, span)[:count] for band in range(len(self._models))]

    def _read(self, rows: Axis, columns: Axis, out: Rows | None = None) -> Rows:
        """Rows crossed with columns: float16 (rows, columns), in ``out`` if it is given."""
        if out is None:
            out = np.empty((len(rows), len(columns)), dtype=np.float16)
        bands = list(pieces(columns, self._bands))
        if not out.size:
            return out
        plan = list(pieces(rows, self._blocks))
        if self.missing == "raise":
            self._require(rows, bands)

        if out.nbytes >= _THREADED_BYTES * len(plan) and len(plan) > 1:
            result = out
            with ThreadPoolExecutor(min(_THREADS, len(plan))) as pool:
                # The list raises what a thread raised.
                list(pool.map(lambda piece: self._fill(result, [piece], bands), plan))
        else:
            for first in range(0, len(plan), _OPENED):
                self._fill(out, plan[first : first + _OPENED], bands)
        return out

    def _fill(self, out: Rows, plan: Sequence[Piece], bands: Sequence[Piece]) -> None:
        """Copy the numbers of some blocks: map all of the blocks first, then touch them."""
        opened: list[tuple[Rows, Piece, Piece]] = []
        for piece in plan:
            for band in bands:
                filled = self._filled[band.part][piece.part]
                inside: Piece | None = piece
                if filled < self._wanted[piece.part]:
                    inside, rest = below(piece, int(filled))
                    if rest is not None:
                        out[_cross(rest, band.target)] = np.nan
                if inside is not None:
                    opened.append((self._chunk(band.part, piece.part, inside.source), inside, band))
        for chunk, piece, band in opened:
            if isinstance(band.source, slice):
                values = chunk[:, band.source][piece.source]
            else:
                values = chunk[_cross(piece.source, band.source)]
            out[_cross(piece.target, band.target)] = values

    def _chunk(self, band: int, block: int, rows: Span) -> Rows:
        """Map or read a block of one model, of which ``rows`` will be touched."""
        model = self._models[band]
        file = None if self.verify else self._store.values_file(model.name, block)
        if file is None:
            start = block * self.block_rows
            return self._store.read(model.name, start, start + int(self._filled[band][block]))
        path, offset = file
        touched = positions(rows)
        few = touched if len(touched) * _SCATTERED < self.block_rows else None
        try:
            return map_chunk(path, offset=offset, shape=(self.block_rows, model.dim), rows=few)
        except DamageError as error:
            raise DamageError(f"{path}, {model.name} block {block}: {error}") from None

    def _require(self, rows: Axis, bands: Sequence[Piece]) -> None:
        """Raise if a row is not certified, before anything is read."""
        for band in bands:
            if self._complete[band.part]:
                continue
            at = one_by_one(rows)
            missing = at[at % self.block_rows >= self._filled[band.part][at // self.block_rows]]
            if len(missing):
                raise MissingRowsError(
                    f"{self._store.path}: {count(len(missing), 'row')} of those asked for not "
                    f"certified for {self._models[band.part].name}, the first is row {missing[0]}; "
                    "run 'vnp embed', choose rows by the view's 'filled', or open it with "
                    "missing='nan'"
                )


def filled_rows(filled: NDArray[np.int64], *, size: int, start: int, stop: int) -> Mask:
    """Which of the rows ``start .. stop`` are filled: bool, one byte a row.

    ``filled`` are the filled rows, the first ones, of the blocks of ``size`` that these lie in.
    """
    out = np.zeros(max(stop - start, 0), dtype=np.bool_)
    for block, rows in zip(chunks_of(start, stop, size), filled.tolist(), strict=True):
        first = block * size - start
        out[max(first, 0) : max(first + rows, 0)] = True
    return out


def _cross(rows: Span, columns: Span) -> tuple[Any, Any]:
    """Index of every row of a span with every column of another."""
    if isinstance(rows, np.ndarray) and isinstance(columns, np.ndarray):
        return rows[:, None], columns
    return rows, columns
