"""The on-disk tree of a store: every array, and every ``zarr.json`` as a function of the schema.

Nothing here touches a file. Because all metadata follows from the schema, growing the store is
"write ``documents(new schema)``, the root last", and verifying it is "compare with
``documents(schema)``".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from store import schema as schema_module
from store.geometry import n_blocks
from store.schema import COLUMN_CHUNK_ROWS, Model, Schema

ROOT_DOCUMENT = "zarr.json"  # renaming it is the commit
ROW_DIMENSION = "record"
_CATEGORY_CHUNK = 1024


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

    return {
        "id": column("id", "string", "", path="_index"),
        "sample": column("sample", "int32", -1, path="sample/codes"),
        "contig": column("contig", "string", ""),
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


def all_columns(schema: Schema) -> list[Column]:
    """Every array of the store."""
    columns = [*row_columns(schema).values(), category_column(schema)]
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
    listed = ["sample", "contig", "segment", "start", "end", "strand", "frame", "digest"]
    listed += [f"filled_{model.name}" for model in schema.models]
    return listed + [
        f"{scores.name}_{which}" for scores in schema.scores for which in ("score1", "score2")
    ]


def documents(schema: Schema) -> dict[str, bytes]:
    """Every ``zarr.json`` of the store by its path, the root last.

    The tree is a valid AnnData: ``obs`` a dataframe whose sequences and certificates stand
    beside its columns without being listed in ``column-order``, so that AnnData skips them;
    ``var`` empty; embeddings in ``obsm``.
    """
    listed = listed_columns(schema)
    nodes: dict[str, dict[str, Any]] = {
        "obs": _group("dataframe", "0.2.0", {"_index": "_index", "column-order": listed}),
        "obs/sample": _group("categorical", "0.2.0", {"ordered": False}),
        "obsm": _group("dict", "0.1.0"),
        "uns": _group("dict", "0.1.0"),
        "uns/vnp": _group("dict", "0.1.0"),
        "var": _group("dataframe", "0.2.0", {"_index": "_index", "column-order": []}),
        "var/_index": _array(
            Column("var/_index", "string", (0,), (1,), "", ("variable",)),
        ),
    }
    for column in all_columns(schema):
        nodes[column.path] = _array(column)
    # zarr groups consolidated nodes by adjacent equal parents, so order by depth, then by path.
    nodes = dict(sorted(nodes.items(), key=lambda item: (item[0].count("/"), item[0])))
    root = _group("anndata", "0.1.0", {"vnp": schema_module.to_attribute(schema)})
    root["consolidated_metadata"] = {
        "kind": "inline",
        "must_understand": False,
        "metadata": nodes,
    }
    files = {f"{path}/zarr.json": _dump(node) for path, node in nodes.items()}
    files[ROOT_DOCUMENT] = _dump(root)
    return files


def _group(kind: str, version: str, attributes: dict[str, Any] | None = None) -> dict[str, Any]:
    encoding = {"encoding-type": kind, "encoding-version": version}
    return {
        "attributes": {**encoding, **(attributes or {})},
        "zarr_format": 3,
        "node_type": "group",
    }


def _array(column: Column) -> dict[str, Any]:
    if column.dtype == "string":
        codecs: list[dict[str, Any]] = [{"name": "vlen-utf8"}]
    elif column.dtype in ("bool", "int8"):
        codecs = [{"name": "bytes"}]
    else:
        codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
    if column.compressed:
        codecs.append({"name": "zstd", "configuration": {"level": 1, "checksum": False}})
    codecs.append({"name": "crc32c"})
    if not column.shape and column.dtype == "string":
        encoding = "string"
    else:
        encoding = "string-array" if column.dtype == "string" else "array"
    return {
        "shape": list(column.shape),
        "data_type": column.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(column.chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": column.fill,
        "codecs": codecs,
        "attributes": {"encoding-type": encoding, "encoding-version": "0.2.0"},
        "dimension_names": list(column.dimensions),
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def _dump(node: dict[str, Any]) -> bytes:
    return json.dumps(node, separators=(",", ":")).encode()
