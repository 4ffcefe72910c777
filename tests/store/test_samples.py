"""Samples as an array of the tree (format 3): a root of one size, reads of what is asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import xarray

from store import counts, samples
from store.errors import DamageError, NotAStoreError, SampleExistsError
from store.findings import Kind
from store.geometry import tails
from store.io.ragged import from_items
from store.layout import samples_column
from store.open import create_store, open_store
from store.samples import Sample, StoredSamples, chained
from store.schema import Schema, _checksum, from_attribute, to_attribute
from store.store import Store
from store.zarr.backend import SampleChunks
from tests.processes import in_another_process
from tests.rows import MODELS, append, expected, publish
from tools.synthetic_store import make_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return create_store(tmp_path / "run.zarr", models=MODELS, segment_length=500, block_rows=16)


def sample(number: int) -> Sample:
    rows = 10 * number
    return Sample(
        f"s{number}", rows, rows + 10, 1, 0, 2, 500, 1, f"content {number}", "", "a.fa", "now"
    )


def root(store: Store) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((store.path / "zarr.json").read_text())
    return found


@pytest.fixture
def read_chunks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the chunks of samples that are read."""
    read: list[int] = []
    whole = SampleChunks.__call__

    def counted(self: SampleChunks, chunk: int) -> Any:
        read.append(chunk)
        return whole(self, chunk)

    monkeypatch.setattr(SampleChunks, "__call__", counted)
    return read


def test_the_root_is_as_large_for_ten_thousand_samples(tmp_path: Path) -> None:
    sizes = []
    for count in (100, 10_000):
        made = make_store(
            tmp_path / f"{count}.zarr", rows=100_000, samples=count, workers=0, filled=0.0
        )
        sizes.append((made.path / "zarr.json").stat().st_size)
        assert len(made.schema.samples) == count
    assert abs(sizes[1] - sizes[0]) < 200  # digits
    assert sizes[1] < 20_000


def test_opening_and_status_read_no_samples(tmp_path: Path, read_chunks: list[int]) -> None:
    path = tmp_path / "run.zarr"
    make_store(path, rows=100_000, samples=5000, workers=0, filled=0.5)
    read_chunks.clear()
    store = open_store(path)
    assert (store.n_rows, len(store.schema.samples), store.schema.repeats) == (100_000, 5000, 0)
    store.open_blocks("esm2_3b")
    assert not store.refresh()
    assert read_chunks == []
    assert store.schema.samples[-1].name == "sample_4999"
    assert store.schema.samples[4990].start == 99_800
    assert read_chunks == [4]


def test_an_append_writes_one_chunk_of_samples(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "SAMPLES_CHUNK", 3)
    monkeypatch.setattr("store.layout.SAMPLES_CHUNK", 3)
    monkeypatch.setattr("store.layout._CATEGORY_CHUNK", 2)
    path = store.path.with_name("small_chunks.zarr")
    store = create_store(path, models=MODELS, segment_length=500, block_rows=16)
    folder = store.path / "obs" / "vnp_samples"
    written: list[set[str]] = []
    for number in range(8):
        before = {path.name: path.stat().st_ino for path in folder.glob("c.*")}
        append(store, f"s{number}", 3)
        after = {path.name: path.stat().st_ino for path in folder.glob("c.*")}
        written.append({name for name in after if after[name] != before.get(name)})
    assert written == [{f"c.{number // 3}"} for number in range(8)]
    assert [each.name for each in open_store(store.path).schema.samples] == [
        f"s{number}" for number in range(8)
    ]
    assert list(store.verify()) == []
    assert anndata.read_zarr(store.path).obs["sample"].tolist() == [
        f"s{number}" for number in range(8) for _ in range(3)
    ]


def samples_of(store: Store) -> list[Sample]:
    return list(store.schema.samples)


def test_samples_are_a_sequence(store: Store) -> None:
    for number in range(3):
        append(store, f"s{number}", 5)
    found = open_store(store.path).schema.samples
    assert isinstance(found, StoredSamples)
    assert [each.name for each in found] == ["s0", "s1", "s2"]
    assert [each.name for each in found[1:]] == ["s1", "s2"]
    assert found[-1] == found[2] == store.schema.sample("s2")
    assert found == store.schema.samples
    assert found == tuple(found)
    assert tuple(found) == found
    assert hash(found) == hash(tuple(found))
    assert found != tuple(found)[1:]
    assert found != open_store(store.path).schema.samples.with_sample(replace(found[0], stop=20))
    assert found[0] in found
    with pytest.raises(IndexError):
        found[3]
    assert in_another_process(samples_of, open_store(store.path)) == list(found)
    assert store.schema.sample_with("content", "content of s1") == found[1]
    assert store.schema.sample_with("content", '","content":"content of s1') is None


