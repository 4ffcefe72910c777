"""Scores of rows in an HDF5 store: two resizable float32 datasets per name, NaN for none.

They are written anew as a whole in one commit, so a kill leaves the old scores or the new. The
datasets fill with NaN: rows appended later have no score. Their bytes are covered by the checksum
of the file's metadata, which is compared at every opening (8 bytes a row and name).
"""

from __future__ import annotations

from collections.abc import Iterable

import h5py
import numpy as np
from numpy.typing import NDArray

from store.errors import UsageError
from store.hdf5.layout import make_score_column, write_schema
from store.io.clock import utc_now
from store.layout import all_columns, score_columns
from store.schema import Schema, Scores


def save_scores(
    tree: h5py.File,
    *,
    schema: Schema,
    name: str,
    digest: str,
    values: NDArray[np.float32],
    rows: Iterable[tuple[int, int]],
    replace: bool,
) -> Schema:
    """Put scores into a tree that is open for one change; see `store.zarr.scores.save_scores`.

    Returns
    -------
    Schema
        The schema that the tree has now.

    Raises
    ------
    UsageError
        If the name is another classifier's, or that of a column.
    """
    known = next((scores for scores in schema.scores if scores.name == name), None)
    if known is not None and known.digest != digest:
        if not replace:
            raise UsageError(
                f"the store holds scores {name} of another classifier ({known.digest[:19]}..., "
                f"made {known.made}): choose another name, or replace them (--replace)"
            )
        old = np.full((schema.n_rows, 2), np.nan, dtype=np.float32)
        covered = 0
    else:
        old = read_scores(tree, schema=schema, name=name)
        covered = known.rows if known is not None else 0
    for start, stop in rows:
        old[start:stop] = values[start:stop]
        covered = max(covered, stop)
    after = schema.with_scores(Scores(name, covered, digest, utc_now()))
    taken = {column.path for column in all_columns(schema)} if known is None else set()
    for at, column in enumerate(score_columns(after, name)):
        if column.path in taken:
            raise UsageError(f"{column.path} is a column of the store: choose another name")
        make_score_column(tree, column, old[:, at])
    write_schema(tree, after)
    return after


def read_scores(tree: h5py.File, *, schema: Schema, name: str) -> NDArray[np.float32]:
    """Read scores by row: float32 (N, 2), NaN where a row has none or the name is new."""
    out = np.full((schema.n_rows, 2), np.nan, dtype=np.float32)
    if any(scores.name == name for scores in schema.scores):
        for at, column in enumerate(score_columns(schema, name)):
            out[:, at] = tree[column.path][: schema.n_rows]
    return out
