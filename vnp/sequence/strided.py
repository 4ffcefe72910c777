"""Copy many short rows out of, and into, one long byte array.

A row is ``length`` bytes at a fixed stride. Rows of one length are copied by one fancy index into
a strided view whose row i starts at byte i (nothing is copied to make the view)::

    source   A C G T A C G T          rows of 3, stride 1:   0: ACG  1: CGT  2: GTA  3: TAC ...

so the cost is per row and per byte, not per call, if few lengths differ. If many do, all rows are
copied at the longest length and the excess is masked out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from store.io.ragged import Ragged, offsets_of
from vnp.sequence.loops import ABSENT, LOOPS

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

# A copy of the rows of one length costs as much as masking so many bytes of padded rows.
_GROUP_COST = 16_384
_WASTE = 3  # if the padded rows are no more than so many times the bytes wanted


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


def collect(
    source: Bytes,
    start: Ints,
    lengths: Ints,
    *,
    step: int = 1,
    reverse: NDArray[np.bool_] | None = None,
    tables: tuple[bytes | None, bytes | None] = (None, None),
) -> Ragged:
    """Column of items of ``lengths`` bytes, read from ``start`` on at the stride ``step``.

    Items marked in ``reverse`` are read down the source. ``tables`` translate the bytes of the
    other and of the reverse items, 256 bytes each.
    """
    offsets = offsets_of(lengths)
    total = int(offsets[-1])
    ways: list[tuple[Ints, int, bytes | None]]
    if reverse is None:
        ways = [(np.arange(len(start)), step, tables[0])]
    else:
        ways = [
            (np.flatnonzero(~reverse), step, tables[0]),
            (np.flatnonzero(reverse), -step, tables[1]),
        ]
    longest = int(lengths.max(initial=0))
    groups = np.count_nonzero(np.bincount(lengths))
    padded = longest * len(start)
    if groups > 1 and groups * _GROUP_COST > padded and padded <= _WASTE * total:
        # Rows as long as the longest, cut to size by a mask. They may reach beyond the source.
        margin = np.zeros(longest * abs(step), np.uint8)
        source = np.concatenate([margin, source, margin])
        rows = np.empty((len(start), longest), np.uint8)
        for chosen, stride, table in ways:
            first = start[chosen] + len(margin)
            rows[chosen] = mapped(take_rows(source, first, longest, step=stride), table)
        return Ragged(rows[np.arange(longest) < lengths[:, None]], offsets)
    data = np.empty(total, np.uint8)
    for chosen, stride, table in ways:
        for length, group in by_length(lengths[chosen]):
            index = chosen[group]
            rows = mapped(take_rows(source, start[index], length, step=stride), table)
            put_rows(data, offsets[index], rows)
    return Ragged(data, offsets)


def mapped(array: Bytes, table: bytes | None) -> Bytes:
    """Each byte through a table of 256 (``bytes.translate`` is faster than an index here)."""
    if table is None:
        return array
    return np.frombuffer(array.tobytes().translate(table), np.uint8).reshape(array.shape)


def pieces(source: Bytes, bounds: Ints) -> Ragged:
    """Pieces of a text; ``bounds`` (n, 2) are their begins and ends."""
    lengths = bounds[:, 1] - bounds[:, 0]
    offsets = offsets_of(lengths)
    loops = LOOPS.get()
    if loops is None:
        return collect(source, bounds[:, 0], lengths)
    out = np.empty(int(offsets[-1]), np.uint8)
    loops.pieces(source, np.ascontiguousarray(bounds), len(bounds), out)
    return Ragged(out, offsets)


def joined(first: Ragged, second: Ragged | None = None, *, before: bytes = b"") -> Bytes:
    r"""Join items to a text: ``before``, an item of ``first``, ``\n`` and again ...

    With ``second`` each is followed by its item there and a ``\n``. ``before`` is a byte or none.
    """
    loops = LOOPS.get()
    n = len(first)
    if loops is None:
        columns = [first] if second is None else [first, second]
        text = [before, *[b"", b"\n"] * len(columns)] * n
        for number, column in enumerate(columns):
            text[1 + 2 * number :: 1 + 2 * len(columns)] = column.tolist()
        return np.frombuffer(b"".join(text), np.uint8)
    size = len(first.data) + n * (1 + len(before)) + (0 if second is None else len(second.data) + n)
    out = np.empty(size, np.uint8)
    other = first if second is None else second
    end = ord("\n")
    loops.joined(
        first.data, first.offsets, other.data, other.offsets, n,
        before[0] if before else ABSENT, ABSENT if second is None else end, end, out,
    )  # fmt: skip
    return out


def pairs(first: Ragged, second: Ragged) -> Ragged:
    """Items of two columns, each of the first with that of the second behind it."""
    lengths = np.stack([first.lengths, second.lengths], axis=1).ravel()
    starts = np.stack([first.offsets[:-1], second.offsets[:-1] + len(first.data)], axis=1).ravel()
    both = np.concatenate([first.data, second.data])
    bounds = np.stack([starts, starts + lengths], axis=1)
    return Ragged(pieces(both, bounds).data, offsets_of(first.lengths + second.lengths))


def without_suffix(column: Ragged, suffix: bytes) -> Ragged:
    """Items without the two bytes of a suffix, where they end in it."""
    stop = column.offsets[1:]
    long = np.flatnonzero(column.lengths >= 2)
    ends = column.data[stop[long, None] + [-2, -1]] == np.frombuffer(suffix, np.uint8)
    cut = np.zeros(len(column), np.int64)
    cut[long[ends.all(axis=1)]] = 2
    if not cut.any():
        return column
    return pieces(column.data, np.stack([column.offsets[:-1], stop - cut], axis=1))


def items(column: Ragged, index: Ints) -> Ragged:
    """Items ``index`` of a column, in that order."""
    return collect(column.data, column.offsets[index], column.lengths[index])