def test_a_name_and_a_content_are_found_in_any_chunk(
    tmp_path: Path, read_chunks: list[int]
) -> None:
    store = make_store(tmp_path / "run.zarr", rows=9000, samples=3000, workers=0, filled=0.0)
    with pytest.raises(SampleExistsError, match="named sample_1500"):
        store.schema.with_sample(replace(sample(900), name="sample_1500"))
    found = store.schema.sample_with("content", f"{2999:064x}")
    assert found is not None
    assert found.name == "sample_2999"
    assert store.schema.sample("sample_150") != store.schema.sample("sample_1500")
    assert sorted(set(read_chunks)) == [0, 1, 2]
    assert len(read_chunks) == 3  # they are kept


def stored(count: int, *, held: int, change: Any = None) -> StoredSamples:
    """Samples of which the tree has ``held``, one of them changed."""
    made = [sample(number) for number in range(count)]
    chain = ""
    for each in made:
        chain = chained(chain, each.to_text())
    texts = [each.to_text() for each in made[:held]]
    if change is not None:
        texts[1] = change(texts[1])
    return StoredSamples(
        count=count,
        rows=10 * count,
        repeats=count,
        chain=chain,
        added=tuple(made[held:]),
        read=lambda chunk: from_items(texts[1024 * chunk : 1024 * (chunk + 1)]),
    )


def test_samples_that_the_tree_has_not_yet_are_there() -> None:
    found = stored(5, held=3)
    assert [each.name for each in found] == [f"s{number}" for number in range(5)]
    assert found.texts(0).tolist() == [sample(number).to_text() for number in range(5)]
    assert found.find("name", "s4") == sample(4)
    found.check()
    assert found.with_sample(sample(5)) == stored(6, held=6)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"",
        lambda text: text[:-1],
        lambda text: b"[]",
        lambda text: text.replace(b'"stop":20', b'"stop":2000'),
        lambda text: text.replace(b'"stop":20', b'"stop":"20"'),
        lambda text: text.replace(b'"stop":20', b'"stop":5'),
        lambda text: text.replace(b'"name":"s1"', b'"name":"../s1"'),
        lambda text: text.replace(b'"contigs":1', b'"contigs":-1'),
        lambda text: text.replace(b'"contigs":1,', b""),
    ],
)
def test_a_sample_that_none_can_be_is_damage(change: Any) -> None:
    found = stored(3, held=3, change=change)
    with pytest.raises(DamageError, match="sample 1 is unreadable"):
        found[1]
    assert found[0] == sample(0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace(b'"bases":500', b'"bases":501'), "not those of the last commit"),
        (lambda text: text.replace(b'"start":10', b'"start":11'), "begin at 11, not 10"),
    ],
)
def test_samples_of_another_commit_are_found_by_checking(change: Any, said: str) -> None:
    with pytest.raises(DamageError, match=said):
        stored(3, held=3, change=change).check()


def test_a_chunk_with_too_few_samples_is_damage() -> None:
    found = stored(3, held=3)
    short = StoredSamples(count=9, rows=90, chain=found.chain, read=lambda _: found.texts(0))
    with pytest.raises(DamageError, match="short"):
        short[0]


def test_damaged_samples_are_named_by_verify(store: Store) -> None:
    append(store, "a", 5)
    chunk = store.path / "obs/vnp_samples/c.0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    damaged = open_store(store.path)
    findings = list(damaged.verify())
    assert findings[0].path == "obs/vnp_samples/c.0"
    assert findings[0].kind is Kind.DAMAGED
    with pytest.raises(DamageError, match="obs/vnp_samples/c.0: checksum"):
        damaged.schema.samples[0]
    chunk.unlink()
    with pytest.raises(DamageError, match="missing"):
        open_store(store.path).schema.sample("a")


