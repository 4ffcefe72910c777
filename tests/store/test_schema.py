"""Every field of a schema has one type and a bound: a store is an untrusted file."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from store.certificate import Certificate, parse_certificate
from store.claims.heartbeat import parse_beat
from store.claims.process import identify, is_gone
from store.errors import DamageError, NotAStoreError, UsageError
from store.open import create_store, open_store
from store.schema import Model, Sample, Schema, _checksum, from_attribute, to_attribute
from store.zarr.metadata import documents
from tests.rows import MODELS, filled_store
from vnp.cli.main import main


def attribute(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """A valid schema with one change, and a checksum that agrees."""
    sample = Sample("a", 0, 40, 4, 0, 40, 20_000, 0, "sha256:1", "", "a.fa", "2026-01-01")
    schema = Schema(block_rows=16, segment_length=500, models=MODELS, samples=(sample,))
    value = json.loads(json.dumps(to_attribute(schema)))
    value["scores"] = [{"name": "phage", "rows": 40, "digest": "sha256:1", "made": "2026-01-01"}]
    del value["crc32c"]
    change(value)
    return {**value, "crc32c": _checksum(value)}


def test_the_unchanged_one_is_read() -> None:
    assert from_attribute(attribute(lambda _: None), where="x").n_rows == 40


@pytest.mark.parametrize("format_", [True, 1.0, "1", None, [1], 10**30, -1, "1" * 10_000])
def test_only_the_number_one_is_format_one(format_: object) -> None:
    value = attribute(lambda found: found.update(format=format_))
    with pytest.raises(NotAStoreError, match="store format") as refused:
        from_attribute(value, where="x")
    assert len(str(refused.value)) < 250


NUMBERS = [
    ("block_rows",),
    ("segment_length",),
    ("models", 0, "dim"),
    ("samples", 0, "start"),
    ("samples", 0, "stop"),
    ("samples", 0, "contigs"),
    ("samples", 0, "contigs_without_records"),
    ("samples", 0, "segments"),
    ("samples", 0, "bases"),
    ("samples", 0, "repeats"),
    ("samples", 0, "uracils"),
    ("scores", 0, "rows"),
]


@pytest.mark.parametrize("found", [True, 1.0, "1", None, [], {}, 10**18, 10**30, -1, float("nan")])
@pytest.mark.parametrize("where", NUMBERS)
def test_a_number_of_another_type_or_size_is_refused(where: tuple[Any, ...], found: Any) -> None:
    if where[0] == "samples" and where[-1] not in ("start", "stop") and found == 10**18:
        found = 10**19  # 10**18 bases are many, and cost nothing

    def change(value: dict[str, Any]) -> None:
        node = value
        for key in where[:-1]:
            node = node[key]
        node[where[-1]] = found

    with pytest.raises(NotAStoreError, match="wrong form") as refused:
        from_attribute(attribute(change), where="x")
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize("found", [True, 1, None, {}, "", {"name": "small", "dim": 8}])
@pytest.mark.parametrize("where", ["models", "samples", "scores"])
def test_what_is_not_a_list_is_refused(where: str, found: Any) -> None:
    with pytest.raises(NotAStoreError, match="wrong form"):
        from_attribute(attribute(lambda value: value.update({where: found})), where="x")


def test_a_block_that_no_machine_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fewer rows a block"):
        create_store(
            tmp_path / "run.zarr",
            models=[Model("big", 1 << 20)],
            segment_length=500,
            block_rows=1 << 20,
        )
    assert not (tmp_path / "run.zarr").exists()


def test_rows_that_are_nowhere_cost_no_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A root that claims as many rows as a schema may, over the files of forty."""
    store = filled_store(tmp_path / "run.zarr", rows=40)
    samples = store.schema.samples
    sample = Sample("vast", 40, (1 << 27) * 16, 4, 0, 40, 1, 0, "sha256:2", "", "a.fa", "")
    vast = Schema(16, 500, MODELS, (*samples, sample))
    (store.path / "zarr.json").write_bytes(documents(vast)["zarr.json"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for command in ("status", "verify", "doctor"):
        assert main([command, str(store.path)]) == 1
    with pytest.raises(NotAStoreError, match="it is damaged"):
        open_store(store.path)
    said = capsys.readouterr()
    assert "2,147,483,648 rows" in said.err
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB; torch alone


@pytest.mark.parametrize(
    ("field", "found"),
    [("rows", True), ("rows", 16.0), ("rows", "16"), ("epoch", None), ("crc32c", 7)],
)
def test_a_certificate_of_another_form_is_damage(field: str, found: Any) -> None:
    whole = Certificate(16, "00000000", "0" * 32, 1, "", {})
    assert parse_certificate(whole.to_json()) == whole
    with pytest.raises(DamageError, match="unreadable"):
        parse_certificate(json.dumps({**json.loads(whole.to_json()), field: found}).encode())


@pytest.mark.parametrize("number", [True, 1.0, "1", -1, 0, None, 10**30])
def test_absurd_numbers_in_claims_and_heartbeats_are_no_numbers(number: Any) -> None:
    worker = "a" * 32
    identity = {"host": "h", "pid": number, "started": number}
    beat = {"worker": worker, "counter": number, "progress": number, "identity": identity}
    found = parse_beat(worker, json.dumps(beat).encode())
    assert found is not None
    assert type(found.counter) is int
    assert found.progress == {}
    if found.identity is not None:  # a process that cannot exist, or be here
        assert is_gone(found.identity, me=identify()) in (True, False)
