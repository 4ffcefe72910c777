"""Export of the merged matrix as one ``.npy`` file, and of rows as Parquet or a faiss index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from store.io.optional import require
from store.io.ragged import Ragged
from store.read.search import unit_rows
from vnp.exchange.selection import Selection

_TABLE_COLUMNS = ("contig", "segment", "start", "end", "strand", "frame")


def write_npy(selection: Selection, path: Path, *, dtype: str) -> None:
    """Write the matrix (n, columns): ``np.load(..., mmap_mode="r")`` reads it without memory."""
    shape = (len(selection), selection.view.shape[1])
    with path.open("wb") as file:
        header = {"descr": f"<{np.dtype(dtype).str[1:]}", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for batch in selection.batches():
            batch.values(dtype).tofile(file)


def write_rows(selection: Selection, path: Path) -> None:
    """Write which row of the matrix is what: tab-separated store row, sample and record id."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("row\tsample\tid\n")
        for batch in selection.batches():
            samples = selection.column("sample", batch.start, batch.stop)
            ids = selection.column("id", batch.start, batch.stop)
            rows = range(batch.start, batch.stop)
            file.writelines(
                f"{row}\t{sample}\t{record}\n"
                for row, sample, record in zip(rows, samples, ids, strict=True)
            )


def write_parquet(selection: Selection, path: Path, *, dtype: str, sequences: bool) -> None:
    """Write one line a record: obs columns and a list of fixed length for each model.

    A block is a row group.
    """
    pa = require("pyarrow", for_what="export to Parquet")
    parquet = require("pyarrow.parquet", for_what="export to Parquet")
    names = [*_TABLE_COLUMNS, *(("nucleotide", "protein") if sequences else ())]
    number = pa.from_numpy_dtype(np.dtype(dtype))
    fields = [("sample", pa.dictionary(pa.int32(), pa.string())), ("id", pa.string())]
    for name in names:
        empty = selection.store.column(name, 0, 0)
        kind = pa.string() if isinstance(empty, Ragged) else pa.from_numpy_dtype(empty.dtype)
        fields.append((name, kind))
    fields += [(f"X_{model.name}", pa.list_(number, model.dim)) for model in selection.view.models]
    schema = pa.schema(fields)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in selection.batches():
            start, stop = batch.start, batch.stop
            columns = [
                pa.array(selection.column("sample", start, stop)).dictionary_encode(),
                pa.array(selection.column("id", start, stop)),
            ]
            columns += [pa.array(selection.column(name, start, stop)) for name in names]
            values = batch.values(dtype)
            for model, band in zip(
                selection.view.models, selection.view.bands.values(), strict=True
            ):
                flat = pa.array(np.ascontiguousarray(values[:, band]).ravel())
                columns.append(pa.FixedSizeListArray.from_arrays(flat, model.dim))
            table = pa.Table.from_arrays(columns, schema=schema)
            writer.write_table(table, row_group_size=len(batch))


def write_faiss(selection: Selection, path: Path) -> None:
    """Write a flat faiss index of the rows at length 1, so that inner product is cosine.

    The ids it answers with are row numbers of the store. faiss builds an index in memory: four
    bytes a number.
    """
    faiss = require("faiss", for_what="export of a faiss index")
    index: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(selection.view.shape[1]))
    for batch in selection.batches():
        values = unit_rows(batch.values("float32"))
        index.add_with_ids(values, np.arange(batch.start, batch.stop))
    faiss.write_index(index, str(path))
