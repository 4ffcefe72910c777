"""Workers of two hosts whose clocks are an hour apart fill one store; one of them is killed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.claims.participant import Participant
from store.claims.plan import read_names
from store.claims.process import identify
from store.findings import Kind
from store.open import create_store
from store.repair import verify_store
from store.store import Store
from tests.hosts.hosts import HOUR, Host, why_not
from tests.rows import MODELS, append
from tests.vnp.embed.test_worker import assert_whole
from tests.vnp.embed.test_worker_kill import finish, go_on, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=f"two hosts: {why_not()}"),
]

Hosts = tuple[Host, Host]


@pytest.fixture(params=["killed-ahead", "killed-behind"])
def hosts(request: pytest.FixtureRequest) -> Iterator[Hosts]:
    """The host whose worker is killed, and the other one."""
    ahead = request.param == "killed-ahead"
    hosts = Host("alpha", ahead=HOUR * ahead), Host("beta", ahead=HOUR * (not ahead))
    yield hosts
    for host in hosts:
        host.shutdown()


@pytest.fixture(params=[".zarr", ".h5"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Store:
    store = create_store(
        tmp_path / f"run{request.param}", models=MODELS, segment_length=500, block_rows=16
    )
    append(store, "a", 200)
    return store


def worker(host: Host, store: Store, *options: str) -> subprocess.Popen[str]:
    return host.start("-m", "tests.vnp.embed.stub_worker", str(store.path), *options)


def held_by(store: Store, host: Host) -> dict[tuple[str, int], int]:
    """Epochs of the unreleased claims of a host's workers, by model and block."""
    claims = Participant(store.sidecar.path).claims
    states = [state for model in MODELS for state in claims.states(model.name)]
    return {
        (state.model, state.block): state.epoch
        for state in states
        if state.identity is not None and state.identity.host == host.name
    }


def test_the_hosts_are_two(hosts: Hosts) -> None:
    code = (
        "import dataclasses, json, time; from store.claims.process import identify;"
        "time.sleep(0.01);"
        "print(json.dumps([dataclasses.asdict(identify()), time.time(), time.monotonic()]),"
        " flush=True);"
        "input()"
    )
    # Both live until both are known: the number of a namespace that is gone may be given again.
    processes = [host.start("-c", code) for host in hosts]
    lines = [process.stdout.readline() for process in processes if process.stdout]
    for process in processes:
        process.communicate("\n")
    found = [json.loads(line) for line in lines]
    (first, first_wall, first_mono), (second, second_wall, second_mono) = found
    assert [first["host"], second["host"]] == ["alpha", "beta"]
    assert first["pid"] == second["pid"] == 1
    assert len({first["pid_ns"], second["pid_ns"], identify().pid_ns}) == 3
    # In the order in which they were started; it takes less than half an hour.
    assert HOUR / 2 < abs(second_wall - first_wall) < 3 * HOUR / 2
    assert HOUR / 2 < abs(second_mono - first_mono) < 3 * HOUR / 2


def test_the_other_host_takes_over_what_a_killed_worker_held(store: Store, hosts: Hosts) -> None:
    doomed, other = hosts
    first = worker(doomed, store, "--pause-at", "embedded")
    # 60 heartbeats without a sign: nobody who lives is silent for so long on a busy machine.
    second = worker(other, store, "--pause-at", "embedded", "--lease", "3")
    for process in (first, second):
        wait_for(process, "embedded")
    for _ in range(4):  # both live, and neither takes what the other holds
        for process in (first, second):
            assert go_on(process, "embedded")
    doomed.kill(first)
    left = held_by(store, doomed)
    assert left
    assert held_by(store, other)
    assert set(left) & set(held_by(store, other)) == set()
    assert second.stdin is not None
    second.stdin.write("\n" * 100)
    second.stdin.flush()
    finish(second)
    assert_whole(store)
    # It may have been killed while it wrote a block.
    assert {finding.kind for finding in verify_store(store)} <= {Kind.ORPHAN}
    # Each block had one owner, but for those that the dead one held and had not filled: they had
    # the two, in turn. The one in its encoder is one of these.
    taken = 0
    for model in MODELS:
        names = (store.sidecar.path / "claims" / model.name).iterdir()
        scan = read_names(path.name for path in names)
        for block, epoch, released in zip(scan.block, scan.epoch, scan.released, strict=True):
            was_left = (model.name, int(block)) in left
            assert epoch == 1 or (epoch == 2 and was_left)
            assert released or (epoch == 1 and was_left)
            taken += int(epoch == 2)
        assert len(scan.block) == store.n_blocks
    assert 1 <= taken <= len(left)
