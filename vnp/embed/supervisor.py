"""The main job: start a worker per device, watch, certify, start again what died.

There is no coordination in it: the workers share the store through claims, and workers started
elsewhere by hand or by a scheduler may fill the same store at the same time. This process shows
progress and certifies every row at the end.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from store.claims.participant import Participant
from store.errors import UsageError
from store.io.words import count
from store.open import open_store
from store.repair import reopen_damaged
from store.store import Store
from vnp.embed.config import WorkerConfig
from vnp.embed.in_process import InProcess
from vnp.embed.progress import WARNING_PREFIX, duration
from vnp.embed.report import described
from vnp.embed.status import read_status, watching
from vnp.models.extra import require_embed

log = logging.getLogger(__name__)

_ROUNDS = 3  # times workers are started: a crash is tried again, a crash that repeats is told


@dataclass(frozen=True, slots=True)
class EmbedReport:
    """How the main job ended."""

    complete: bool  # every row of every model is certified by re-reading the store
    interrupted: bool  # told to stop
    rows: int  # rows of the store
    certified: dict[str, int]  # of these, per model
    problems: tuple[str, ...]  # blocks that were not filled, workers that died
    workers: tuple[dict[str, Any], ...]  # reports of the workers that ended in order
    refused: int | None  # how all workers ended, if in the same way and nothing was filled
    seconds: float

    @property
    def copied(self) -> int:
        """Rows, over all models, that were copied from identical records."""
        return sum(int(worker.get("copied", 0)) for worker in self.workers)

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {**asdict(self), "copied": self.copied, "seconds": round(self.seconds, 3)}


def embed_store(
    path: Path, *, config: WorkerConfig, workers: int | None, in_process: bool = False
) -> EmbedReport:
    """Fill and certify a store.

    Parameters
    ----------
    path
        The store.
    config
        How each worker goes about its work; each gets a device and its share of the CPU threads.
    workers
        How many to start; None: one per GPU, or one on the CPU.
    in_process
        Start none, and be one: errors that end a worker are raised then.

    Raises
    ------
    UsageError, DataError
        If the store or a model does not exist, torch is missing, or several workers are asked for
        in one process.
    """
    require_embed("embedding")
    if workers is not None and (
        isinstance(workers, bool) or not isinstance(workers, int) or workers < 1
    ):
        raise UsageError(
            f"workers is {workers!r}: give a positive whole number, or none for one per GPU"
        )
    store = open_store(path)
    if in_process and workers not in (None, 1):
        raise UsageError(f"{workers} workers need processes of their own: leave in_process out")
    config = config.for_store(store.schema)
    configs = configs_of_workers(config, 1 if in_process else workers)
    return fill(store, team=InProcess() if in_process else _Team(), configs=configs)


class Team(Protocol):
    """Workers, wherever they run."""

    @property
    def stopping(self) -> bool:
        """Whether they were told to stop."""

    @property
    def codes(self) -> list[int]:
        """Exit codes with which the last ones ended."""

    def stop(self, number: int, frame: FrameType | None, /) -> None:
        """Have them release what they hold and end: a signal's handler. The second time, end."""

    def work(
        self, store: Store, configs: tuple[WorkerConfig, ...], reports: list[dict[str, Any]]
    ) -> list[str]:
        """Run a worker for each configuration until all have ended; return what went wrong.

        Reports of those that ended in order are appended to ``reports``.
        """


def fill(store: Store, *, team: Team, configs: tuple[WorkerConfig, ...]) -> EmbedReport:
    """Have a team fill a store, and certify it; all configurations name the same models."""
    models = configs[0].models
    began = time.monotonic()
    reports: list[dict[str, Any]] = []
    problems: list[str] = []
    refused: int | None = None
    at_first = read_status(store, models=models).rows_done
    with _forwarding(team.stop):
        for _ in range(_ROUNDS):
            _reopen_failed(store, models)
            if all(store.certify(model).complete for model in models) or team.stopping:
                break
            before = read_status(store, models=models).rows_done
            problems = team.work(store, configs, reports)
            store.refresh()
            done = read_status(store, models=models).rows_done
            if done == before:
                codes = set(team.codes)
                refused = codes.pop() if len(codes) == 1 and done == at_first else None
                break  # starting them again would only repeat it
    certifications = [store.certify(model) for model in models]
    for certification in certifications:
        problems += [
            f"{certification.model} block {block} was filled but {reason}"
            for block, reason in certification.failed
        ]
    return EmbedReport(
        complete=all(certification.complete for certification in certifications),
        interrupted=team.stopping,
        rows=store.n_rows,
        certified={found.model: found.certified for found in certifications},
        problems=tuple(dict.fromkeys(problems)),
        workers=tuple(reports),
        refused=refused or None,
        seconds=time.monotonic() - began,
    )


