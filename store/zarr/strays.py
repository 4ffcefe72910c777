"""Files in a store's directory that belong to no committed row: whose they are, and which may go.

A name alone does not make a file vnp's: people, editors and file systems leave theirs beside it.
What may be removed has exactly a name that vnp writes there. Of an array that the schema does not
list (a killed ``models --add`` or ``predict --save`` leaves such) the metadata, or the chunks of
scores, must also be byte for byte what vnp writes. Links are never followed here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from store.errors import DamageError, UsageError
from store.findings import Finding, Kind, Remedy
from store.geometry import chunks_of, n_blocks
from store.io.files import is_temporary, names_in, remove_durable
from store.io.json import LONGEST, parse_json
from store.io.regular import read_regular
from store.layout import (
    Column,
    all_columns,
    appended_columns,
    certificate_column,
    chunk_of,
    embedding_column,
    filled_column,
    provenance_column,
    score_columns,
)
from store.schema import Model, Schema, Scores
from store.zarr.codec import decode_numbers, read_chunk
from store.zarr.metadata import array_document, documents, is_of_a_commit

_DOCUMENT = "zarr.json"
_MODEL_ARRAY = re.compile(r"(?:obsm/X|obs/filled|obs/certificate|uns/vnp)[_/]([a-z][a-z0-9_]*)")
SCORE_ARRAY = re.compile(r"obs/([A-Za-z][A-Za-z0-9_]*)_score[12]")
_NOT_OURS = "is not vnp's; it is left alone"


def expected_files(schema: Schema) -> set[str]:
    """Every name that may be in the tree: metadata, chunks of rows, cells."""
    expected = set(documents(schema))
    for column, items in appended_columns(schema):
        expected.update(column.chunk_key(i) for i in chunks_of(0, items, column.chunk[0]))
    for model in schema.models:
        expected.add(provenance_column(model).chunk_key())
        for block in range(n_blocks(schema.n_rows, schema.block_rows)):
            expected.add(embedding_column(schema, model).chunk_key(block, 0))
            expected.add(certificate_column(schema, model).chunk_key(block))
            expected.add(filled_column(schema, model).chunk_key(block))
    return expected


def stray_files(root: Path, *, schema: Schema) -> Iterator[Finding]:
    """Yield what lies in the tree but is of no committed row, in the order of the tree."""
    expected = expected_files(schema)
    arrays = {column.path: column for column in all_columns(schema)}
    folders = {parent for name in expected for parent in _parents(name)}
    for name, is_folder in _walk(root, "", folders):
        folder, _, file = name.rpartition("/")
        if name in expected:
            continue
        if is_folder:
            yield from _unlisted(root, name, schema)
        elif folder in arrays and (is_chunk(file, arrays[folder]) or is_temporary(file)):
            detail = "file belongs to no committed row"
            yield Finding(Kind.ORPHAN, name, detail, Remedy.REMOVE)
        else:
            yield Finding(Kind.FOREIGN, name, f"file {_NOT_OURS}", Remedy.NOTHING)


def remove_stray(root: Path, name: str) -> None:
    """Remove a file that `stray_files` calls removable, and its folder if that was all in it."""
    path = root / name
    remove_durable(path)
    with suppress(OSError):  # most often there is more in it
        path.parent.rmdir()


def clear_folder(root: Path, column: Column, *, schema: Schema) -> None:
    """Remove what an interrupted change left where an array of the schema's next commit goes.

    UsageError if something there has the name of a file to come, and is not vnp's.
    """
    folder = root / column.path
    if not os.path.lexists(folder):
        return
    if folder.is_dir() and not folder.is_symlink():
        found = list(_unlisted(root, column.path, schema))
        ours = {each.path for each in found if each.remedy is Remedy.REMOVE}
        names = {f"{column.path}/{name}" for name in os.listdir(folder)}
        if not any(_is_written(name, column) for name in names - ours):
            for name in sorted(ours):
                remove_stray(root, name)
            return
    raise UsageError(
        f"{folder} is there already and is not vnp's: move it away, or choose another name"
    )


def remove_array(root: Path, column: Column) -> None:
    """Remove the files of an array that the schema lists no more, and no others."""
    for name in names_in(root / column.path):
        if _is_written(name, column):
            remove_stray(root, f"{column.path}/{name}")


def _is_written(name: str, column: Column) -> bool:
    file = name.rpartition("/")[2]
    return file == _DOCUMENT or is_chunk(file, column)


def _parents(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def _walk(root: Path, folder: str, folders: set[str]) -> Iterator[tuple[str, bool]]:
    """Yield files, and directories that are not ``folders``; descend into these unless linked."""
    with os.scandir(root / folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name = f"{folder}/{entry.name}" if folder else entry.name
        if name in folders:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(root, name, folders)
            elif not entry.is_dir():
                yield name, False
        else:
            yield name, entry.is_dir(follow_symlinks=False)


def is_chunk(file: str, column: Column) -> bool:
    """Whether a name in its folder is that of a chunk that vnp writes."""
    index = chunk_of(file)
    return index is not None and len(index) == len(column.chunk) and not any(index[1:])


def _unlisted(root: Path, folder: str, schema: Schema) -> Iterator[Finding]:
    """Yield the files of a directory of no listed array that are vnp's, or that it is not."""
    try:
        ours = sorted(_files_of_models(root, folder, schema) + _files_of_scores(root, folder))
    except (OSError, DamageError, UsageError, ValueError, IndexError):
        ours = []
    for file in ours:
        detail = "left by a 'models --add' or 'predict --save' that was interrupted"
        yield Finding(Kind.ORPHAN, f"{folder}/{file}", detail, Remedy.REMOVE)
    with os.scandir(root / folder) as found:
        rest = sorted(entry.name for entry in found if entry.name not in ours)
    if rest and not ours:
        yield Finding(Kind.FOREIGN, f"{folder}/", f"directory {_NOT_OURS}", Remedy.NOTHING)
    elif rest:
        for file in rest:
            yield Finding(Kind.FOREIGN, f"{folder}/{file}", f"file {_NOT_OURS}", Remedy.NOTHING)


