"""Contigs and their segments as arrays, with their calls: one pass over a store of any size.

The rules are those of `vnp.classify.calls`, which makes an object of every window; here a part of
some ten thousand rows is summed up at once, and contigs without any score come too. At most one
contig is held beyond the part at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from store.layout import CONTIG_LENGTH
from store.read.columns import LastChunk
from store.store import Store
from vnp.classify.calls import VIRAL
from vnp.classify.scores import Scores, chunked

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Arrays = TypeVar("Arrays", "Segments", "Contigs")

_COLUMNS = ("segment", "start", "end", "strand", "frame")

_NO_ID = b"\n"  # before the first row


@dataclass(frozen=True, slots=True)
class Segments:
    """Segments that have records, in the order of rows; all of length n."""

    start: Ints  # first base on the contig, 0-based
    end: Ints  # one past the last base
    frames: NDArray[np.uint8]  # which of F1 .. R3 are records, the lowest bit F1
    score1: NDArray[np.float32]  # highest score1 of its records: others; NaN without a score
    score2: NDArray[np.float32]  # highest score2: virus

    def __len__(self) -> int:
        return len(self.start)

    @property
    def consensus(self) -> Floats:
        """The consensus of the frames, `Window.consensus`: `VIRAL` or more exactly if viral."""
        difference: Floats = self.score2.astype(np.float64) - self.score1
        return VIRAL + difference / 2

    @property
    def viral(self) -> NDArray[np.bool_]:
        """`Window.is_virus`; False without a score."""
        found: NDArray[np.bool_] = self.score2 >= self.score1
        return found


@dataclass(frozen=True, slots=True)
class Contigs:
    """Contigs that have records, in the order of rows; all of length n."""

    sample: Ints  # number of the sample
    first: Ints  # first row
    stop: Ints  # one past its last row
    bases: Ints  # length; in a store without lengths, end of its last segment that has a record
    segments: Ints  # that have records
    called: Ints  # of these, with a score
    viral_segments: Ints
    total: Floats  # sum of score2 over called segments
    evidence: Floats  # sum of score2 over viral segments

    def __len__(self) -> int:
        return len(self.first)

    @property
    def viral(self) -> NDArray[np.bool_]:
        """`Contig.is_virus`; False without a score."""
        found: NDArray[np.bool_] = (2 * self.viral_segments >= self.called) & (self.called > 0)
        return found

    @property
    def mean(self) -> Floats:
        """Mean score2 over the called segments; NaN without one."""
        nothing = np.full(len(self), np.nan)
        found: Floats = np.divide(self.total, self.called, out=nothing, where=self.called > 0)
        return found


def picked(arrays: Arrays, index: NDArray[np.int64] | slice[int, int, None]) -> Arrays:
    """Pick some of the contigs or segments."""
    kind = type(arrays)
    return kind(*(getattr(arrays, each.name)[index] for each in fields(kind)))


def joined(parts: list[Arrays]) -> Arrays:
    """Put contigs or segments one after the other; at least one part."""
    kind = type(parts[0])
    return kind(
        *(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(kind))
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """Consecutive rows; all of length n."""

    new: NDArray[np.bool_]  # whether the row is the first of its contig
    segment: NDArray[np.int32]
    start: Ints
    end: Ints
    length: Ints  # of the contig, as far as it is known
    frame: NDArray[np.uint8]  # one bit
    values: NDArray[np.float32]  # (n, 2)

    def between(self, first: int, last: int) -> _Rows:
        return _Rows(*(getattr(self, each.name)[first:last] for each in fields(_Rows)))

    def followed_by(self, other: _Rows) -> _Rows:
        pairs = ((getattr(self, each.name), getattr(other, each.name)) for each in fields(_Rows))
        return _Rows(*map(np.concatenate, pairs))


def read_contigs(
    store: Store, scores: Callable[[int, int], Iterator[Scores]] | None, *, begin: int = 0
) -> Iterator[tuple[Contigs, Segments]]:
    """Yield all contigs that have records, with their segments, some at a time.

    ``scores`` gives those of rows start .. stop, in order, and is asked sample by sample; None for
    a store that nothing was scored of. The segments of contig n are the next ``segments[n]``.
    ``begin`` is the number of the first sample that is read.
    """
    columns = _columns(store)
    for number in range(begin, len(store.schema.samples)):
        sample = store.schema.samples[number]
        first, held, last = sample.start, None, _NO_ID
        for part in (scores or _unscored)(sample.start, sample.stop):
            stop = part.first + len(part)
            contig = columns["contig"](part.first, stop).tolist()
            rows = _read(columns, part, [last, *contig])
            last = contig[-1]
            held = rows if held is None else held.followed_by(rows)
            cut = int(np.flatnonzero(held.new)[-1])  # the last contig may go on
            if cut:
                yield _summed(held.between(0, cut), number, first)
                first, held = first + cut, held.between(cut, len(held.new))
        if held is not None:
            yield _summed(held, number, first)


def read_segments(store: Store, first: int, scores: Scores) -> Segments:
    """Read the segments of one contig, whose first row and scores of rows are given."""
    names = [_NO_ID, *[b"-"] * len(scores)]
    columns = {name: partial(store.column, name) for name in _names(store)}
    return _summed(_read(columns, scores, names), 0, first)[1]


def _unscored(start: int, stop: int) -> Iterator[Scores]:
    for low, high in chunked(start, stop):
        yield Scores(low, np.full((high - low, 2), np.nan, dtype=np.float32))


def _columns(store: Store) -> dict[str, LastChunk]:
    return {name: LastChunk(partial(store.column, name)) for name in ("contig", *_names(store))}


def _names(store: Store) -> list[str]:
    return [*_COLUMNS, *([CONTIG_LENGTH] if store.schema.contig_lengths else [])]


def _read(
    columns: Mapping[str, Callable[[int, int], Any]], part: Scores, contig: list[bytes]
) -> _Rows:
    """Read rows; ``contig`` are the ids of the row before and of each row."""
    low, high = part.first, part.first + len(part)
    new = np.fromiter(map(bytes.__ne__, contig[1:], contig[:-1]), bool, len(part))
    reverse = np.asarray(columns["strand"](low, high)) < 0
    frame = np.asarray(columns["frame"](low, high)).astype(np.uint8)
    end = np.asarray(columns["end"](low, high), dtype=np.int64)
    known = columns.get(CONTIG_LENGTH)
    return _Rows(
        new=new,
        segment=np.asarray(columns["segment"](low, high)),
        start=np.asarray(columns["start"](low, high), dtype=np.int64),
        end=end,
        length=end if known is None else np.maximum(end, known(low, high)),
        frame=np.uint8(1) << (frame - 1 + np.uint8(3) * reverse.astype(np.uint8)),
        values=part.values,
    )


def _summed(rows: _Rows, sample: int, first_row: int) -> tuple[Contigs, Segments]:
    """Sum up the rows of whole contigs."""
    change = rows.new.copy()
    change[1:] |= rows.segment[1:] != rows.segment[:-1]
    change[0] = True
    row = np.flatnonzero(change)
    # fmax passes over NaN; a segment without any score is NaN.
    highest = np.fmax.reduceat(rows.values, row, axis=0)
    segments = Segments(
        start=rows.start[row],
        end=rows.end[row],
        frames=np.bitwise_or.reduceat(rows.frame, row),
        score1=highest[:, 0],
        score2=highest[:, 1],
    )
    # Of each contig the first of its segments.
    new = rows.new[row]
    new[0] = True
    at = np.flatnonzero(new)
    viral = segments.viral
    score = np.nan_to_num(segments.score2.astype(np.float64))
    first = first_row + row[at]
    contigs = Contigs(
        sample=np.full(len(at), sample, dtype=np.int64),
        first=first,
        stop=np.append(first[1:], first_row + len(rows.new)),
        bases=np.maximum.reduceat(rows.length[row], at),
        segments=np.diff(np.append(at, len(row))),
        called=np.add.reduceat(~np.isnan(segments.score2), at, dtype=np.int64),
        viral_segments=np.add.reduceat(viral, at, dtype=np.int64),
        total=np.add.reduceat(score, at),
        evidence=np.add.reduceat(np.where(viral, score, 0.0), at),
    )
    return contigs, segments
