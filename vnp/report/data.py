"""What a report shows, as plain values of bounded size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vnp.classify.contig_arrays import Contigs, Segments

# Bounds of what a page holds; the file's size follows from them.
MOST_SAMPLES = 200  # rows of the table of samples; the rest is summed up in one row
MOST_GROUPS = 7  # samples or workers that have a colour of their own; the rest is grey
MOST_CELLS = 240  # cells of the fill map, per model
MOST_CERTIFICATES = 4096  # read per model
MOST_TIME_BINS = 96
MOST_WORKERS = 24  # rows of the table of workers
MOST_SCANNED = 64  # chunks of obs rows, and blocks of sequences, that distributions are made from
MOST_POINTS = 20_000  # of the map
MOST_LISTED = 20_000  # contigs
MOST_TRACKED = 150_000  # segments of all tracks together
MOST_BINS = 2000  # segments of a track before neighbours are joined
LENGTH_BINS = 40
SCORE_BINS = 40


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One sample."""

    name: str
    contigs: int
    without_records: int  # contigs that gave no record
    bases: int
    segments: int
    records: int
    certified: int  # of these, certified for every model
    called_segments: int | None = None  # with a score; None without scores
    viral_segments: int | None = None
    called_contigs: int | None = None
    viral_contigs: int | None = None  # at least half of whose segments are viral
    called_bases: int | None = None  # length of the called contigs
    viral_bases: int | None = None  # length of the viral contigs


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model and how far it is filled."""

    name: str
    dim: int
    rows: int
    filled: int
    blocks: int
    open_blocks: int
    cells: NDArray[np.float64]  # share filled, first to last row, at most MOST_CELLS
    provenance: dict[str, Any]  # what the first worker recorded; {} before any has run
    environments: dict[str, dict[str, int]]  # of the certificates: field -> value -> blocks


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker, from the certificates it left; or one of these, for all that it represents."""

    worker: str  # its uuid
    device: str
    blocks: float
    records: float
    seconds: float  # in the encoder
    first: float  # UTC, seconds since 1970: start of its first block
    last: float  # end of its last block

    @property
    def rate(self) -> float:
        """Records a second while embedding."""
        return self.records / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of the time axis in which work was going on."""

    begin: float  # UTC, seconds since 1970
    end: float
    first_bin: int
    last_bin: int  # one past its last bin


@dataclass(frozen=True, slots=True)
class Timeline:
    """Throughput over the time in which workers ran; pauses are cut out."""

    stretches: tuple[Stretch, ...]
    seconds: NDArray[np.float64]  # length of each bin, (bins,)
    groups: tuple[str, ...]  # workers with a colour of their own, and "others"
    records: NDArray[np.float64]  # (groups, bins)


@dataclass(frozen=True, slots=True)
class Work:
    """Who embedded what, and how fast."""

    certificates: int  # read
    of: int  # certificates there are
    workers: tuple[WorkerRow, ...]  # by records, at most MOST_WORKERS
    more_workers: int  # not listed
    timeline: Timeline | None  # None before anything was embedded


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of values in bins of one width."""

    low: float  # left edge of the first bin
    width: float  # of a bin
    counts: NDArray[np.int64]

    @property
    def total(self) -> int:
        """Values in all bins."""
        return int(self.counts.sum())


@dataclass(frozen=True, slots=True)
class Distributions:
    """Distributions over records, from all of them or a sample."""

    records: int  # looked at
    windows: Histogram  # bases of the records' windows
    proteins: Histogram  # residues
    sequences: int  # records whose protein was looked at
    frames: dict[str, int]  # F1 .. R3


@dataclass(frozen=True, slots=True)
class Calls:
    """Scores of a classifier."""

    file: str  # name of the classifier's file; empty if only its scores are known
    kept: str  # name of the scores kept in the store; empty for those made now
    digest: str  # hash of the classifier's weights
    date: str  # UTC, ISO 8601: when the scores were kept, or the file was last changed
    records: int  # scored
    groups: tuple[str, ...]  # samples with a histogram of their own, and "others"
    histograms: tuple[Histogram, ...]  # segments by their highest score2, one per group
    consensus: tuple[Histogram, ...]  # segments by the consensus of their frames, one per group


@dataclass(frozen=True, slots=True)
class ContigList:
    """The contigs that the page lists, the most viral first."""

    of: int  # contigs that have records
    contigs: Contigs
    names: tuple[str, ...]  # their ids
    samples: Mapping[int, str]  # names of their samples by number
    tracks: tuple[Segments, ...]  # segments of the first of them


@dataclass(frozen=True, slots=True)
class Projection:
    """Records in two dimensions."""

    method: str  # "PCA" or "UMAP"
    axes: tuple[str, str]
    note: str  # what to hold of it
    points: NDArray[np.float64]  # (n, 2)


@dataclass(frozen=True, slots=True)
class Sampled:
    """The records on the map; all arrays have length n."""

    of: int  # certified records there are
    models: tuple[str, ...]
    rows: NDArray[np.int64]
    sample: NDArray[np.int64]  # index into `samples`
    samples: tuple[str, ...]  # names
    ids: tuple[str, ...]
    contigs: tuple[str, ...]  # contig ids
    frame: NDArray[np.int64]  # index into `FRAMES`
    length: NDArray[np.int64]  # bases of the contigs
    score: NDArray[np.float64] | None  # score2; NaN where not scored, None without scores
    projection: Projection

    def only(self, kept: NDArray[np.int64]) -> Sampled:
        """The map of some of its records."""
        chosen = kept.tolist()
        return replace(
            self,
            rows=self.rows[kept],
            sample=self.sample[kept],
            ids=tuple(self.ids[at] for at in chosen),
            contigs=tuple(self.contigs[at] for at in chosen),
            frame=self.frame[kept],
            length=self.length[kept],
            score=None if self.score is None else self.score[kept],
            projection=replace(self.projection, points=self.projection.points[kept]),
        )


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything on the page."""

    title: str
    warning: str  # what must be known before anything else is read; empty if nothing
    made: str  # UTC, ISO 8601
    version: str  # of vnp
    rows: int
    segment_length: int
    genetic_code: int  # NCBI's number of the translation table
    contig_lengths: bool  # whether contigs' lengths are known, or only to the last record
    n_samples: int
    samples: tuple[SampleRow, ...]  # at most MOST_SAMPLES
    rest: SampleRow | None  # the samples not listed, summed up
    total: SampleRow
    marks: tuple[tuple[str, float, float], ...]  # samples along the rows: name, from, to (0 .. 1)
    models: tuple[ModelRow, ...]
    work: Work
    distributions: Distributions | None  # None for a store without rows
    calls: Calls | None
    listed: ContigList | None  # None for a store without rows
    sampled: Sampled | None

    @property
    def complete(self) -> bool:
        """Whether every row is filled for every model."""
        return all(model.filled == model.rows for model in self.models)
