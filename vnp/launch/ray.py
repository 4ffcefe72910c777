"""``vnp launch ray``: one plain task a worker on a Ray cluster; claims are the schedule.

A task is a whole worker, not a block::

    driver                                     nodes
    certify, submit N tasks  --------------->  work(): a Worker in the task's process
    watch the store, show progress             claim, embed, publish ... until nothing is left
    Ctrl-C: cancel the tasks --------------->  the worker releases its blocks and ends
    certify, exit code       <---------------  its report

So Ray moves no rows and knows no blocks. It starts a task again, elsewhere, when its node or its
process is lost; what a lost worker held is taken over by the others, as everywhere. KubeRay and
SkyPilot run the same command on a cluster of Ray that they make.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from store.errors import StoreError, UsageError
from store.io.optional import require
from store.open import open_store
from store.store import Store
from vnp.embed.config import WorkerConfig
from vnp.embed.fill import EmbedReport, fill
from vnp.embed.report import WorkerReport, described
from vnp.embed.status import watching

log = logging.getLogger(__name__)

RETRIES = 10  # times Ray starts a worker again whose node or process is lost
_LOOK = 0.5  # seconds between two looks at the tasks, and in a task at whether it is to stop
_GRACE = 5.0  # seconds for workers to end after the last block is filled


@dataclass(frozen=True, slots=True)
class Share:
    """What the tasks ask of the cluster.

    Raises
    ------
    UsageError
        If Ray cannot give that.
    """

    workers: int
    gpus: float = 1.0  # of a worker; 0: it embeds on the CPU
    cpus: int = 1  # of a worker, and its CPU threads unless those are told
    retries: int = RETRIES

    def __post_init__(self) -> None:
        if self.gpus < 0 or (self.gpus > 1 and self.gpus != int(self.gpus)):
            raise UsageError(
                f"{self.gpus:g} GPUs a worker: Ray gives a whole number, or less than one to share"
            )


def launch(
    path: Path,
    *,
    config: WorkerConfig,
    share: Share,
    address: str | None = None,
    code_of: Callable[[BaseException], int],
) -> EmbedReport:
    """Fill a store by tasks of a Ray cluster, and certify it.

    A store that is complete is certified and no more: the cluster is not even called.

    Parameters
    ----------
    path
        The store, under a path that is the same on every node.
    config
        How each worker goes about its work; files it names have to be there on every node.
    share
        How many workers, and what of the cluster each takes.
    address
        Of the cluster; None: ``RAY_ADDRESS``, else the one that runs on this machine.
    code_of
        Exit code of a worker that this error ended.

    Raises
    ------
    UsageError, StoreError
        If Ray is missing, no cluster answers, or the store or a model does not exist.
    """
    ray = require("ray", for_what="vnp launch ray")
    store = open_store(path)
    config = replace(
        config.for_store(store.schema),
        device="cpu" if share.gpus == 0 and config.device == "auto" else config.device,
        threads=config.threads or share.cpus,
        # A task begins in a folder of its own.
        weights_dir=config.weights_dir and config.weights_dir.absolute(),
        plugins=tuple(plugin.absolute() for plugin in config.plugins),
    )
    # Ray prints what nodes and workers print; standard output is for the result.
    with contextlib.redirect_stdout(sys.stderr), _connections(ray, address) as connect:
        team = _Tasks(ray, connect, share=share, code_of=code_of)
        return fill(
            store, team=team, models=config.models, configs=lambda: (config,) * share.workers
        )


def work(path: Path, config: WorkerConfig) -> dict[str, Any]:
    """Run a worker in the process of a task; return its report as JSON.

    Ray cancels a task by an exception in its main thread, and ends a node's by another: either
    tells the worker to stop, which releases what it holds.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(_run_worker, path, config, stop)
        while True:
            try:
                return _result(running).to_json()
            except (KeyboardInterrupt, SystemExit) as told:
                stop.set()
                print("vnp: told to stop", file=sys.stderr, flush=True)
                if isinstance(told, SystemExit):  # the node ends; the task starts again elsewhere
                    _result(running)
                    raise


def _run_worker(path: Path, config: WorkerConfig, stop: threading.Event) -> WorkerReport:
    from vnp.embed.worker import Worker

    return Worker(path, config=config, stop=stop).run()


def _result(running: Future[WorkerReport]) -> WorkerReport:
    """Wait for a worker; an exception that Ray raises here is seen after the next look."""
    while True:
        with contextlib.suppress(NotYetError):
            return running.result(_LOOK)


