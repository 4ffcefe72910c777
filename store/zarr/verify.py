"""Re-reading a whole store, and naming whatever is not as it must be.

Every file has exactly one place where it can be expected from the root metadata: each
``zarr.json`` must equal what the schema gives, each chunk of the appender's columns must exist
for the committed rows, each worker's block must stand as certified. What is left over is an
orphan.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from store.errors import DamageError
from store.findings import Finding, Kind, Remedy
from store.geometry import block_bounds, chunks_of, n_blocks
from store.io.json import parse_json
from store.layout import (
    Column,
    all_columns,
    category_column,
    documents,
    provenance_column,
    row_columns,
    score_columns,
)
from store.schema import Schema
from store.zarr.blocks import BlockFiles, block_files, filled_rows
from store.zarr.certify import check_block
from store.zarr.codec import decode_numbers, decode_strings


def verify_tree(root: Path, *, schema: Schema) -> Iterator[Finding]:
    """Read every file of the store; yield findings in the order of the tree.

    Parameters
    ----------
    root
        The store's directory.
    schema
        The committed schema (its own checksum has been checked on reading it).
    """
    expected: set[str] = set()
    yield from _verify_documents(root, schema, expected)
    yield from _verify_rows(root, schema, expected)
    for model in schema.models:
        yield from _verify_provenance(root, schema, model.name, expected)
        for block in range(n_blocks(schema.n_rows, schema.block_rows)):
            yield from _verify_block(root, schema, model.name, block, expected)
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


def _verify_provenance(
    root: Path, schema: Schema, model: str, expected: set[str]
) -> Iterator[Finding]:
    column = provenance_column(schema.model(model))
    name = column.chunk_key()
    expected.add(name)
    try:
        parse_json(decode_strings((root / name).read_bytes(), column=column)[0])
    except FileNotFoundError:
        if any((root / f"obs/filled_{model}").glob("c.*")):
            detail = f"blocks of {model} are filled but its provenance is missing"
            yield Finding(Kind.MISSING, name, detail, Remedy.REPIN, model)
    except (DamageError, ValueError) as error:
        yield Finding(Kind.DAMAGED, name, str(error), Remedy.REPIN, model)


def verify_block(root: Path, *, schema: Schema, model: str, block: int) -> Iterator[Finding]:
    """Read one block whole; yield what is not as it must be."""
    return _verify_block(root, schema, model, block, set())


def _verify_block(
    root: Path, schema: Schema, model: str, block: int, expected: set[str]
) -> Iterator[Finding]:
    files = block_files(root, schema=schema, model=model, block=block)
    paths = (files.filled_path, files.certificate_path, files.chunk_path)
    names = [path.relative_to(root).as_posix() for path in paths]
    expected.update(names)
    try:
        filled = filled_rows(files)
    except DamageError as error:
        yield Finding(Kind.DAMAGED, names[0], str(error), Remedy.REOPEN, model, block)
        return
    if filled == 0:
        for path, name in zip(paths[1:], names[1:], strict=True):
            if path.exists():
                detail = f"block {block} of {model} is not filled, but this file of it exists"
                yield Finding(Kind.UNCERTIFIED, name, detail, Remedy.NOTHING, model, block)
        return
    start, stop = block_bounds(block, schema.n_rows, schema.block_rows)
    if filled > stop - start:
        detail = f"{filled} rows are filled where the block has {stop - start}"
        yield Finding(Kind.DAMAGED, names[0], detail, Remedy.REOPEN, model, block)
        return
    try:
        finite = _finite_rows(files, filled)
    except FileNotFoundError:
        detail = f"the file is missing, and {filled} rows were filled in it"
        yield Finding(Kind.MISSING, names[2], detail, Remedy.REOPEN, model, block)
        return
    except DamageError as error:
        yield Finding(Kind.DAMAGED, names[2], str(error), Remedy.REOPEN, model, block)
        return
    try:
        check_block(root, schema=schema, model=model, block=block, filled=filled)
    except DamageError as error:
        kind = Kind.DAMAGED if files.certificate_path.exists() else Kind.MISSING
        yield Finding(kind, names[1], str(error), Remedy.REOPEN, model, block)
        return
    if finite < filled:
        detail = f"{filled - finite} filled rows hold NaN or infinity"
        yield Finding(Kind.NOT_FINITE, names[2], detail, Remedy.REOPEN, model, block)


def _finite_rows(files: BlockFiles, filled: int) -> int:
    chunk = decode_numbers(files.chunk_path.read_bytes(), column=files.embedding)
    return int(np.count_nonzero(np.isfinite(chunk[:filled]).all(axis=1)))


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
