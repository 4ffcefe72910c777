"""Objects below a store that belong to no committed row: whose they are, and which may go.

The rules are those of a directory (`store.zarr.strays`), but there is less to find: the metadata of
an array are written after the commit that lists it, so only chunks of scores can be left without.
"""

from __future__ import annotations

from collections.abc import Iterator

from store.errors import DamageError
from store.findings import Finding, Kind, Remedy
from store.layout import Column, all_columns, score_columns
from store.s3.objects import Objects
from store.schema import Schema
from store.zarr.codec import decode_numbers, longest_chunk
from store.zarr.strays import SCORE_ARRAY, expected_files, is_chunk


def stray_objects(objects: Objects, *, schema: Schema) -> Iterator[Finding]:
    """Yield what lies below the store but is of no committed row, in the order of its keys."""
    expected = expected_files(schema)
    arrays = {column.path: column for column in all_columns(schema)}
    for page in objects.pages(""):
        for name in page:
            folder, _, file = name.rpartition("/")
            if name in expected:
                continue
            if folder in arrays and is_chunk(file, arrays[folder]):
                detail = "object belongs to no committed row"
                yield Finding(Kind.ORPHAN, name, detail, Remedy.REMOVE)
            elif folder not in arrays and _is_of_scores(objects, folder, file):
                detail = "left by a 'predict --save' that was interrupted"
                yield Finding(Kind.ORPHAN, name, detail, Remedy.REMOVE)
            else:
                detail = "object is not vnp's; it is left alone"
                yield Finding(Kind.FOREIGN, name, detail, Remedy.NOTHING)


def _is_of_scores(objects: Objects, folder: str, file: str) -> bool:
    """Whether an object in the folder of no listed array is a chunk of scores."""
    match = SCORE_ARRAY.fullmatch(folder)
    column = _column(folder, match[1]) if match is not None else None
    if column is None or not is_chunk(file, column):
        return False
    found = objects.get(f"{folder}/{file}", most=longest_chunk(column))
    try:
        return found is not None and len(decode_numbers(found.content, column=column)) > 0
    except DamageError:
        return False


def _column(folder: str, name: str) -> Column:
    schema = Schema(block_rows=1, segment_length=0)
    return next(column for column in score_columns(schema, name) if column.path == folder)
