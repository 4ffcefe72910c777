"""The index of digests finds what reading all of them finds, reads little, and survives all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store import digest_index, digest_runs
from store.digest_index import runs_to_merge
from store.digest_runs import RunDamageError, RunReader, entries_of, merged, write_run
from store.io.files import WriteError
from store.open import create_store, open_store
from store.rows import RowBatch
from store.schema import Schema
from store.store import Store
from tests.rows import MODELS, batch, commit
from tests.store.faulty_backend import Stopped
from tests.store.memory_backend import MemoryBackend
from tests.test_format1 import DATA
from tools.bench_scale import _batch, _read_bytes
from tools.synthetic_store import make_store


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages, runs and parts of few entries, so that there are many of each."""
    monkeypatch.setattr(digest_runs, "PAGE", 4)
    monkeypatch.setattr(digest_runs, "_PAGES_AT_ONCE", 3)
    monkeypatch.setattr(digest_index, "_AT_ONCE", 11)
    monkeypatch.setattr(digest_index, "_ALWAYS_MERGED", 8)
    monkeypatch.setattr(digest_index, "_LARGEST_MERGE", 40)


def append_rows(store: Store, name: str, numbers: list[int]) -> None:
    """Append a sample whose rows have the sequences of these numbers."""
    with store.appending() as appending:
        for number in numbers:
            appending.write(batch("x", number, 1))
        commit(appending, name, len(numbers))


def assert_duplicates(store: Store, numbers: list[int]) -> None:
    """Each row's duplicate is the first row of the same number."""
    first: dict[int, int] = {}
    wanted = []
    for row, number in enumerate(numbers):
        wanted.append(first.get(number, -1))
        first.setdefault(number, row)
    assert np.asarray(store.column("twin")).tolist() == wanted


def new(path: Path) -> Store:
    return create_store(path, models=MODELS, segment_length=500, block_rows=16)


def new_in_memory(path: Path) -> Store:
    return Store(MemoryBackend.new(path, Schema(block_rows=16, segment_length=500)))


def again(store: Store) -> Store:
    return Store(MemoryBackend.open(store.path))


SAMPLES = [[1, 2, 3], [4, 1], [5] * 3, list(range(30)), [2, 31, 31], [32], [0, 7, 33], [34, 4]]
NUMBERS = [number for sample in SAMPLES for number in sample]


def test_repeats_of_every_earlier_append_are_found(small: None, tmp_path: Path) -> None:
    store = new(tmp_path / "run.zarr")
    for number, sample in enumerate(SAMPLES):
        append_rows(store, f"s{number}", sample)
    assert_duplicates(store, NUMBERS)
    assert [sample.repeats for sample in store.schema.samples] == [0, 1, 2, 5, 2, 0, 2, 1]
    assert store.schema.repeats == 13


def test_a_store_without_an_index_gets_one(small: None, tmp_path: Path) -> None:
    """As one of an earlier version has none, or one whose side directory was removed."""
    store = new(tmp_path / "run.zarr")
    for number, sample in enumerate(SAMPLES):
        append_rows(store, f"s{number}", sample)
        shutil.rmtree(store.sidecar.digests)
    assert_duplicates(store, NUMBERS)


