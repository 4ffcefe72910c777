"""The contigs that a page lists: those with the most viral evidence, a bounded number of any.

They are ranked by the summed score2 of their viral segments, then by their mean score2, then by
length. The first ones keep their segments too, for their tracks.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vnp.classify.contig_arrays import Contigs, Segments, joined, picked
from vnp.report.data import MOST_BINS, MOST_LISTED, MOST_TRACKED

Ints = NDArray[np.int64]

_SEGMENTS_HELD = 500_000  # before the best are chosen among those that were offered


class Listing:
    """Keeps the best of the contigs it is offered."""

    def __init__(self, *, most: int = MOST_LISTED, tracked: int = MOST_TRACKED) -> None:
        self._most = most
        self._tracked = tracked
        self._contigs: list[Contigs] = []
        self._segments: list[Segments] = []
        self._lengths: list[Ints] = []  # segments that each contig has here
        self.offered = 0

    def offer(self, contigs: Contigs, segments: Segments) -> None:
        """Take some contigs and their segments in."""
        self.offered += len(contigs)
        self._contigs.append(contigs)
        self._segments.append(segments)
        self._lengths.append(contigs.segments)
        waiting = sum(map(len, self._contigs[1:])), sum(map(len, self._segments[1:]))
        if waiting[0] > self._most or waiting[1] > _SEGMENTS_HELD:
            self._choose()

    def best(self) -> tuple[Contigs, list[Segments]] | None:
        """The best contigs, the best first, and the segments of the first of them; None of none."""
        if not self._contigs:
            return None
        self._choose()
        [lengths], [segments] = self._lengths, self._segments
        edges = np.concatenate([[0], np.cumsum(lengths[lengths > 0])]).tolist()
        tracks = [picked(segments, slice(first, last)) for first, last in pairwise(edges)]
        return self._contigs[0], tracks

    def _choose(self) -> None:
        contigs, segments = joined(self._contigs), joined(self._segments)
        lengths = np.concatenate(self._lengths)
        order = ranked(contigs)[: self._most]
        contigs, starts, lengths = (
            picked(contigs, order),
            (np.cumsum(lengths) - lengths)[order],
            lengths[order],
        )
        # Tracks of the first ones, until there are too many segments; a contig whose segments were
        # dropped earlier stays without, as then those before it alone are too many.
        shown = np.cumsum(np.minimum(contigs.segments, MOST_BINS)) <= self._tracked
        lengths = np.where(shown, lengths, 0)
        total = int(lengths.sum())
        within = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        self._contigs = [contigs]
        self._segments = [picked(segments, np.repeat(starts, lengths) + within)]
        self._lengths = [lengths]


def ranked(contigs: Contigs) -> Ints:
    """Order of contigs (n,), the most viral first: by evidence, mean score2, length, row."""
    keys = (contigs.first, -contigs.bases, -np.nan_to_num(contigs.mean), -contigs.evidence)
    return np.lexsort(keys)