class _Tasks:
    """The tasks of one ``vnp launch ray``: a team of `vnp.embed.fill`."""

    def __init__(
        self,
        ray: Any,
        connect: Callable[[], None],
        *,
        share: Share,
        code_of: Callable[[BaseException], int],
    ) -> None:
        self.codes: list[int] = []
        self._ray = ray
        self._connect = connect
        self._share = share
        self._code_of = code_of
        self._asked = 0  # times it was told to stop

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._asked > 0

    def stop(self, _number: int, _frame: object) -> None:
        """Note it: Ray is not called from within a signal's handler."""
        self._asked += 1

    def work(
        self, store: Store, configs: tuple[WorkerConfig, ...], reports: list[dict[str, Any]]
    ) -> list[str]:
        """Run a task for each configuration until all have ended; return what went wrong."""
        self._connect()
        self._say_what_is_missing()
        share, problems = self._share, []
        task = self._ray.remote(
            num_gpus=share.gpus,
            num_cpus=share.cpus,
            max_retries=share.retries,
            scheduling_strategy="SPREAD",
        )(work)
        self.codes = []
        with watching(store, models=configs[0].models):
            left = {}
            for number, config in enumerate(configs, start=1):
                name = f"worker {number}"
                left[task.options(name=f"vnp {name}").remote(store.path, config)] = name
            cancelled, filled, latest = False, False, time.monotonic()
            while left and self._asked < 2:
                done, _ = self._ray.wait(list(left), timeout=_LOOK)
                for ref in done:
                    problems += self._ended(ref, left.pop(ref), reports, cancelled=cancelled)
                if done:
                    filled, latest = _is_filled(store, configs[0].models), time.monotonic()
                # Those at work end by themselves and tell what they did; those that still wait for
                # a GPU would find nothing to do.
                over = filled and time.monotonic() - latest >= _GRACE
                if left and not cancelled and (self.stopping or over):
                    cancelled = True
                    for ref in left:
                        self._ray.cancel(ref)
            for ref in left:
                self._ray.cancel(ref, force=True)
        return problems

    def _ended(
        self, ref: Any, name: str, reports: list[dict[str, Any]], *, cancelled: bool
    ) -> list[str]:
        """Take in how a task ended; return what went wrong."""
        errors = self._ray.exceptions
        try:
            report = self._ray.get(ref)
        except errors.TaskCancelledError:
            return [] if cancelled else [f"{name} was cancelled by somebody else"]
        except errors.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            self.codes.append(self._code_of(cause))
            kind = "" if isinstance(cause, StoreError) else f"{type(cause).__name__}: "
            return [f"{name} ended with an error: {kind}{_brief(cause)}"]
        except errors.RayError as error:
            self.codes.append(self._code_of(error))
            often = f"{self._share.retries + 1:,} times"
            return [f"{name} was lost {often}: {type(error).__name__}: {_brief(error)}"]
        self.codes.append(0)
        reports.append(report)
        return [described(failure) for failure in report["failures"]]

    def _say_what_is_missing(self) -> None:
        """Say if no node could ever run a task; one that could may still join."""
        wanted = {"GPU": self._share.gpus, "CPU": self._share.cpus}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(all(node.get(kind, 0) >= wanted[kind] for kind in wanted) for node in nodes):
            asked = f"{wanted['GPU']:g} GPUs and {wanted['CPU']:g} CPUs"
            log.warning(
                f"none of the cluster's nodes has the {asked} that a worker asks for: waiting for "
                "one that has, or for Ctrl-C"
            )


def _is_filled(store: Store, models: tuple[str, ...]) -> bool:
    store.refresh()
    return not any(len(store.open_blocks(model)) for model in models)


def _brief(error: BaseException) -> str:
    """The first line of an error, or its kind."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def _connections(ray: Any, address: str | None) -> Iterator[Callable[[], None]]:
    """Give what connects to a cluster once it is called; what it made is undone at the end."""
    ours = False

    def connect() -> None:
        nonlocal ours
        if ray.is_initialized():  # by the program that calls, or a moment ago
            return
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=address or "auto", logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = f"at {address}" if address else "here: start one (ray start --head)"
            raise UsageError(
                f"no Ray cluster answers {where}, or say with --address where it is "
                f"({_brief(error)})"
            ) from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)  # Ray puts its own there
        ours = True

    try:
        yield connect
    finally:
        if ours:
            ray.shutdown()
