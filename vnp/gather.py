"""Copy many short rows out of, and into, one long byte array.

A row is ``length`` bytes at a fixed stride. Rows of one length are copied by one fancy index into
a strided view whose row i starts at byte i (nothing is copied to make the view)::

    source   A C G T A C G T          rows of 3, stride 1:   0: ACG  1: CGT  2: GTA  3: TAC ...

so the cost is per row and per byte, not per call, if few lengths differ.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from store.ragged import Ragged, offsets_of

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


def by_length(lengths: Ints) -> Iterator[tuple[int, Ints | slice]]:
    """Yield each length but 0 that occurs, and which items have it."""
    if not len(lengths):
        return
    if (lengths == lengths[0]).all():
        groups: list[Ints | slice] = [slice(None)]
    else:
        order = np.argsort(lengths, kind="stable")
        cuts = np.flatnonzero(np.diff(lengths[order])) + 1
        groups = list(np.split(order, cuts))
    for group in groups:
        length = int(lengths[group][0])
        if length:
            yield length, group


def take_rows(source: Bytes, start: Ints, length: int, *, step: int = 1) -> Bytes:
    """Rows (n, length): byte j of row i is ``source[start[i] + step * j]``."""
    reach = (length - 1) * step  # from the first byte of a row to its last
    below = max(0, -reach)
    view = as_strided(
        source[below:], (max(0, len(source) - abs(reach)), length), (1, step), writeable=False
    )
    return view[start - below]


def put_rows(target: Bytes, start: Ints, rows: Bytes) -> None:
    """Write rows (n, length): row i goes to ``target[start[i] : start[i] + length]``."""
    length = rows.shape[-1]
    as_strided(target, (max(0, len(target) - length + 1), length), (1, 1))[start] = rows


def gather(source: Bytes, start: Ints, lengths: Ints, *, step: int = 1) -> Ragged:
    """Column of the items that begin at ``start`` and are ``lengths`` bytes long."""
    offsets = offsets_of(lengths)
    groups = list(by_length(lengths))
    if len(groups) == 1 and isinstance(groups[0][1], slice):
        return Ragged(take_rows(source, start, groups[0][0], step=step).reshape(-1), offsets)
    data = np.empty(int(offsets[-1]), np.uint8)
    for length, group in groups:
        put_rows(data, offsets[:-1][group], take_rows(source, start[group], length, step=step))
    return Ragged(data, offsets)


def items(column: Ragged, index: Ints) -> Ragged:
    """Items ``index`` of a column, in that order."""
    return gather(column.data, column.offsets[index], column.lengths[index])
