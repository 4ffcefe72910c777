"""Export as ``.npy``, a text table, Parquet, Lance, a faiss index, or HDF5 by record."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.io.optional import require
from store.io.ragged import Ragged
from store.io.tables import safe_cell
from store.layout import CONTIG_LENGTH
from store.read.adapters import SEQUENCES, obs_columns, obs_scores, read_obs
from store.read.search import unit_rows
from vnp.exchange.selection import Selection, named_twice

_TABLE_COLUMNS = ("contig", CONTIG_LENGTH, "segment", "start", "end", "strand", "frame")


def write_npy(selection: Selection, path: Path, *, dtype: str) -> None:
    """Write the matrix (n, columns): ``np.load(..., mmap_mode="r")`` reads it without memory."""
    shape = (len(selection), selection.view.shape[1])
    with path.open("wb") as file:
        header = {"descr": f"<{np.dtype(dtype).str[1:]}", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for batch in selection.batches():
            batch.values(dtype).tofile(file)


def write_rows(selection: Selection, path: Path) -> None:
    """Write a tab-separated table of the matrix's rows: store row, sample and record id."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("row\tsample\tid\n")
        for batch in selection.batches():
            samples, ids = batch.texts("sample"), batch.texts("id")
            rows = range(batch.start, batch.stop)
            file.writelines(
                f"{row}\t{sample}\t{safe_cell(record)}\n"
                for row, sample, record in zip(rows, samples, ids, strict=True)
            )


def write_table(selection: Selection, path: Path, *, dtype: str, delimiter: str) -> None:
    """Write a text table: ``id``, ``sample``, then a column a number, ``<model>_<index>``.

    Each number is the shortest text that gives it back when it is read as ``dtype``.
    """
    # Every number of a store is a float16, so the text of each is made once.
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(dtype)
    texts = np.array([str(number) for number in every], dtype=object)
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        columns = [
            f"{model.name}_{index}" for model in selection.view.models for index in range(model.dim)
        ]
        writer.writerow(["id", "sample", *columns])
        for batch in selection.batches():
            ids, samples = batch.texts("id"), batch.texts("sample")
            cells = texts[np.ascontiguousarray(batch.values()).view(np.uint16)].tolist()
            writer.writerows(
                [safe_cell(record), sample, *row]
                for record, sample, row in zip(ids, samples, cells, strict=True)
            )


def write_parquet(selection: Selection, path: Path, *, dtype: str, sequences: bool) -> None:
    """Write a line and for each model a list of fixed length per record; a block is a row group."""
    pa = require("pyarrow", for_what="export to Parquet")
    parquet = require("pyarrow.parquet", for_what="export to Parquet")
    schema = _arrow_schema(pa, selection, dtype=dtype, sequences=sequences)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in _arrow_batches(pa, selection, schema, dtype=dtype):
            writer.write_batch(part, row_group_size=len(part))


def write_lance(selection: Selection, path: Path, *, dtype: str, sequences: bool) -> None:
    """Write a Lance dataset (a directory) with the columns that Parquet has."""
    lance = require("lance", for_what="export to .lance")
    pa = require("pyarrow", for_what="export to .lance")
    schema = _arrow_schema(pa, selection, dtype=dtype, sequences=sequences)
    batches = _arrow_batches(pa, selection, schema, dtype=dtype)
    lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches), str(path))


def _arrow_schema(pa: Any, selection: Selection, *, dtype: str, sequences: bool) -> Any:
    """Columns of a table: sample, id, what obs has, and a list of fixed length for each model."""
    kept = obs_columns(selection.store)
    names = ["id", *(name for name in _TABLE_COLUMNS if name in kept)]
    names += (*obs_scores(selection.store), *(SEQUENCES if sequences else ()))
    number = pa.from_numpy_dtype(np.dtype(dtype))
    fields = [("sample", pa.dictionary(pa.int32(), pa.string()))]
    for name in names:
        empty = read_obs(selection.store, name, 0, 0)
        kind = pa.string() if isinstance(empty, Ragged) else pa.from_numpy_dtype(empty.dtype)
        fields.append((name, kind))
    fields += [(f"X_{model.name}", pa.list_(number, model.dim)) for model in selection.view.models]
    return pa.schema(fields)


def _arrow_batches(pa: Any, selection: Selection, schema: Any, *, dtype: str) -> Iterator[Any]:
    """Rows as Arrow has them, a block at a time."""
    samples = pa.array([sample.name for sample in selection.store.schema.samples], pa.string())
    names = schema.names[1 : len(schema.names) - len(selection.view.models)]
    for batch in selection.batches():
        codes = pa.array(np.asarray(batch.column("sample")), pa.int32())
        columns = [pa.DictionaryArray.from_arrays(codes, samples)]
        columns += [_arrow_array(pa, batch.column(name)) for name in names]
        values = batch.values(dtype)
        for model, band in zip(selection.view.models, selection.view.bands.values(), strict=True):
            flat = pa.array(np.ascontiguousarray(values[:, band]).ravel())
            columns.append(pa.FixedSizeListArray.from_arrays(flat, model.dim))
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _arrow_array(pa: Any, values: NDArray[Any] | Ragged) -> Any:
    """A column as Arrow has it; of ASCII strings without making each a Python object."""
    if not isinstance(values, Ragged):
        return pa.array(values)
    if not values.data.tobytes().isascii():
        return pa.array(values.decode(), pa.string())
    offsets = values.offsets.astype(np.int32)  # of a block: far below 2 GiB
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(values.data))]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


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


def escape(record: str) -> str:
    """Spell a record id so that it is one HDF5 name.

    ``/`` would make groups and a name of dots alone means a group, so they are percent-encoded,
    and ``%`` with them; ``urllib.parse.unquote`` gives the id back.
    """
    name = record.replace("%", "%25").replace("/", "%2F")
    return name if name.strip(".") else name.replace(".", "%2E")


def write_per_record(selection: Selection, path: Path, *, dtype: str) -> int:
    """Write one HDF5 dataset a record, as protspace reads them; return how many ids were escaped.

    It raises DataError if two records have the same id.
    """
    h5py = require("h5py", for_what="export to HDF5")
    escaped = 0
    with h5py.File(path, "w") as file:
        file.attrs["models"] = [model.name for model in selection.view.models]
        for batch in selection.batches():
            for record, values in zip(batch.ids, batch.values(dtype), strict=True):
                name = escape(record)
                escaped += name != record
                try:
                    file.create_dataset(name, data=values)
                except ValueError:
                    if name not in file:
                        raise
                    raise named_twice(record) from None
        if escaped:
            file.attrs["escaped"] = "percent-encoded names: '/' is %2F, '%' is %25"
    return escaped
