"""How far a store is filled, which claims are held, which workers fill it; once or all the time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.claims.claims import APPEND
from store.claims.heartbeat import Beat, read_beats, workers
from store.claims.liveness import Verdict
from store.claims.participant import Participant
from store.claims.process import Identity, is_gone
from store.claims.room import Room
from store.errors import DamageError, StoreError
from store.geometry import rows_wanted
from store.read.origin import origin_of
from store.store import Store
from vnp.embed.precisions import UNKNOWN, begun_in, rows_by_precision
from vnp.embed.progress import Progress

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5  # between two looks at a store that is being watched
_BEATS = 256  # heartbeat files that are all read


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model's blocks."""

    model: str
    dim: int  # numbers a row
    rows: int  # rows of the store
    filled: int  # of these, filled
    blocks: int  # blocks of the store
    open_blocks: int  # with unfilled rows
    claimed: int  # open, held by a worker not known to be dead
    stale: int  # open, held by a worker that is dead
    precision: str | None  # that all rows have, if asked for, known, and the store is not of mixed
    precisions: dict[str, int]  # filled rows by precision, if asked for in a store of mixed
    origin: str  # what made the rows, if asked for; empty for a model of vnp's own


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker at the store, as its heartbeat file tells."""

    worker: str  # its uuid
    where: str  # process, host, scheduler's job
    alive: bool | None  # None: on another host, cannot be told at one look
    records: int  # embedded since it started, the current block included
    model: str | None  # of the current block
    block: int | None  # the current one
    in_block: int  # records of it that are done
    left_out: tuple[str, ...]  # models that it could not load


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """A store at one moment."""

    path: str
    rows: int
    repeats: int  # of these, rows with the sequences of an earlier one: embedded once
    samples: int
    segment_length: int
    genetic_code: int  # NCBI's number of the translation table
    block_rows: int
    models: tuple[ModelStatus, ...]
    workers: tuple[WorkerStatus, ...]  # those that have not ended
    appender: str | None  # who is appending, if anybody
    trouble: str  # what another program did to the store, as far as opening it shows

    @property
    def rows_wanted(self) -> int:
        """Rows to fill over all models."""
        return sum(model.rows for model in self.models)

    @property
    def rows_done(self) -> int:
        """Of these, filled."""
        return sum(model.filled for model in self.models)

    @property
    def rows_in_hand(self) -> int:
        """Rows that workers have embedded of blocks not published yet."""
        unfinished = {model.model for model in self.models if model.filled < model.rows}
        in_hand = sum(work.in_block for work in self.workers if work.model in unfinished)
        return min(in_hand, self.rows_wanted - self.rows_done)

    def to_json(self) -> dict[str, Any]:
        """Return the status as a JSON object."""
        return {**asdict(self), "rows_wanted": self.rows_wanted, "rows_done": self.rows_done}


def read_status(
    store: Store,
    *,
    models: tuple[str, ...] = (),
    precisions: bool = False,
    origins: bool = False,
    filled: Mapping[str, NDArray[np.int64]] | None = None,
) -> StoreStatus:
    """Read the status of a store: one listing per model, no chunk but the tails'.

    Parameters
    ----------
    store
        The store, at the commit to report on.
    models
        Which; none for all.
    precisions
        Whether to tell in which precision rows are: in a store of mixed every certificate is read.
    origins
        Whether to say what made the rows of each model: every provenance is read.
    filled
        Filled rows of every block by model, if they are known: nothing is listed again.
    """
    mixed = store.schema.mixed_precision
    sidecar = store.sidecar.room
    claims = Participant(sidecar).claims
    wanted = rows_wanted(store.schema)
    statuses = []
    owners: set[str] = set()
    for model in store.schema.models:
        if models and model.name not in models:
            continue
        rows = store.rows_filled(model.name) if filled is None else filled[model.name]
        open_blocks = np.flatnonzero(rows < wanted)
        states = claims.states(model.name, open_blocks=open_blocks)
        owners.update(state.worker for state in states if state.worker is not None)
        stale = sum(state.verdict is not None and state.verdict.stale for state in states)
        statuses.append(
            ModelStatus(
                model=model.name,
                dim=model.dim,
                rows=store.n_rows,
                filled=int(rows.sum()),
                blocks=len(wanted),
                open_blocks=len(open_blocks),
                claimed=len(states) - stale,
                stale=stale,
                precision=_precision(store, model.name) if precisions and not mixed else None,
                precisions=rows_by_precision(store, model.name) if precisions and mixed else {},
                origin=origin_of(store, model.name) if origins else "",
            )
        )
    appender = claims.owner(APPEND)
    appending = appender is not None and appender.verdict in (Verdict.LIVE, Verdict.UNKNOWN)
    beats = [beat for beat in _beats(sidecar, owners) if beat.progress and not beat.ended]
    at_work = [_worker(beat, claims.identity) for beat in beats]
    return StoreStatus(
        path=str(store.path),
        rows=store.n_rows,
        repeats=store.schema.repeats,
        samples=len(store.schema.samples),
        segment_length=store.schema.segment_length,
        genetic_code=store.schema.genetic_code,
        block_rows=store.schema.block_rows,
        models=tuple(statuses),
        workers=tuple(worker for worker in at_work if worker.alive is not False),
        appender=str(appender.identity) if appender is not None and appending else None,
        trouble=store.trouble,
    )


@contextmanager
def watching(store: Store, *, models: tuple[str, ...]) -> Iterator[Progress]:
    """Show how far a store is filled, its rate and the time left, while the body runs.

    Rows appended meanwhile count too; ``models`` tells which models count, none means all.
    """
    over = threading.Event()
    status = read_status(store, models=models)
    total, already = status.rows_wanted, status.rows_done
    with Progress("embed", total=total, unit="embeddings", already=already) as progress:

        def watch() -> None:
            seconds = 0.0
            while not over.wait(max(_LOOK_SECONDS, 9 * seconds)):  # at most a tenth of the time
                began = time.monotonic()
                try:
                    seen = read_status(store.snapshot(), models=models)
                    progress.update(seen.rows_done + seen.rows_in_hand, total=seen.rows_wanted)
                    seconds = time.monotonic() - began
                except (StoreError, OSError) as error:
                    log.warning(f"progress cannot be read at the moment: {error}")
                    over.wait(60 * _LOOK_SECONDS)

        watcher = threading.Thread(target=watch, name="progress", daemon=True)
        watcher.start()
        try:
            yield progress
        finally:
            over.set()
            watcher.join()
        status = read_status(store.snapshot(), models=models)
        progress.update(status.rows_done, total=status.rows_wanted)


def _precision(store: Store, model: str) -> str | None:
    """Precision of an ordinary store's rows, those to come among them."""
    try:
        found = begun_in(store, model)
    except DamageError:  # vnp verify names it
        return None
    return None if found == UNKNOWN else found


def _beats(place: Room, owners: set[str]) -> list[Beat]:
    """Heartbeats of the workers that hold a claim; of all if there are few, past ones among them.

    Those of the dead may be thousands.
    """
    names = workers(place)
    if len(names) > _BEATS:
        names = sorted(owners.intersection(names))
    return read_beats(place, names)


def _worker(beat: Beat, me: Identity) -> WorkerStatus:
    alive: bool | None = None
    if beat.identity is not None:
        here = (beat.identity.host, beat.identity.boot) == (me.host, me.boot)
        alive = not is_gone(beat.identity, me=me) if here else None
    return WorkerStatus(
        worker=beat.worker,
        where=str(beat.identity) if beat.identity is not None else "unknown",
        alive=alive,
        records=_int(beat.progress.get("records")),
        model=_text(beat.progress.get("model")),
        block=_int(beat.progress.get("block")) if "block" in beat.progress else None,
        in_block=_int(beat.progress.get("in_block")),
        left_out=_texts(beat.progress.get("left_out")),
    )


def _int(value: object) -> int:
    return value if type(value) is int and 0 <= value < 1 << 62 else 0


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()
