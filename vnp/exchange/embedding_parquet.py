"""Embeddings in Parquet: a column of lists, or a column for each number, beside the ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.io.optional import require
from store.io.words import count
from vnp.exchange.embedding_columns import Columns, embedding_columns, some
from vnp.exchange.embedding_rows import (
    EmbeddingFile,
    EmbeddingFileError,
    Rows,
    as_float32,
    batch_rows,
    checked_dim,
    reading,
    shown,
)

_IDS = ("id", "__index_level_0__")  # the second is where pandas writes an index


def open_parquet(path: Path, *, key: str | None, model: str) -> EmbeddingFile:
    """Open a table.

    Its ids are the column ``id``; a column ``sample`` names the sample of each. The embeddings are
    a column of lists: ``key``, else ``X_<model>``, ``<model>``, ``embedding`` or ``embeddings``,
    else the only one; or, where there is none, columns of numbers as `embedding_columns` chooses
    them. A list that is missing is a row of NaN.
    """
    pa = require("pyarrow", for_what=f"{path}: embeddings in Parquet")
    parquet = require("pyarrow.parquet", for_what=f"{path}: embeddings in Parquet")
    with reading(path, "a Parquet file"), parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        ids = next((name for name in _IDS if name in schema.names), None)
        if ids is None:
            raise EmbeddingFileError(f"{path} has no column id (it has {some(schema.names)})")
        for name in (ids, "sample"):
            if schema.names.count(name) > 1:
                raise EmbeddingFileError(f"{path}: the column {name} is there twice")
        if not file.metadata.num_rows:
            raise EmbeddingFileError(f"{path} holds no row")
        chosen = _number_columns(pa, schema, path, key=key, model=model, ids=ids)
        numbers = list(chosen.names)
        dim = checked_dim(_dim(pa, file, numbers), where=str(path))
    sample = "sample" if "sample" in schema.names else None
    wanted = [ids, *([sample] if sample else []), *numbers]

    def batches() -> Iterator[Rows]:
        first = 1
        with reading(path, "a Parquet file"), parquet.ParquetFile(path) as file:
            for part in file.iter_batches(batch_size=batch_rows(dim), columns=wanted):
                names = _column(part, ids, first=first, path=path)
                samples = _column(part, sample, first=first, path=path) if sample else None
                values = _matrix(part, numbers, dim=dim, first=first, path=path)
                yield Rows(first, names, values, samples)
                first += len(names)

    field = schema.field(numbers[0])
    named = () if _is_list(field.type) else chosen.names
    dtype = str(_type_of(field.type))
    return EmbeddingFile(path, f"Parquet, {chosen}", dim, dtype, batches, named, chosen.passed_over)


def _number_columns(
    pa: Any, schema: Any, path: Path, *, key: str | None, model: str, ids: str
) -> Columns:
    """Choose the column of lists, or else the columns of numbers."""
    lists = [field.name for field in schema if _is_list(field.type)]
    if lists if key is None else key in lists:
        wanted = [key] if key is not None else [f"X_{model}", model, "embedding", "embeddings"]
        found = next((name for name in wanted if name in lists), None)
        if found is None and len(lists) == 1:
            found = lists[0]
        if found is None:
            raise EmbeddingFileError(
                f"{path}: its columns of lists are {some(lists)}, and not "
                f"{' or '.join(wanted)}: say which with --key"
            )
        if lists.count(found) > 1:
            raise EmbeddingFileError(f"{path}: the column {shown(found)} is there twice")
        chosen = Columns((found,))
    else:
        others = [name for name in schema.names if name != ids]
        chosen = embedding_columns(others, key=key, model=model, where=str(path))
    for name in chosen.names:
        field = schema.field(name)
        kind = field.type.value_type if _is_list(field.type) else field.type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise EmbeddingFileError(
                f"{path}: column {shown(name)} is {field.type}, where numbers belong"
            )
        if _is_list(field.type) and len(chosen.names) > 1:
            raise EmbeddingFileError(f"{path}: column {shown(name)} holds lists, not numbers")
    return chosen


def _is_list(kind: Any) -> bool:
    return hasattr(kind, "value_type") and not hasattr(kind, "index_type")  # no dictionary


def _type_of(kind: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype((kind.value_type if _is_list(kind) else kind).to_pandas_dtype())
    return dtype


def _dim(pa: Any, file: Any, names: list[str]) -> int:
    """Numbers a row: those of the first list that is there."""
    kind = file.schema_arrow.field(names[0]).type
    if not _is_list(kind):
        return len(names)
    if pa.types.is_fixed_size_list(kind):
        size: int = kind.list_size
        return size
    for part in file.iter_batches(batch_size=64, columns=names):
        for row in part.column(0):
            if row.is_valid:
                return len(row)
    return 0


def _column(part: Any, name: str, *, first: int, path: Path) -> list[str]:
    """Texts of a column; the error names the first record that has none."""
    values: list[Any] = part.column(part.schema.names.index(name)).to_pylist()
    for number, value in enumerate(values, start=first):
        if not isinstance(value, str) or not value:
            raise EmbeddingFileError(
                f"{path}: record {number}: its {name} is {value!r:.80}, where a text belongs"
            )
    return values


def _matrix(
    part: Any, names: list[str], *, dim: int, first: int, path: Path
) -> NDArray[np.float32]:
    """Numbers of a batch, (n, dim); a list or number that is missing is NaN."""
    arrays = [part.column(part.schema.names.index(name)) for name in names]
    if not _is_list(arrays[0].type):
        columns = [
            as_float32(array.to_numpy(zero_copy_only=False), where=str(path)) for array in arrays
        ]
        return np.stack(columns, axis=1)
    [array] = arrays
    out = np.full((len(array), dim), np.nan, np.float32)
    lengths = [len(row) if row.is_valid else None for row in array]
    for number, length in enumerate(lengths, start=first):
        if length not in (None, dim):
            raise EmbeddingFileError(
                f"{path}: record {number}: {count(length or 0, 'number')} where the first record "
                f"has {dim:,}"
            )
    flat = array.flatten().to_numpy(zero_copy_only=False)  # of the lists that are there
    there = np.array([length is not None for length in lengths], dtype=bool)
    out[there] = as_float32(flat, where=f"{path}: {names[0]}").reshape(-1, dim)
    return out