def test_samples_left_by_a_killed_commit_are_not_there(store: Store) -> None:
    """The chunk of a commit that never came to its root holds one sample more."""
    append(store, "a", 5)
    other = store.path.with_name("other.zarr")
    other = create_store(other, models=MODELS, segment_length=500, block_rows=16)
    append(other, "a", 5)
    append(other, "b", 5)
    (store.path / "obs/vnp_samples/c.0").write_bytes(
        (other.path / "obs/vnp_samples/c.0").read_bytes()
    )
    found = open_store(store.path)
    assert len(list(found.schema.samples)) == 1
    assert found.schema.sample("b") is None
    append(found, "b", 7)
    assert [each.stop for each in open_store(store.path).schema.samples] == [5, 12]


# -- the root attribute ---------------------------------------------------------------------------


def attribute(change: Any) -> dict[str, Any]:
    schema = Schema(block_rows=16, segment_length=500, models=MODELS, samples=stored(3, held=3))
    value: dict[str, Any] = json.loads(json.dumps(to_attribute(schema)))
    del value["crc32c"]
    change(value)
    return {**value, "crc32c": _checksum(value)}


def read(value: dict[str, Any]) -> Schema:
    return from_attribute(value, where="x", read_samples=lambda _: from_items([]))


def test_format_3_is_read_where_there_is_an_array() -> None:
    assert read(attribute(lambda _: None)).n_rows == 30
    coded = attribute(lambda value: value.update(genetic_code=4))
    assert read(coded).genetic_code == 4
    with pytest.raises(NotAStoreError, match="not of such stores"):
        from_attribute(attribute(lambda _: None), where="x")


@pytest.mark.parametrize("found", [True, 1.0, "1", None, [], {}, 10**30, -1, float("nan")])
@pytest.mark.parametrize("name", ["count", "rows", "repeats", "chain", "tails", "tail"])
def test_a_value_of_another_type_or_size_is_refused(name: str, found: Any) -> None:
    def change(value: dict[str, Any]) -> None:
        if name == "tails":
            value["tails"] = found if found != [] else [{}]
        elif name == "tail":
            value["tails"] = [found]
        else:
            value["samples"][name] = found

    with pytest.raises(NotAStoreError, match="wrong form") as refused:
        read(attribute(change))
    assert len(str(refused.value)) < 250


# -- tails ----------------------------------------------------------------------------------------


def test_few_flags_are_read_whatever_was_a_tail_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "_TAILS", 3)
    for number in range(12):
        append(store, f"s{number}", 17)  # each ends inside a block
        for block in store.open_blocks("small").tolist():
            publish(store, "small", block)
    assert len(tails(store.schema)) <= 4
    read: list[int] = []
    whole = type(store._backend).read

    def counted(self: Any, cell: Any) -> Any:
        read.append(cell.block)
        return whole(self, cell)

    monkeypatch.setattr(type(store._backend), "read", counted)
    assert int(store.rows_filled("small").sum()) == store.n_rows == 204
    assert len(read) <= 4
    assert store.certify("small").complete


def test_a_tail_that_stays_filled_in_part_is_never_forgotten(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "_TAILS", 2)
    append(store, "first", 20)
    publish(store, "small", 1)  # 4 of 16 rows, and nobody comes back
    for number in range(10):
        append(store, f"s{number}", 17)
    assert 1 in tails(store.schema)
    assert store.rows_filled("small")[1] == 4
    assert 1 in store.open_blocks("small")
    assert store.filled("small", 14, 24).tolist() == [False] * 2 + [True] * 4 + [False] * 4
    publish(store, "small", 1)
    append(store, "last", 17)
    assert 1 not in tails(store.schema)
    assert store.is_filled("small", 1)


def test_filled_is_told_by_range(store: Store) -> None:
    append(store, "a", 40)
    publish(store, "small", 1)
    publish(store, "small", 2)
    whole = np.arange(40) >= 16
    for start in range(-41, 42, 3):
        for stop in (None, *range(-41, 42, 5)):
            np.testing.assert_array_equal(store.filled("small", start, stop), whole[start:stop])
    np.testing.assert_array_equal(store["small"].filled, whole)
    np.testing.assert_array_equal(store.read("small")[16:], expected(store, "small")[16:])


# -- other programs -------------------------------------------------------------------------------


def test_other_programs_pass_the_samples_over(store: Store) -> None:
    append(store, "a", 20)
    data = anndata.read_zarr(store.path)
    assert "vnp_samples" not in data.obs
    assert "vnp_samples" not in data.uns
    obs = xarray.open_zarr(store.path, group="obs")
    texts = obs["vnp_samples"].values.tolist()
    assert [json.loads(text)["name"] for text in texts] == ["a"]
    assert samples_column(store.schema).shape == (1,)
