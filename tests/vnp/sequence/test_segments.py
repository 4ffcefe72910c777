"""Windows against the slow rules."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vnp.sequence import slow_rules
from vnp.sequence.segments import LONGEST_WHOLE, WHOLE, cut_windows, described, slices


def windows_of(lengths, segment_length):
    windows = cut_windows(np.array(lengths, np.int64), segment_length=segment_length)
    result = [[] for _ in lengths]
    for contig, number, start, end in zip(
        windows.contig.tolist(),
        windows.number.tolist(),
        windows.start.tolist(),
        windows.end.tolist(),
        strict=True,
    ):
        assert number == len(result[contig]) + 1
        result[contig].append((start, end))
    assert windows.contig.tolist() == sorted(windows.contig.tolist())
    return result


@pytest.mark.parametrize("segment_length", [300, 500])
def test_every_length_to_10000(segment_length):
    lengths = range(1, 10_001)
    assert windows_of(lengths, segment_length) == [
        slow_rules.windows(" " * n, segment_length) for n in lengths
    ]


@pytest.mark.parametrize("segment_length", [3, 4, 5, 7, 16])
def test_short_segments(segment_length):
    lengths = range(1, 400)
    assert windows_of(lengths, segment_length) == [
        slow_rules.windows(" " * n, segment_length) for n in lengths
    ]


def test_examples():
    """By hand: an overlap of 1 + 250 // 2 for k = 2, and overlaps of 34, 33, 33 for k = 4."""
    assert windows_of([750], 500) == [[(0, 500), (374, 750)]]
    assert windows_of([400], 300) == [[(0, 300), (199, 400)]]
    assert windows_of([1100], 300) == [[(0, 300), (274, 574), (548, 848), (822, 1100)]]
    assert windows_of([300, 301], 300) == [[(0, 300)], [(0, 300), (150, 301)]]


def test_no_contigs_and_empty_contigs():
    assert windows_of([], 500) == []
    assert windows_of([0, 5, 0], 500) == [[], [(0, 5)], []]


def test_a_segment_holds_a_codon():
    with pytest.raises(ValueError, match="no codon"):
        cut_windows(np.array([10]), segment_length=2)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(lengths=st.lists(st.integers(0, LONGEST_WHOLE), max_size=30))
def test_whole_contigs_are_one_window_each(lengths):
    assert windows_of(lengths, WHOLE) == [[(0, n)] if n else [] for n in lengths]


def test_a_short_contig_is_the_same_window_whole_or_cut():
    lengths = range(1, 501)
    assert windows_of(lengths, WHOLE) == windows_of(lengths, 500)


def test_a_chromosome_is_no_window():
    with pytest.raises(ValueError, match="250000000 bases cannot be one window"):
        cut_windows(np.array([100, 250_000_000]), segment_length=WHOLE)


def test_windows_are_described_for_people():
    assert (described(300), described(WHOLE)) == ("300 bp segments", "whole contigs")


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    lengths=st.lists(st.integers(1, 3000), max_size=30),
    bases=st.integers(1, 5000),
    count=st.integers(1, 40),
)
def test_slices_cover_the_windows_once_and_are_bounded(lengths, bases, count):
    windows = cut_windows(np.array(lengths, np.int64), segment_length=300)
    size = windows.end - windows.start
    covered = 0
    for part in slices(windows, bases=bases, count=count):
        assert part.start == covered
        assert covered < part.stop <= covered + count
        assert size[part].sum() < bases + 300
        covered = part.stop
    assert covered == len(windows)
