"""Re-reading a Zarr store, all but workers' cells: every file follows from the root metadata."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from store.errors import DamageError
from store.findings import Finding, Kind, Remedy
from store.geometry import chunks_of
from store.io.json import LONGEST
from store.io.regular import read_regular
from store.io.words import count
from store.layout import Column, appended_columns, samples_column
from store.samples import StoredSamples
from store.schema import Schema
from store.zarr.codec import decode_numbers, decode_strings, read_chunk
from store.zarr.metadata import documents, is_of_a_commit
from store.zarr.strays import stray_files


def verify_tree(root: Path, *, schema: Schema, interrupted: bool) -> Iterator[Finding]:
    """Read every file of the store but cells; yield findings in the order of the tree.

    ``interrupted`` says that a commit was begun and is not over: it may never have been finished.
    """
    yield from _verify_documents(root, schema, interrupted)
    yield from _verify_rows(root, schema)
    yield from _verify_samples(schema)
    yield from stray_files(root, schema=schema)


def _verify_documents(root: Path, schema: Schema, interrupted: bool) -> Iterator[Finding]:
    ahead: list[str] = []
    for name, content in documents(schema).items():
        try:
            found = read_regular(root / name, most=LONGEST)
        except FileNotFoundError:
            yield Finding(Kind.MISSING, name, "metadata file is missing", Remedy.REWRITE)
            continue
        except DamageError as error:
            yield Finding(Kind.DAMAGED, name, f"metadata file {error}", Remedy.REWRITE)
            continue
        if found == content:
            continue
        if interrupted and is_of_a_commit(found, content):
            ahead.append(name)
        else:
            how = _how_it_differs(found, len(content))
            yield Finding(Kind.DAMAGED, name, f"metadata file {how}", Remedy.REWRITE)
    if ahead:
        yield Finding(
            Kind.INTERRUPTED,
            ahead[0],
            f"this and {len(ahead) - 1} more metadata files are those of a change (an append, a "
            "model, scores) that is being made, or was interrupted before its commit; the "
            "committed state is whole, and the next change or 'vnp verify --repair' undoes it",
            Remedy.REWRITE,
        )


def _verify_rows(root: Path, schema: Schema) -> Iterator[Finding]:
    for column, rows in appended_columns(schema):
        for chunk in chunks_of(0, rows, column.chunk[0]):
            name = column.chunk_key(chunk)
            try:
                _decode(root / name, column)
            except FileNotFoundError:
                yield Finding(Kind.MISSING, name, _lost_rows(column, chunk, rows), Remedy.NONE)
            except DamageError as error:
                detail = f"{error}; {_lost_rows(column, chunk, rows)}"
                yield Finding(Kind.DAMAGED, name, detail, Remedy.NONE)


def _verify_samples(schema: Schema) -> Iterator[Finding]:
    """Compare the samples with the chain of the root; chunks that cannot be read are told above."""
    if isinstance(schema.samples, StoredSamples):
        name = samples_column(schema).path
        try:
            schema.samples.check()
        except DamageError as error:
            detail = f"{error}; restore the store from a copy"
            yield Finding(Kind.DAMAGED, name, detail, Remedy.NONE)


def _decode(path: Path, column: Column) -> None:
    raw = read_chunk(path, column=column)
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
        return f"is {count(len(found), 'byte')} of zeros"
    if len(found) != size:
        return f"has {count(len(found), 'byte')} where {size} belong (truncated or changed)"
    return "differs from what the root says (bits flipped or changed)"
