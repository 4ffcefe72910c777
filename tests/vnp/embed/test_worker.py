"""A worker in this process: what it fills, what it refuses, how it stops."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.claims.claims import Claims
from store.claims.heartbeat import Heartbeat, new_worker
from store.claims.liveness import Liveness
from store.claims.process import identify
from store.errors import DataError, UsageError
from store.io.files import publish_new
from store.open import create_store
from store.store import Store
from store.zarr import backend as zarr_backend
from tests.rows import MODELS, append
from tests.vnp.embed.stub_worker import StubEncoder, stub_rows
from vnp.cli.main import main
from vnp.embed.config import WorkerConfig
from vnp.embed.encoders import ModelMismatchError
from vnp.embed.handover import Shutdown
from vnp.embed.report import WorkerReport
from vnp.embed.worker import BlockError, Worker
from vnp.inference.encoder import Provenance
from vnp.models.errors import WeightsNotFoundError

FAST = WorkerConfig(poll=0.01, heartbeat=0.05)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = create_store(tmp_path / "run.zarr", models=MODELS, segment_length=500, block_rows=16)
    append(store, "a", 70)
    return store


def work(
    store: Store,
    *,
    encoder: Callable[[str], StubEncoder] = StubEncoder,
    config: WorkerConfig = FAST,
    stop: threading.Event | None = None,
) -> WorkerReport:
    return Worker(
        store.path,
        config=config,
        stop=stop or threading.Event(),
        load=lambda name, **_: encoder(name),
    ).run()


def undisturbed(store: Store, model: str) -> np.ndarray:
    """What every worker must have put into the store."""
    columns = store.column("nucleotide"), store.column("protein")
    return stub_rows(*columns, store.schema.model(model).dim).astype(np.float16)


def assert_whole(store: Store) -> None:
    store = store.snapshot()
    for model in store.schema.models:
        assert store.certify(model.name).complete
        np.testing.assert_array_equal(store.read(model.name), undisturbed(store, model.name))
    assert [finding for finding in store.verify() if finding.is_damage] == []


def test_a_worker_fills_everything(store: Store) -> None:
    report = work(store)
    assert (report.blocks, report.records, report.failures) == (10, 140, ())
    assert_whole(store)
    certificate = store.certificate("small", 2)
    assert certificate is not None
    assert certificate.worker == report.worker
    assert certificate.details["device"] == "stub"


def test_a_second_worker_finds_nothing_to_do(store: Store) -> None:
    work(store)
    assert work(store).blocks == 0


def test_only_the_models_asked_for_are_filled(store: Store) -> None:
    config = WorkerConfig(models=("wide",), poll=0.01)
    assert work(store, config=config).blocks == 5
    assert len(store.open_blocks("small")) == 5
    with pytest.raises(UsageError, match="no model 'other'"):
        work(store, config=WorkerConfig(models=("other",)))


def test_rows_appended_meanwhile_are_filled_too(store: Store) -> None:
    appended = []

    class Appends(StubEncoder):
        def embed(self, *args, **kwargs):
            if not appended:
                appended.append(True)
                append(store.snapshot(), "b", 41)
            return super().embed(*args, **kwargs)

    work(store, encoder=Appends)
    assert store.snapshot().n_rows == 111
    assert_whole(store)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_a_block_with_nan_or_overflow_is_named_not_published(
    store: Store, bad: float, caplog: pytest.LogCaptureFixture
) -> None:
    class Bad(StubEncoder):
        def embed(self, tokens, **kwargs):
            rows = super().embed(tokens, **kwargs)
            if self.name == "wide" and len(tokens) < 16:
                rows[2, 3] = bad
            return rows

    report = work(store, encoder=Bad)
    [failure] = report.failures
    assert (failure.model, failure.block) == ("wide", 4)
    assert "row 66" in failure.reason
    assert ("beyond float16's range" in failure.reason) is (bad == 1e6)
    assert any("wide block 4 is not filled" in line for line in caplog.messages)
    assert store.open_blocks("wide").tolist() == [4]
    assert store.certify("small").complete
    assert work(store).blocks == 1, "a worker without the fault fills it"
    assert_whole(store)


def test_damaged_sequences_are_named_and_the_rest_is_filled(store: Store) -> None:
    path = store.path / "obs/protein/c.2"
    sound = path.read_bytes()
    path.write_bytes(b"\0" * len(sound))
    report = work(store)
    assert sorted((f.model, f.block) for f in report.failures) == [("small", 2), ("wide", 2)]
    assert report.blocks == 8
    path.write_bytes(sound)
    work(store)
    assert_whole(store)


def test_an_error_ends_the_worker_naming_the_block(store: Store) -> None:
    class Breaks(StubEncoder):
        def embed(self, tokens, **kwargs):
            if len(tokens) < 16:
                raise RuntimeError("the device fell off the bus")
            return super().embed(tokens, **kwargs)

    with pytest.raises(BlockError, match="small block 4.*fell off the bus"):
        work(store, encoder=Breaks)
    work(store)
    assert_whole(store)


def test_an_error_while_publishing_surfaces(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path, path: Path, *args: Any, **options: Any) -> bool:
        if path.parent.parent.name == "obsm":
            raise OSError(28, "No space left on device")
        return publish_new(folder, path, *args, **options)

    monkeypatch.setattr(zarr_backend, "publish_new", full)
    with pytest.raises(BlockError, match="block.*No space left"):
        work(store)
    monkeypatch.undo()
    work(store)
    assert_whole(store)


def test_another_model_than_the_store_was_begun_with_is_refused(store: Store) -> None:
    class OtherWeights(StubEncoder):
        def provenance(self) -> Provenance:
            mine = super().provenance()
            return Provenance({**mine.identity, "weights": "others"}, mine.environment)

    work(store)
    append(store, "b", 20)
    with pytest.raises(ModelMismatchError, match="weights is others here and stub in the store"):
        work(store, encoder=OtherWeights)
    assert issubclass(ModelMismatchError, DataError)


def test_told_to_stop_it_drops_the_block_and_releases_it(store: Store) -> None:
    stop = threading.Event()

    class Stops(StubEncoder):
        calls = 0

        def embed(self, tokens, **kwargs):
            Stops.calls += 1
            if Stops.calls == 3:
                stop.set()
            return super().embed(tokens, **kwargs)

    report = work(store, encoder=Stops, stop=stop)
    assert report.stopped
    assert report.blocks == 2
    me = identify()
    sidecar = store.sidecar.path
    claims = Claims(
        sidecar, worker=new_worker(), identity=me, liveness=Liveness(sidecar, identity=me)
    )
    assert [state for model in ("small", "wide") for state in claims.states(model)] == []
    work(store)
    assert_whole(store)


def test_without_linger_it_leaves_blocks_to_their_holders(store: Store) -> None:
    from store.claims.participant import Participant

    with Participant(store.sidecar.path) as other:
        held = other.claims.try_claim("wide", 3)
        assert held is not None
        config = WorkerConfig(poll=0.01, linger=False)
        assert work(store, config=config).blocks == 9
    assert store.open_blocks("wide").tolist() == [3]


def test_a_block_filled_between_plan_and_claim_is_not_done_again(store: Store) -> None:
    """Two workers in one process: every block is published by exactly one of them."""
    reports: list[WorkerReport] = []
    threads = [threading.Thread(target=lambda: reports.append(work(store))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.blocks for report in reports) == 10
    assert_whole(store)


@pytest.mark.parametrize("ahead", [1, 3])
def test_a_block_in_hand_asks_for_one_more_and_is_published_when_it_is_done(
    store: Store, ahead: int
) -> None:
    """Of blocks that take no time, as these, so many are read ahead as the settings allow."""
    sidecar, me = store.sidecar.path, identify()
    claims = Claims(
        sidecar, worker=new_worker(), identity=me, liveness=Liveness(sidecar, identity=me)
    )
    begun: list[int] = []
    most: list[int] = []

    def held() -> int:
        return sum(len(claims.states(model.name)) for model in MODELS)

    class Chatty(StubEncoder):
        def embed(self, tokens, *, between=None):
            # Whatever was embedded before is published while the next is embedded at the latest.
            for _ in range(500):
                filled = sum(
                    store.snapshot().rows_filled(m.name).astype(bool).sum() for m in MODELS
                )
                if filled == len(begun):
                    break
                threading.Event().wait(0.01)
            else:
                pytest.fail("a block that was embedded is not published")
            begun.append(len(tokens))
            for _ in range(3):
                between(len(tokens))
                threading.Event().wait(0.02)  # time for the feeder to claim too much
                most.append(held())
            return super().embed(tokens, between=between)

    config = WorkerConfig(poll=0.05, prefetched=ahead)
    assert work(store, encoder=Chatty, config=config).blocks == 10
    assert max(most) <= 1 + ahead
    assert_whole(store)


def test_a_worker_ends_when_its_last_block_is_published_and_not_a_poll_later(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    wait = Shutdown.wait

    def note(self: Shutdown, seconds: float) -> None:
        waited.append(seconds)
        wait(self, seconds)

    monkeypatch.setattr(Shutdown, "wait", note)
    assert work(store, config=WorkerConfig(poll=600.0)).blocks == 10
    assert sum(waited) < 300
    assert_whole(store)


class SlowToLoad:
    """Loads the second model only once the first one's blocks are all in the store."""

    def __init__(self, store: Store, then: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._then = then

    def __call__(self, name: str) -> StubEncoder:
        if name == MODELS[1].name:
            for _ in range(3000):
                if not len(self._store.snapshot().open_blocks(MODELS[0].name)):
                    break
                threading.Event().wait(0.01)
            else:
                pytest.fail("the first model's blocks are not filled")
            self._then()
        return StubEncoder(name)


def test_loading_a_second_model_is_told_apart(store: Store) -> None:
    report = work(store, encoder=SlowToLoad(store))
    assert report.loading_seconds > 0
    assert report.span_seconds > 0
    assert_whole(store)


def test_loading_after_the_last_result_is_not_taken_from_the_span(store: Store) -> None:
    stop = threading.Event()
    report = work(store, encoder=SlowToLoad(store, then=stop.set), stop=stop)
    assert report.stopped
    assert report.blocks == 5
    assert report.span_seconds > 0


def test_a_model_that_cannot_be_loaded_does_not_stop_the_other(store: Store) -> None:
    def load(name: str) -> StubEncoder:
        if name == "small":
            raise WeightsNotFoundError("small is not on this machine")
        return StubEncoder(name)

    report = work(store, encoder=load)
    [failure] = report.failures
    assert (failure.model, failure.block) == ("small", None)
    assert failure.reason == (
        "the model cannot be loaded: small is not on this machine; once that is mended, "
        "'--model small' fills it"
    )
    assert store.snapshot().certify("wide").complete
    assert len(store.open_blocks("small")) == 5
    with pytest.raises(WeightsNotFoundError):
        work(store, encoder=load, config=WorkerConfig(models=("small",), poll=0.01))
    work(store)
    assert_whole(store)


def test_status_names_the_model_that_a_worker_could_not_load(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Heartbeat.report

    def and_look(heartbeat: Heartbeat, progress: Mapping[str, Any]) -> None:
        report(heartbeat, progress)
        heartbeat.beat()
        assert main(["status", str(store.path)]) == 0

    monkeypatch.setattr(Heartbeat, "report", and_look)

    def load(name: str) -> StubEncoder:
        if name == "small":
            raise WeightsNotFoundError("small is not on this machine")
        return StubEncoder(name)

    work(store, encoder=load)
    assert "it could not load small: 'vnp worker --model small'" in capsys.readouterr().out
