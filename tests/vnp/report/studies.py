"""Made-up studies for tests of the page: contigs, their frames and their scores, all known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from store.io.ragged import from_items
from store.open import create_store
from store.rows import RowBatch
from store.store import Store
from tests import rows
from vnp.classify.scores import Scores, chunked
from vnp.report.calls import ScoreSource

BIDI = "abc\u202egnp.exe\u200f"
HOSTILE = (
    "</script><script>window.hacked=1</script>",
    "<img/src=x/onerror=window.hacked=1>",
    "=HYPERLINK(1)",
    "@SUM(A1)",
    BIDI,
    "'\"&amp;<!--",
    "L" * 9000,
)


@dataclass(frozen=True)
class Made:
    """A contig: its segments have the frames F1, and R2 in every second one."""

    name: str
    segments: int
    score: float  # of each of its records; NaN: not scored
    bases: int = 500  # of a segment
    beyond: int = 0  # bases of it that follow its last segment with a record

    @property
    def length(self) -> int:
        return self.segments * self.bases + self.beyond

    @property
    def records(self) -> int:
        return self.segments + self.segments // 2


def batch(contigs: Sequence[Made]) -> RowBatch:
    lines = [
        (f"{each.name}_chunk_{number}{frame}", each, number, start, start + each.bases, frame)
        for each in contigs
        for number, start in enumerate(range(0, each.segments * each.bases, each.bases), start=1)
        for frame in (("F1", "R2") if number % 2 == 0 else ("F1",))
    ]
    ids, owners, numbers, starts, ends, frames = zip(*lines, strict=True)
    return RowBatch(
        id=from_items([each.encode() for each in ids]),
        contig=from_items([each.name.encode() for each in owners]),
        segment=np.array(numbers, np.int32),
        start=np.array(starts, np.int64),
        end=np.array(ends, np.int64),
        strand=np.array([1 if each[0] == "F" else -1 for each in frames], np.int8),
        frame=np.array([int(each[1]) for each in frames], np.int8),
        nucleotide=from_items([b"ACGT" * (1 + n % 7) for n in range(len(lines))]),
        protein=from_items([b"MKV" * (1 + n % 5) for n in range(len(lines))]),
        contig_length=np.array([each.length for each in owners], np.int64),
    )


def study(
    path: Path, samples: dict[str, list[Made]], *, filled: bool = True, lengths: bool = True
) -> Store:
    """A store of these samples, with every block filled or none; as earlier code, no lengths."""
    store = create_store(
        path, models=rows.MODELS, segment_length=500, block_rows=64, contig_lengths=lengths
    )
    for name, contigs in samples.items():
        with store.appending() as append:
            append.write(batch(contigs))
            append.commit(
                name,
                contigs=len(contigs) + 1,
                contigs_without_records=1,
                segments=sum(each.segments for each in contigs) + 1,
                bases=sum(each.length for each in contigs) + 100,
                content=f"content of {name}",
                source=f"{name}.fa",
            )
    for model in rows.MODELS if filled else ():
        for block in range(store.n_blocks):
            rows.publish(store, model.name, block)
    return store


def scores_of(samples: dict[str, list[Made]]) -> ScoreSource:
    """Scores of such a store: those of its contigs."""
    score2 = np.array(
        [
            each.score
            for contigs in samples.values()
            for each in contigs
            for _ in range(each.records)
        ],
        dtype=np.float32,
    )
    values = np.column_stack([1 - score2, score2])

    def of(start: int, stop: int) -> Iterator[Scores]:
        for first, last in chunked(start, stop):
            yield Scores(first, values[first:last])

    return ScoreSource(
        of, digest=f"sha256:{'ab' * 32}", date="2026-11-30T12:00:00+00:00", file="c.pth"
    )


def ordinary() -> dict[str, list[Made]]:
    """Three samples: many contigs, few, and those of hostile names."""
    gut = [Made(f"gut_{n:03d}", 1 + n % 9, (n * 37 % 100) / 100) for n in range(60)]
    sea = [Made(f"sea_{n}", 4 + 5 * n, 0.9 - 0.2 * n) for n in range(4)]
    odd = [Made(name, 2, 0.95) for name in HOSTILE]
    return {"gut": gut, "sea": sea, "odd": odd}
