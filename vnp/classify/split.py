"""Dividing labelled rows into training, held-out and test rows so that nothing straddles.

Windows of a contig overlap their neighbours, so rows are divided by group: a contig, a sample, or
what the table of labels calls one. Each class is divided on its own, so both are everywhere.

A class with too few groups (such as one genome) is cut into stretches of consecutive windows, and
where a stretch meets one of another part the first window after the boundary is left out: it is
the only one that overlaps what lies before.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from store.io.words import count
from vnp.classify.labels import UNLABELLED, LabelsError, RowLabels
from vnp.classify.mlp import CLASSES

STRETCHES = 20  # a class without enough groups is cut into so many
_WINDOWS = 3  # of a stretch of a class in ``cut``: of a shorter one little is left at its ends
_OVERSHOOT = 1.25  # a part may exceed its share by this factor


class Part(IntEnum):
    """What a row is for."""

    UNUSED = 0
    TRAIN = 1
    HELD_OUT = 2
    TEST = 3

    @property
    def key(self) -> str:
        """Its name in a card."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Split:
    """The division of a store's rows."""

    part: NDArray[np.uint8]  # a `Part` for each row, shape (N,)
    groups: dict[str, dict[str, int]]  # class -> part -> groups
    stretched: tuple[str, ...]  # classes that were cut into stretches
    left_out: int  # rows left out at boundaries of stretches


def random_split(label: NDArray[np.int8], *, held_out: float, test: float, seed: int) -> Split:
    """Divide single rows at random, as published; overlapping windows straddle."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.flatnonzero(label != UNLABELLED))
    part = np.zeros(len(label), dtype=np.uint8)
    n_test, n_held = int(len(rows) * test), int(len(rows) * held_out)
    part[rows] = Part.TRAIN
    part[rows[:n_held]] = Part.HELD_OUT
    part[rows[n_held : n_held + n_test]] = Part.TEST
    return Split(part, groups={}, stretched=(), left_out=0)


def group_split(
    rows: RowLabels,
    *,
    held_out: float,
    test: float,
    seed: int,
    stretch: bool = True,
    cut: Container[str] = (),
) -> Split:
    """Divide whole groups, each class on its own, by shares of its rows (0 for none).

    ``stretch`` lets a class with too few groups be cut into stretches, as those of the names in
    ``cut`` are anyway, into longer ones; `LabelsError` if a class cannot be divided.
    """
    rng = np.random.default_rng(seed)
    shares = {Part.TEST: test, Part.HELD_OUT: held_out}
    needed = 1 + sum(share > 0 for share in shares.values())
    part = np.zeros(len(rows.label), dtype=np.uint8)
    counts: dict[str, dict[str, int]] = {}
    stretched: list[str] = []
    left_out = 0
    for code, name in enumerate(CLASSES):
        mine = np.flatnonzero(rows.label == code)
        _, group = np.unique(rows.group[mine], return_inverse=True)
        n_groups = int(group.max(initial=-1)) + 1
        is_cut = stretch and (0 < n_groups < needed or (n_groups > 0 and name in cut))
        if is_cut:
            window = np.cumsum(rows.new_window, dtype=np.int64)[mine]
            window -= window[0]
            n_windows = int(window[-1]) + 1
            most = max(n_windows // _WINDOWS, needed) if name in cut else STRETCHES
            n_groups = min(STRETCHES, n_windows, most)
            group = window * n_groups // n_windows
        if n_groups < needed:
            raise LabelsError(
                f"the class {name} has {count(n_groups, 'group')} with records, and {needed} are "
                "needed to hold some out: label more contigs or samples, or choose --split contig "
                "or random"
            )
        of_group = _assign(np.bincount(group, minlength=n_groups), shares, rng)
        chosen = of_group[group]
        if is_cut:
            first = np.flatnonzero(np.diff(chosen)) + 1  # rows after a boundary between parts
            dropped = np.isin(window, window[first])
            chosen[dropped] = Part.UNUSED
            left_out += int(dropped.sum())
            stretched.append(name)
        part[mine] = chosen
        counts[name] = {kind.key: int(np.count_nonzero(of_group == kind)) for kind in Part if kind}
    return Split(part, groups=counts, stretched=tuple(stretched), left_out=left_out)


def fold_split(rows: RowLabels, *, folds: int, seed: int) -> NDArray[np.int8]:
    """Deal whole groups out to folds; return the fold of each row, shape (N,), -1 without a label.

    Groups come in random order, the largest first, and each goes to the fold that has the fewest
    rows of the class that it mostly is, so that folds have about as many rows of each class.
    `LabelsError` if a class has fewer groups than there are folds.
    """
    mine = np.flatnonzero(rows.label != UNLABELLED)
    _, group = np.unique(rows.group[mine], return_inverse=True)
    n_groups = int(group.max(initial=-1)) + 1
    size = np.zeros((n_groups, len(CLASSES)), dtype=np.int64)
    np.add.at(size, (group, rows.label[mine]), 1)
    main = size.argmax(axis=1)
    for code, name in enumerate(CLASSES):
        found = int(np.count_nonzero(main == code))
        if found < folds:
            raise LabelsError(
                f"the class {name} has {count(found, 'group')} with records, and {folds} folds "
                f"need {folds}: label more contigs or samples, or ask for fewer folds"
            )
    order = np.random.default_rng(seed).permutation(n_groups)
    order = order[np.argsort(-size.max(axis=1)[order], kind="stable")]
    held = np.zeros((folds, len(CLASSES)), dtype=np.int64)
    fold_of = np.zeros(n_groups, dtype=np.int8)
    for each in order.tolist():
        fold = int(held[:, main[each]].argmin())
        fold_of[each] = fold
        held[fold] += size[each]
    fold_of_row = np.full(len(rows.label), -1, dtype=np.int8)
    fold_of_row[mine] = fold_of[group]
    return fold_of_row


def without_known(
    part: NDArray[np.uint8], digest: NDArray[np.uint64]
) -> tuple[NDArray[np.uint8], int]:
    """Drop held-out and test rows whose sequences are trained on too; count them.

    The same sequence in two genomes is in two groups; scoring it would reward memory.
    """
    known = np.unique(digest[part == Part.TRAIN])
    others = np.flatnonzero(part > Part.TRAIN)
    repeated = others[np.isin(digest[others], known)]
    part = part.copy()
    part[repeated] = Part.UNUSED
    return part, len(repeated)


def _assign(
    sizes: NDArray[np.int64], shares: dict[Part, float], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Give each group a part: groups in random order, as many as fit a part's share."""
    of_group = np.full(len(sizes), Part.TRAIN, dtype=np.uint8)
    order = rng.permutation(len(sizes))
    total = int(sizes.sum())
    for part, share in shares.items():
        if share <= 0:
            continue
        free = order[of_group[order] == Part.TRAIN]
        taken = 0
        for group in free.tolist():
            if taken + sizes[group] <= _OVERSHOOT * share * total:
                of_group[group] = part
                taken += int(sizes[group])
            if taken >= share * total:
                break
        if not taken:
            of_group[free[np.argmin(sizes[free])]] = part
    return of_group
