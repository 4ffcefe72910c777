"""NumPy's rules for indexing two axes, as a pure function from a key to rows and columns.

A key chooses rows and columns, and every chosen row is crossed with every chosen column::

    a[5]            one row                  a[3:9, [0, 7]]            rows 3..8, two columns
    a[[4, 1, 1]]    three rows               a[np.ix_([4, 1], [0, 7])] two rows, two columns
    a[mask]         the rows it marks        a[..., 3]                 one column

What NumPy reads as single numbers by row and column (``a[[4, 1], [0, 7]]``, a mask of both axes) is
refused.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Axis: TypeAlias = range | Ints  # positions along one axis, none negative, in the order asked


@dataclass(frozen=True, slots=True)
class Selection:
    """Every row of ``rows`` with every column of ``columns``."""

    rows: Axis
    columns: Axis
    shape: tuple[int, ...]  # of the result


def selection(key: Any, shape: tuple[int, int]) -> Selection:
    """Say which rows and columns of an array of ``shape`` a key asks for.

    IndexError where ndarray raises it too, and for ``None`` (newaxis), a bare True or False, and
    keys that choose single numbers by row and column.
    """
    row, column = (
        _resolve(part, size, axis)
        for axis, (part, size) in enumerate(zip(_spread(key), shape, strict=True))
    )
    if isinstance(row, np.ndarray) and isinstance(column, np.ndarray):
        if not (row.ndim == column.ndim == 2 and row.shape[1] == column.shape[0] == 1):
            raise IndexError(
                "single numbers by row and column cannot be chosen; for every combination of rows "
                "and columns use np.ix_(rows, columns), else index the result: a[rows][...]"
            )
        return Selection(row.ravel(), column.ravel(), (row.shape[0], column.shape[1]))
    return Selection(_flat(row), _flat(column), _kept(row) + _kept(column))


def row_positions(rows: Any, n_rows: int) -> Ints:
    """Turn a choice of rows (slice, mask, index array, None for all) into positions, shape (n,)."""
    return one_by_one(_flat(_resolve(slice(None) if rows is None else _part(rows), n_rows, 0)))


def one_by_one(axis: Axis) -> Ints:
    """Positions along an axis as an array."""
    if isinstance(axis, np.ndarray):
        return axis
    return np.arange(axis.start, axis.stop, axis.step, dtype=np.int64)


def _spread(key: Any) -> list[Any]:
    """One part for each axis, the ellipsis and what is left out filled in."""
    parts = [_part(item) for item in (key if isinstance(key, tuple) else (key,))]
    axes = sum(part is not Ellipsis for part in parts)
    if axes > 2:
        raise IndexError(f"too many indices: the array has 2 axes, {axes} were indexed")
    dots = [place for place, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    at = dots[0] if dots else len(parts)
    return [*parts[:at], *[slice(None)] * (2 - axes), *parts[at + 1 :]]


def _part(item: Any) -> Any:
    """Bring one item of a key to an int, a slice, an ellipsis or an array of ints or bools."""
    if item is None:
        raise IndexError("newaxis is not supported here: index first, then add axes to the result")
    if item is Ellipsis or isinstance(item, slice):
        return item
    if not isinstance(item, bool):
        try:
            return operator.index(item)
        except TypeError:
            pass
    array = np.asarray(item)
    if array.dtype == np.bool_:
        if array.ndim == 0:
            raise IndexError("a bare True or False is not supported as an index")
        return array
    if array.size == 0 and not isinstance(item, np.ndarray):
        array = array.astype(np.int64)  # an empty list has no type of its own
    if array.dtype.kind not in "iu":
        raise IndexError(
            "only integers, slices, ellipsis and arrays of integers or booleans are indices, "
            f"not {type(item).__name__} of {array.dtype}"
        )
    return array.astype(np.int64)


def _resolve(part: Any, size: int, axis: int) -> int | Axis:
    """Positions along one axis, none negative."""
    if isinstance(part, slice):
        return range(*part.indices(size))
    if isinstance(part, int):
        if not -size <= part < size:
            raise _outside(part, size, axis)
        return part % size
    if part.dtype == np.bool_:
        if part.shape != (size,):
            raise IndexError(f"a mask of shape {part.shape} on axis {axis} with size {size}")
        return np.flatnonzero(part)
    if part.size:
        low, high = int(part.min()), int(part.max())
        if low < -size or high >= size:
            raise _outside(low if low < -size else high, size, axis)
        if low < 0:
            part = np.where(part < 0, part + size, part)
    positions: Ints = part
    return positions


def _flat(part: int | Axis) -> Axis:
    if isinstance(part, int):
        return range(part, part + 1)
    return part.ravel() if isinstance(part, np.ndarray) else part


def _kept(part: int | Axis) -> tuple[int, ...]:
    """Axes of the result that come from one axis of the array."""
    if isinstance(part, int):
        return ()
    return part.shape if isinstance(part, np.ndarray) else (len(part),)


def _outside(index: int, size: int, axis: int) -> IndexError:
    return IndexError(f"index {index} is out of bounds for axis {axis} with size {size}")
