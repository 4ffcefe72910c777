"""``vnp launch slurm`` against a Slurm that is a list: what is submitted, topped up, refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from store.claims.participant import Participant
from store.errors import BusyError
from store.open import open_store
from tests.rows import append, filled_store
from vnp.cli.main import main
from vnp.embed.config import WorkerConfig
from vnp.launch import slurm
from vnp.launch.slurm import LaunchReport, SlurmError, launch, run_command
from vnp.launch.slurm_jobs import Names, Settings


class Slurm:
    """Keeps jobs; `fails` names commands that fail."""

    def __init__(self, store: Path) -> None:
        self.names = Names.of(store.resolve())
        self.tasks: dict[str, int] = {}  # array job -> tasks left
        self.certify: dict[str, list[str]] = {}  # job -> what it waits for
        self.began: set[str] = set()  # certifying jobs that cannot be changed any more
        self.fails: set[str] = set()
        self.calls: list[str] = []
        self._last = 0

    def __call__(self, command: Sequence[str], given: bytes) -> str:
        name = command[0]
        self.calls.append(name)
        if name in self.fails:
            raise SlurmError(f"{name} failed (1): no")
        if name == "squeue":
            lines = [
                f"{self.names.workers}|{job}|RUNNING"
                for job, n in self.tasks.items()
                for _ in range(n)
            ]
            lines += [f"{self.names.certify}|{job}|PENDING" for job in self.certify]
            return "\n".join(lines)
        if name == "scontrol":
            job = command[2].removeprefix("JobId=")
            if job in self.began:
                raise SlurmError("scontrol failed (1): Job is no longer pending")
            self.certify[job] = command[3].partition(":")[2].split(":")
            return ""
        assert name == "sbatch"
        assert given.startswith(b"#!/bin/bash\n")
        self._last += 1
        job = str(self._last)
        array = [word for word in command if word.startswith("--array=0-")]
        if array:
            self.tasks[job] = int(array[0].removeprefix("--array=0-").partition("%")[0]) + 1
        else:
            waits = [word for word in command if word.startswith("--dependency=afterany:")]
            self.certify[job] = waits[0].partition(":")[2].split(":") if waits else []
        return f"{job}\n"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with filled rows and open ones."""
    path = filled_store(tmp_path / "run.zarr").path
    append(open_store(path), "more", 100)
    return path


@pytest.fixture
def queue(store: Path) -> Slurm:
    return Slurm(store)


def launched(store: Path, queue: Slurm, workers: int = 4, **options: bool) -> LaunchReport:
    return launch(
        store, config=WorkerConfig(), settings=Settings(workers=workers), run=queue, **options
    )


def test_one_array_and_one_job_that_waits_for_it(store: Path, queue: Slurm) -> None:
    report = launched(store, queue)
    assert (report.submitted, report.array_job, report.certify_job) == (4, "1", "2")
    assert queue.tasks == {"1": 4}
    assert queue.certify == {"2": ["1"]}
    assert (store.with_name("run.zarr.vnp") / "logs").is_dir(), "Slurm does not make it"


def test_again_adds_nothing(store: Path, queue: Slurm) -> None:
    launched(store, queue)
    report = launched(store, queue)
    assert (report.there, report.submitted, report.certify_job) == (4, 0, "2")
    assert queue.tasks == {"1": 4}
    assert list(queue.certify) == ["2"]


def test_again_tops_up_and_the_same_job_waits_for_all(store: Path, queue: Slurm) -> None:
    launched(store, queue)
    queue.tasks["1"] = 1
    report = launched(store, queue)
    assert (report.there, report.submitted, report.array_job) == (1, 3, "3")
    assert queue.certify == {"2": ["1", "3"]}


def test_a_certifying_job_that_began_is_followed_by_another(store: Path, queue: Slurm) -> None:
    launched(store, queue)
    queue.tasks["1"] = 1
    queue.began.add("2")
    assert launched(store, queue).certify_job == "4"
    assert queue.certify["4"] == ["1", "3"]


def test_a_launch_that_was_killed_half_way_is_finished_by_the_next(
    store: Path, queue: Slurm
) -> None:
    launched(store, queue)
    del queue.certify["2"]
    report = launched(store, queue)
    assert (report.submitted, report.certify_job) == (0, "3")
    assert queue.certify == {"3": ["1"]}


def test_a_top_up_that_was_killed_half_way_is_waited_for_after_the_next(
    store: Path, queue: Slurm
) -> None:
    launched(store, queue)
    queue.tasks["7"] = 1  # submitted, and then the launch was killed
    report = launched(store, queue)
    assert (report.submitted, report.certify_job) == (0, "2")
    assert queue.certify == {"2": ["1", "7"]}
    queue.began.add("2")  # or is another user's
    assert launched(store, queue).certify_job == "2"
    assert list(queue.certify) == ["2"]


