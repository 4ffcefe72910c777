"""A store is filled by a team of workers, wherever they run, and certified.

The team is started again while that fills rows. A signal stops it in order; nobody but this process
certifies.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any, Protocol

from store.certificate import Certification
from store.claims.participant import Participant
from store.errors import UsageError
from store.io.words import count, first_few
from store.location import Location
from store.open import open_store
from store.repair import reopen_damaged
from store.store import Store
from vnp.embed.config import WorkerConfig
from vnp.embed.progress import duration
from vnp.embed.status import read_status

log = logging.getLogger(__name__)

_ROUNDS = 3  # times workers are started: a crash is tried again, a crash that repeats is told
_TIDIED = 1000  # files of past workers that are looked at in the end


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
    without_records: tuple[str, ...] = ()  # samples, all of a store without a row

    @property
    def copied(self) -> int:
        """Rows, over all models, that were copied from identical records."""
        return sum(int(worker.get("copied", 0)) for worker in self.workers)

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {**asdict(self), "copied": self.copied, "seconds": round(self.seconds, 3)}


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


def fill(
    store: Store,
    *,
    team: Team,
    models: tuple[str, ...],
    configs: Callable[[], tuple[WorkerConfig, ...]],
    check_threads: int | None = None,
) -> EmbedReport:
    """Have a team fill a store, and certify it.

    Parameters
    ----------
    store
        The store.
    team
        Who fills it.
    models
        Which, by the store's own names.
    configs
        Makes the settings of each worker, all of them with these models. Called once workers are
        to be started: to look for devices takes seconds, and a complete store needs none.
    check_threads
        How many threads certify blocks; None: as many as the file system's latency asks for.
    """
    began = time.monotonic()
    reports: list[dict[str, Any]] = []
    problems: list[str] = []
    refused: int | None = None
    at_first = read_status(store, models=models).rows_done
    certifying = False
    settings: tuple[WorkerConfig, ...] = ()

    def certified() -> list[Certification]:
        nonlocal certifying
        certifying = True  # nobody else is at work then
        try:
            return [store.certify(model, threads=check_threads) for model in models]
        finally:
            certifying = False

    def stop(number: int, frame: FrameType | None) -> None:
        team.stop(number, frame)
        if certifying:
            raise KeyboardInterrupt

    with _forwarding(stop):
        certifications = certified()
        for _ in range(_ROUNDS):
            _reopen(store, certifications)
            if all(found.complete for found in certifications) or team.stopping:
                break
            before, told = read_status(store, models=models).rows_done, len(reports)
            settings = settings or configs()
            problems = team.work(store, settings, reports)
            store.refresh()
            certifications = certified()
            done = read_status(store, models=models).rows_done
            if done == before:
                codes = set(team.codes)
                refused = codes.pop() if len(codes) == 1 and done == at_first else None
                break  # starting them again would only repeat it
            left_out = _left_out(reports[told:], workers=len(settings))
            if all(model in left_out or not len(store.open_blocks(model)) for model in models):
                break  # as would this
    Participant(store.sidecar.room).tidy(_TIDIED)
    problems += _failed(certifications)
    return EmbedReport(
        complete=all(certification.complete for certification in certifications),
        interrupted=team.stopping,
        rows=store.n_rows,
        certified={found.model: found.certified for found in certifications},
        problems=tuple(dict.fromkeys(problems)),
        workers=tuple(reports),
        refused=None if team.stopping else refused or None,
        seconds=time.monotonic() - began,
        without_records=_without_records(store),
    )


def certify_store(
    path: Location, *, models: tuple[str, ...] = (), check_threads: int | None = None
) -> EmbedReport:
    """Certify a store that others filled: the end of `embed_store`, without a worker.

    Blocks that are filled but fail are made open again, so that the next worker fills them.

    Parameters
    ----------
    path
        The store.
    models
        Which; none for all.
    check_threads
        Threads that read blocks; None: as many as the file system's latency asks for.

    Raises
    ------
    UsageError, DataError
        If the store or a model does not exist.
    """
    store = open_store(path)
    began = time.monotonic()
    names = WorkerConfig(models=models).for_store(store.schema).models
    certifications = [store.certify(model, threads=check_threads) for model in names]
    _reopen(store, certifications)
    return EmbedReport(
        complete=all(certification.complete for certification in certifications),
        interrupted=False,
        rows=store.n_rows,
        certified={found.model: found.certified for found in certifications},
        problems=tuple(_failed(certifications)),
        workers=(),
        refused=None,
        seconds=time.monotonic() - began,
        without_records=_without_records(store),
    )


def summary(report: EmbedReport, *, filling: bool = True) -> list[str]:
    """Say how it ended, in lines for people; ``filling``: whether there were workers."""
    lines = [f"problem: {problem}" for problem in report.problems]
    for model, certified in report.certified.items():
        lines.append(f"{model}: {certified:,} of {count(report.rows, 'row')} certified")
    if report.copied:
        lines.append(f"copied from identical records: {report.copied:,} of these")
    if report.complete and not report.rows:
        lines.append(f"the store has {no_rows(report.without_records)}")
    elif report.complete:
        lines.append(f"complete: every row is certified ({duration(report.seconds)})")
    elif report.interrupted:
        lines.append("interrupted: run the same command again to carry on")
    elif not filling:
        lines.append(
            "incomplete: `vnp embed`, `vnp launch` or `vnp worker` fills the rest; "
            "`vnp verify` names what is damaged"
        )
    else:
        lines.append(
            "incomplete: fix the problems above, then run the same command to fill the rest; "
            "`vnp verify` names what is damaged"
            if report.problems
            else "incomplete: run the same command again to fill the rest"
        )
    return lines


def require_rows(store: Store) -> None:
    """Refuse a store without a row (UsageError)."""
    if not store.n_rows:
        raise UsageError(f"{store.path} has {no_rows(_without_records(store))}")


def _without_records(store: Store) -> tuple[str, ...]:
    return () if store.n_rows else tuple(sample.name for sample in store.schema.samples)


def no_rows(samples: Sequence[str]) -> str:
    """Say why there are no rows, as part of a sentence; ``samples`` are those appended."""
    if not samples:
        return "no rows yet: append a sample"
    named = ("sample", "has") if len(samples) == 1 else ("samples", "have")
    return f"no rows: {named[0]} {first_few(samples)} {named[1]} no records"


def _left_out(reports: list[dict[str, Any]], *, workers: int) -> set[str]:
    """Models that none of so many workers could load, by their reports."""
    if len(reports) < workers:
        return set()
    each = [
        {failure["model"] for failure in report.get("failures", ()) if failure["block"] is None}
        for report in reports
    ]
    return set.intersection(*each)


def _failed(certifications: Sequence[Certification]) -> list[str]:
    return [
        f"{certification.model} block {block} was filled but {reason}"
        for certification in certifications
        for block, reason in certification.failed
    ]


def _reopen(store: Store, certifications: Sequence[Certification]) -> None:
    """Make blocks open again that are filled but fail certification."""
    failed = [(found.model, block) for found in certifications for block, _ in found.failed]
    if not failed:
        return
    with Participant(store.sidecar.room) as participant:
        for model, block in failed:
            log.warning(reopen_damaged(store, model=model, block=block, claims=participant.claims))


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
