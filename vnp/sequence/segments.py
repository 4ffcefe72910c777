"""Cut contigs into windows by VirNucPro's rule.

A contig of n bases and a segment length S give k = ceil(n / S) windows. Their excess e = k*S - n is
spread as overlaps between neighbours: ``need = e - (e // k) * (k - 1)`` overlaps of ``e // k + 1``
bases come first, the rest are ``e // k`` bases long. A window is S bases long, or ends with the
contig: where ``need`` exceeds the k - 1 overlaps that there are (always for k = 2), the overlaps
do not use up the excess and the last window is shorter than S. Source: the published VirNucPro
(Brief Bioinform 2025, bbaf224).

Short reads can be taken whole instead: a segment length of `WHOLE` makes every contig one window
with the same name (``<contig>_chunk_1``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.schema import STANDARD_CODE

WHOLE = 0  # the segment length that means "a contig is one window"
SMALLEST_SEGMENT = 3  # one codon
PUBLISHED = (300, 500)  # segment lengths of VirNucPro's classifiers
# The longest contig that may be one window. Whole windows are for reads; this is longer than
# nearly every read of any sequencer, and what an encoder can still take as one record.
LONGEST_WHOLE = 100_000


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of many contigs, by contig and then by number; every column has length n."""

    contig: NDArray[np.int64]  # which of the contigs, 0-based
    number: NDArray[np.int32]  # 1-based number of the window on its contig
    start: NDArray[np.int64]  # first base on the contig, 0-based
    end: NDArray[np.int64]  # one past the last base

    def __len__(self) -> int:
        return len(self.number)


def described(segment_length: int, genetic_code: int = STANDARD_CODE) -> str:
    """Say for people what a store's windows are: ``500 bp segments`` or ``whole contigs``.

    A genetic code other than the standard one is added: ``500 bp segments (genetic code 4)``.
    """
    windows = "whole contigs" if segment_length == WHOLE else f"{segment_length} bp segments"
    code = f" (genetic code {genetic_code})" if genetic_code != STANDARD_CODE else ""
    return windows + code


def cut_windows(lengths: NDArray[np.int64], *, segment_length: int) -> Windows:
    """Windows of contigs of the given lengths (n,), in bases; an empty contig has none.

    Raises `ValueError` if the segment length, S or `WHOLE`, is under one codon, or if a contig is
    too long to be one window.
    """
    if segment_length == WHOLE:
        if len(lengths) and int(lengths.max()) > LONGEST_WHOLE:
            raise ValueError(f"a contig of {int(lengths.max())} bases cannot be one window")
        contig = np.flatnonzero(lengths).astype(np.int64)
        one = np.ones(len(contig), np.int32)
        return Windows(contig, one, np.zeros(len(contig), np.int64), lengths[contig])
    if segment_length < SMALLEST_SEGMENT:
        raise ValueError(f"a segment of {segment_length} bases holds no codon")
    count = -(-lengths // segment_length)  # k, 0 for an empty contig
    excess = count * segment_length - lengths
    low = excess // np.maximum(count, 1)
    need = excess - low * (count - 1)

    contig = np.repeat(np.arange(len(lengths), dtype=np.int64), count)
    index = np.arange(len(contig), dtype=np.int64) - np.repeat(np.cumsum(count) - count, count)
    # Overlaps before window i: min(i, need) of low + 1, the others of low.
    overlap = index * low[contig] + np.minimum(index, need[contig])
    start = index * segment_length - overlap
    end = np.minimum(start + segment_length, lengths[contig])
    return Windows(contig, (index + 1).astype(np.int32), start, end)


def slices(windows: Windows, *, bases: int, count: int) -> Iterator[slice]:
    """Cut the windows into runs of about ``bases`` bases and at most ``count`` windows.

    A run holds at least one window and exceeds ``bases`` by less than one window.
    """
    lengths = windows.end - windows.start
    before = np.cumsum(lengths) - lengths
    first = 0
    while first < len(windows):
        last = int(np.searchsorted(before, before[first] + bases))
        last = min(max(last, first + 1), first + count, len(windows))
        yield slice(first, last)
        first = last
