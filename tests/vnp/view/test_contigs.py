"""The table of contigs finds, sorts and pages as plain Python does."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from store.io.ragged import from_items
from vnp.view import contigs as module
from vnp.view import ids
from vnp.view.contigs import SORTS, ContigTable, Query

IDS = [
    "k1",
    "K1",
    "a",
    "ab",
    "abab",
    "b" * 9,
    "b" * 8,
    "é_1",
    "k1_a",
    "=cmd",
    "<b>",
    "aab\u0301",
]


def made(count: int, *, seed: int = 0) -> ContigTable:
    random = np.random.default_rng(seed)
    ids = from_items(IDS[at].encode() for at in random.integers(0, len(IDS), count))
    score = random.choice([0.0, 0.25, 0.5, 0.9, np.nan], count)
    return ContigTable(
        samples=("second", "first", "empty", "third"),
        sample=np.sort(random.choice([0, 1, 3], count)).astype(np.int32),
        first=np.arange(count) * 3,
        records=random.integers(1, 5, count).astype(np.int32),
        bases=random.choice([500, 1000, 250_000], count),
        segments=random.integers(1, 4, count).astype(np.int32),
        viral_segments=random.integers(0, 3, count).astype(np.int32),
        score=score,
        evidence=np.where(np.isnan(score), 0.0, random.choice([0.0, 1.5, 3.0], count)),
        viral=~np.isnan(score) & (random.random(count) < 0.5),
        letters=ids.data,
        ends=ids.offsets[1:],
    )


def slowly(table: ContigTable, query: Query) -> list[int]:
    """Numbers of all contigs that match, in order."""
    rows = table.rows(np.arange(len(table)))
    text = query.text.lower() if query.text.isascii() else query.text
    found = [
        at
        for at, row in enumerate(rows)
        if (query.sample is None or row["sample"] == query.sample)
        and row["bases"] >= query.min_length
        and (
            query.min_score is None
            or (row["score"] is not None and row["score"] >= query.min_score)
        )
        and (not query.viral or row["viral"])
        and text in (row["contig"].lower() if query.text.isascii() else row["contig"])
    ]

    def ranked(at: int) -> tuple[float, float, int, int]:
        return -table.evidence[at], -float(np.nan_to_num(table.score[at])), -table.bases[at], at

    if query.sort == "evidence":
        found.sort(key=ranked)
        if query.descending is False:
            found.sort(key=lambda at: ([-key for key in ranked(at)[:3]], at))
        return found
    found.sort(key=ranked)
    known = [at for at in found if rows[at][query.sort] is not None]
    key = (
        (lambda at: rows[at][query.sort].encode())
        if query.sort == "contig"
        else lambda at: rows[at][query.sort]
    )
    known.sort(key=key, reverse=bool(query.descending))
    return known + [at for at in found if rows[at][query.sort] is None]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in (module, ids):
        monkeypatch.setattr(each, "TOGETHER", 7)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    "text",
    ["", "a", "A", "ab", "AB", "aba", "é_", "É", "\u0301", "k1_a", "zz", "\x00", "bbbbbbbb", "<"],
)
@pytest.mark.parametrize("sample", [None, "first", "empty", "absent"])
def test_contigs_are_found_by_text(text: str, sample: str | None) -> None:
    table = made(60)
    query = Query(text=text, sample=sample, limit=1000)
    total, page = table.select(query)
    assert page.tolist() == slowly(table, query)
    assert total == len(page)


@pytest.mark.parametrize("part", [8192, 16])
@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("descending", [None, True, False])
def test_pages_are_those_of_the_whole_order(
    sort: module.Sort, descending: bool | None, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOGETHER", part)
    table = made(60, seed=1)
    narrow = ({}, {"min_length": 1000}, {"min_score": 0.25, "viral": True}, {"text": "a"})
    for given in narrow:
        query = Query(sort=sort, descending=descending, limit=1000, **given)
        expected = slowly(table, query)
        assert table.select(query)[1].tolist() == expected
        for offset, limit in itertools.product((0, 1, 5, len(expected) - 1, 10**15), (1, 7, 1000)):
            page = Query(sort=sort, descending=descending, offset=offset, limit=limit, **given)
            assert table.select(page)[1].tolist() == expected[offset : offset + limit]


def test_a_contig_is_found_by_its_whole_id() -> None:
    table = made(60)
    rows = table.rows(np.arange(60))
    for row in rows:
        at = table.find(row["sample"], row["contig"])
        assert at == next(
            n
            for n, each in enumerate(rows)
            if (each["sample"], each["contig"]) == (row["sample"], row["contig"])
        )
    assert table.find("first", "k1_") is None
    assert table.find("first", "b" * 7) is None
    assert table.find("absent", "k1") is None
    assert table.find("first", "../k1") is None
    assert table.find("first", "") is None


def test_an_empty_table_has_no_page() -> None:
    table = made(0)
    for sort in SORTS:
        assert table.select(Query(sort=sort, text="a", min_score=0.1))[0] == 0
    assert table.find("first", "a") is None
