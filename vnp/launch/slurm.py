"""``vnp launch slurm``: what asks Slurm, submits, and reports; the jobs are planned elsewhere.

Nothing runs on after it: Slurm keeps the jobs, and claims are the schedule.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.claims.participant import Participant
from store.errors import StoreError
from store.io.files import make_dir
from store.io.words import count
from store.location import Location
from store.open import open_store
from vnp.embed.config import WorkerConfig
from vnp.embed.fill import require_rows
from vnp.launch import slurm_jobs
from vnp.launch.slurm_jobs import Job, Names, Queue, Settings

log = logging.getLogger(__name__)

_LOCK = "launch-slurm"  # of a store: two launches at a time would both top up
_PATIENCE = 300  # seconds until a command of Slurm's that does not answer is given up

# Runs a command line with a standard input, and returns what it printed.
Run = Callable[[Sequence[str], bytes], str]


class SlurmError(StoreError):
    """A command of Slurm failed, or is not there (exit code 1)."""


@dataclass(frozen=True, slots=True)
class LaunchReport:
    """What ``vnp launch slurm`` did, or with ``dry_run`` would do."""

    store: str
    name: str  # of the array jobs
    open_blocks: int  # over all models that are to be filled
    there: int  # workers that were running or queued
    submitted: int  # workers added to them
    array_job: str | None  # theirs; None: none was needed, or none is submitted
    certify_job: str | None  # that certifies at the end
    jobs: tuple[Job, ...]  # that were submitted, or would be
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        said = {name: getattr(self, name) for name in self.__slots__ if name != "jobs"}
        jobs = [{"sbatch": list(job.arguments), "script": job.script} for job in self.jobs]
        return said | {"jobs": jobs}


def launch(
    path: Location,
    *,
    config: WorkerConfig,
    settings: Settings,
    dry_run: bool = False,
    run: Run | None = None,
) -> LaunchReport:
    """Have Slurm run workers until a store is filled, then certify it.

    What an earlier call submitted and Slurm has not ended counts: this one adds what is missing.

    Parameters
    ----------
    path
        The store.
    config
        Of each worker.
    settings
        How many workers, and what they ask of Slurm.
    dry_run
        Submit nothing and change nothing.
    run
        Runs commands of Slurm.

    Raises
    ------
    UsageError, DataError
        If the store or a model does not exist.
    BusyError
        If somebody launches workers of this store at this moment.
    SlurmError
        If Slurm cannot be asked, or refuses a job; without a word of what runs already nothing is
        submitted.
    """
    run = run or run_command
    store = open_store(path)
    require_rows(store)
    models = config.models or tuple(model.name for model in store.schema.models)
    left = sum(len(store.open_blocks(store.schema.model(model).name)) for model in models)
    if 0 < left < settings.workers:
        log.warning(f"only {count(left, 'block')} open: the other workers will have nothing to do")
    place = store.path.resolve() if isinstance(store.path, Path) else store.path
    launcher = _Launcher(place, config, settings, left, run, store.sidecar.logs.absolute())
    if dry_run:
        return launcher.plan()
    make_dir(launcher.logs, durable=False)  # Slurm makes none
    with Participant(store.sidecar.make().room) as participant, participant.claims.acquire(_LOCK):
        return launcher.submit()


@dataclass(frozen=True, slots=True)
class _Launcher:
    """One call."""

    store: Location
    config: WorkerConfig
    settings: Settings
    open_blocks: int
    run: Run
    logs: Path

    def plan(self) -> LaunchReport:
        """Say what would be submitted; without a Slurm to ask, as if nothing were there."""
        try:
            queue = self._queue()
        except SlurmError as error:
            log.warning(f"{error}; shown is what would be submitted if none of its jobs is there")
            queue = Queue({})
        jobs, after = [], list(queue.tasks)
        if self._missing(queue):
            jobs.append(self._worker_job(queue))
            after.append("ARRAY_JOB")
        if not queue.certify:
            jobs.append(self._certify_job(after))
        return self._report(queue, jobs, dry_run=True)

    def submit(self) -> LaunchReport:
        """Submit what is missing."""
        queue = self._queue()
        jobs, after, array_job = [], list(queue.tasks), None
        if missing := self._missing(queue):
            jobs.append(self._worker_job(queue))
            array_job = self._sbatch(jobs[-1])
            after.append(array_job)
            log.info(f"array job {array_job}: {count(missing, 'worker')}")
        # Also without a new array: a launch that was killed may have added one just before this.
        certify_job = self._await(queue.certify, after) if after else None
        if certify_job is None and array_job is None:
            certify_job = next(iter(queue.certify), None)
        if certify_job is None:
            jobs.append(self._certify_job(after))
            try:
                certify_job = self._sbatch(jobs[-1])
            except SlurmError as error:
                raise SlurmError(
                    f"{error}. The workers of array job {array_job} are submitted, the job that "
                    "certifies is not: run the same command again for it"
                    if array_job
                    else str(error)
                ) from error
        return self._report(queue, jobs, array_job=array_job, certify_job=certify_job)

    def _missing(self, queue: Queue) -> int:
        return slurm_jobs.missing_workers(self.settings, queue) if self.open_blocks else 0

    def _queue(self) -> Queue:
        names = Names.of(self.store)
        text = self.run(["squeue", *slurm_jobs.queue_arguments(names)], b"")
        return slurm_jobs.read_queue(text, names)

    def _await(self, certify: Sequence[str], after: Sequence[str]) -> str | None:
        """Have a certifying job that is there wait for all workers; None if none does."""
        for job in certify:
            update = ["scontrol", "update", f"JobId={job}", slurm_jobs.dependency(after)[2:]]
            try:
                self.run(update, b"")
            except SlurmError as error:  # it began this moment, or is another user's
                log.warning(f"job {job} certifies perhaps before all workers have ended: {error}")
            else:
                return job
        return None

    def _sbatch(self, job: Job) -> str:
        said = self.run(["sbatch", *job.arguments], os.fsencode(job.script))
        number = said.strip().partition(";")[0]  # after it the cluster's name
        if not number.isdecimal():
            raise SlurmError(f"sbatch did not answer with the number of a job but with {said!r}")
        return number

    def _worker_job(self, queue: Queue) -> Job:
        return slurm_jobs.worker_job(
            self.store,
            config=self.config,
            settings=self.settings,
            queue=queue,
            log=self.logs,
            vnp=_VNP,
            environment=_environment(),
        )

    def _certify_job(self, after: Sequence[str]) -> Job:
        return slurm_jobs.certify_job(
            self.store,
            config=self.config,
            settings=self.settings,
            after=after,
            log=self.logs,
            vnp=_VNP,
            environment=_environment(),
        )

    def _report(
        self,
        queue: Queue,
        jobs: Sequence[Job],
        *,
        array_job: str | None = None,
        certify_job: str | None = None,
        dry_run: bool = False,
    ) -> LaunchReport:
        return LaunchReport(
            store=str(self.store),
            name=Names.of(self.store).workers,
            open_blocks=self.open_blocks,
            there=queue.workers,
            submitted=self._missing(queue),
            array_job=array_job,
            certify_job=certify_job,
            jobs=tuple(jobs),
            dry_run=dry_run,
        )


# -P keeps the folder of submission off the module path: a file store.py in it is data, not code.
_VNP = (sys.executable, "-P", "-m", "vnp")


def _environment() -> dict[str, str]:
    """Variables with which a node finds the very vnp that runs here."""
    ours = str(Path(__file__).resolve().parents[2])
    return {"PYTHONPATH": os.pathsep.join([ours, *filter(None, [os.environ.get("PYTHONPATH")])])}


def run_command(command: Sequence[str], given: bytes) -> str:
    """Run a command of Slurm and return its standard output.

    Raises
    ------
    SlurmError
        If it is not there, does not answer, or fails; with its own words.
    """
    name = command[0]
    try:
        ended = subprocess.run(
            command,
            input=given,
            capture_output=True,
            check=False,
            timeout=_PATIENCE,
            # They would hide jobs from squeue, and have sbatch wait for the job's end.
            env={
                key: value
                for key, value in os.environ.items()
                if not key.startswith("SQUEUE_") and key != "SBATCH_WAIT"
            },
        )
    except FileNotFoundError:
        raise SlurmError(f"{name} is not on this machine's PATH: is it a node of Slurm?") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{name} did not answer within {_PATIENCE} s") from None
    if ended.returncode:
        said = ended.stderr.decode(errors="replace").strip().replace("\n", "; ")
        raise SlurmError(f"{name} failed ({ended.returncode}): {said or 'it said nothing'}")
    return ended.stdout.decode(errors="replace")
