"""The two Slurm jobs of a store as command lines and scripts; nothing is run or read here.

::

    array job vnp-run.zarr-3f0c22a1b9              one task a worker
        task i: srun vnp worker  --signal USR1-->  releases its blocks, ends with 130
                                 <--- requeued by Slurm (node lost, preempted) or by its script
    job vnp-certify-run.zarr-3f0c22a1b9            afterany: when no task is left
        vnp embed --certify                        its exit code is the promised one

Jobs are found again by their names, which a digest of the store's path makes its own.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from store.errors import UsageError
from store.location import Location
from vnp.embed.config import WorkerConfig

_SIGNAL_SECONDS = 120  # between the signal and the end of the time limit
_VAIN_RESTARTS = 5  # after so many, a task that was stopped before it filled a block ends
# What the jobs are found by, or how they are submitted, is not left to the user. Slurm takes any
# beginning of a long option that is unique.
_OURS = {
    "--array": "--workers and --max-running say which tasks there are",
    "--job-name": "jobs are found again by their names",
    "--wrap": "the script is vnp's",
    "--parsable": "vnp reads the answer",
    "--test-only": "--dry-run shows what would be submitted",
    "--no-requeue": "a task that is not requeued leaves its rows to the others: scancel it instead",
    "--clusters": "set SLURM_CLUSTERS, so that squeue looks there too",
}
_SHORT = {"-a": "--array", "-J": "--job-name", "-M": "--clusters"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user asks of ``vnp launch slurm``.

    Raises
    ------
    UsageError
        If an option of sbatch is one that vnp gives, or a word is not an option's.
    """

    workers: int  # tasks that shall be there, pending ones included
    gres: str | None = None  # of a task, such as "gpu:1"
    max_running: int | None = None  # tasks at a time; None: as many as Slurm starts
    options: tuple[str, ...] = ()  # of sbatch, for both jobs
    certify_options: tuple[str, ...] = ()  # of sbatch, for the certifying job, after those

    def __post_init__(self) -> None:
        _require_options(self.options)
        _require_options(self.certify_options)


@dataclass(frozen=True, slots=True)
class Names:
    """Names of a store's jobs."""

    workers: str
    certify: str

    @classmethod
    def of(cls, store: Location) -> Names:
        """Name the jobs of a store after its (resolved) path."""
        digest = hashlib.blake2b(os.fsencode(str(store)), digest_size=5).hexdigest()
        name = re.sub(r"[^A-Za-z0-9._-]", "_", store.name)[:40]
        return cls(f"vnp-{name}-{digest}", f"vnp-certify-{name}-{digest}")


@dataclass(frozen=True, slots=True)
class Queue:
    """Jobs of a store that Slurm has not ended, as `read_queue` reads them."""

    tasks: Mapping[str, int]  # array job -> its tasks, pending ones included
    certify: tuple[str, ...] = ()  # certifying jobs that have not begun

    @property
    def workers(self) -> int:
        """Tasks over all array jobs."""
        return sum(self.tasks.values())


@dataclass(frozen=True, slots=True)
class Job:
    """A job to submit: what ``sbatch`` gets as arguments and on standard input."""

    arguments: tuple[str, ...]  # of sbatch
    script: str

    def __str__(self) -> str:
        """As one would type it, to read or to paste."""
        marker = "END-OF-SCRIPT"
        command = " ".join(map(quoted, ["sbatch", *self.arguments]))
        return f"{command} <<'{marker}'\n{self.script}{marker}\n"


def queue_arguments(names: Names) -> list[str]:
    """Arguments of ``squeue`` for `read_queue`: the jobs of a store, of whichever user."""
    wanted = f"--name={names.workers},{names.certify}"
    return ["--noheader", "--array", wanted, "--format=%j|%F|%T"]


def read_queue(text: str, names: Names) -> Queue:
    """Read what ``squeue`` printed; a task that is ending counts, for it may be requeued."""
    tasks: dict[str, int] = {}
    certify: list[str] = []
    for line in text.splitlines():
        name, _, rest = line.strip().partition("|")
        job, _, state = rest.partition("|")
        if name == names.workers:
            tasks[job] = tasks.get(job, 0) + 1
        elif name == names.certify and state == "PENDING":
            certify.append(job)
    return Queue(tasks, tuple(certify))


def missing_workers(settings: Settings, queue: Queue) -> int:
    """How many tasks to submit beside those that are there."""
    if settings.max_running is not None and queue.workers >= settings.max_running:
        return 0  # none could start before one of those has ended
    return max(settings.workers - queue.workers, 0)


def worker_job(
    store: Location,
    *,
    config: WorkerConfig,
    settings: Settings,
    queue: Queue,
    log: Path,
    vnp: Sequence[str],
    environment: Mapping[str, str],
) -> Job:
    """Plan the array job of the workers that are missing; there must be some.

    Parameters
    ----------
    store
        Its resolved path.
    config
        Of each worker.
    settings
        What the user asks for.
    queue
        What is there already.
    log
        Folder for the output of the jobs.
    vnp
        The command line of vnp on the nodes, without a command.
    environment
        Variables that it needs, set by the script whatever sbatch passes on.
    """
    missing = missing_workers(settings, queue)
    assert missing > 0
    limit = ""
    if settings.max_running is not None:
        limit = f"%{settings.max_running - queue.workers}"
    arguments = [
        "--open-mode=append",
        f"--signal=USR1@{_SIGNAL_SECONDS}",
        *_output(log, "slurm-%A_%a.out", settings.options),
        *([f"--gres={settings.gres}"] if settings.gres else []),
        *settings.options,
        # The last one counts: these hold whatever stands in a user's options.
        "--requeue",
        "--parsable",
        f"--job-name={Names.of(store).workers}",
        f"--array=0-{missing - 1}{limit}",
    ]
    work = [*vnp, "worker", str(store), *_located(config).to_arguments(), "--json"]
    script = _WORKER_SCRIPT.format(
        environment=_exports(environment),
        command=" ".join(map(quoted, work)),
        vain=_VAIN_RESTARTS,
    )
    return Job(tuple(arguments), script)


