"""Signs of life as they are written and read."""

from __future__ import annotations

import json

import pytest

from store.claims.heartbeat import Heartbeat, read_beat, read_beats
from store.claims.process import identify
from store.errors import UsageError
from tests.store.claims.claiming import far_heartbeat


def test_file_tells_who_how_far_and_that_it_ended(tmp_path):
    with Heartbeat(tmp_path, interval=3600) as heartbeat:
        first = read_beat(tmp_path, heartbeat.worker)
        heartbeat.report({"model": "esm2", "records": 12, "rate": 3.5})
        heartbeat.beat()
        second = read_beat(tmp_path, heartbeat.worker)
    last = read_beat(tmp_path, heartbeat.worker)
    assert (first.counter, second.counter, last.counter) == (1, 2, 3)
    assert first.identity == identify()
    assert first.progress == {}
    assert second.progress == last.progress == {"model": "esm2", "records": 12, "rate": 3.5}
    assert [first.ended, second.ended, last.ended] == [False, False, True]
    assert json.loads((tmp_path / "workers" / heartbeat.worker).read_bytes())["interval"] == 3600
    assert read_beats(tmp_path) == [last]


def test_thread_beats_by_itself(tmp_path):
    with Heartbeat(tmp_path, interval=0.001) as heartbeat:
        while read_beat(tmp_path, heartbeat.worker).counter < 5:
            pass


def test_thread_survives_a_file_system_that_fails_for_a_while(tmp_path, caplog):
    with Heartbeat(tmp_path, interval=0.001) as heartbeat:
        workers = tmp_path / "workers"
        (workers / heartbeat.worker).unlink()
        workers.rename(tmp_path / "gone")
        workers.write_bytes(b"in the way")
        while not caplog.records:
            pass
        workers.unlink()
        while read_beat(tmp_path, heartbeat.worker) is None:
            pass
    assert "no sign of life" in caplog.records[0].message


def test_stop_twice_is_fine_and_nothing_beats_afterwards(tmp_path):
    heartbeat = Heartbeat(tmp_path, interval=0.001)
    heartbeat.start()
    heartbeat.stop()
    heartbeat.stop()
    assert read_beat(tmp_path, heartbeat.worker).ended


def test_progress_must_fit(tmp_path):
    heartbeat = Heartbeat(tmp_path)
    with pytest.raises(UsageError, match="must stay under"):
        heartbeat.report({"text": "x" * 4000})
    heartbeat.beat()
    assert read_beat(tmp_path, heartbeat.worker).progress == {}


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'{"worker": "other"}'])
def test_damaged_file_is_not_a_beat(tmp_path, content):
    heartbeat = far_heartbeat(tmp_path)
    heartbeat.beat()
    (tmp_path / "workers" / heartbeat.worker).write_bytes(content)
    (tmp_path / "workers" / "not-a-worker").write_bytes(b"{}")
    assert read_beat(tmp_path, heartbeat.worker) is None
    assert read_beats(tmp_path) == []
    assert read_beats(tmp_path / "nowhere") == []


@pytest.mark.parametrize("wrong", [0, -1.0])
def test_interval_must_be_positive(tmp_path, wrong):
    with pytest.raises(UsageError):
        Heartbeat(tmp_path, interval=wrong)