def _files_of_models(root: Path, folder: str, schema: Schema) -> list[str]:
    """Name the metadata of a model's array, unless blocks of the model are there."""
    match = _MODEL_ARRAY.fullmatch(folder)
    if match is None or any(chunk_of(name) is not None for name in os.listdir(root / folder)):
        return []
    content = _document(root / folder)
    model = Model(match[1], _shape(content)[-1] if folder.startswith("obsm/") else 1)
    columns = (
        embedding_column(schema, model),
        filled_column(schema, model),
        certificate_column(schema, model),
        provenance_column(model),
    )
    column = next((column for column in columns if column.path == folder), None)
    known = column is not None and is_of_a_commit(content, array_document(column))
    return [_DOCUMENT] if known else []


def _files_of_scores(root: Path, folder: str) -> list[str]:
    """Name the chunks and the metadata of a column of scores."""
    match = SCORE_ARRAY.fullmatch(folder)
    if match is None:
        return []
    name = Scores(match[1], 0, "", "").name
    schema = Schema(block_rows=1, segment_length=0)
    column = next(column for column in score_columns(schema, name) if column.path == folder)
    names = os.listdir(root / folder)
    if _DOCUMENT in names:
        content = _document(root / folder)
        if not is_of_a_commit(content, array_document(column)):
            return []
    ours = [_DOCUMENT] if _DOCUMENT in names else []
    for file in names:
        if is_chunk(file, column):
            decode_numbers(read_chunk(root / folder / file, column=column), column=column)
            ours.append(file)
    return ours


def _document(folder: Path) -> bytes:
    return read_regular(folder / _DOCUMENT, most=LONGEST, follow=False)


def _shape(content: bytes) -> tuple[int, ...]:
    """Shape in the metadata of an array; ValueError if it has none."""
    node = parse_json(content)
    shape = node.get("shape") if isinstance(node, dict) else None
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("no shape")
    return tuple(shape)