def configs_of_workers(config: WorkerConfig, workers: int | None) -> tuple[WorkerConfig, ...]:
    """Give each worker a device, every GPU in turn or else the CPU, and its share of the threads.

    Without a number of workers there is one per GPU, or one on the CPU.
    """
    devices = [config.device] * (workers or 1)
    if config.device in ("auto", "cuda"):
        import torch

        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if gpus:
            devices = [f"cuda:{number % gpus}" for number in range(workers or gpus)]
    threads = max(1, len(os.sched_getaffinity(0)) // len(devices))
    config = replace(config, threads=config.threads or threads)
    return tuple(replace(config, device=device) for device in devices)


class _Team:
    """The worker processes of one ``vnp embed``."""

    def __init__(self) -> None:
        self.stopping = False
        self.codes: list[int] = []  # with which the last workers ended
        self._processes: list[subprocess.Popen[str]] = []

    def stop(self, number: int, _frame: object) -> None:
        """Pass a signal on; the workers release what they hold and end. The second time, kill."""
        if self.stopping:
            number = signal.SIGKILL
        elif number == signal.SIGHUP:  # a worker does not handle it
            number = signal.SIGTERM
        self.stopping = True
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(number)

    def work(
        self, store: Store, configs: tuple[WorkerConfig, ...], reports: list[dict[str, Any]]
    ) -> list[str]:
        """Run a worker for each configuration until all have ended; return what went wrong."""
        names = _names(configs)
        with watching(store, models=configs[0].models):
            self._processes = []
            for config in configs:
                self._processes.append(_start(store.path, config))
            if self.stopping:  # a signal came while they were being started
                for process in self._processes:
                    process.send_signal(signal.SIGTERM)
            outputs: list[list[str]] = [[] for _ in configs]
            readers = [
                threading.Thread(target=target, args=arguments, daemon=True)
                for process, name, output in zip(self._processes, names, outputs, strict=True)
                for target, arguments in (
                    (_relay, (process, name)),
                    (_collect, (process, output)),
                )
            ]
            for reader in readers:
                reader.start()
            self.codes = [process.wait() for process in self._processes]
            for reader in readers:
                reader.join()
            for process in self._processes:
                assert process.stdin is not None
                process.stdin.close()
        problems: list[str] = []
        for code, name, output in zip(self.codes, names, outputs, strict=True):
            report = _last_json(output)
            if report is not None:
                reports.append(report)
                problems += map(described, report.get("failures", []))
            elif not self.stopping:
                how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                problems.append(f"{name} ended with {how}")
        return problems


@contextmanager
def _forwarding(stop: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have signals that ask for an end call ``stop`` while the body runs.

    Python handles signals in the main thread only: in another one there are none to pass on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: it was not Python that set it, and Python cannot set it again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _start(path: Path, config: WorkerConfig) -> subprocess.Popen[str]:
    # -P keeps the current folder off the module path: a file store.py in it is data, not code.
    command = [sys.executable, "-P", "-m", "vnp", "worker", str(path), "--json", "--stop-at-eof"]
    if log.isEnabledFor(logging.DEBUG):
        command.append("--verbose")
    return subprocess.Popen(
        [*command, *config.to_arguments()],
        stdin=subprocess.PIPE,  # stays open while we live: at its end the worker stops
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment(),
        # Ctrl-C reaches the parent alone, which passes it on once.
        start_new_session=True,
    )


def environment() -> dict[str, str]:
    """Environment in which a process of vnp finds the very vnp that runs here."""
    ours = str(Path(__file__).resolve().parents[2])
    paths = [ours, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _relay(process: subprocess.Popen[str], name: str) -> None:
    """Say what a worker says, at the level at which it says it."""
    assert process.stderr is not None
    with process.stderr as lines:
        for line in lines:
            text = line.rstrip().removeprefix("vnp: ")
            warned = text.startswith(WARNING_PREFIX)
            text = text.removeprefix(WARNING_PREFIX)
            log.log(logging.WARNING if warned else logging.INFO, "%s: %s", name, text)


def _collect(process: subprocess.Popen[str], output: list[str]) -> None:
    assert process.stdout is not None
    with process.stdout as lines:
        output += lines


def _names(configs: tuple[WorkerConfig, ...]) -> list[str]:
    if len(configs) == 1:
        return ["worker"]
    return [f"worker {number} ({config.device})" for number, config in enumerate(configs, start=1)]


def _last_json(lines: list[str]) -> dict[str, Any] | None:
    for line in reversed(lines):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and "blocks" in value:
            return value
    return None


def _reopen_failed(store: Store, models: tuple[str, ...]) -> None:
    """Make blocks open again that are filled but fail certification."""
    failed = [(model, block) for model in models for block, _ in store.certify(model).failed]
    if not failed:
        return
    with Participant(store.sidecar.path) as participant:
        for model, block in failed:
            log.warning(reopen_damaged(store, model=model, block=block, claims=participant.claims))


def summary(report: EmbedReport) -> list[str]:
    """Say how it ended, in lines for people."""
    lines = [f"problem: {problem}" for problem in report.problems]
    for model, certified in report.certified.items():
        lines.append(f"{model}: {certified:,} of {count(report.rows, 'row')} certified")
    if report.copied:
        lines.append(f"copied from identical records: {report.copied:,} of these")
    if report.complete and not report.rows:
        lines.append("the store has no rows yet: append a sample")
    elif report.complete:
        lines.append(f"complete: every row is certified ({duration(report.seconds)})")
    elif report.interrupted:
        lines.append("interrupted: run the same command again to carry on")
    else:
        lines.append(
            "incomplete: fix the problems above, then run the same command to fill the rest; "
            "`vnp verify` names what is damaged"
            if report.problems
            else "incomplete: run the same command again to fill the rest"
        )
    return lines
