"""``vnp launch slurm`` on a real Slurm of four nodes: what becomes of its jobs, and the rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.vnp.launch.slurm_cluster import (
    ROOT,
    Cluster,
    assert_same_rows,
    contigs,
    until,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster) -> Path:
    """The slow model's store, filled by one worker in peace."""
    store = Slow(cluster, cluster.folder / "undisturbed")
    store.open_gate()
    cluster.vnp("worker", store.path, "--plugin", store.plugin, "--threads", 1)
    return store.path


class Slow:
    """A store that no worker fills before the gate is opened."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        folder.mkdir()
        self.cluster = cluster
        self.path = folder / "run.zarr"
        self.plugin = Path(shutil.copy(ROOT / "tests/vnp/launch/slow_model.py", folder))
        described = ("--model", "slow", "--plugin", self.plugin, "--block-rows", 2)
        cluster.vnp("init", self.path, *described)
        cluster.vnp("append", self.path, contigs(folder / "a.fa", codons=20_000))

    def open_gate(self) -> None:
        self.plugin.with_name("gate").touch()

    def launch(self, workers: int, *sbatch: str) -> tuple[str, str]:
        """Launch workers that take a record at a time; numbers of their job and the certifying."""
        report = self.cluster.launch(
            self.path,
            *("--workers", workers, "--plugin", self.plugin, "--token-budget", 600),
            sbatch=sbatch,
        )
        assert report["submitted"] == workers - report["there"]
        return report["array_job"], report["certify_job"]

    def at_work(self, workers: int) -> dict[str, str]:
        return until(
            f"{workers} workers at work",
            lambda: len(seen := self.cluster.at_work(self.path)) == workers and seen,
        )

    def again_at_work(self, task: str) -> str:
        """Wait until a task was requeued and works again; its node."""

        def look() -> str:
            again = int(self.cluster.job(task)["Restarts"]) > 0
            return self.cluster.at_work(self.path).get(task, "") if again else ""

        try:
            return until(f"task {task} at work once more", look)
        except AssertionError as error:
            log = self.path.with_name("run.zarr.vnp") / f"logs/slurm-{task}.out"
            error.add_note(f"{self.cluster.job(task)}\n{log.read_text() if log.exists() else ''}")
            raise

    def finish(self, certify: str, undisturbed: Path) -> None:
        self.open_gate()
        assert self.cluster.exit_code(certify) == 0
        assert_same_rows(self.path, undisturbed)
        self.cluster.vnp("verify", self.path)


@pytest.fixture
def slow(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Slow]:
    store = Slow(cluster, cluster.folder / request.node.name)
    yield store
    cluster.run("scancel", "--user", "root")
    until("an empty queue", lambda: not cluster.run("squeue", "--noheader").stdout)


def test_an_array_fills_a_store_of_the_demo_models_whatever_its_name(cluster: Cluster) -> None:
    folder = cluster.folder / "demo"
    folder.mkdir()
    fasta = contigs(folder / "a.fa", codons=10_000)
    peace = folder / "peace.zarr"
    store = folder / 'it\'s $(touch owned)\n50 % "run".zarr'
    for path in (peace, store):
        cluster.vnp("init", path, "--recipe", "demo", "--block-rows", 8)
        cluster.vnp("append", path, fasta)
    ask = ("--workers", 3, "--max-running", 2, "--gres", "gpu:1")
    elsewhere = folder / "of\nboth-%j.out"
    ask = (*ask, "--certify-option=--output", f"--certify-option={elsewhere}")
    report = cluster.launch(store, *ask)
    cluster.vnp("worker", peace, "--device", "cpu", "--threads", 1)
    assert cluster.exit_code(report["certify_job"]) == 0
    for task in range(3):
        assert cluster.exit_code(f"{report['array_job']}_{task}") == 0
    logs = Path(f"{store}.vnp/logs")
    assert len(list(logs.glob("slurm-*_?.out"))) == 3
    assert elsewhere.with_name(f"of\nboth-{report['certify_job']}.out").read_text()
    assert_same_rows(store, peace)
    assert not list(cluster.folder.rglob("owned"))


def test_a_second_launch_tops_up_and_the_certifying_job_waits_for_all(
    cluster: Cluster, slow: Slow, undisturbed: Path
) -> None:
    array, certify = slow.launch(3)
    assert set(slow.at_work(3)) == {f"{array}_{task}" for task in range(3)}
    assert f"(slurm:{array}_2), " in cluster.vnp("status", slow.path)
    assert slow.launch(3) == (None, certify)
    cluster.run("scancel", f"{array}_1")
    assert cluster.exit_code(f"{array}_1") in (0, 130)
    assert cluster.job(f"{array}_1")["JobState"] == "CANCELLED", "not requeued"
    more, same = slow.launch(3)
    assert same == certify
    waits = cluster.job(certify)["Dependency"]
    assert f"afterany:{array}_" in waits
    assert f"afterany:{more}_" in waits
    slow.finish(certify, undisturbed)


def test_preemption_a_killed_node_and_a_time_limit_cost_nothing(
    cluster: Cluster, undisturbed: Path
) -> None:
    """At the same time, on nodes of their own, since Slurm takes its time over each."""
    with ThreadPoolExecutor() as threads:
        stories = [
            threads.submit(story, Slow(cluster, cluster.folder / story.__name__), undisturbed)
            for story in (preempted, killed, limited)
        ]
    for story in stories:
        story.result()


def preempted(slow: Slow, undisturbed: Path) -> None:
    cluster = slow.cluster
    array, certify = slow.launch(1, "--exclude=n2,n4")
    node = slow.at_work(1)[f"{array}_0"]
    urgent = cluster.run(
        *("sbatch", "--parsable", "--partition=urgent", "--exclusive", f"--nodelist={node}"),
        *("--output=/dev/null", "--wrap", "sleep 600"),
    ).stdout.strip()
    until("the urgent job runs", lambda: cluster.job(urgent)["JobState"] == "RUNNING")
    assert slow.again_at_work(f"{array}_0") != node
    cluster.run("scancel", urgent)
    slow.finish(certify, undisturbed)


def killed(slow: Slow, undisturbed: Path) -> None:
    cluster = slow.cluster
    array, certify = slow.launch(2, "--exclude=n1,n4")
    assert set(slow.at_work(2).values()) == {"n2"}
    cluster.kill_node("n2")
    until("n2 is down", lambda: "DOWN" in cluster.node_state("n2"))
    for task in range(2):
        assert slow.again_at_work(f"{array}_{task}") == "n3"
    slow.finish(certify, undisturbed)
    cluster.start_node("n2")


def limited(slow: Slow, undisturbed: Path) -> None:
    # Slurm looks every 30 s, and signals as early as it may: 15 to 45 s after the start. A signal
    # that came before the step began would be lost.
    array, certify = slow.launch(1, "--time=2", "--signal=USR1@75", "--nodelist=n4")
    slow.again_at_work(f"{array}_0")
    log = (slow.path.with_name("run.zarr.vnp") / f"logs/slurm-{array}_0.out").read_text()
    reports = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert "vnp: interrupted" in log or reports[0]["signal"] == "SIGUSR1"
    slow.finish(certify, undisturbed)


def test_the_certifying_job_tells_that_rows_are_missing(cluster: Cluster, slow: Slow) -> None:
    array, certify = slow.launch(2)
    slow.at_work(2)
    cluster.run("scancel", array)
    assert cluster.exit_code(certify) == 3
    log = slow.path.with_name("run.zarr.vnp") / f"logs/slurm-certify-{certify}.out"
    assert "incomplete" in log.read_text()
    for task in range(2):
        assert cluster.job(f"{array}_{task}")["JobState"] == "CANCELLED", "not requeued"
