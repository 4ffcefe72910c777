"""Faults of the published tool and of its GPU ports, each shown to be absent here.

docs/virnucpro.md names the test of every fault; those that no other file has are here.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import store
from store.store import Store
from tests import rows
from tests.vnp.sequence import slow_rules
from vnp.cli.main import main
from vnp.inference.load import load_encoder

ROOT = Path(__file__).parents[2]


def test_no_sequence_is_lost_or_duplicated(tmp_path: Path) -> None:
    """Ids of the store against the rules applied one string at a time, blocks of an odd size."""
    generator = np.random.default_rng(11)
    codons = ("ATGGCC", "GATACC", "GCAAAG", "AACGTC", "TAACTA")
    contigs = {
        f"c{n}": "".join(generator.choice(codons, int(size), p=(0.24, 0.24, 0.24, 0.24, 0.04)))
        for n, size in enumerate(generator.integers(1, 400, 60))
    }
    path, fasta = tmp_path / "run.zarr", tmp_path / "in.fa"
    fasta.write_text("".join(f">{name}\n{text}\n" for name, text in contigs.items()))
    assert main(["init", str(path), "--recipe", "demo", "--block-rows", "7"]) == 0
    assert main(["append", str(path), str(fasta)]) == 0
    expected = [
        record["id"]
        for name, text in contigs.items()
        for record in slow_rules.records(name, text, 500)
    ]
    assert store.open(path).column("id").decode() == expected
    assert len(set(expected)) == len(expected) > 50


def test_ids_and_rows_stay_together_when_one_model_lacks_rows(tmp_path: Path) -> None:
    opened = rows.filled_store(tmp_path / "run.zarr", rows=100, block_rows=16)
    opened.reopen("wide", 2)
    view = opened.merged()
    assert view.shape[0] == len(opened.column("id")) == 100
    small, wide = rows.expected(opened, "small"), rows.expected(opened, "wide")
    gap = np.arange(32, 48)
    kept = np.setdiff1d(np.arange(100), gap)
    np.testing.assert_array_equal(view[kept], np.hstack([small, wide])[kept])
    np.testing.assert_array_equal(view[gap, :8], small[gap])
    assert np.isnan(view[gap, 8:]).all()
    assert np.flatnonzero(~view.filled).tolist() == gap.tolist()


@pytest.mark.parametrize("n", [1, 15, 16, 17, 33])
def test_the_merged_tail_is_whole(tmp_path: Path, n: int) -> None:
    opened: Store = store.create(
        tmp_path / "run.zarr", models=rows.MODELS, segment_length=500, block_rows=16
    )
    rows.append(opened, "first", n)
    for model in rows.MODELS:
        for block in range(opened.n_blocks):
            rows.publish(opened, model.name, block)
    merged = np.hstack([rows.expected(opened, model.name) for model in rows.MODELS])
    np.testing.assert_array_equal(opened.merged()[:], merged)
    assert opened.merged().filled.all()


@pytest.mark.parametrize("left", [0, 1, -1])
def test_a_file_that_is_there_is_not_taken_for_complete(tmp_path: Path, left: int) -> None:
    opened = rows.filled_store(tmp_path / "run.zarr", rows=40, block_rows=16)
    chunk, _ = opened.values_file("small", 1)
    chunk.write_bytes(chunk.read_bytes()[:left])
    certification = opened.certify("small")
    assert not certification.complete
    assert [block for block, _ in certification.failed] == [1]
    assert opened.certify("wide").complete


@pytest.mark.parametrize("name", ["demo_dnabert_s", "demo_esm2"])
def test_a_sequence_over_the_token_budget_is_embedded_all_the_same(name: str) -> None:
    nucleotide = rows.from_items([b"ACGTTGCA" * n for n in (3, 200, 5)])
    protein = rows.from_items([b"MKVLLAGE" * n for n in (3, 80, 5)])
    found = []
    for budget in (20, 100_000):
        encoder = load_encoder(
            name, device="cpu", precision="float32", threads=1, token_budget=budget
        )
        tokens = encoder.tokenise(nucleotide, protein)
        assert tokens.lengths.max() > 20
        found.append(encoder.embed(tokens))
    assert np.isfinite(found[0]).all()
    np.testing.assert_allclose(found[0], found[1], atol=2e-4)


def test_the_tests_named_in_the_document_exist() -> None:
    text = (ROOT / "docs" / "virnucpro.md").read_text()
    named = set(re.findall(r"`([\w/]+/test_\w+)\.py::(test_\w+)`", text))
    assert len(named) >= 15
    for file, name in sorted(named):
        source = (ROOT / "tests" / f"{file}.py").read_text()
        assert re.search(rf"^\s*def {name}\(", source, re.MULTILINE), f"{file}.py::{name}"