def test_without_squeue_nothing_is_submitted(store: Path, queue: Slurm) -> None:
    queue.fails.add("squeue")
    with pytest.raises(SlurmError, match="squeue failed"):
        launched(store, queue)
    assert queue.calls == ["squeue"]


def test_a_refused_array_leaves_nothing_behind(store: Path, queue: Slurm) -> None:
    queue.fails.add("sbatch")
    with pytest.raises(SlurmError, match=r"^sbatch failed \(1\): no$"):
        launched(store, queue)
    assert not queue.tasks
    assert not queue.certify


def test_a_refused_certifying_job_is_said_with_what_stands(store: Path, queue: Slurm) -> None:
    def run(command: Sequence[str], given: bytes) -> str:
        if "--array=0-3" not in command and command[0] == "sbatch":
            raise SlurmError("sbatch failed (1): no")
        return queue(command, given)

    with pytest.raises(SlurmError, match="array job 1 are submitted.*run the same command again"):
        launch(store, config=WorkerConfig(), settings=Settings(workers=4), run=run)
    assert launched(store, queue).certify_job == "2"


def test_an_answer_that_is_not_a_number_is_refused(store: Path, queue: Slurm) -> None:
    def run(command: Sequence[str], given: bytes) -> str:
        return "Submitted batch job 3" if command[0] == "sbatch" else ""

    with pytest.raises(SlurmError, match="did not answer with the number"):
        launch(store, config=WorkerConfig(), settings=Settings(workers=4), run=run)


def test_two_at_a_time_would_double(
    store: Path, queue: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecar = open_store(store).sidecar.path
    with (
        Participant(sidecar, interval=0.01) as other,
        other.claims.acquire(slurm._LOCK),
        pytest.raises(BusyError, match=slurm._LOCK),
    ):
        launched(store, queue)
    assert not queue.calls
    assert launched(store, queue).submitted == 4


def test_a_filled_store_needs_no_worker_but_is_certified(tmp_path: Path) -> None:
    path = filled_store(tmp_path / "full.zarr").path
    queue = Slurm(path)
    report = launched(path, queue)
    assert (report.submitted, report.certify_job) == (0, "1")
    assert queue.certify == {"1": []}


def test_a_dry_run_changes_nothing(store: Path, queue: Slurm) -> None:
    before = sorted(store.parent.rglob("*"))
    report = launched(store, queue, dry_run=True)
    assert report.dry_run
    assert [job.arguments[-1] for job in report.jobs] == [
        "--array=0-3",
        "--dependency=afterany:ARRAY_JOB",
    ]
    assert queue.calls == ["squeue"]
    queue.fails.add("squeue")
    assert launched(store, queue, dry_run=True).submitted == 4
    assert sorted(store.parent.rglob("*")) == before


def test_variables_that_choose_other_jobs_do_not_reach_slurm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SQUEUE_STATES", "SQUEUE_FORMAT", "SBATCH_WAIT", "SBATCH_PARTITION"):
        monkeypatch.setenv(name, "x")
    said = run_command(["env"], b"").splitlines()
    assert [line for line in said if "x" in line and line[:2] == "SB"] == ["SBATCH_PARTITION=x"]
    assert not [line for line in said if line.startswith("SQUEUE_")]


def test_a_command_that_is_not_there_or_fails_is_one_line() -> None:
    with pytest.raises(SlurmError, match="is it a node of Slurm"):
        run_command(["no-such-command-of-slurm"], b"")
    with pytest.raises(SlurmError, match=r"^sh failed \(3\): one; two$"):
        run_command(["sh", "-c", "echo one >&2; echo two >&2; exit 3"], b"")
    assert run_command(["cat"], b"as given") == "as given"


def test_the_command_line(
    store: Path, queue: Slurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(slurm, "run_command", queue)
    arguments = ["launch", "slurm", str(store), "--workers", "4", "--gres", "gpu:1", "--json"]
    assert main([*arguments, "--model", "small", "--", "--time", "1:00:00", "-p", "gpu"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["array_job"] == "1"
    array, certify = report["jobs"]
    for job in (array, certify):
        at = job["sbatch"].index("--time")
        assert job["sbatch"][at : at + 4] == ["--time", "1:00:00", "-p", "gpu"]
    assert "--gres=gpu:1" in array["sbatch"]
    assert "worker" in array["script"]
    assert "--model=small" in array["script"]
    assert "--certify --model=small" in certify["script"]
    assert main(["launch", "slurm", str(store), "--workers", "4", "--dry-run"]) == 0
    output = capsys.readouterr()
    assert "no worker is missing: 4 workers there already" in output.out
    queue.fails.add("squeue")
    assert main(["launch", "slurm", str(store), "--workers", "4"]) == 1
    assert "vnp launch: error: squeue failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--", "--array=1"], ["--", "script.sh"], ["--model", "nonsense"]]
)
def test_wrong_usage(
    store: Path, queue: Slurm, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "run_command", queue)
    assert main(["launch", "slurm", str(store), "--workers", "2", *arguments]) == 2
    assert not queue.calls
