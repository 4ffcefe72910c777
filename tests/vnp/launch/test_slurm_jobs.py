"""The jobs of ``vnp launch slurm`` as text: what sbatch gets, and what its script does in bash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from store.errors import UsageError
from vnp.embed.config import WorkerConfig
from vnp.launch.slurm_jobs import (
    Job,
    Names,
    Queue,
    Settings,
    certify_job,
    missing_workers,
    queue_arguments,
    quoted,
    read_queue,
    worker_job,
)

STORE = Path("/scratch/me/run.zarr")
NAMES = Names.of(STORE)
# Prints its arguments, whatever bytes they are.
ARGUMENTS = (sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))")
HOSTILE = [
    "with space.zarr",
    'quote\'s "double".zarr',
    "$(touch owned) `touch owned` ${HOME}.zarr",
    "new\nline; touch owned\n#SBATCH --uid=0\n.zarr",
    "cr\r\nlf\ttab\x07bell.zarr",
    "-n dash.zarr",
    "back\\slash %A {braces} !event!.zarr",
    "ünïcode 病毒.zarr",
    os.fsdecode(b"bytes \xff\xfe.zarr"),
]


def workers(store: Path = STORE, *, queue: Queue = Queue({}), **settings: object) -> Job:  # noqa: B008
    return worker_job(
        store,
        config=WorkerConfig(),
        settings=Settings(**({"workers": 4} | settings)),  # type: ignore[arg-type]
        queue=queue,
        log=store.with_name(store.name + ".vnp") / "logs",
        vnp=ARGUMENTS,
        environment={"PYTHONPATH": "/opt/vnp"},
    )


def certifying(store: Path = STORE, *, after: tuple[str, ...] = (), **settings: object) -> Job:
    return certify_job(
        store,
        config=WorkerConfig(models=("demo_esm2",)),
        settings=Settings(**({"workers": 4} | settings)),  # type: ignore[arg-type]
        after=after,
        log=store.with_name(store.name + ".vnp") / "logs",
        vnp=ARGUMENTS,
        environment={},
    )


def test_an_array_job_of_workers() -> None:
    job = workers(gres="gpu:1", max_running=2, options=("-p", "gpu", "--time=4:00:00"))
    assert job.arguments == (
        "--open-mode=append",
        "--signal=USR1@120",
        "--output=/scratch/me/run.zarr.vnp/logs/slurm-%A_%a.out",
        "--gres=gpu:1",
        "-p",
        "gpu",
        "--time=4:00:00",
        "--requeue",
        "--parsable",
        f"--job-name={NAMES.workers}",
        "--array=0-3%2",
    )


def test_the_certifying_job_waits_for_every_array_and_takes_no_gpu() -> None:
    job = certifying(
        after=("3", "7"), gres="gpu:1", options=("-p", "gpu"), certify_options=("-p", "cpu")
    )
    assert "--dependency=afterany:3:7" in job.arguments
    assert not [word for word in job.arguments if "gres" in word or "array" in word]
    assert job.arguments.index("cpu") > job.arguments.index("gpu"), "the last one counts"
    assert not [word for word in certifying().arguments if "dependency" in word]


def test_jobs_are_named_after_the_path_of_the_store() -> None:
    assert NAMES.workers.startswith("vnp-run.zarr-")
    assert Names.of(Path("/scratch/you/run.zarr")) != NAMES
    for name in HOSTILE:
        assert set(Names.of(Path("/x") / name).workers) < set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
        )


def test_the_queue_is_read_task_by_task() -> None:
    text = (
        f"{NAMES.workers}|3|RUNNING\n{NAMES.workers}|3|COMPLETING\n{NAMES.workers}|9|PENDING\n"
        f"{NAMES.certify}|4|PENDING\n{NAMES.certify}|2|RUNNING\nanother|5|RUNNING\n"
    )
    assert read_queue(text, NAMES) == Queue({"3": 2, "9": 1}, ("4",))
    assert read_queue("", NAMES) == Queue({})
    assert f"--name={NAMES.workers},{NAMES.certify}" in queue_arguments(NAMES)


@pytest.mark.parametrize(
    ("there", "most", "missing", "array"),
    [
        (0, None, 4, "--array=0-3"),
        (3, None, 1, "--array=0-0"),
        (4, None, 0, None),
        (9, None, 0, None),
        (0, 2, 4, "--array=0-3%2"),
        (1, 2, 3, "--array=0-2%1"),
        (2, 2, 0, None),
    ],
)
def test_it_tops_up_and_never_runs_more_than_allowed(
    there: int, most: int | None, missing: int, array: str | None
) -> None:
    queue = Queue({"3": there} if there else {})
    assert missing_workers(Settings(workers=4, max_running=most), queue) == missing
    if array is not None:
        assert workers(queue=queue, max_running=most).arguments[-1] == array


@pytest.mark.parametrize(
    "options",
    [
        ("--array=0-9",),
        ("-a", "0-9"),
        ("-a0-9",),
        ("--job-name", "x"),
        ("-Jx",),
        ("--wrap=rm",),
        ("--wra=rm",),
        ("--test-only",),
        ("--no-requeue",),
        ("-M", "other"),
        ("script.sh",),
        ("--time=1", "script.sh"),
        ("-p", "gpu", "script.sh"),
    ],
)
def test_options_that_are_not_the_users_are_refused(options: tuple[str, ...]) -> None:
    for which in ("options", "certify_options"):
        with pytest.raises(UsageError, match="sbatch"):
            Settings(workers=1, **{which: options})


def test_other_options_are_passed_on() -> None:
    options = ("-p", "gpu", "--time", "4:00:00", "--exclusive", "--mail-user=a@b.c", "-A", "us")
    assert Settings(workers=1, options=options).options == options


@pytest.mark.parametrize("name", HOSTILE)
def test_bash_reads_a_word_back_as_it_was(name: str) -> None:
    word = quoted(name)
    assert "\n" not in word
    assert "\r" not in word
    printed = subprocess.run(
        ["bash", "-c", os.fsencode(f"printf %s {word}")], capture_output=True, check=True
    ).stdout
    assert printed == os.fsencode(name)


class Node:
    """Runs a script as Slurm would, with commands of Slurm that note how they are called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        self._command("srun", 'while [[ $1 == --* ]]; do shift; done; "$@"; exit "$CODE"')
        self._command("squeue", 'echo "squeue $*$SQUEUE_STATES" >> calls; echo "$STATE"')
        self._command("scontrol", 'echo "scontrol $*" >> calls')

    def _command(self, name: str, body: str) -> None:
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def run(self, job: Job, **environment: object) -> subprocess.CompletedProcess[bytes]:
        self.calls.write_text("")
        given = {"SLURM_ARRAY_JOB_ID": "3", "SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_ID": "3"}
        given |= {
            "CODE": "0",
            "STATE": "RUNNING",
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
        }
        given |= {key: str(value) for key, value in environment.items()}
        return subprocess.run(
            ["bash"],
            input=os.fsencode(job.script),
            capture_output=True,
            check=False,
            cwd=self.folder,
            env=given,
        )


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_path_is_one_argument_of_the_worker(node: Node, name: str) -> None:
    path = Path("/scratch") / name
    config = WorkerConfig(weights_dir=Path("/w") / name, plugins=(Path("/p") / name,))
    job = worker_job(
        path,
        config=config,
        settings=Settings(workers=1),
        queue=Queue({}),
        log=Path("/scratch/logs"),
        vnp=ARGUMENTS,
        environment={"PYTHONPATH": name},
    )
    ended = node.run(job)
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert said == ["worker", str(path), *config.to_arguments(), "--json"]
    ended = node.run(certifying(path, options=("--output=out",)))
    said = json.loads(ended.stdout)
    assert said == ["embed", str(path), "--certify", "--model=demo_esm2"]
    assert not (node.folder / "owned").exists()
    assert not [line for line in job.script.splitlines() if line.startswith("#SBATCH")]