@pytest.mark.parametrize("kind", ["zarr", "h5"])
def test_a_store_of_format_1_grows_in_format_1(kind: str, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(DATA / f"{kind}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    store = open_store(tmp_path / f"run.{kind}")
    rows = store.n_rows
    dna, protein = store.column("nucleotide", 3, 5), store.column("protein", 3, 5)
    with store.appending() as appending:
        old = batch("x", 0, 2)
        fields = {name: getattr(old, name) for name in RowBatch.__dataclass_fields__}
        appending.write(RowBatch(**{**fields, "nucleotide": dna, "protein": protein}))
        commit(appending, "more", 2)
    assert np.asarray(store.column("twin", rows)).tolist() == [3, 4]
    assert isinstance(open_store(store.path).schema.samples, tuple)
    assert [sample.name for sample in store.schema.samples][-1] == "more"


STEPS = [("write_run", digest_index), ("publish_replace", digest_index), ("names_in", digest_index)]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("error", [Stopped, WriteError])
def test_whoever_is_stopped_anywhere_finds_all_repeats_next(
    small: None, tmp_path: Path, after: bool, error: type[BaseException]
) -> None:
    """Every write of the index fails, or is the last before a kill, in every append in turn."""
    for at in count():
        store = new_in_memory(tmp_path / f"{at}.memory")
        came = append_disturbed(store, at, after, error)
        assert_duplicates(again(store), NUMBERS[:42])
        if not came:
            break
    assert at > 15


def append_disturbed(store: Store, at: int, after: bool, error: type[BaseException]) -> bool:
    calls = [0]

    def disturb(work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            here = calls[0] == at
            calls[0] += 1
            if here and not after:
                raise error("before")
            result = work(*arguments, **options)
            if here:
                raise error("after")
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name, module in STEPS:
            patch.setattr(module, name, disturb(getattr(module, name)))
        for number, sample in enumerate(SAMPLES[:6]):
            try:
                append_rows(store, f"s{number}", sample)
            except (Stopped, WriteError):
                store = again(store)
                if store.schema.sample(f"s{number}") is None:
                    append_rows(store, f"s{number}", sample)
    return calls[0] > at


@pytest.mark.parametrize("how", ["missing", "empty", "flipped", "short", "of another store"])
def test_a_damaged_file_of_the_index_is_made_again(small: None, tmp_path: Path, how: str) -> None:
    other = new_in_memory(tmp_path / "other.memory")
    append_rows(other, "s0", [90, 91, 92])
    for number in count():
        store = new_in_memory(tmp_path / f"{number}.memory")
        for each, sample in enumerate(SAMPLES[:-1]):
            append_rows(store, f"s{each}", sample)
        files = sorted(store.sidecar.digests.iterdir())
        if number == len(files):
            break
        damage(files[number], how, other.sidecar.digests / files[number].name)
        append_rows(again(store), "last", SAMPLES[-1])
        assert_duplicates(again(store), NUMBERS)
    assert number > 2


def damage(file: Path, how: str, others: Path) -> None:
    content = file.read_bytes()
    if how == "missing":
        file.unlink()
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "short":
        file.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        file.write_bytes(bytes(byte ^ 1 for byte in content))
    elif others.exists():
        shutil.copy(others, file)


def test_an_index_left_beside_a_store_made_anew_is_not_believed(
    small: None, tmp_path: Path
) -> None:
    store = new(tmp_path / "run.zarr")
    append_rows(store, "s0", [1, 2, 3])
    append_rows(store, "s1", [4, 5])
    shutil.rmtree(store.path)
    store = new(store.path)
    append_rows(store, "s0", [5, 1, 9])  # as many rows under the same name
    append_rows(store, "s1", [3, 5])
    assert_duplicates(store, [5, 1, 9, 3, 5])


def test_an_index_ahead_of_a_store_restored_from_a_copy_is_not_believed(
    small: None, tmp_path: Path
) -> None:
    store = new(tmp_path / "run.zarr")
    append_rows(store, "s0", [1, 2, 3])
    shutil.copytree(store.path, tmp_path / "copy")
    append_rows(store, "s1", [4, 5, 6])
    shutil.rmtree(store.path)
    (tmp_path / "copy").rename(store.path)
    append_rows(open_store(store.path), "s1", [7, 8, 9])
    append_rows(open_store(store.path), "s2", [4, 8, 1])
    assert_duplicates(open_store(store.path), [1, 2, 3, 7, 8, 9, 4, 8, 1])


def test_keys_that_agree_in_64_bits_are_told_apart(small: None, tmp_path: Path) -> None:
    """The index knows first halves only; the store's digests decide."""
    store = new(tmp_path / "run.zarr")
    with pytest.MonkeyPatch.context() as patch:
        from store import duplicates

        whole = duplicates.sequence_digests

        def halved(nucleotide: Any, protein: Any) -> Any:
            digests = whole(nucleotide, protein)
            digests[:, 0] %= 3
            return digests

        patch.setattr(duplicates, "sequence_digests", halved)
        for number, sample in enumerate(SAMPLES):
            append_rows(store, f"s{number}", sample)
    assert_duplicates(store, NUMBERS)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    keys=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=50), min_size=1, max_size=4),
    wanted=st.sets(st.integers(0, 45), min_size=1),
)
def test_a_merged_run_has_every_entry(
    keys: list[list[int]], wanted: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digest_runs, "PAGE", 4)
        patch.setattr(digest_runs, "_PAGES_AT_ONCE", 2)
        runs, pairs = [], []
        for number, each in enumerate(keys):
            rows = np.arange(len(each)) + 100 * number
            pairs += list(zip(each, rows.tolist(), strict=True))
            entries = entries_of(np.array(each, np.uint64), rows)
            path = folder / f"run-{number}"
            runs.append((path, write_run(path, [entries], tmp_dir=folder)))
        path = folder / "run-9"
        run = write_run(path, merged(runs), tmp_dir=folder)
        assert run.entries == len(pairs)
        with RunReader(path, run) as reader:
            found = reader.rows_of(np.array(sorted(wanted), np.uint64))
            entries = np.concatenate(list(reader.parts()))
        assert (np.diff(entries["key"].astype(np.int64)) >= 0).all()
        assert sorted(found.tolist()) == sorted(row for key, row in pairs if key in wanted)


