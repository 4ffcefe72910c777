"""Re-reading a Zarr store, all but workers' cells: every file follows from the root metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from store.errors import DamageError
from store.findings import Finding, Kind, Remedy
from store.geometry import chunks_of
from store.io.words import count
from store.layout import Column, appended_columns, samples_column
from store.samples import StoredSamples
from store.schema import Schema
from store.zarr.cells import ZarrTree
from store.zarr.codec import decode_numbers, decode_strings
from store.zarr.metadata import documents, is_of_a_commit


def verify_tree(
    tree: ZarrTree, *, interrupted: bool, stamp: Mapping[str, Any] | None = None
) -> Iterator[Finding]:
    """Read every file of the store but cells; yield findings in the order of the tree.

    ``interrupted`` says that a commit was begun and is not over: it may never have been finished.
    ``stamp`` is that of the root, if it has one.
    """
    yield from _verify_documents(tree, interrupted, stamp)
    lost = False
    for finding in _verify_rows(tree):
        lost |= finding.path.startswith(f"{samples_column(tree.schema).path}/")
        yield finding
    if not lost:
        yield from _verify_samples(tree.schema)


def _verify_documents(
    tree: ZarrTree, interrupted: bool, stamp: Mapping[str, Any] | None
) -> Iterator[Finding]:
    ahead: list[str] = []
    for name, content in documents(tree.schema, stamp=stamp).items():
        try:
            found = tree.read_document(name)
        except FileNotFoundError:
            if interrupted:
                ahead.append(name)
                continue
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
            f"this and {len(ahead) - 1} more metadata files are not those of the last commit: a "
            "change (an append, a model, scores) is being made, or was interrupted; the committed "
            "state is whole, and the next change or 'vnp verify --repair' mends it",
            Remedy.REWRITE,
        )


def _verify_rows(tree: ZarrTree) -> Iterator[Finding]:
    for column, rows in appended_columns(tree.schema):
        for chunk in chunks_of(0, rows, column.chunk[0]):
            name = column.chunk_key(chunk)
            try:
                _decode(tree.read_file(name, column=column), column)
            except FileNotFoundError:
                yield Finding(Kind.MISSING, name, _lost_rows(column, chunk, rows), Remedy.NONE)
            except DamageError as error:
                detail = f"{error}; {_lost_rows(column, chunk, rows)}"
                yield Finding(Kind.DAMAGED, name, detail, Remedy.NONE)


def _verify_samples(schema: Schema) -> Iterator[Finding]:
    """Compare the samples with the chain of the root."""
    if isinstance(schema.samples, StoredSamples):
        name = samples_column(schema).path
        try:
            schema.samples.check()
        except DamageError as error:
            detail = f"{error}; restore the store from a copy"
            yield Finding(Kind.DAMAGED, name, detail, Remedy.NONE)


def _decode(raw: bytes, column: Column) -> None:
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
