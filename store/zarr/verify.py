"""Re-reading a Zarr store, all but workers' cells: every file follows from the root metadata."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from store.errors import DamageError
from store.findings import Finding, Kind, Remedy
from store.geometry import chunks_of, n_blocks
from store.layout import (
    Column,
    all_columns,
    category_column,
    certificate_column,
    embedding_column,
    filled_column,
    provenance_column,
    row_columns,
    score_columns,
)
from store.schema import Schema
from store.zarr.codec import decode_numbers, decode_strings
from store.zarr.metadata import documents


def verify_tree(root: Path, *, schema: Schema) -> Iterator[Finding]:
    """Read every file of the store but cells; yield findings in the order of the tree."""
    expected: set[str] = set()
    yield from _verify_documents(root, schema, expected)
    yield from _verify_rows(root, schema, expected)
    for model in schema.models:  # cells are re-read elsewhere
        expected.add(provenance_column(model).chunk_key())
        for block in range(n_blocks(schema.n_rows, schema.block_rows)):
            expected.add(embedding_column(schema, model).chunk_key(block, 0))
            expected.add(certificate_column(schema, model).chunk_key(block))
            expected.add(filled_column(schema, model).chunk_key(block))
    ours = {column.path for column in all_columns(schema)}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir() or name in expected:
            continue
        if name.rpartition("/")[0] in ours:
            detail, remedy = "file belongs to no committed row", Remedy.REMOVE
        else:
            detail, remedy = "file is not vnp's; it is left alone", Remedy.NOTHING
        yield Finding(Kind.ORPHAN, name, detail, remedy)


def _verify_documents(root: Path, schema: Schema, expected: set[str]) -> Iterator[Finding]:
    for name, content in documents(schema).items():
        expected.add(name)
        try:
            found = (root / name).read_bytes()
        except FileNotFoundError:
            yield Finding(Kind.MISSING, name, "metadata file is missing", Remedy.REWRITE)
            continue
        if found != content:
            how = _how_it_differs(found, len(content))
            yield Finding(Kind.DAMAGED, name, f"metadata file {how}", Remedy.REWRITE)


def _verify_rows(root: Path, schema: Schema, expected: set[str]) -> Iterator[Finding]:
    spans = [(column, schema.n_rows) for column in row_columns(schema).values()]
    spans.append((category_column(schema), len(schema.samples)))
    for scores in schema.scores:  # lost ones are made again by saving them again
        spans += [(column, scores.rows) for column in score_columns(schema, scores.name)]
    for column, rows in spans:
        for chunk in chunks_of(0, rows, column.chunk[0]):
            name = column.chunk_key(chunk)
            expected.add(name)
            try:
                _decode(root / name, column)
            except FileNotFoundError:
                yield Finding(Kind.MISSING, name, _lost_rows(column, chunk, rows), Remedy.NONE)
            except DamageError as error:
                detail = f"{error}; {_lost_rows(column, chunk, rows)}"
                yield Finding(Kind.DAMAGED, name, detail, Remedy.NONE)


def _decode(path: Path, column: Column) -> None:
    raw = path.read_bytes()
    if column.dtype == "string":
        decode_strings(raw, column=column)
    else:
        decode_numbers(raw, column=column)


def _lost_rows(column: Column, chunk: int, rows: int) -> str:
    start = chunk * column.chunk[0]
    stop = min(start + column.chunk[0], rows)
    return f"items {start} to {stop - 1} of {column.path} are lost"


def _how_it_differs(found: bytes, size: int) -> str:
    if not found:
        return "is empty (truncated to nothing)"
    if not any(found):
        return f"is {len(found)} bytes of zeros"
    if len(found) != size:
        return f"has {len(found)} bytes where {size} belong (truncated or changed)"
    return "differs from what the root says (bits flipped or changed)"
