"""Scores of rows, kept in the store as two obs columns per name.

``obs/<name>_score1`` and ``obs/<name>_score2`` are float32 with NaN where a row has no score,
listed for AnnData. An append does not touch them: chunks are padded with NaN, and rows without a
chunk read NaN too. Which scores there are, and how many rows they cover, stands in the schema.

Chunks are written first, the root metadata last. Killed before that, a new name leaves files that
nothing accounts for and that the next save removes. A name is written again only by the classifier
that made it (its scores of a row are the same, so a mixture of old and new is none), or after it
was dropped by a commit of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.errors import DamageError, UsageError
from store.geometry import chunks_of
from store.io.clock import utc_now
from store.io.files import fsync_dir, make_dir, publish_replace
from store.layout import all_columns, score_columns
from store.schema import Schema, Scores
from store.zarr.appender import write_documents
from store.zarr.codec import decode_numbers, encode_numbers


def save_scores(
    root: Path,
    *,
    schema: Schema,
    name: str,
    digest: str,
    values: NDArray[np.float32],
    rows: Iterable[tuple[int, int]],
    replace: bool,
    tmp_dir: Path,
) -> Schema:
    """Keep scores under a name; the caller holds the appender's lock.

    Parameters
    ----------
    root, schema
        The store and its committed schema.
    name, digest
        Name of the columns, and what says which classifier made them.
    values
        Scores by row (n, 2); may be memory-mapped.
    rows
        Ranges of rows to write, NaN included; others keep the score they have.
    replace
        Whether scores that another classifier made under the name may be dropped.
    tmp_dir
        Directory on the same file system for temporary files.

    Returns
    -------
    Schema
        The new committed schema.

    Raises
    ------
    UsageError
        If the name is another classifier's, or that of a column.
    DamageError
        If rows to keep lie in a chunk that is damaged.
    """
    known = next((scores for scores in schema.scores if scores.name == name), None)
    if known is not None and known.digest != digest:
        if not replace:
            raise UsageError(
                f"the store holds scores {name} of another classifier ({known.digest[:19]}..., "
                f"made {known.made}): choose another name, or replace them (--replace)"
            )
        schema = _commit(root, schema, schema.without_scores(name), tmp_dir)
        known = None
    ranges = list(rows)
    covered = max([known.rows if known else 0, *(stop for _, stop in ranges)])
    after = schema.with_scores(Scores(name, covered, digest, utc_now()))
    if known is None:
        taken = {column.path for column in all_columns(schema)}
        for column in score_columns(after, name):
            if column.path in taken:
                raise UsageError(f"{column.path} is a column of the store: choose another name")
            shutil.rmtree(root / column.path, ignore_errors=True)  # of a save that was killed
    for at, column in enumerate(score_columns(after, name)):
        make_dir(root / column.path)
        size = column.chunk[0]
        for chunk in chunks_of(0, covered, size):
            path = root / column.chunk_key(chunk)
            parts = [
                (max(start, chunk * size), min(stop, (chunk + 1) * size)) for start, stop in ranges
            ]
            parts = [(start, stop) for start, stop in parts if start < stop]
            # Rows that have a score already, and how many of them are written anew.
            old = min(known.rows, (chunk + 1) * size) - chunk * size if known else 0
            anew = sum(max(min(stop, chunk * size + old) - start, 0) for start, stop in parts)
            if old > 0 and not parts:
                continue
            held = _read(path, column) if old > anew else np.full(size, np.nan, np.float32)
            for start, stop in parts:
                held[start - chunk * size : stop - chunk * size] = values[start:stop, at]
            publish_replace(tmp_dir, path, [encode_numbers(held, column=column)])
    return _commit(root, schema, after, tmp_dir)


def read_scores(root: Path, *, schema: Schema, name: str) -> NDArray[np.float32]:
    """Read scores by row: float32 (N, 2), NaN where a row has none.

    Raises
    ------
    UsageError
        If there are no scores of that name.
    DamageError
        If a chunk is missing or damaged.
    """
    known = next((scores for scores in schema.scores if scores.name == name), None)
    if known is None:
        names = ", ".join(scores.name for scores in schema.scores) or "none"
        raise UsageError(f"the store has no scores {name!r} (it has: {names})")
    out = np.full((schema.n_rows, 2), np.nan, dtype=np.float32)
    for at, column in enumerate(score_columns(schema, name)):
        size = column.chunk[0]
        for chunk in chunks_of(0, known.rows, size):
            part = out[chunk * size : (chunk + 1) * size, at]
            part[:] = _read(root / column.chunk_key(chunk), column)[: len(part)]
    return out


def _commit(root: Path, before: Schema, after: Schema, tmp_dir: Path) -> Schema:
    write_documents(root, before=before, after=after, tmp_dir=tmp_dir)
    for scores in before.scores:
        if all(scores.name != kept.name for kept in after.scores):
            for column in score_columns(before, scores.name):
                shutil.rmtree(root / column.path, ignore_errors=True)
            fsync_dir(root / "obs")
    return after


def _read(path: Path, column: Any) -> NDArray[np.float32]:
    try:
        return decode_numbers(path.read_bytes(), column=column).copy()
    except FileNotFoundError:
        raise DamageError(f"{path} is missing; save all scores again") from None
    except DamageError as error:
        raise DamageError(f"{path}: {error}; save all scores again") from None
