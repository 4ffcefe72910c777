"""The file is under 5 MB whatever the store, and the browser opens it at its largest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from store.io.words import count
from tests.vnp.report import studies
from tests.vnp.report.conftest import Opened
from tests.vnp.report.packing import unpacked
from vnp.classify.contig_arrays import Contigs, Segments
from vnp.report import packed
from vnp.report.collect import collect
from vnp.report.data import (
    MOST_CELLS,
    MOST_LISTED,
    MOST_POINTS,
    MOST_SAMPLES,
    MOST_TRACKED,
    ContigList,
    Projection,
    ReportData,
    Sampled,
)
from vnp.report.page import page

pytestmark = pytest.mark.slow

MOST_BYTES = 5_000_000
LONG = "<&" * 50_000
EACH = MOST_TRACKED // 8000  # segments of a contig that has a track


def names(generator: np.random.Generator, n: int, letters: int) -> tuple[str, ...]:
    """Names that hardly compress."""
    table = generator.integers(48, 123, (n, letters), dtype=np.uint8)
    return tuple(bytes(row).decode() for row in table)


def listed(generator: np.random.Generator, ids: tuple[str, ...]) -> ContigList:
    n = len(ids)
    segments = np.full(n, EACH)
    first = np.cumsum(segments) - segments
    score = generator.random(n)
    contigs = Contigs(
        sample=generator.integers(0, MOST_SAMPLES, n),
        first=first,
        stop=first + segments,
        bases=generator.integers(500, 1_000_000, n),
        segments=segments,
        called=segments,
        viral_segments=generator.integers(0, EACH, n),
        total=score * segments,
        evidence=score * segments,
    )
    starts = generator.integers(1, 900, (8000, EACH)).cumsum(axis=1)
    tracks = tuple(
        Segments(
            start=start,
            end=start + generator.integers(100, 500, EACH),
            frames=generator.integers(1, 64, EACH).astype(np.uint8),
            score1=(one := generator.random(EACH, dtype=np.float32)),
            score2=1 - one,
        )
        for start in starts
    )
    samples = {number: f"s{number}" for number in range(MOST_SAMPLES)}
    return ContigList(10**7, contigs, ids, samples, tracks)


def sampled(generator: np.random.Generator, ids: tuple[str, ...]) -> Sampled:
    n = len(ids)
    points = generator.standard_normal((n, 2)) * 7
    return Sampled(
        of=10**9,
        models=("a", "b"),
        rows=np.sort(generator.integers(0, 10**9, n)),
        sample=generator.integers(0, 200, n),
        samples=tuple(f"s{number}" for number in range(200)),
        ids=tuple(f"{each}_chunk_1F1" for each in ids),
        contigs=ids,
        frame=generator.integers(0, 6, n),
        length=generator.integers(500, 10**6, n),
        score=generator.random(n),
        projection=Projection("UMAP", ("UMAP 1", "UMAP 2"), "note", points),
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    """A small study, to be filled up to every bound."""
    samples = {"one": [studies.Made("c", 3, 0.9)]}
    store = studies.study(tmp_path_factory.mktemp("base") / "run.zarr", samples)
    return collect(store, scores=studies.scores_of(samples), umap=False)


def crowded(base: ReportData, letters: int) -> ReportData:
    generator = np.random.default_rng(1)
    long = LONG
    environments = {key: {long: 1, f"{long}2": 2} for key in ("device", "engine")}
    identity = {f"{n}{long}": long for n in range(500)}
    model = replace(
        base.models[0],
        cells=generator.random(MOST_CELLS),
        provenance={"identity": identity},
        environments=environments,
    )
    sample_names = names(generator, MOST_SAMPLES, 128)
    return replace(
        base,
        title=long,
        samples=tuple(replace(base.total, name=name) for name in sample_names),
        models=(model,) * 8,
        marks=tuple((name, 0.1, 0.9) for name in sample_names),
        listed=listed(generator, names(generator, MOST_LISTED, letters)),
        sampled=sampled(generator, names(generator, MOST_POINTS, letters)),
    )


@pytest.fixture(scope="module")
def largest(base: ReportData) -> dict[str, str]:
    """The parts of a page at its bounds, with ids of an ordinary length."""
    return packed.parts(crowded(base, 24))


@pytest.mark.parametrize("letters", [24, 600])
def test_the_page_is_under_five_megabytes(
    base: ReportData, largest: dict[str, str], letters: int
) -> None:
    held = largest if letters == 24 else packed.parts(crowded(base, letters))
    assert len(page(LONG, parts=held)) < MOST_BYTES
    for name, most in (
        ("overview", packed.MOST_OVERVIEW),
        ("contigs", packed.MOST_CONTIGS),
        ("tracks", packed.MOST_TRACKS),
        ("map", packed.MOST_MAP),
    ):
        assert len(held[name]) <= most
    contigs, tracks, points = (unpacked(held[name]) for name in ("contigs", "tracks", "map"))
    assert (contigs["of"], points["of"]) == (10**7, 10**9)
    # Columns have one length, and the tracks are those of the first contigs.
    lengths = {len(contigs[key]) for key in ("contig", "sample", "bases", "score", "viral")}
    assert len(lengths) == 1
    assert len(tracks["first"]) - 1 <= lengths.pop()
    assert tracks["first"][-1] == len(tracks["step"]) == len(tracks["mask"])
    assert len({len(points[key]) for key in ("x", "y", "suffix", "row", "score", "frame")}) == 1
    if letters == 24:  # ids of ordinary length: all that is meant to be there
        assert len(contigs["contig"]) == MOST_LISTED
        assert len(points["suffix"]) == MOST_POINTS
        assert len(tracks["first"]) - 1 == 8000


def test_the_browser_opens_the_largest_page(
    largest: dict[str, str], opened: Callable[..., Opened], tmp_path: Path
) -> None:
    path = tmp_path / "large.html"
    path.write_text(page(LONG, parts=largest))
    view = opened(path)
    told = view.page.locator("#contigs .note:not(.sideways)").inner_text()
    assert f"the {MOST_LISTED:,} contigs with the most viral evidence of 10,000,000" in told
    view.page.locator(".contigs button.open").first.click()
    view.page.locator(".sheet svg").wait_for()
    title = view.page.locator("#map h3").inner_text()
    assert title == f"UMAP of {MOST_POINTS:,} of {count(10**9, 'certified record')}"
    assert view.trouble == []
