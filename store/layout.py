"""The tree of a store: every array, as a function of the schema. Nothing here touches a file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.geometry import n_blocks
from store.samples import SAMPLES_CHUNK, StoredSamples
from store.schema import COLUMN_CHUNK_ROWS, Model, Schema

ROW_DIMENSION = "record"
CONTIG_LENGTH = "contig_length"  # the row column that stores of earlier code lack
_CATEGORY_CHUNK = 1024
_NUMBER = r"(?:0|[1-9][0-9]{0,17})"  # fits an int64
_CHUNK_NAME = re.compile(rf"c(?:\.{_NUMBER})*")
_ROW_CHUNK_NAME = re.compile(rf"c\.{_NUMBER}")
_ROW_CHUNK_NAMES = re.compile(rf"(?:c\.{_NUMBER}\n|zarr\.json\n)*+")  # the + makes it linear


@dataclass(frozen=True, slots=True)
class Column:
    """One array of the tree."""

    path: str  # inside the store, e.g. "obs/segment"
    dtype: str  # Zarr v3 data type: "string", "int32", ...
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    fill: Any  # JSON fill value: what a missing chunk reads as
    dimensions: tuple[str, ...]
    compressed: bool = True  # zstd before the checksum

    def chunk_key(self, *index: int) -> str:
        """Path of a chunk file inside the store: flat names, no directory per chunk."""
        return f"{self.path}/" + ".".join(["c", *map(str, index)])


def chunk_of(name: str) -> tuple[int, ...] | None:
    """Index of the chunk that a file name means, exactly as `Column.chunk_key` writes it."""
    if not _CHUNK_NAME.fullmatch(name):
        return None
    return tuple(map(int, name.split(".")[1:]))


def chunks_named(names: Iterable[str]) -> NDArray[np.int64]:
    """Numbers of the chunks along one axis that file names mean, in their order; others left out.

    All names become numbers at once: 150,000 take 15 ms, a tenth of `chunk_of` for each.
    """
    names = list(names)
    text = "\n".join([*names, ""])
    if not _ROW_CHUNK_NAMES.fullmatch(text):
        text = "\n".join([*filter(_ROW_CHUNK_NAME.fullmatch, names), ""])
    numbers = text.replace("zarr.json\n", "").replace("c.", "")
    return np.fromstring(numbers, sep="\n", dtype=np.int64)


def row_columns(schema: Schema) -> dict[str, Column]:
    """Columns that the appender writes, by the name of the batch's field."""

    def column(name: str, dtype: str, fill: Any, path: str = "", rows: int = 0) -> Column:
        return Column(
            path=f"obs/{path or name}",
            dtype=dtype,
            shape=(schema.n_rows,),
            chunk=(rows or COLUMN_CHUNK_ROWS,),
            fill=fill,
            dimensions=(ROW_DIMENSION,),
        )

    length = {CONTIG_LENGTH: column(CONTIG_LENGTH, "int64", 0)} if schema.contig_lengths else {}
    return {
        "id": column("id", "string", "", path="_index"),
        "sample": column("sample", "int32", -1, path="sample/codes"),
        "contig": column("contig", "string", ""),
        **length,
        "segment": column("segment", "int32", 0),
        "start": column("start", "int64", 0),
        "end": column("end", "int64", 0),
        "strand": column("strand", "int8", 0),
        "frame": column("frame", "int8", 0),
        "digest": column("digest", "uint64", 0),
        "digest_low": column("digest_low", "uint64", 0),
        "twin": column("twin", "int64", -1),
        # One chunk of sequences is one block: a worker reads two files to have its input.
        "nucleotide": column("nucleotide", "string", "", rows=schema.block_rows),
        "protein": column("protein", "string", "", rows=schema.block_rows),
    }


def embedding_column(schema: Schema, model: Model) -> Column:
    """Return the embeddings of a model: float16 (N, dim), one chunk per block."""
    return Column(
        path=f"obsm/X_{model.name}",
        dtype="float16",
        shape=(schema.n_rows, model.dim),
        chunk=(schema.block_rows, model.dim),
        fill="NaN",
        dimensions=(ROW_DIMENSION, f"{model.name}_dim"),
        compressed=False,
    )


