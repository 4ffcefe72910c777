"""Names that may have been meant."""

from __future__ import annotations

import pytest

from store.errors import UsageError
from store.io.words import first_few, nearest, not_held
from store.schema import Model, Schema


@pytest.mark.parametrize(
    ("word", "known", "near"),
    [
        ("demo_esm", ["demo_dnabert_s", "demo_esm2"], "demo_esm2"),
        ("esm2", ["hf_esm2", "esm2_3b"], "esm2_3b"),
        ("esmc_650m", ["esm2_650m", "esmc_600m"], "esmc_600m"),
        ("ems2_3b", ["dnabert_s", "esm2_3b"], "esm2_3b"),
    ],
)
def test_the_nearest_name(word: str, known: list[str], near: str) -> None:
    assert nearest(word, known) == f"did you mean {near}?"


def test_nothing_is_near() -> None:
    assert nearest("nope", ["demo_esm2"]) == ""
    assert nearest("", ["demo_esm2"]) == ""
    assert nearest("esm", []) == ""


def test_a_store_asks_whether_it_was_meant() -> None:
    schema = Schema(block_rows=16, segment_length=500, models=(Model("demo_esm2", 8),))
    with pytest.raises(UsageError, match=r"'demo_esm' .*demo_esm2\); did you mean demo_esm2\?"):
        schema.model("demo_esm")


def test_a_store_asks_so_for_every_kind_of_name() -> None:
    names = [f"s{number}" for number in range(12)]
    assert not_held("scores", "dmeo", ["demo"]) == (
        "the store has no scores 'dmeo' (it has: demo); did you mean demo?"
    )
    assert not_held("sample", "x", names).endswith(f"{', '.join(names[:10])} and 2 more)")
    assert first_few([]) == "none"
    with pytest.raises(UsageError, match=r"no sample 'x' \(it has: none\)$"):
        Schema(block_rows=16, segment_length=500).held_sample("x")
