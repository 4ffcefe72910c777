"""What every backend of the store must do; each backend's test class inherits it.

``raw_get`` and ``raw_set`` reach a block's chunk without the code under test, and
``raw_provenance`` the place of a model's provenance.
"""

from __future__ import annotations

import abc
import os
from pathlib import Path

import numpy as np
import pytest

from store import ranges
from store.claims.claims import APPEND
from store.errors import (
    BusyError,
    ClaimLostError,
    DamageError,
    DataError,
    NotAStoreError,
    SampleExistsError,
    UsageError,
)
from store.io.ragged import Ragged
from store.open import create_store, open_store
from store.schema import Model
from store.store import Store
from tests.rows import (
    MODELS,
    HeldClaim,
    append,
    batch,
    commit,
    embeddings,
    expected,
    nucleotide,
    publish,
)


class StoreConformance(abc.ABC):
    R = 16

    suffix: str  # of the backend's stores

    def new(self, path: Path) -> Store:
        return create_store(path, models=MODELS, segment_length=500, block_rows=self.R)

    def open(self, path: Path) -> Store:
        return open_store(path)

    def reopen(self, store: Store) -> Store:
        return self.open(store.path)

    @abc.abstractmethod
    def raw_get(self, store: Store, model: str, block: int) -> np.ndarray: ...

    @abc.abstractmethod
    def raw_set(self, store: Store, model: str, block: int, rows: np.ndarray) -> None: ...

    @abc.abstractmethod
    def raw_provenance(self, store: Store, model: str, *, vanish: bool) -> str:
        """Remove a provenance, or zero its bytes; return the path verify must name."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return self.new(tmp_path / f"run{self.suffix}")

    # -- create and append ------------------------------------------------------------------

    def test_a_new_store_is_empty_and_whole(self, store: Store) -> None:
        assert (store.n_rows, store.n_blocks) == (0, 0)
        assert [model.name for model in store.schema.models] == ["small", "wide"]
        assert store.read("small").shape == (0, 8)
        assert store.certify("small").complete
        assert list(store.verify()) == []

    def test_create_refuses_an_existing_path(self, store: Store) -> None:
        with pytest.raises(UsageError, match="exists already"):
            self.new(store.path)

    def test_open_refuses_what_is_no_store(self, tmp_path: Path) -> None:
        with pytest.raises(NotAStoreError, match="vnp init"):
            self.open(tmp_path / f"nothing{self.suffix}")

    @pytest.mark.parametrize("sizes", [[1], [16], [17, 15], [5, 5, 5, 5, 60], [40, 0, 9]])
    def test_rows_come_back_as_appended(self, store: Store, sizes: list[int]) -> None:
        for number, size in enumerate(sizes):
            append(store, f"s{number}", size)
        store = self.reopen(store)
        assert store.n_rows == sum(sizes)
        whole = [batch(f"s{number}", 0, size) for number, size in enumerate(sizes)]
        for name in ("id", "contig", "nucleotide", "protein"):
            column = store.column(name)
            assert isinstance(column, Ragged)
            assert column.tolist() == [
                item for part in whole for item in getattr(part, name).tolist()
            ]
        for name in ("contig_length", "segment", "start", "end", "strand", "frame"):
            parts = [getattr(part, name) for part in whole]
            np.testing.assert_array_equal(store.column(name), np.concatenate(parts))
        codes = np.repeat(np.arange(len(sizes)), sizes)
        np.testing.assert_array_equal(store.column("sample"), codes)
        assert list(store.verify()) == []

    def test_a_block_has_the_sequences_of_its_rows(self, store: Store) -> None:
        append(store, "a", 40)
        dna, protein = store.sequences(2)
        assert dna.tolist() == [nucleotide("a", n) for n in range(32, 40)]
        assert len(protein) == 8

    def test_an_append_that_fails_leaves_the_store_as_it_was(self, store: Store) -> None:
        append(store, "a", 21)
        before = self.contents(store)

        def fail_half_way() -> None:
            with store.appending() as appending:
                appending.write(batch("b", 0, 50))
                raise ValueError("line 51 is not DNA")

        with pytest.raises(ValueError, match="line 51"):
            fail_half_way()
        assert self.contents(store) == before
        append(store, "b", 3)
        assert self.reopen(store).n_rows == 24

    def test_an_append_is_invisible_until_committed(self, store: Store) -> None:
        append(store, "a", 21)
        with store.appending() as appending:
            appending.write(batch("b", 0, 50))
            assert self.reopen(store).n_rows == 21
            assert len(self.reopen(store).column("start")) == 21
            commit(appending, "b", 50)
            assert self.reopen(store).n_rows == 71
        assert store.n_rows == 71

    @pytest.mark.slow
    def test_only_one_appends_at_a_time(self, store: Store) -> None:
        with store.appending() as appending:
            # The first appender, of this process, is alive: the second need not wait for a lease.
            with pytest.raises(BusyError, match="locked by process"):
                append(self.reopen(store), "b", 5)
            appending.write(batch("a", 0, 5))
            commit(appending, "a", 5)
        append(self.reopen(store), "b", 5)
        assert self.reopen(store).n_rows == 10

    def test_a_lost_lock_stops_the_commit(self, store: Store) -> None:
        with store.appending() as appending:
            appending.write(batch("a", 0, 5))
            self.take_over(store)
            with pytest.raises(ClaimLostError):
                commit(appending, "a", 5)
        assert self.reopen(store).n_rows == 0

    def test_the_same_sample_twice_is_refused(self, store: Store) -> None:
        append(store, "a", 5)
        with store.appending() as appending, pytest.raises(SampleExistsError, match="named a"):
            commit(appending, "a", 0, content="other")
        with store.appending() as appending, pytest.raises(SampleExistsError, match="sample a"):
            commit(appending, "b", 0, content="content of a")
        assert self.reopen(store).n_rows == 5

    @pytest.mark.parametrize("name", ["", "..", ".x", "-x", "a/b", "a\nb", "<b>", "x" * 129])
    def test_an_illegal_sample_name_is_refused(self, store: Store, name: str) -> None:
        with store.appending() as appending, pytest.raises(UsageError, match="sample name"):
            commit(appending, name, 0)

    # -- publishing -------------------------------------------------------------------------

    def test_published_rows_are_read_back(self, store: Store) -> None:
        append(store, "a", 40)
        publish(store, "small", 1)
        publish(store, "small", 2)
        store = self.reopen(store)
        np.testing.assert_array_equal(store.read("small", 16), expected(store, "small")[16:])
        assert np.isnan(store.read("small", 0, 16)).all()
        np.testing.assert_array_equal(
            store.read("small", 15, 18)[1:], expected(store, "small")[16:18]
        )
        assert store.open_blocks("small").tolist() == [0]
        assert store.open_blocks("wide").tolist() == [0, 1, 2]
        np.testing.assert_array_equal(store.filled("small"), np.arange(40) >= 16)
        np.testing.assert_array_equal(
            self.raw_get(store, "small", 1), expected(store, "small")[16:32]
        )
        assert list(store.verify()) == []

    def test_the_first_writer_of_a_full_block_wins(self, store: Store) -> None:
        append(store, "a", 40)
        publish(store, "small", 1)
        first = store.certificate("small", 1)
        late = HeldClaim("small", 1, epoch=9, worker="f" * 32)
        store.publish(late, embeddings(store, "small", 1) + np.float16(1))
        assert store.certificate("small", 1) == first
        np.testing.assert_array_equal(store.read("small", 16, 32), expected(store, "small")[16:32])

    def test_the_tail_grows_and_is_published_again(self, store: Store) -> None:
        append(store, "a", 20)
        publish(store, "small", 1)
        assert store.is_filled("small", 1)
        append(store, "b", 30)
        assert not store.is_filled("small", 1)
        assert store.filled("small").tolist() == [False] * 16 + [True] * 4 + [False] * 30
        for block in (0, 1, 2, 3):
            publish(store, "small", block)
        assert store.certify("small").complete
        np.testing.assert_array_equal(store.read("small"), expected(store, "small"))
        assert list(store.verify()) == []

    def test_a_zombie_of_the_smaller_tail_changes_nothing(self, store: Store) -> None:
        append(store, "a", 20)
        zombie = self.reopen(store)
        append(store, "b", 30)
        publish(store, "small", 1)
        with pytest.raises(ClaimLostError):
            publish(zombie, "small", 1)
        np.testing.assert_array_equal(store.read("small", 16, 32), expected(store, "small")[16:32])

    def test_a_tail_replaced_behind_its_certificate_is_seen(self, store: Store) -> None:
        append(store, "a", 20)
        append(store, "b", 30)
        for block in range(4):
            publish(store, "small", block)
        self.raw_set(store, "small", 1, expected(store, "small")[16:20])
        certification = store.certify("small")
        assert not certification.complete
        assert [block for block, _ in certification.failed] == [1]

    def test_a_lost_claim_publishes_nothing(self, store: Store) -> None:
        append(store, "a", 20)
        with pytest.raises(ClaimLostError):
            store.publish(HeldClaim("small", 0, current=False), embeddings(store, "small", 0))
        assert store.open_blocks("small").tolist() == [0, 1]

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_nan_and_infinity_are_never_published(self, store: Store, bad: float) -> None:
        append(store, "a", 20)
        values = embeddings(store, "small", 0).copy()
        values[5, 3] = bad
        with pytest.raises(DataError, match="row 5"):
            store.publish(HeldClaim("small", 0), values)
        assert store.open_blocks("small").tolist() == [0, 1]

    def test_wrong_shapes_are_refused(self, store: Store) -> None:
        append(store, "a", 20)
        with pytest.raises(DataError, match="shape"):
            store.publish(HeldClaim("small", 1), np.zeros((16, 8), np.float16))

    def test_a_reopened_block_is_open_and_can_be_filled_again(self, store: Store) -> None:
        append(store, "a", 40)
        publish(store, "small", 1)
        store.reopen("small", 1)
        assert store.open_blocks("small").tolist() == [0, 1, 2]
        assert np.isnan(store.read("small")).all()
        publish(store, "small", 1)
        assert store.open_blocks("small").tolist() == [0, 2]

    @pytest.mark.parametrize("threads", [False, True])
    def test_any_rows_of_filled_open_and_partial_blocks(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, *, threads: bool
    ) -> None:
        monkeypatch.setattr(ranges, "_THREADED_BYTES", 0 if threads else 1 << 30)
        append(store, "a", 40)
        for block in (0, 2):  # the last one has 8 rows, and then grows
            publish(store, "small", block)
        append(store, "b", 30)
        wanted = expected(store, "small")
        wanted[16:32] = wanted[40:] = np.nan
        for start in range(0, 70, 3):
            for stop in (start, start + 1, start + 17, 40, 70, 99):
                found = store.read("small", start, stop)
                np.testing.assert_array_equal(found, wanted[start:stop])

    def test_a_damaged_chunk_is_never_read(self, store: Store) -> None:
        append(store, "a", 40)
        publish(store, "small", 1, epoch=2)  # it had another owner, who may come late
        rows = expected(store, "small")[16:32].copy()
        rows[3, 3] += 1
        self.raw_set(store, "small", 1, rows)
        assert [block for block, _ in store.certify("small").failed] == [1]

    @pytest.mark.parametrize("row", [16, 25, 31])
    def test_a_flipped_bit_anywhere_in_a_block_is_found_by_reading_any_row(
        self, store: Store, row: int
    ) -> None:
        append(store, "a", 40)
        publish(store, "small", 1)
        found = store.values_file("small", 1)
        if found is None:
            pytest.skip("no file to flip a bit in")
        path, offset = found
        with path.open("r+b") as file:
            file.seek(offset + (row - 16) * 16 + 5)
            [byte] = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 4]))
        for start, stop in ((16, 17), (24, 26), (30, 32), (0, 40)):
            with pytest.raises(DamageError, match=r"block 1: .*checksum"):
                store.read("small", start, stop)
        [finding] = store.verify()
        assert (finding.model, finding.block) == ("small", 1)

    # -- models and provenance --------------------------------------------------------------

    def test_a_model_is_added_to_rows_that_are_there(self, store: Store) -> None:
        append(store, "a", 40)
        publish(store, "small", 1)
        store.add_model(Model("late", 4))
        store = self.reopen(store)
        assert store.open_blocks("late").tolist() == [0, 1, 2]
        publish(store, "late", 2)
        np.testing.assert_array_equal(store.read("late", 32), expected(store, "late")[32:])
        np.testing.assert_array_equal(store.read("small", 16, 32), expected(store, "small")[16:32])
        with pytest.raises(UsageError, match="already"):
            store.add_model(Model("late", 4))
        assert list(store.verify()) == []

    def test_the_first_provenance_stands(self, store: Store) -> None:
        assert store.provenance("small") is None
        assert store.pin_provenance("small", {"weights": "a"}) == {"weights": "a"}
        assert store.pin_provenance("small", {"weights": "b"}) == {"weights": "a"}
        assert self.reopen(store).provenance("small") == {"weights": "a"}

    def test_unknown_models_and_columns_are_named(self, store: Store) -> None:
        with pytest.raises(UsageError, match="no model 'other'"):
            store.read("other")
        with pytest.raises(UsageError, match="no column 'other'"):
            store.column("other")

    def test_a_snapshot_keeps_its_rows_until_refreshed(self, store: Store) -> None:
        append(store, "a", 20)
        reader = self.reopen(store)
        append(store, "b", 30)
        assert reader.n_rows == 20
        assert reader.read("small").shape == (20, 8)
        assert reader.refresh()
        assert reader.n_rows == 50
        assert not reader.refresh()

    def test_verify_names_a_provenance_that_vanished(self, store: Store) -> None:
        append(store, "a", 20)
        publish(store, "small", 0)
        path = self.raw_provenance(store, "small", vanish=True)
        assert [finding.path for finding in store.verify()] == [path]

    def test_provenance_that_is_no_object_is_damage(self, store: Store) -> None:
        store.pin_provenance("small", {"weights": "a"})
        self.raw_provenance(store, "small", vanish=False)
        with pytest.raises(DamageError, match="vnp verify"):
            store.provenance("small")

    def take_over(self, store: Store) -> None:
        """Claim the appender's lock, as another process does after a lease."""
        assert store.sidecar.room.make(f"claims/{APPEND}/0.2", b"{}")

    def contents(self, store: Store) -> object:
        """Every byte of a store: by default of its files, by name."""
        path = store.path
        files = path.rglob("*") if path.is_dir() else [path]
        return {str(file): file.read_bytes() for file in files if file.is_file()}
