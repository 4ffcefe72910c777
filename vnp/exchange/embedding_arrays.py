"""Embeddings in NumPy's files (``.npy`` with ids, ``.npz``) and tables (``.csv``, ``.tsv``)."""

from __future__ import annotations

import csv
import math
import zipfile
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from store.io.words import count
from vnp.exchange.embedding_columns import Columns, embedding_columns
from vnp.exchange.embedding_rows import (
    EmbeddingFile,
    EmbeddingFileError,
    Rows,
    as_float32,
    batch_rows,
    check_counts,
    check_row_shape,
    checked_dim,
    checked_ids,
    checked_type,
    matrix_batches,
    reading,
    shown,
    stacked,
)

_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def open_npy(path: Path, ids: Path | None) -> EmbeddingFile:
    """Open a matrix (n, dim) and the file that names its rows, by default ``NAME.rows.tsv``."""
    # Of Python objects neither; a size that overflows is an error, not a warning.
    with reading(path, "an array of numbers"), np.errstate(over="ignore"):
        matrix = np.lib.format.open_memmap(path, mode="r")
    _check_matrix(matrix.shape, where=str(path))
    dtype = checked_type(matrix.dtype, where=str(path))
    beside = path.with_suffix(".rows.tsv")
    if ids is None and not beside.is_file():
        raise EmbeddingFileError(
            f"{path} holds no ids: name the file that has them, one a line in the order of the "
            f"rows, with --ids (or as {beside.name} beside it, as vnp export writes it)"
        )
    listed = ids or beside
    names, samples = read_ids(listed)
    checked_ids(names, len(matrix), path=path, ids_from=listed)
    return EmbeddingFile(
        path,
        "npy, ids beside",
        matrix.shape[1],
        dtype,
        lambda: matrix_batches(matrix, names, samples=samples, where=str(path)),
    )


def read_ids(path: Path) -> tuple[list[str], list[str] | None]:
    """Read ids, one a line; or the columns ``id`` and ``sample`` of a table with a header.

    EmbeddingFileError if the file is not text, or a line holds no id.
    """
    with _text(path) as file:
        lines = [line.rstrip("\r\n") for line in file]
    header = lines[0].split("\t") if lines else []
    if "id" not in header:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                raise EmbeddingFileError(f"{path}, line {number}: an id belongs there")
        return [line.strip() for line in lines], None
    rows = [line.split("\t") for line in lines[1:]]
    for number, cells in enumerate(rows, start=2):
        if len(cells) != len(header):
            raise EmbeddingFileError(
                f"{path}, line {number}: {count(len(cells), 'column')} where the header has "
                f"{len(header)}"
            )
    at, sample = header.index("id"), header.index("sample") if "sample" in header else None
    names = [cells[at] for cells in rows]
    return names, None if sample is None else [cells[sample] for cells in rows]


