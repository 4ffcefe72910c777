"""Lengths on the page are those of contigs, or in earlier stores those to the last record."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vnp.report.packing import unpacked
from tests.vnp.report.studies import Made, scores_of, study
from vnp.report.collect import collect
from vnp.report.overview import overview
from vnp.report.packed import parts

CONTIGS = {
    "gut": [Made("virus", 4, 0.9, beyond=2300), Made("host", 2, 0.1, beyond=100)],
    "sea": [Made("phage", 1, 0.8)],
}


@pytest.mark.parametrize("known", [True, False])
def test_counts_shares_table_and_map_have_them(tmp_path: Path, known: bool) -> None:
    store = study(tmp_path / "run.zarr", CONTIGS, lengths=known)
    data = collect(store, scores=scores_of(CONTIGS), umap=False)
    virus, host = (4300, 1100) if known else (2000, 1000)
    assert overview(data)["store"]["contig_lengths"] is known
    assert [(row.viral_bases, row.called_bases) for row in data.samples] == [
        (virus, virus + host),
        (500, 500),
    ]
    assert (data.total.viral_bases, data.total.called_bases) == (virus + 500, virus + host + 500)
    table = unpacked(parts(data)["contigs"])
    assert dict(zip(table["contig"], table["bases"], strict=True)) == {
        "virus": virus,
        "host": host,
        "phage": 500,
    }
    assert data.sampled is not None
    assert set(zip(data.sampled.contigs, data.sampled.length.tolist(), strict=True)) == {
        ("virus", virus),
        ("host", host),
        ("phage", 500),
    }