def certify_job(
    store: Location,
    *,
    config: WorkerConfig,
    settings: Settings,
    after: Sequence[str],
    log: Path,
    vnp: Sequence[str],
    environment: Mapping[str, str],
) -> Job:
    """Plan the job that certifies once the array jobs ``after`` have ended, however they did."""
    arguments = [
        "--open-mode=append",
        *_output(log, "slurm-certify-%j.out", settings.options + settings.certify_options),
        *settings.options,
        *settings.certify_options,
        "--requeue",
        "--parsable",
        f"--job-name={Names.of(store).certify}",
        *([dependency(after)] if after else []),
    ]
    work = [*vnp, "embed", str(store), "--certify", *(f"--model={name}" for name in config.models)]
    script = _CERTIFY_SCRIPT.format(
        environment=_exports(environment), command=" ".join(map(quoted, work))
    )
    return Job(tuple(arguments), script)


def dependency(after: Sequence[str]) -> str:
    """Return the option that has a job wait until others have ended.

    A worker that was stopped ends with 130 and one that could not fill a block with 3, so that
    ``afterok`` might never come true.
    """
    return f"--dependency=afterany:{':'.join(after)}"


def quoted(word: str) -> str:
    """Return a word as bash reads it back, on one line; sbatch refuses carriage returns."""
    if word.isprintable():
        return shlex.quote(word)
    raw = os.fsencode(word)
    return "$'" + "".join(_escaped(byte) for byte in raw) + "'"


def _escaped(byte: int) -> str:
    plain = 0x20 <= byte < 0x7F and byte not in b"'\\"
    return chr(byte) if plain else f"\\x{byte:02x}"


def _exports(environment: Mapping[str, str]) -> str:
    return "".join(f"export {name}={quoted(value)}\n" for name, value in environment.items())


def _output(log: Path, name: str, options: Sequence[str]) -> list[str]:
    """Where a job's output goes, unless the user says it."""
    for word in options:
        flag = word.partition("=")[0]
        if word.startswith("-o") or (len(flag) > 3 and "--output".startswith(flag)):
            return []
    folder = str(log)
    if "\\" in folder:  # Slurm reads it as an escape, and the job fails
        raise UsageError(
            f"Slurm cannot write its output below {folder}, for the backslash in it: say where it "
            f"goes with -- --output=FOLDER/{name}"
        )
    return [f"--output={folder.replace('%', '%%')}/{name}"]


def _located(config: WorkerConfig) -> WorkerConfig:
    """The same wherever the job starts."""
    folder = config.weights_dir
    return replace(
        config,
        weights_dir=None if folder is None else folder.absolute(),
        plugins=tuple(path.absolute() for path in config.plugins),
    )


def _require_options(words: Sequence[str]) -> None:
    for number, word in enumerate(words):
        name, given, _ = word.partition("=")
        if not word.startswith("-"):
            before = words[number - 1] if number else ""
            if not before.startswith("-") or "=" in before:
                raise UsageError(
                    f"{word!r} is not an option of sbatch, and would be a script to it; give "
                    "options only, such as -- --partition=gpu --time=4:00:00"
                )
            continue
        short = _SHORT.get(word[:2]) if not word.startswith("--") else None
        beginnings = [flag for flag in _OURS if len(name) > 3 and flag.startswith(name)]
        for flag in [short] if short else beginnings:
            raise UsageError(f"{name if given else word} cannot be given to sbatch: {_OURS[flag]}")


_WORKER_SCRIPT = """\
#!/bin/bash
# A worker of a vnp store; made by `vnp launch slurm`.
{environment}\
# SLURM_JOB_ID is the whole array's for one of its tasks.
task="${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
# As a job step, for only steps get the signal; a step is not told --cpus-per-task by itself.
report=$(srun --export=ALL ${{SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"}} \\
  {command})
code=$?
printf '%s\\n' "$report"
unset "${{!SQUEUE_@}}"  # they would choose other jobs
# 130, or 138 as it began: it was told to stop, and rows may be open. Once more, unless the job was
# cancelled, or its time limit ends it again and again before it has filled a block.
if [[ $code = 13[08] && $(squeue --noheader --jobs="$task" --format=%T) = RUNNING ]]; then
  vain=no
  case $report in
    "" | *'"blocks": 0,'*'"signal": "SIGUSR1"'*) vain=yes ;;
  esac
  if [ $vain = yes ] && [ "${{SLURM_RESTART_COUNT:-0}}" -ge {vain} ]; then
    echo "vnp: not requeued: it was stopped before it filled a block; raise --time" >&2
  else
    scontrol requeue "$task"
  fi
fi
exit "$code"
"""
_CERTIFY_SCRIPT = """\
#!/bin/bash
# Certifies a vnp store when its workers have ended; made by `vnp launch slurm`.
{environment}\
exec {command}
"""