def filled_column(schema: Schema, model: Model) -> Column:
    """Return the certified rows of a model: bool (N,), one chunk per block."""
    return Column(
        path=f"obs/filled_{model.name}",
        dtype="bool",
        shape=(schema.n_rows,),
        chunk=(schema.block_rows,),
        fill=False,
        dimensions=(ROW_DIMENSION,),
        compressed=False,
    )


def certificate_column(schema: Schema, model: Model) -> Column:
    """Return the certificates of a model: JSON string (n_blocks,), one chunk per block."""
    return Column(
        path=f"obs/certificate_{model.name}",
        dtype="string",
        shape=(n_blocks(schema.n_rows, schema.block_rows),),
        chunk=(1,),
        fill="",
        dimensions=("block",),
        compressed=False,
    )


def provenance_column(model: Model) -> Column:
    """Return the provenance of a model: one JSON string, written once by its first worker."""
    return Column(
        path=f"uns/vnp/{model.name}",
        dtype="string",
        shape=(),
        chunk=(),
        fill="",
        dimensions=(),
        compressed=False,
    )


def category_column(schema: Schema) -> Column:
    """Return the sample names that ``obs/sample/codes`` counts in: string (samples,)."""
    return Column(
        path="obs/sample/categories",
        dtype="string",
        shape=(len(schema.samples),),
        chunk=(_CATEGORY_CHUNK,),
        fill="",
        dimensions=("sample_category",),
    )


def samples_column(schema: Schema) -> Column:
    """Return the array of samples, one JSON text each: string (samples,).

    It lies in ``obs``, where AnnData loads what ``column-order`` lists and no more.
    """
    return Column(
        path="obs/vnp_samples",
        dtype="string",
        shape=(len(schema.samples),),
        chunk=(SAMPLES_CHUNK,),
        fill="",
        dimensions=("sample_category",),
    )


def sample_columns(schema: Schema) -> list[Column]:
    """Return the arrays with an item for each sample."""
    stored = isinstance(schema.samples, StoredSamples)
    return [category_column(schema), *([samples_column(schema)] if stored else [])]


def score_columns(schema: Schema, name: str) -> list[Column]:
    """Return the two columns of scores of a name: float32 (N,), NaN where there is none."""
    return [
        Column(
            path=f"obs/{name}_{which}",
            dtype="float32",
            shape=(schema.n_rows,),
            chunk=(COLUMN_CHUNK_ROWS,),
            fill="NaN",
            dimensions=(ROW_DIMENSION,),
        )
        for which in ("score1", "score2")
    ]


def appended_columns(schema: Schema) -> list[tuple[Column, int]]:
    """Columns that change by commits only, each with the number of items that it must have."""
    columns = [(column, schema.n_rows) for column in row_columns(schema).values()]
    columns += [(column, len(schema.samples)) for column in sample_columns(schema)]
    for scores in schema.scores:
        columns += [(column, scores.rows) for column in score_columns(schema, scores.name)]
    return columns


def all_columns(schema: Schema) -> list[Column]:
    """Every array of the store."""
    columns = [*row_columns(schema).values(), *sample_columns(schema)]
    for model in schema.models:
        columns += [
            embedding_column(schema, model),
            filled_column(schema, model),
            certificate_column(schema, model),
            provenance_column(model),
        ]
    for scores in schema.scores:
        columns += score_columns(schema, scores.name)
    return columns


def listed_columns(schema: Schema) -> list[str]:
    """Columns of ``obs`` that AnnData loads."""
    listed = ["sample", "contig", *([CONTIG_LENGTH] if schema.contig_lengths else [])]
    listed += ["segment", "start", "end", "strand", "frame", "digest"]
    listed += [f"filled_{model.name}" for model in schema.models]
    return listed + [
        f"{scores.name}_{which}" for scores in schema.scores for which in ("score1", "score2")
    ]
