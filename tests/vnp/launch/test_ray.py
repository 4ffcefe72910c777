"""``vnp launch ray`` on a real cluster of Ray: a head without GPUs and nodes with a pretended one.

The workers stand in the middle of their blocks until a test opens the gate (`gated`), so what a
test finds in the store is what it does something about, whenever that is.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.claims.claims import ClaimState
from store.claims.participant import Participant
from store.open import open_store
from store.repair import verify_store
from store.store import Store
from vnp.cli.main import main

ray = pytest.importorskip("ray")

pytestmark = [
    pytest.mark.slow,
    # Ray's own pipes and subprocesses.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOT = Path(__file__).parents[3]
PLUGIN = Path(__file__).with_name("gated.py")
LOOK = 0.1  # seconds between two looks at what another process does
LONG = 120.0  # seconds after which it is taken to hang


def until(holds: Callable[[], Any], *, what: str) -> Any:
    """Look until something holds, and return it."""
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(LOOK)
    raise AssertionError(f"{what} did not happen")


class Cluster:
    """A head without GPUs and nodes with one each; a node is removed by what runs on it."""

    def __init__(self, gate: Path) -> None:
        from ray.cluster_utils import Cluster as OfRay

        self.gate = gate
        head = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 << 20}
        self._cluster = OfRay(
            initialize_head=True, head_node_args={**head, "include_dashboard": False}
        )
        self._nodes: list[Any] = []

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add_node(self) -> None:
        node = self._cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=80 << 20)
        self._nodes.append(node)

    def remove_node_of(self, pid: int) -> None:
        """Remove the node that a worker process runs on, as a machine that loses its power."""
        raylet = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        [node] = [
            node for node in self._nodes if node.all_processes["raylet"][0].process.pid == raylet
        ]
        self._nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def shutdown(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    gate = tmp_path_factory.mktemp("gate") / "gate"
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("RAY_ADDRESS", raising=False)
        environment.setenv("RAY_DEDUP_LOGS", "0")
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Ray's processes, and so the workers, inherit these.
        environment.setenv("PYTHONPATH", str(ROOT))
        environment.setenv("VNP_TEST_GATE", str(gate))
        cluster = Cluster(gate)
        try:
            cluster.add_node()
            cluster.add_node()
            yield cluster
        finally:
            cluster.shutdown()


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    """The cluster, with the gate closed."""
    running.gate.unlink(missing_ok=True)
    return running


def make_store(path: Path) -> Store:
    """A store of 45 rows in blocks of 4, whose model waits at the gate."""
    fasta = ROOT / "vnp/data/lambda_phage.fa.gz"
    plugin = ("--plugin", str(PLUGIN))
    words = ["init", str(path), "--model", "gated", "--block-rows", "4", *plugin]
    assert main(words) == 0
    assert main(["append", str(path), str(fasta)]) == 0
    return open_store(path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "run.zarr")


@pytest.fixture
def undisturbed(tmp_path: Path) -> np.ndarray:
    """Rows of a store that one worker filled without a cluster."""
    from vnp.embed.function import embed

    (tmp_path / "open").touch()
    store = make_store(tmp_path / "calm.zarr")
    with pytest.MonkeyPatch.context() as environment:  # nodes that are added later inherit it
        environment.setenv("VNP_TEST_GATE", str(tmp_path / "open"))
        assert embed(store, in_process=True, device="cpu", plugins=PLUGIN).complete
    return store.read("gated", 0, store.n_rows)


class Launched:
    """A ``vnp launch ray`` at work, and what it says."""

    def __init__(self, store: Store, cluster: Cluster, *words: str, named: bool = True) -> None:
        command = [sys.executable, "-m", "vnp", "launch", "ray", str(store.path)]
        options = ["--workers", "2", "--plugin", str(PLUGIN)]
        options += ["--address", cluster.address] if named else []
        self.process = subprocess.Popen(
            [*command, *options, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **({} if named else {"RAY_ADDRESS": cluster.address})},
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            self.lines.put(line)

    def wait_for(self, text: str, *, times: int = 1) -> None:
        while times:
            times -= text in self.lines.get(timeout=LONG)

    def end(self) -> tuple[int, str]:
        """Wait for the exit code and standard output."""
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        code = self.process.wait(LONG)
        self._reader.join(LONG)
        return code, out


@pytest.fixture
def launch(store: Store, cluster: Cluster) -> Iterator[Callable[..., Launched]]:
    started: list[Launched] = []

    def start(*words: str, named: bool = True) -> Launched:
        started.append(Launched(store, cluster, *words, named=named))
        return started[-1]

    yield start
    for launched in started:
        launched.process.kill()
        launched.process.wait()
        with contextlib.suppress(ValueError):
            launched.process.stdout.close()
            launched.process.stderr.close()


def held(store: Store) -> list[ClaimState]:
    """Claims that living workers hold; the nodes are all on this machine, so it is known."""
    claims = Participant(store.sidecar.path).claims
    return [
        state
        for state in claims.states("gated")
        if state.verdict is not None and not state.verdict.stale
    ]


def processes(store: Store) -> set[int]:
    return {state.identity.pid for state in held(store) if state.identity is not None}


def assert_whole(store: Store, undisturbed: np.ndarray) -> None:
    store.refresh()
    assert store.certify("gated").complete
    assert list(verify_store(store)) == []
    assert np.array_equal(store.read("gated", 0, store.n_rows), undisturbed)


def test_a_node_removed_at_work_is_survived(
    store: Store,
    cluster: Cluster,
    launch: Callable[..., Launched],
    undisturbed: np.ndarray,
    capfd: pytest.CaptureFixture[str],
) -> None:
    launched = launch("--json")
    two = until(lambda: len(at := processes(store)) == 2 and at, what="two workers at work")
    where = {str(state.identity) for state in held(store)}
    assert all("(ray:" in each for each in where), where
    lost = min(two)
    mine = [state.block for state in held(store) if state.identity.pid == lost]
    assert mine, "it holds a block"
    cluster.remove_node_of(lost)
    until(lambda: lost not in processes(store), what="the end of the removed node's worker")
    # Its task is started again where a GPU is: on a node that joins.
    cluster.add_node()
    again = until(lambda: len(at := processes(store)) == 2 and at, what="the task's second start")
    assert lost not in again
    cluster.gate.touch()
    code, out = launched.end()
    assert code == 0, "".join(launched.said)
    report = json.loads(out)
    assert report["complete"]
    assert report["problems"] == []
    assert report["certified"] == {"gated": store.n_rows}
    assert len(report["workers"]) == 2
    assert any(line.startswith("embed: 45 embeddings") for line in launched.said), "progress"
    assert_whole(store, undisturbed)

    # Again: nothing is left to do, and the cluster is not even called.
    again_words = ["launch", "ray", str(store.path), "--address", "127.0.0.1:1", "--workers", "2"]
    capfd.readouterr()
    assert main([*again_words, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["workers"] == []
    assert_whole(store, undisturbed)


def test_ctrl_c_ends_the_workers_in_order_and_a_second_launch_tops_up(
    store: Store, cluster: Cluster, launch: Callable[..., Launched], undisturbed: np.ndarray
) -> None:
    launched = launch()
    until(lambda: len(processes(store)) == 2, what="two workers at work")
    launched.process.send_signal(signal.SIGINT)
    launched.wait_for("told to stop", times=2)
    cluster.gate.touch()
    code, out = launched.end()
    assert code == 130, "".join(launched.said)
    assert "interrupted: run the same command again to carry on" in out
    claims = Participant(store.sidecar.path).claims
    states = [state.state for state in claims.states("gated", released=True)]
    assert states, "there were claims"
    assert set(states) == {"released"}, "each block was finished or given back"
    store.refresh()
    done = int(store.rows_filled("gated").sum())
    assert done < store.n_rows

    # More tasks than GPUs: those that still wait at the end are not waited for.
    code, out = launch("--workers", "4", "--json").end()
    assert code == 0, out
    report = json.loads(out)
    assert sum(worker["records"] for worker in report["workers"]) == store.n_rows - done
    assert_whole(store, undisturbed)


def test_a_worker_that_is_asked_to_end_releases_its_block_and_is_started_again(
    store: Store, cluster: Cluster, launch: Callable[..., Launched], undisturbed: np.ndarray
) -> None:
    launched = launch("--json")
    two = until(lambda: len(at := processes(store)) == 2 and at, what="two workers at work")
    asked = min(two)
    mine = {state.block for state in held(store) if state.identity.pid == asked}
    os.kill(asked, signal.SIGTERM)  # as a node does that is drained
    launched.wait_for("told to stop")
    # For the others the gate stays closed: they would soon leave nothing to start it for.
    cluster.gate.with_name(f"gate-{asked}").touch()
    again = until(
        lambda: len(at := processes(store)) == 2 and asked not in at and at, what="its next start"
    )
    assert set(two) - {asked} < set(again), "the other one went on"
    cluster.gate.touch()
    code, out = launched.end()
    assert code == 0, "".join(launched.said)
    assert len(json.loads(out)["workers"]) == 2, "it was started again"
    folder = store.sidecar.path / "claims/gated"
    assert all((folder / f"{block}.1.released").exists() for block in mine), "not left behind"
    assert_whole(store, undisturbed)


def test_what_all_workers_refuse_is_told_as_by_vnp_embed(
    store: Store, cluster: Cluster, launch: Callable[..., Launched]
) -> None:
    words = ("--device", "cuda:7", "--json")
    code, out = launch(*words, named=False).end()  # as in a Ray job: by RAY_ADDRESS
    report = json.loads(out)
    assert not report["complete"]
    assert len(report["problems"]) == 2
    assert all("cuda:7" in problem for problem in report["problems"])
    command = [sys.executable, "-m", "vnp", "embed", str(store.path), "--plugin", str(PLUGIN)]
    alone = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert code == alone.returncode == 2, alone.stderr
    assert report["refused"] == json.loads(alone.stdout)["refused"]


def test_a_driver_that_is_killed_takes_its_workers_with_it(
    store: Store, launch: Callable[..., Launched]
) -> None:
    launched = launch()
    until(lambda: len(processes(store)) == 2, what="two workers at work")
    launched.process.kill()
    until(lambda: not processes(store), what="the end of the workers")


def test_a_share_that_no_node_has_is_said_and_waited_for_until_ctrl_c(
    store: Store, launch: Callable[..., Launched]
) -> None:
    launched = launch("--gpus-per-worker", "2")
    launched.wait_for("none of the cluster's nodes has the 2 GPUs and 1 CPUs")
    launched.process.send_signal(signal.SIGINT)
    code, out = launched.end()
    assert code == 130, "".join(launched.said)
    assert "interrupted" in out
    assert held(store) == []
