"""The main job: start a worker per device, watch, certify, start again what died.

It coordinates nothing: the workers share the store through claims, and workers started
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
from dataclasses import replace
from pathlib import Path
from typing import Any

from store.errors import UsageError
from store.io.concurrent import processors
from store.location import Location
from store.open import open_store
from store.store import Store
from vnp.embed.config import WorkerConfig
from vnp.embed.fill import EmbedReport, fill
from vnp.embed.in_process import InProcess
from vnp.embed.progress import WARNING_PREFIX
from vnp.embed.report import described
from vnp.embed.status import watching
from vnp.inference.gpus import count_gpus
from vnp.models.extra import require_embed

log = logging.getLogger(__name__)

_ERROR = "vnp worker: error: "  # before the one message of a worker that an error ended
_LONGEST_REASON = 500  # characters of it that are repeated


def embed_store(
    path: Location,
    *,
    config: WorkerConfig,
    workers: int | None,
    in_process: bool = False,
    check_threads: int | None = None,
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
    check_threads
        How many threads certify blocks; None: as many as the file system's latency asks for.

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
    return fill(
        store,
        team=InProcess() if in_process else _Team(),
        models=config.models,
        configs=lambda: configs_of_workers(config, 1 if in_process else workers),
        check_threads=check_threads,
    )


def configs_of_workers(config: WorkerConfig, workers: int | None) -> tuple[WorkerConfig, ...]:
    """Give each worker a device, every GPU in turn or else the CPU, and its share of the threads.

    Without a number of workers there is one per GPU, or one on the CPU.
    """
    devices = [config.device] * (workers or 1)
    if config.device in ("auto", "cuda"):
        gpus = count_gpus()
        if gpus:
            devices = [f"cuda:{number % gpus}" for number in range(workers or gpus)]
    threads = max(1, processors() // len(devices))
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
            said = [_LastWords() for _ in configs]
            readers = [
                threading.Thread(target=target, args=arguments, daemon=True)
                for process, name, output, words in zip(
                    self._processes, names, outputs, said, strict=True
                )
                for target, arguments in (
                    (_relay, (process, name, words)),
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
        for code, name, output, words in zip(self.codes, names, outputs, said, strict=True):
            report = _last_json(output)
            if report is not None:
                reports.append(report)
                problems += map(described, report.get("failures", []))
            elif not self.stopping:
                how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                problems.append(f"{name} ended with {how}{words.reason()}")
        return problems


def _start(path: Location, config: WorkerConfig) -> subprocess.Popen[str]:
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


class _LastWords:
    """Why a worker ended, by what it said: its error, or its last line where it died without."""

    def __init__(self) -> None:
        self._error = self._last = ""

    def hear(self, line: str) -> None:
        """Take note of a line."""
        if line.startswith(_ERROR):
            self._error = line.removeprefix(_ERROR)
        self._last = line or self._last

    def reason(self) -> str:
        """The reason as the end of a sentence, in printable characters; empty without one."""
        words = "".join(c if c.isprintable() else " " for c in self._error or self._last)
        if len(words) > _LONGEST_REASON:
            words = words[:_LONGEST_REASON] + "..."
        return f": {words}" if words else ""


def _relay(process: subprocess.Popen[str], name: str, words: _LastWords) -> None:
    """Say what a worker says, at the level at which it says it."""
    assert process.stderr is not None
    with process.stderr as lines:
        for line in lines:
            words.hear(line.rstrip())
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