def test_paths_do_not_depend_on_where_the_job_starts() -> None:
    config = WorkerConfig(weights_dir=Path("weights"), plugins=(Path("mine.py"),))
    job = worker_job(
        STORE,
        config=config,
        settings=Settings(workers=1),
        queue=Queue({}),
        log=STORE,
        vnp=ARGUMENTS,
        environment={},
    )
    assert f"--weights={Path.cwd() / 'weights'}" in job.script
    assert f"--plugin={Path.cwd() / 'mine.py'}" in job.script


def outputs(name: str, *options: str) -> list[str]:
    """Options of an array job whose logs lie in a folder that say where its output goes."""
    job = worker_job(
        STORE,
        config=WorkerConfig(),
        settings=Settings(workers=1, options=options),
        queue=Queue({}),
        log=Path("/scratch") / name,
        vnp=ARGUMENTS,
        environment={},
    )
    return [word for word in job.arguments if "out" in word]


@pytest.mark.parametrize("name", ["50 % done.zarr", "new\nline.zarr", "cr\r\ttab.zarr"])
def test_the_log_is_beside_the_store(name: str) -> None:
    named = name.replace("%", "%%")
    assert outputs(name) == [f"--output=/scratch/{named}/slurm-%A_%a.out"]


@pytest.mark.parametrize(
    "options",
    [
        ("--output=there/a\nb",),
        ("--output", "out/a\nb"),
        ("-o", "out"),
        ("-oout",),
        ("--ou", "out"),
    ],
)
def test_the_log_is_where_the_user_says(options: tuple[str, ...]) -> None:
    for name in ("run.zarr", "back\\slash.zarr"):
        assert outputs(name, *options) == [word for word in options if "out" in word]


