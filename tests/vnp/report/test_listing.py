"""Which contigs a page lists, and which of them have a track."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from store.errors import DataError
from store.io.ragged import Ragged, from_items
from vnp.classify.contig_arrays import Contigs, Segments, joined, picked
from vnp.report.binning import binned
from vnp.report.calls import strings_of
from vnp.report.listing import Listing, ranked
from vnp.report.overview import thousandths, track_json
from vnp.report.regions import read_regions


def made(first: int, n: int) -> tuple[Contigs, Segments]:
    """Contigs ``first .. first + n`` of known numbers, with one to four segments each."""
    number = np.arange(first, first + n)
    sizes = 1 + number % 4
    evidence = (number * 7919 % 1000) / 10.0
    contigs = Contigs(
        sample=np.zeros(n, np.int64),
        first=number * 10,
        stop=number * 10 + sizes,
        bases=500 * sizes,
        segments=sizes,
        called=sizes,
        viral_segments=sizes,
        total=evidence,
        evidence=evidence,
    )
    start = np.repeat(number, sizes)
    score = np.full(len(start), 0.5, np.float32)
    return contigs, Segments(start, start + 500, np.ones(len(start), np.uint8), score, score)


@pytest.mark.parametrize("step", [1, 13, 400])
def test_the_best_are_kept_however_they_come(step: int) -> None:
    listing = Listing(most=50, tracked=60)
    for first in range(0, 400, step):
        listing.offer(*made(first, min(step, 400 - first)))
    best = listing.best()
    assert best is not None
    contigs, tracks = best
    everything, _ = made(0, 400)
    expected = picked(everything, ranked(everything)[:50])
    np.testing.assert_array_equal(contigs.first, expected.first)
    assert listing.offered == 400
    # Tracks of the first ones, whole, as many as have room.
    assert [len(track) for track in tracks] == contigs.segments[: len(tracks)].tolist()
    assert sum(map(len, tracks)) <= 60 < contigs.segments[: len(tracks) + 1].sum()
    for track, first in zip(tracks, contigs.first.tolist(), strict=False):
        assert (track.start == first // 10).all()
    assert Listing().best() is None


def test_long_tracks_are_joined_to_means() -> None:
    _, segments = made(0, 100)
    shown, each = binned(segments, 30)
    assert each == -(-len(segments) // 30)
    assert len(shown) <= 30
    assert (shown.start[0], shown.end[-1]) == (segments.start[0], segments.end[-1])
    assert binned(segments, 1000) == (segments, 1)
    assert track_json(segments, most=30)["joined"] == each
    assert len(joined([segments, segments])) == 2 * len(segments)


def test_no_score_is_rounded_up_to_viral() -> None:
    scores = np.array([0.4999, 0.5, 0.12345, 1.0, np.nan, 0.0])
    assert thousandths(scores) == [499, 500, 123, 1000, None, 0]


def test_regions_of_a_user_are_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "planted.bed"
    path.write_text("# known\ntrack name=x\nc1\t0\t100\tone\t0\t+\n\nc1\t200\t300\nc2\t5\t9\ttwo\n")
    found = read_regions(path)
    assert [each[:3] for each in found["c1"]] == [(0, 100, "one"), (200, 300, "given region")]
    assert found["c2"] == [(5, 9, "two", f"{path}, line 6")]
    for text, told in (
        ("c1 0 100\n", "line 1: a contig, a start and an end"),
        ("c1\t1_000\t2000\n", "line 1: a contig, a start and an end"),
        ("c1\t-1\t5\n", "line 1: a contig, a start and an end"),
        ("c1\t100\t5\n", "line 1: 100 to 5 is not a region"),
        ("c1\t1\t5\n" * 1001, "line 1001: a track has room for 1,000 regions"),
        ("\xff", "not UTF-8"),
    ):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(DataError, match=told):
            read_regions(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_regions(tmp_path / "none.bed")


def test_regions_with_a_byte_order_mark_and_lines_for_a_browser(tmp_path: Path) -> None:
    path = tmp_path / "known.bed"
    path.write_bytes(b"\xef\xbb\xbfc1\t0\t9\ntrack\r\nbrowser\n#\ntrack\t5\t9\ntrack")
    assert read_regions(path) == {
        "c1": [(0, 9, "given region", f"{path}, line 1")],
        "track": [(5, 9, "given region", f"{path}, line 5")],
    }
    path.write_text("c1\t\u0661\t\u0669\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 1: a contig, a start and an end"):
        read_regions(path)


def test_an_id_that_is_not_utf8_is_shown_all_the_same() -> None:
    class Foreign:
        def column(self, _name: str, start: int, stop: int) -> Ragged:
            return from_items([b"one", b"t\xffwo"]).slice(start, stop)

    assert strings_of(Foreign(), "id", np.array([1, 0])) == ["t\ufffdwo", "one"]  # type: ignore[arg-type]
