"""From scores of records to calls: of windows by VirNucPro's rule, of contigs.

Records of a window are neighbours in the store, and so are windows of a contig: one pass over the
rows calls them all, and only the current contig is held.

A window is viral if the highest score2 of its records is at least the highest score1; one without a
scored record has no call. Regions along a contig are found in `vnp.classify.regions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, repeat
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

VIRAL = 0.5  # `Window.consensus` from which a window is viral


@dataclass(frozen=True, slots=True)
class RecordScores:
    """Scores of consecutive rows with their windows and contigs; all of length n."""

    id: list[bytes]  # record ids
    contig: list[bytes]  # contig ids
    segment: NDArray[np.int32]  # 1-based number of the window
    start: NDArray[np.int64]  # the window's first base on the contig, 0-based
    end: NDArray[np.int64]  # one past its last base
    scores: NDArray[np.float32]  # (n, 2): score1, score2; NaN where not scored
    contig_length: NDArray[np.int64] | None = None  # bases; None where the store has no lengths


class Window(NamedTuple):
    """One called window; a tuple, as millions of them are made."""

    id: bytes  # the record ids less their last two characters
    contig: bytes  # contig id
    number: int  # 1-based, on its contig
    start: int  # first base, 0-based
    end: int  # one past the last base
    records: int  # scored records
    unscored: int  # records that could not be scored
    score1: float  # highest score1 of its records: others
    score2: float  # highest score2: virus
    contig_length: int = 0  # bases; 0: not known

    @property
    def is_virus(self) -> bool:
        """VirNucPro's consensus."""
        return self.score2 >= self.score1

    @property
    def consensus(self) -> float:
        """The consensus as a number from 0 to 1, at least `VIRAL` exactly if the window is viral.

        It is score2 if one record is scored.
        """
        return VIRAL + (self.score2 - self.score1) / 2


@dataclass(slots=True)
class Contig:
    """The calls of one contig's windows, summed up."""

    id: bytes
    windows: int  # called windows
    viral: int  # of these, viral
    total: float  # sum of score2 over called windows
    best: float  # highest score2
    best_window: int  # number of the window that has it
    start: int  # first base of the first called window
    end: int  # one past the last base of the last called window
    evidence: float  # sum of score2 over viral windows
    length: int  # bases; 0: not known

    @classmethod
    def of(cls, name: bytes, windows: Sequence[Window]) -> Contig:
        """Sum up the called windows of a contig, in their order."""
        viral, end, best_window = 0, 0, 0
        total = best = evidence = 0.0
        for _, _, number, _, stop, _, _, score1, score2, _ in windows:  # there are millions
            total += score2
            if stop > end:
                end = stop
            if score2 > best:
                best, best_window = score2, number
            if score2 >= score1:
                viral += 1
                evidence += score2
        start, length = windows[0].start, windows[0].contig_length
        return cls(
            name, len(windows), viral, total, best, best_window, start, end, evidence, length
        )

    @property
    def mean(self) -> float:
        """Mean score2 over the called windows."""
        return self.total / self.windows

    @property
    def is_virus(self) -> bool:
        """Whether at least half of its called windows are viral."""
        return 2 * self.viral >= self.windows


@dataclass(slots=True)
class Counts:
    """What the contigs of a sample add up to."""

    windows: int = 0  # called windows
    viral_windows: int = 0  # of these, viral
    contigs: int = 0  # contigs with a called window
    viral_contigs: int = 0  # of these, at least half of whose windows are viral
    total: float = 0.0  # sum of score2 over called windows
    best: float = 0.0  # highest score2

    def add(self, contig: Contig) -> None:
        """Take the next contig in."""
        self.windows += contig.windows
        self.viral_windows += contig.viral
        self.contigs += 1
        self.viral_contigs += contig.is_virus
        self.total += contig.total
        self.best = max(self.best, contig.best)


def call_windows(parts: Iterable[RecordScores]) -> Iterator[Window]:
    """Call the windows that have a score; one may lie in several of the consecutive parts."""
    scored = attrgetter("records")
    held: list[Window] = []  # the last one: the next part may go on with it
    for part in parts:
        windows = [*held, *_windows(part)]
        if held and len(windows) > 1:
            first, second = windows[:2]
            if (first.contig, first.number) == (second.contig, second.number):
                windows[:2] = [_joined(first, second)]
        held = windows[-1:]
        yield from filter(scored, windows[:-1])
    yield from filter(scored, held)


def call_contigs(parts: Iterable[RecordScores]) -> Iterator[tuple[Contig, list[Window]]]:
    """Call contigs; each comes with its called windows."""
    for name, group in groupby(call_windows(parts), key=attrgetter("contig")):
        windows = list(group)
        yield Contig.of(name, windows), windows


def _windows(rows: RecordScores) -> Iterator[Window]:
    """Windows of some rows, scored or not."""
    if not rows.id:
        return
    contig, segment = rows.contig, rows.segment
    change = segment[1:] != segment[:-1]
    change |= np.fromiter(map(bytes.__ne__, contig[1:], contig[:-1]), bool, len(contig) - 1)
    first = np.concatenate([[0], np.flatnonzero(change) + 1])
    # fmax passes over NaN; a window without any score is NaN.
    highest = np.fmax.reduceat(rows.scores, first, axis=0).T.tolist()
    lacking = np.isnan(rows.scores[:, 1])
    at = first.tolist()
    yield from map(
        Window,
        [rows.id[row][:-2] for row in at],
        [contig[row] for row in at],
        segment[first].tolist(),
        rows.start[first].tolist(),
        rows.end[first].tolist(),
        np.add.reduceat(~lacking, first, dtype=np.int64).tolist(),
        np.add.reduceat(lacking, first, dtype=np.int64).tolist(),
        *highest,
        repeat(0) if rows.contig_length is None else rows.contig_length[first].tolist(),
    )


def _joined(a: Window, b: Window) -> Window:
    """Return the whole of a window that was seen in two parts."""
    return a._replace(
        records=a.records + b.records,
        unscored=a.unscored + b.unscored,
        score1=float(np.fmax(a.score1, b.score1)),
        score2=float(np.fmax(a.score2, b.score2)),
    )