def test_a_folder_that_slurm_cannot_name_is_refused_without_an_output() -> None:
    with pytest.raises(UsageError, match=r"backslash.*--output=FOLDER/slurm-%A_%a.out"):
        outputs("back\\slash.zarr", "--open-mode=truncate")


REPORT = '{"blocks": 2, "signal": "SIGUSR1"}'
NOTHING = '{"blocks": 0, "records": 0, "signal": "SIGUSR1"}'


@pytest.mark.parametrize(
    ("code", "state", "report", "restarts", "requeued"),
    [
        (130, "RUNNING", REPORT, 99, True),
        (130, "RUNNING", NOTHING, 4, True),
        (130, "RUNNING", NOTHING, 5, False),
        (130, "RUNNING", NOTHING.replace("USR1", "TERM"), 5, True),
        (130, "RUNNING", "", 4, True),
        (130, "RUNNING", "", 5, False),
        (138, "RUNNING", "", 4, True),  # SIGUSR1, before it could handle signals
        (138, "RUNNING", "", 5, False),
        (138, "COMPLETING", "", 0, False),
        (130, "COMPLETING", REPORT, 0, False),
        (130, "", REPORT, 0, False),
        (0, "RUNNING", REPORT, 0, False),
        (1, "RUNNING", REPORT, 0, False),
        (3, "RUNNING", REPORT, 0, False),
        (137, "RUNNING", "", 0, False),
    ],
)
def test_a_stopped_task_requeues_itself_and_nothing_else(
    node: Node, code: int, state: str, report: str, restarts: int, requeued: bool
) -> None:
    job = worker_job(
        STORE,
        config=WorkerConfig(),
        settings=Settings(workers=1),
        queue=Queue({}),
        log=STORE,
        vnp=("bash", "-c", f"printf %s {quoted(report)}"),
        environment={},
    )
    counted = {"SLURM_RESTART_COUNT": restarts} if restarts else {}
    ended = node.run(job, CODE=code, STATE=state, **counted)
    assert ended.returncode == code
    assert ended.stdout.decode() == report + "\n"
    calls = node.calls.read_text().splitlines()
    assert ("scontrol requeue 3_1" in calls) == requeued
    stopped = code in (130, 138)
    assert calls[:1] == (["squeue --noheader --jobs=3_1 --format=%T"] if stopped else [])
    in_vain = stopped and state == "RUNNING" and not requeued
    assert (b"raise --time" in ended.stderr) == in_vain


def test_a_worker_is_a_step_that_keeps_its_cpus(node: Node) -> None:
    (node.folder / "bin/srun").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    said = node.run(workers(), SLURM_CPUS_PER_TASK=8).stdout.decode().splitlines()
    assert said[:2] == ["--export=ALL", "--cpus-per-task=8"]
    assert "--cpus-per-task" not in node.run(workers()).stdout.decode()


def test_a_job_prints_as_what_one_would_type(node: Node) -> None:
    node._command("sbatch", 'printf "%s\\n" "$@" > arguments; cat > script')
    job = workers(Path("/scratch/a b's.zarr"))
    subprocess.run(
        ["bash", "-c", str(job)],
        check=True,
        cwd=node.folder,
        env={"PATH": f"{node.folder}/bin:{os.environ['PATH']}"},
    )
    assert (node.folder / "arguments").read_text().splitlines() == list(job.arguments)
    assert (node.folder / "script").read_text() == job.script
