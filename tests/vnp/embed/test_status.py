"""The status of a store beside which many workers died."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.claims import heartbeat
from store.claims.heartbeat import Heartbeat
from store.claims.participant import Participant
from store.claims.process import Identity
from store.open import create_store
from tests.rows import MODELS, append
from vnp.embed.status import read_status


def test_heartbeats_of_the_dead_are_not_read_where_they_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create_store(tmp_path / "run.zarr", models=MODELS, segment_length=500, block_rows=16)
    append(store, "a", 70)
    sidecar = store.sidecar.path
    dead = Heartbeat(sidecar, identity=Identity("node7", "b", "n", 7, 1, None))
    dead.beat()
    content = (sidecar / "workers" / dead.worker).read_bytes()
    for number in range(400):
        name = f"{number:032x}"
        there = content.replace(dead.worker.encode(), name.encode())
        (sidecar / "workers" / name).write_bytes(there)
    with Participant(sidecar) as participant:
        assert participant.claims.try_claim("small", 2) is not None
        participant.heartbeat.report({"model": "small", "block": 2, "in_block": 5})
        participant.heartbeat.beat()
        read = []
        content_of = heartbeat.read_content
        monkeypatch.setattr(
            heartbeat, "read_content", lambda *where: read.append(where) or content_of(*where)
        )
        status = read_status(store)
    assert len(read) < 10
    assert [(worker.worker, worker.block) for worker in status.workers] == [(participant.worker, 2)]
