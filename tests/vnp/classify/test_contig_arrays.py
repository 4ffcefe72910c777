"""Contigs as arrays are what `vnp.classify.calls` makes of the same rows, one object at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.vnp.report.studies import Made, study
from vnp.classify.calls import call_contigs
from vnp.classify.contig_arrays import joined, read_contigs, read_segments
from vnp.classify.scores import Scores, with_records


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_they_are_the_calls_of_windows(tmp_path: Path, step: int) -> None:
    generator = np.random.default_rng(step)
    sizes = generator.integers(1, 9, 40).tolist()
    contigs = [Made(f"c{number}", size, 0.0) for number, size in enumerate(sizes)]
    store = study(tmp_path / "run.zarr", {"a": contigs[:25], "b": contigs[25:]}, filled=False)
    score2 = generator.random(store.n_rows).astype(np.float32)
    score2[generator.random(store.n_rows) < 0.3] = np.nan
    values = np.column_stack([1 - score2, score2])

    def scores(start: int, stop: int) -> Iterator[Scores]:
        for first in range(start, stop, step):
            yield Scores(first, values[first : min(first + step, stop)])

    found = list(read_contigs(store, scores))
    arrays, segments = joined([each for each, _ in found]), joined([each for _, each in found])
    assert len(arrays) == 40
    assert arrays.stop[:-1].tolist() == arrays.first[1:].tolist()
    assert (arrays.first[0], arrays.stop[-1]) == (0, store.n_rows)
    assert arrays.segments.tolist() == sizes
    assert arrays.bases.tolist() == [500 * size for size in sizes]
    assert arrays.sample.tolist() == [0] * 25 + [1] * 15
    called = [
        (contig, windows)
        for sample in store.schema.samples
        for contig, windows in call_contigs(
            with_records(store, part) for part in scores(sample.start, sample.stop)
        )
    ]
    kept = np.flatnonzero(arrays.called)
    assert len(called) == len(kept)
    for (contig, _), at in zip(called, kept.tolist(), strict=True):
        one = (arrays.called[at], arrays.viral_segments[at], arrays.viral[at])
        assert one == (contig.windows, contig.viral, contig.is_virus)
        assert arrays.mean[at] == pytest.approx(contig.mean)
        assert arrays.evidence[at] == pytest.approx(contig.evidence)
    windows = [window for _, of_contig in called for window in of_contig]
    scored = ~np.isnan(segments.score2)
    assert segments.viral[scored].tolist() == [window.is_virus for window in windows]
    np.testing.assert_allclose(segments.consensus[scored], [window.consensus for window in windows])
    assert not segments.viral[~scored].any()
    # One contig by itself has the same segments, and its frames.
    at = 3
    first, stop = int(arrays.first[at]), int(arrays.stop[at])
    alone = read_segments(store, first, Scores(first, values[first:stop]))
    low = int(arrays.segments[:at].sum())
    np.testing.assert_array_equal(alone.score2, segments.score2[low : low + sizes[at]])
    assert alone.frames.tolist() == [1 if n % 2 == 0 else 1 | 1 << 4 for n in range(sizes[at])]


@pytest.mark.parametrize("known", [True, False])
def test_a_contig_is_as_long_as_the_store_knows(tmp_path: Path, known: bool) -> None:
    contigs = [Made("a", 3, 0.0, beyond=7), Made("b", 1, 0.0), Made("c", 2, 0.0, beyond=900)]
    store = study(tmp_path / "run.zarr", {"s": contigs, "t": contigs[2:]}, lengths=known)
    arrays = joined([each for each, _ in read_contigs(store, None)])
    length = [1507, 500, 1900, 1900] if known else [1500, 500, 1000, 1000]
    assert arrays.bases.tolist() == length


def test_without_scores_nothing_is_called(tmp_path: Path) -> None:
    store = study(tmp_path / "run.zarr", {"a": [Made("c", 4, 0.0)], "b": [Made("c", 2, 0.0)]})
    arrays = joined([contigs for contigs, _ in read_contigs(store, None)])
    assert arrays.segments.tolist() == [4, 2]  # of one name, in two samples
    assert arrays.called.tolist() == [0, 0]
    assert not arrays.viral.any()
    assert np.isnan(arrays.mean).all()
