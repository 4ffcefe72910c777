"""Viral regions: the rule on made-up tracks, and what holds for every track."""

from __future__ import annotations

from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.errors import UsageError
from vnp.classify.calls import VIRAL, Window
from vnp.classify.regions import Region, RegionRule, find_regions, regions_of, smoothed

SEGMENT = 500
RUNS = RegionRule(smooth=1, enter=VIRAL, leave=VIRAL, min_region=0, merge_gap=0)


def regions(score: list[float], rule: RegionRule, *, step: int = SEGMENT) -> list[Region]:
    start = np.arange(len(score)) * step
    return find_regions(start, start + SEGMENT, np.array(score), rule)


def bounds(score: list[float], rule: RegionRule) -> list[tuple[int, int]]:
    return [(found.start // SEGMENT, found.end // SEGMENT) for found in regions(score, rule)]


def test_a_planted_prophage_is_found_within_one_segment() -> None:
    rng = np.random.default_rng(4)
    for first, last in ((0, 30), (40, 80), (90, 120), (55, 67)):
        score = rng.beta(2, 6, 120)  # mean 0.25
        score[first:last] = rng.beta(6, 2, last - first)  # mean 0.75
        [found] = regions(score.tolist(), RegionRule())
        assert abs(found.start - first * SEGMENT) <= SEGMENT
        assert abs(found.end - last * SEGMENT) <= SEGMENT
        assert found.mean > 0.6


def test_noisy_inserts_are_found_whole_and_nearly_all_within_one_segment() -> None:
    distances = []
    for seed in range(500):
        rng = np.random.default_rng(seed)
        score = rng.beta(2, 6, 120)
        score[55:75] = rng.beta(6, 2, 20)
        [found] = regions(score.tolist(), RegionRule())
        ends = abs(found.start - 55 * SEGMENT), abs(found.end - 75 * SEGMENT)
        distances.append(max(ends) // SEGMENT)
    assert np.mean(np.array(distances) <= 1) > 0.90  # docs/classify.md says 91 % and 99 %
    assert np.mean(np.array(distances) <= 2) > 0.98


def test_a_clean_step_has_exact_ends() -> None:
    score = [0.05] * 20 + [0.95] * 12 + [0.05] * 20
    [found] = regions(score, RegionRule())
    assert (found.start, found.end) == (20 * SEGMENT, 32 * SEGMENT)
    assert (found.windows, found.viral) == (12, 12)
    assert found.mean == pytest.approx(0.95)
    assert found.best == pytest.approx(0.95)


def test_hysteresis_keeps_what_sags_and_drops_what_never_rises() -> None:
    rule = RegionRule(smooth=1, min_region=0, merge_gap=0)
    assert bounds([0.1, 0.6, 0.9, 0.55, 0.6, 0.1], rule) == [(1, 5)]
    assert bounds([0.1, 0.6, 0.6, 0.6, 0.1], rule) == []


def test_one_stray_segment_neither_makes_nor_breaks_a_region() -> None:
    rule = RegionRule(min_region=0, merge_gap=0)
    assert bounds([0.1] * 10 + [1.0] + [0.1] * 10, rule) == []
    assert bounds([0.1] * 5 + [0.9] * 6 + [0.1] + [0.9] * 6 + [0.1] * 5, rule) == [(5, 18)]


def test_gap_length_and_blank_are_in_bases() -> None:
    score = [1.0] * 3 + [0.0] * 2 + [1.0] * 3
    rule = RegionRule(smooth=1, merge_gap=999, min_region=0)
    assert bounds(score, rule) == [(0, 3), (5, 8)]
    assert bounds(score, RegionRule(smooth=1, merge_gap=1000)) == [(0, 8)]
    assert bounds(score, RegionRule(smooth=1, merge_gap=0, min_region=1500)) == [(0, 3), (5, 8)]
    assert bounds(score, RegionRule(smooth=1, merge_gap=0, min_region=1501)) == []
    start = np.array([0, 500, 3000, 3500])  # nothing called from 1000 to 3000
    for blank, expected in ((2000, [(0, 4000)]), (1999, [(0, 1000), (3000, 4000)])):
        rule = RegionRule(min_region=0, max_blank=blank)
        found = find_regions(start, start + SEGMENT, np.ones(4), rule)
        assert [(each.start, each.end) for each in found] == expected


def test_rules_that_contradict_themselves_are_refused() -> None:
    for change in ({"smooth": 4}, {"smooth": 0}, {"enter": 0.4}, {"enter": 1.1}, {"merge_gap": -1}):
        with pytest.raises(UsageError):
            RegionRule(**change)


def test_a_contig_without_a_called_segment_has_no_region() -> None:
    assert regions_of([], RegionRule()) == []


def test_the_score_of_a_window_is_its_consensus() -> None:
    def window(score1: float, score2: float) -> Window:
        return Window(b"a_chunk_1", b"a", 1, 0, 500, 1, 0, score1, score2)

    assert window(0.25, 0.75).consensus == 0.75
    close = float(np.nextafter(np.float32(0.6), np.float32(1)))
    assert window(close, float(np.float32(0.6))).consensus < VIRAL
    assert window(close, close).consensus == VIRAL
    assert window(float(np.float32(0.6)), close).consensus > VIRAL


scores = st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.6, 0.75, 1.0]), max_size=60)
rules = st.builds(
    lambda smooth, levels, lengths: RegionRule(smooth, max(levels), min(levels), *lengths),
    st.sampled_from([1, 3, 5, 9]),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.tuples(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 3000)),
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(scores, st.lists(st.integers(300, 2500), min_size=60, max_size=60), rules)
def test_regions_are_ordered_disjoint_long_enough_and_end_in_segments(
    track: list[float], steps: list[int], rule: RegionRule
) -> None:
    start = np.cumsum([0, *steps])[: len(track)]  # overlapping, abutting, or with blanks between
    end = start + SEGMENT
    found = find_regions(start, end, np.array(track), rule)
    for region in found:
        assert {region.start} <= set(start.tolist())
        assert {region.end} <= set(end.tolist())
        assert region.end - region.start >= rule.min_region
        inside = [
            score
            for a, b, score in zip(start, end, track, strict=True)
            if region.start <= a and b <= region.end
        ]
        assert region.windows == len(inside)
        assert region.viral == sum(score >= VIRAL for score in inside)
        assert region.mean == pytest.approx(np.mean(inside))
        assert region.best == max(inside) >= rule.leave
    for before, after in pairwise(found):
        assert after.start - before.end > min(rule.merge_gap, rule.max_blank)
    order = np.random.default_rng(0).permutation(len(track))
    assert find_regions(start[order], end[order], np.array(track)[order], rule) == found


@settings(deadline=None, derandomize=True, max_examples=200)
@given(scores)
def test_without_smoothing_and_limits_regions_are_runs_of_viral_segments(
    track: list[float],
) -> None:
    numbered = groupby(enumerate(track), key=lambda pair: pair[1] >= VIRAL)
    runs = [[at for at, _ in run] for viral, run in numbered if viral]
    assert bounds(track, RUNS) == [(run[0], run[-1] + 1) for run in runs]


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.lists(st.floats(0, 1), max_size=40), st.sampled_from([1, 3, 5, 41]))
def test_the_moving_average_is_over_what_there_is(track: list[float], width: int) -> None:
    half = width // 2
    expected = [np.mean(track[max(at - half, 0) : at + half + 1]) for at, _ in enumerate(track)]
    np.testing.assert_allclose(smoothed(np.array(track, float), width), expected, atol=1e-12)
    np.testing.assert_array_equal(smoothed(np.array(track, float), 1), track)