def open_npz(path: Path) -> EmbeddingFile:
    """Open ``embeddings`` (n, dim) with ``ids`` (n,), or an array (dim,) for each id."""
    with _members(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if not names:
            raise EmbeddingFileError(f"{path} holds no array")
        twice = next((name for name, times in Counter(names).items() if times > 1), None)
        if twice is not None:
            raise EmbeddingFileError(f"{path} holds two arrays called {shown(twice)}")
        if {"embeddings", "ids"} <= set(names):
            shape, dtype = _head(archive, "embeddings", path)
            _check_matrix(shape, where=f"{path}: embeddings")
            checked_type(dtype, where=f"{path}: embeddings")
            n_ids = _head(archive, "ids", path)[0]
            if len(n_ids) == 1:
                check_counts(n_ids[0], shape[0], path=path, ids_from=f"{path}: ids")
            matrix = _array(archive, "embeddings", path)
            ids = _strings(_array(archive, "ids", path), where=f"{path}: ids")
            checked_ids(ids, len(matrix), path=path, ids_from=f"{path}: ids")
            return EmbeddingFile(
                path,
                "npz, embeddings and ids",
                shape[1],
                str(matrix.dtype),
                lambda: matrix_batches(matrix, ids, where=f"{path}: embeddings"),
            )
        shape, dtype = _head(archive, names[0], path)
        where = f"{path}: record 1 ({shown(names[0])})"
        dim = check_row_shape(shape, None, where=where)
        found = checked_type(dtype, where=where)

    def single() -> Iterator[tuple[str, NDArray[Any]]]:
        with _members(path) as archive:
            for number, name in enumerate(names, start=1):
                # Before it is read: what the head claims may not fit into memory.
                shape, _ = _head(archive, name, path)
                check_row_shape(shape, dim, where=f"{path}: record {number} ({shown(name)})")
                yield name, _array(archive, name, path)

    return EmbeddingFile(
        path, "npz, an array a record", dim, found, lambda: stacked(single(), dim, path=path)
    )


@contextmanager
def _members(path: Path) -> Iterator[zipfile.ZipFile]:
    with reading(path, "an .npz file"), zipfile.ZipFile(path) as archive:
        yield archive


def _head(archive: zipfile.ZipFile, name: str, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type that the head of an array tells."""
    with _member(archive, name, path) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    return shape, dtype


def _array(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[Any]:
    """An array whose bytes the archive has: what its head claims may not fit into memory."""
    shape, dtype = _head(archive, name, path)
    claimed = math.prod(shape) * dtype.itemsize
    held = archive.getinfo(f"{name}.npy").file_size
    if not dtype.hasobject and claimed > held:
        raise EmbeddingFileError(
            f"{path}: the array {shown(name)} claims {claimed:,} bytes (shape {shape}, {dtype}), "
            f"and {held:,} are there"
        )
    with _member(archive, name, path) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        return array


@contextmanager
def _member(archive: zipfile.ZipFile, name: str, path: Path) -> Iterator[IO[bytes]]:
    with (
        reading(path, f"an .npz with an array of numbers {shown(name)}"),
        archive.open(f"{name}.npy") as file,
    ):
        yield file


def _strings(array: NDArray[Any], *, where: str) -> list[str]:
    """Ids as text; bytes are taken for UTF-8."""
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise EmbeddingFileError(
            f"{where}: an array of {array.dtype} and shape {array.shape}, where a list of texts "
            "belongs (np.array(ids, dtype=str))"
        )
    if array.dtype.kind == "S":
        return [item.decode(errors="surrogateescape") for item in array.tolist()]
    texts: list[str] = array.tolist()
    return texts


def _check_matrix(shape: tuple[int, ...], *, where: str) -> None:
    if len(shape) != 2:
        raise EmbeddingFileError(
            f"{where}: an array of shape {shape}, where rows and columns belong"
        )
    checked_dim(shape[1], where=where)


def open_table(path: Path, *, key: str | None, model: str) -> EmbeddingFile:
    """Open a table of comma- or tab-separated lines: an id, then numbers.

    With a header the ids are its column ``id``, else the first one; a column ``sample`` names the
    sample of each, and the numbers are the columns that `embedding_columns` chooses. Without one
    all columns behind the first are numbers, in the order of the file.
    """
    lines = _lines(path)
    try:
        head = next(lines, (1, []))[1]
        _check_delimiter(head, path)
        first = head if head and _is_data(head) else next(lines, (2, []))[1]
    finally:
        lines.close()
    header = None if first is head else [cell.strip() for cell in head]
    if not first:
        raise EmbeddingFileError(f"{path} holds no row")
    at, sample, named = 0, None, Columns(())
    if header is None:
        if key is not None:
            raise EmbeddingFileError(f"{path} has no header, whose columns --key could name")
        columns = list(range(1, len(first)))
    else:
        where = f"{path}, line 1"
        at = header.index("id") if "id" in header else 0
        sample = header.index("sample") if "sample" in header else None
        if header.count("id") > 1:
            raise EmbeddingFileError(f"{where}: the column id is there twice")
        others = header[:at] + header[at + 1 :]
        named = embedding_columns(others, key=key, model=model, where=where)
        place = {name: number for number, name in enumerate(header) if number != at}
        columns = [place[name] for name in named.names]
    dim = checked_dim(len(columns), where=str(path))
    width = len(header if header is not None else first)

    def batches() -> Iterator[Rows]:
        step, number = batch_rows(dim), 1
        ids: list[str] = []
        samples: list[str] = []
        values = np.empty((step, dim), np.float32)
        lines = _lines(path)
        if header is not None:
            next(lines)
        for line, cells in lines:
            if len(cells) != width:
                raise EmbeddingFileError(
                    f"{path}, line {line}: {count(len(cells), 'column')} where {width:,} belong"
                )
            record = cells[at].strip()
            if not record:
                raise EmbeddingFileError(f"{path}, line {line}: its id is empty")
            values[len(ids)] = _numbers(
                cells, columns, where=f"{path}, line {line} ({shown(record)})"
            )
            ids.append(record)
            if sample is not None:
                samples.append(cells[sample].strip())
            if len(ids) == step:
                yield Rows(number, ids, values, samples if sample is not None else None)
                number += step
                ids, samples, values = [], [], np.empty((step, dim), np.float32)
        if ids:
            yield Rows(number, ids, values[: len(ids)], samples if sample is not None else None)

    form = f"{path.suffix[1:]} table" + (f", {named}" if named.names else "")
    return EmbeddingFile(path, form, dim, "text", batches, named.names, named.passed_over)


def _numbers(cells: list[str], columns: list[int], *, where: str) -> NDArray[np.float32]:
    """Numbers of a line; the error names the first cell that is none."""
    try:
        return as_float32(np.array([float(cells[at]) for at in columns]), where=where)
    except ValueError:
        at = next(at for at in columns if not _is_number(cells[at]))
        raise EmbeddingFileError(
            f"{where}: column {at + 1} is {cells[at][:40]!r}, where a number belongs"
        ) from None


def _is_data(cells: list[str]) -> bool:
    """Whether a first line is a row already.

    A header has no numbers behind its first cell, or it names its ids, or leaves that cell empty
    as pandas does, or behind it the numbers are those of columns, 0, 1, 2 and so on.
    """
    named = cells[0].strip() == "" or "id" in cells
    counted = len(cells) > 2 and cells[1:] == [str(number) for number in range(len(cells) - 1)]
    return not named and not counted and any(map(_is_number, cells[1:]))


def _check_delimiter(head: list[str], path: Path) -> None:
    """Refuse a first line of one cell that another delimiter parts."""
    if len(head) != 1:
        return
    for other, name in ((";", "semicolons"), (",", "commas"), ("\t", "tabs")):
        if other in head[0]:
            belongs = {",": "commas", "\t": "tabs"}[_DELIMITERS[path.suffix]]
            raise EmbeddingFileError(
                f"{path}: its first line has {name} between its cells, where {belongs} belong in a "
                f"{path.suffix} (a .csv has commas, a .tsv tabs)"
            )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _lines(path: Path) -> Generator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line that is not empty."""
    with _text(path) as file:
        reader = csv.reader(file, delimiter=_DELIMITERS[path.suffix])
        try:
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
        except csv.Error as error:
            raise EmbeddingFileError(f"{path}, line {reader.line_num}: {error}") from None


@contextmanager
def _text(path: Path) -> Iterator[IO[str]]:
    """Open UTF-8 text; an error on a byte names the file."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            yield file
        except UnicodeDecodeError as error:
            raise EmbeddingFileError(f"{path} is not UTF-8 text: {error.reason}") from None
