"""What every reader of a file of embeddings gives: rows with their ids, a batch at a time."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.errors import DataError, StoreError
from store.io.words import count

F32 = NDArray[np.float32]

BATCH_ROWS = 4096  # of a batch at most
_BATCH_BYTES = 64 << 20  # of its numbers, about
_LONGEST = 200  # characters of another library's error that are repeated
_DAMAGED = (
    OSError,
    ValueError,
    LookupError,
    RuntimeError,
    TypeError,
    AttributeError,
    EOFError,
    ArithmeticError,
    NotImplementedError,
    SyntaxError,  # NumPy takes the head of an array apart as Python
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
_MOST_NUMBERS = 1 << 20  # of a row, as in a store's schema


class EmbeddingFileError(DataError):
    """A file of embeddings cannot be used; the message says which, where and why."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive rows of a file."""

    first: int  # 1-based number of the first in its file
    ids: list[str]  # as the file has them
    values: F32  # (n, dim); NaN and infinity as the file has them
    samples: list[str] | None = None  # by row, if the file names them

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class EmbeddingFile:
    """A file of embeddings of one width; nothing but its head is read before ``batches``."""

    path: Path
    form: str  # what kind of file it is, for people
    dim: int  # numbers a row
    dtype: str  # of the numbers in the file
    batches: Callable[[], Iterator[Rows]]  # all rows in the file's order
    columns: tuple[str, ...] = ()  # of a table: names of the columns of the numbers, if it has any
    passed_over: tuple[str, ...] = ()  # of a table: other columns, but for vnp's own


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Name the file in whatever a reader of another library raises on a damaged one."""
    try:
        yield
    except StoreError:
        raise
    except MemoryError as error:
        raise EmbeddingFileError(
            f"{path} claims to hold more than there is memory for ({error})"
        ) from None
    except _DAMAGED as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST]
        raise EmbeddingFileError(f"{path} is not {kind}, or damaged ({said})") from None


def shown(name: str) -> str:
    """Write a name of a stranger's file: neither at any length nor with what moves a cursor."""
    text = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in name[:80]
    )
    return text if len(name) <= 80 else f"{text}..."


def batch_rows(dim: int) -> int:
    """Rows of a batch of this width."""
    return max(1, min(BATCH_ROWS, _BATCH_BYTES // (4 * max(dim, 1))))


def checked_dim(dim: int, *, where: str) -> int:
    """Return the width of a row, if it is one that a store can have."""
    if not 1 <= dim <= _MOST_NUMBERS:
        raise EmbeddingFileError(
            f"{where}: {count(dim, 'number')} a row, where 1 to {_MOST_NUMBERS:,} belong"
        )
    return dim


def checked_type(dtype: np.dtype[Any], *, where: str) -> str:
    """Return the name of a type of numbers; EmbeddingFileError if it is none."""
    if dtype.kind not in "fiu":
        raise EmbeddingFileError(f"{where}: it holds {dtype}, where numbers belong")
    return str(dtype.newbyteorder("="))


def as_float32(values: Any, *, where: str) -> F32:
    """Convert numbers of any type; what is beyond float32 becomes infinity, which is refused."""
    array = np.asarray(values)
    checked_type(array.dtype, where=where)
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(np.float32, copy=False)


def checked_ids(ids: Sequence[str], n_rows: int, *, path: Path, ids_from: object) -> None:
    """Refuse ids that are not one per row, or that are empty."""
    check_counts(len(ids), n_rows, path=path, ids_from=ids_from)
    if "" in ids:
        raise EmbeddingFileError(f"{ids_from}: record {ids.index('') + 1} has an empty id")


def check_counts(n_ids: int, n_rows: int, *, path: Path, ids_from: object) -> None:
    """Refuse a file without a row, or with another number of ids."""
    if n_ids != n_rows:
        raise EmbeddingFileError(
            f"{path} has {count(n_rows, 'row')} and {ids_from} {count(n_ids, 'id')}: which id "
            "belongs to which row cannot be told"
        )
    if not n_rows:
        raise EmbeddingFileError(f"{path} holds no row")


def matrix_batches(
    matrix: Any, ids: Sequence[str], *, where: str, samples: Sequence[str] | None = None
) -> Iterator[Rows]:
    """Yield the rows of an array (n, dim) that is read by slices, in memory or not."""
    step = batch_rows(matrix.shape[1])
    for first in range(0, matrix.shape[0], step):
        part = slice(first, min(first + step, matrix.shape[0]))
        yield Rows(
            first + 1,
            list(ids[part]),
            as_float32(matrix[part], where=where),
            None if samples is None else list(samples[part]),
        )


def stacked(rows: Iterator[tuple[str, NDArray[Any]]], dim: int, *, path: Path) -> Iterator[Rows]:
    """Yield batches of single rows (dim,); one of another width is an error that names it."""
    step, first = batch_rows(dim), 1
    ids: list[str] = []
    values = np.empty((step, dim), np.float32)
    for record, row in rows:
        number = first + len(ids)
        if not record:
            raise EmbeddingFileError(f"{path}: record {number} has an empty id")
        values[len(ids)] = row_of(row, dim, where=f"{path}: record {number} ({shown(record)})")
        ids.append(record)
        if len(ids) == step:
            yield Rows(first, ids, values)
            first += step
            ids, values = [], np.empty((step, dim), np.float32)
    if ids:
        yield Rows(first, ids, values[: len(ids)])


def row_of(values: Any, dim: int | None, *, where: str) -> F32:
    """Return one row, given as (dim,) or (1, dim)."""
    array = np.asarray(values)
    check_row_shape(array.shape, dim, where=where)
    return as_float32(array.reshape(-1), where=where)


def check_row_shape(shape: tuple[int, ...], dim: int | None, *, where: str) -> int:
    """Return the width of a row of this shape; it must be ``dim``, if that is known."""
    if len(shape) == 2 and shape[0] != 1:
        raise EmbeddingFileError(
            f"{where}: an array of {shape[0]:,} x {shape[1]:,}, a row for each residue or token; "
            "a store holds one row a record: average them first"
        )
    if len(shape) not in (1, 2):
        raise EmbeddingFileError(f"{where}: an array of shape {shape}, not a row of numbers")
    width = shape[-1]
    if dim is not None and width != dim:
        raise EmbeddingFileError(
            f"{where}: {count(width, 'number')} where the first record has {dim:,}"
        )
    return checked_dim(width, where=where)