def test_a_flipped_bit_is_never_an_entry(tmp_path: Path) -> None:
    keys = np.arange(5000, dtype=np.uint64)
    path = tmp_path / "run-0"
    run = write_run(path, [entries_of(keys, np.arange(5000))], tmp_dir=tmp_path)
    content = path.read_bytes()
    for at in (0, 40_000, len(content) - 1):  # in two pages and in the fences
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(RunDamageError), RunReader(path, run) as reader:
            reader.rows_of(keys)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(sizes=st.lists(st.integers(1, 10_000), min_size=1, max_size=400))
def test_runs_stay_few_and_merges_small(sizes: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digest_index, "_ALWAYS_MERGED", 64)
        patch.setattr(digest_index, "_LARGEST_MERGE", 1000)
        runs: list[int] = []
        for size in sizes:
            runs.append(size)
            merge = runs_to_merge(runs)
            assert merge >= 1
            total = sum(runs[-merge:])
            assert merge == 1 or total <= max(1000, sum(runs) // 8)
            runs[-merge:] = [total]
        assert sum(runs) == sum(sizes)
        # Two runs side by side are too large to be merged, or fall by more than half.
        assert len(runs) <= 80


def test_an_append_reads_as_little_from_a_large_store(tmp_path: Path) -> None:
    """Of 4 million rows, whose digests take 64 MB, as much as of half a million."""
    read = []
    for rows in (500_000, 4_000_000):
        store = make_store(
            tmp_path / f"{rows}.zarr", rows=rows, samples=50, workers=0, filled=0.1, digests=True
        )
        records = _batch(12, seed=rows)
        before = _read_bytes()
        with store.appending() as appending:
            appending.write(records)
            commit(appending, "new", 12)
        read.append(_read_bytes() - before)
    assert max(read) < 8e6
    assert abs(read[1] - read[0]) < 3e6


def test_rows_that_repeat_are_read_a_chunk_each(small: None, tmp_path: Path) -> None:
    """What an append reads of the digest columns are the chunks of the rows it may repeat."""
    store = new(tmp_path / "run.h5")  # its chunks are blocks of 16 rows
    append_rows(store, "s0", list(range(160)))
    read: list[tuple[str, int]] = []
    backend = type(store._backend)
    whole = backend.read_column

    def counted(self: Any, name: str, chunk: int, rows: int) -> Any:
        read.append((name, chunk))
        return whole(self, name, chunk, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "read_column", counted)
        append_rows(store, "s1", [20, 21, 500, 100])
    assert set(read) == {(name, chunk) for name in ("digest", "digest_low") for chunk in (1, 6)}
    assert_duplicates(store, [*range(160), 20, 21, 500, 100])


def test_an_index_that_cannot_be_written_does_not_stop_an_append(
    small: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = new(tmp_path / "run.zarr")

    def full(*_: Any, **__: Any) -> None:
        raise WriteError("the disk is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digest_index, "write_run", full)
        append_rows(store, "s0", [1, 2, 1])
    assert "the next append does it" in caplog.text
    append_rows(store, "s1", [2, 3])
    assert_duplicates(store, [1, 2, 1, 2, 3])


def test_a_folder_in_the_place_of_a_run_does_not_stop_an_append(
    small: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = new(tmp_path / "run.zarr")
    append_rows(store, "s0", [1, 2, 1])
    for file in store.sidecar.digests.glob("run-*"):
        file.unlink()
    for number in range(4):
        (store.sidecar.digests / f"run-{number}").mkdir()
    append_rows(store, "s1", [2, 3])
    assert "without an index all digests are read" in caplog.text
    assert_duplicates(store, [1, 2, 1, 2, 3])
