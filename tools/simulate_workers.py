"""A thousand workers on one store, in virtual time: how busy the GPUs are, and at what cost.

``python -m tools.simulate_workers [--workers 1000] [--storage lustre] [--blocks-each 100]``

The real claims, plans, heartbeats, scheduling and publishing run over a store in memory whose
requests take the time they take on Lustre or S3 (`tools.virtual_store` says where the figures come
from), queues at the servers included. Of a worker only the device is a number: a block keeps it
busy for so long (6.2 s: ESM-2 3B on one H100, 665 records/s, 4,096 records a block). As in
`vnp.embed.worker`, the next block is claimed and read shortly before the current one ends, blocks
are published behind the device's back, and whoever finds nothing to take looks again. With
``--kill`` some workers vanish without a word. Utilisation is the busy time of all devices over
workers times the time until the last block is published.
"""

from __future__ import annotations

import argparse
import json
import time as real_time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from greenlet import GreenletExit, getcurrent

from store.claims import liveness, participant
from store.claims.liveness import Liveness
from store.claims.participant import Participant
from store.claims.process import Identity
from store.errors import ClaimLostError
from store.store import Store
from tools.virtual_claims import VirtualClaims, VirtualHeartbeat
from tools.virtual_store import MODEL, PROFILES, VirtualBackend, World
from tools.virtual_time import Queue, VirtualTime
from vnp.embed import schedule
from vnp.embed.blocks import EmbeddedBlock, publish
from vnp.embed.config import WorkerConfig
from vnp.embed.report import Accounts
from vnp.embed.schedule import Prefetch, Scheduler
from vnp.inference.encoder import Provenance
from vnp.models.tokens import Tokens

CONFIG = WorkerConfig()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulation tells."""

    storage: str
    workers: int
    blocks: int
    seconds: float  # until the last block is published
    utilisation: float  # share of the devices' time that they were busy
    first_block: float  # seconds until a worker's first block is on the device, the median
    between: float  # share of the busy time that devices waited between two blocks
    tail: float  # seconds from the first worker without a block to take to the end
    requests: int
    requests_per_second: float
    requests_per_block: float
    busiest_server: float  # share of the time in which the busiest server served
    longest_queue: float  # seconds that a request waited to be served
    misses_per_block: float  # claims tried in vain
    stolen: int  # blocks that were claimed more than once
    published: int  # publications: one a block, unless a worker lost its claim or was killed
    kinds: dict[str, int]  # requests by kind


class Encoder:
    """Tokenises nothing."""

    dim = 1
    token_budget = 0
    spec: Any = SimpleNamespace(name=MODEL)
    _provenance = Provenance({"model": MODEL, "precision": "bfloat16"}, {"device": "simulated"})

    def provenance(self) -> Provenance:
        """Name it."""
        return self._provenance

    def tokenise(self, nucleotide: Any, _protein: Any) -> Tokens:
        """One token a record."""
        return Tokens(np.zeros(len(nucleotide), np.int32), np.ones(len(nucleotide), np.int64))


class SimulatedWorker:
    """The three threads of a worker, and its heartbeat, as processes in virtual time."""

    def __init__(self, world: World, number: int, *, block_seconds: float) -> None:
        self._world = world
        self._time = world.time
        self.block_seconds = block_seconds
        self.killed = False
        self.busy = 0.0
        self.waited = 0.0  # between blocks
        self.first_block: float | None = None
        self.idle_since: float | None = None
        self._ended = self._beating = False
        self._free = 0.0  # when the device is
        self._published = 0
        self._embedded = Queue(world.time, CONFIG.unpublished)
        identity = Identity(f"node{number}", "boot", "ns", 1, 1, None)
        with mock.patch.object(participant, "identify", return_value=identity):
            self.participant = Participant(Path("virtual"))
        self._accounts = Accounts(block_rows=1, clock=self._clock)
        self._prefetch = Prefetch()
        self._scheduler = Scheduler(
            Store(VirtualBackend(world)),  # type: ignore[arg-type]
            claims=self.participant.claims,
            models=(MODEL,),
            encoder_of=lambda _: Encoder(),
            accounts=self._accounts,
            others=self.participant.others,
            each_stands_for=lambda: self.participant.each_stands_for,
            clock=self._clock,
        )

    def start(self, after: float) -> None:
        """Begin."""
        for process in (self._work, self._publish):
            self._time.start(partial(self._as_ours, process), after=after)

    def _clock(self) -> float:
        return self._time.now

    def _as_ours(self, process: Any) -> None:
        getcurrent().worker = self
        process()

    def _beat(self) -> None:
        heartbeat = self.participant.heartbeat
        while True:
            self._time.wait(heartbeat.interval)
            if self._ended or self.killed:
                return
            self._beating = True
            heartbeat.beat()
            self._beating = False

    def _work(self) -> None:
        self.participant.heartbeat.beat()
        self._time.start(partial(self._as_ours, self._beat))
        blocks = 0
        while True:
            began = self._time.now
            block = self._scheduler.next()
            self._world.check()
            if block is None:
                if self._scheduler.exhausted:
                    break
                if self.idle_since is None:
                    self.idle_since = self._time.now
                self._time.wait(max(CONFIG.poll, 2 * (self._time.now - began)))
                continue
            self.idle_since = None
            self._prefetch.prepared(self._time.now - began)
            self._time.wait(self._free - self._time.now)
            submitted = self._time.now
            if self.first_block is None:
                self.first_block = submitted
            else:
                self.waited += submitted - self._free
            self._accounts.submitted(submitted)
            spread = self._time.random.uniform(0.97, 1.03)  # blocks are not of one length
            self._free = submitted + self.block_seconds * spread
            self._time.start(partial(self._as_ours, partial(self._end, block, submitted)))
            blocks += 1
            self.participant.others(early=True)
            # As `Prefetch.is_due` says.
            lead = max(schedule._LEAD, 4 * self._prefetch._preparation)
            self._time.wait(self._free - lead - self._time.now)
        while self._published < blocks:
            self._time.wait(0.05)
        self._embedded.put(None)

    def _end(self, block: Any, submitted: float) -> None:
        """Hand a block to the publisher once the device is done with it."""
        self._time.wait(self._free - self._time.now)
        self._world.check()
        self.busy += self._time.now - submitted
        self._accounts.embedded(MODEL, records=1, submitted=submitted, ended=self._time.now)
        self.participant.heartbeat.report(
            {
                "model": MODEL,
                "block": block.claim.block,
                "record_seconds": self._accounts.seconds_per_record(MODEL),
            }
        )
        self._embedded.put(block)
        self._free = max(self._free, self._time.now)  # no room: the device waits

    def _publish(self) -> None:
        values = np.ones((1, 1), np.float32)
        while (block := self._embedded.take()) is not None:
            number = block.claim.block
            try:
                publish(EmbeddedBlock(block, values, self.block_seconds))
            except ClaimLostError:
                pass
            else:
                self._world.published[number] = self._world.published.get(number, 0) + 1
            block.claim.release()
            self._published += 1
        self._ended = True
        while self._beating:
            self._time.wait(0.01)
        self.participant.__exit__()


@contextmanager
def virtual(world: World) -> Iterator[None]:
    """Put memory and virtual time where participants reach for files and the clock."""

    def listed(_directory: Path) -> list[str]:
        world.do("list", names=len(world.beats))
        return sorted(world.beats)

    def content(_directory: Path, worker: str) -> bytes | None:
        world.do("read")
        return world.beats.get(worker)

    def removed(_directory: Path, worker: str) -> bool:
        world.do("remove")
        world.beats.pop(worker, None)
        return True

    def clock() -> float:
        return world.time.now

    def check() -> None:
        worker = getattr(getcurrent(), "worker", None)
        if worker is not None and worker.killed:
            raise GreenletExit

    world.check = check
    with (
        mock.patch.multiple(
            participant,
            Heartbeat=lambda _, **options: VirtualHeartbeat(world, **options),
            Liveness=lambda _, **options: Liveness(Path("virtual"), clock=clock, **options),
            Claims=lambda _, **options: VirtualClaims(world, **options),
            workers=listed,
            remove_beat=removed,
            time=SimpleNamespace(monotonic=clock),
        ),
        mock.patch("store.claims.heartbeat.remove_beat", removed),
        mock.patch("store.claims.heartbeat.read_content", content),
        mock.patch.object(liveness, "read_content", content),
    ):
        yield


def simulate(
    *,
    storage: str,
    workers: int,
    blocks: int,
    block_seconds: float = 6.2,
    stagger: float = 0.0,
    kill: int = 0,
    slow: float = 0.0,
    speed: float = 1.0,
    past: int = 0,
    seed: int = 0,
) -> tuple[Outcome, World]:
    """Simulate; return what came of it, and the world as it was left.

    Parameters
    ----------
    storage
        Name of a profile.
    block_seconds
        That a block keeps a device busy.
    stagger
        Seconds within which the workers start, evenly.
    kill
        Workers that vanish, at random times in the first half.
    slow
        Share of the workers that take three times as long.
    speed
        Of the servers, as a multiple of the profile's.
    past
        Heartbeat files of workers that were killed before.
    """
    time = VirtualTime(seed)
    world = World(time, PROFILES[storage](speed), blocks=blocks)
    with virtual(world):
        for _ in range(past):
            dead = Participant(Path("virtual")).heartbeat
            world.beats[dead.worker] = dead._content({})
        team = [
            SimulatedWorker(
                world,
                number,
                block_seconds=block_seconds * (3 if number < slow * workers else 1),
            )
            for number in range(workers)
        ]
        for number, worker in enumerate(team):
            worker.start(stagger * number / workers)
        for worker in time.random.sample(team, kill):

            def vanish(worker: SimulatedWorker = worker) -> None:
                worker.killed = True

            time.start(
                vanish, after=time.random.uniform(0.1, 0.5) * block_seconds * blocks / workers
            )
        last = [0.0]

        def watch() -> None:  # when the last block was filled, to a tenth of a second
            while len(world.filled) < blocks:
                time.wait(0.1)
            last[0] = time.now

        time.start(watch)
        time.run()
    seconds = last[0]
    claims = [worker.participant.claims for worker in team]
    first = sorted(worker.first_block for worker in team if worker.first_block is not None)
    idle = [worker.idle_since for worker in team if worker.idle_since is not None]
    kinds: dict[str, int] = {}
    for server in world.servers.values():
        kinds |= server.requests
    outcome = Outcome(
        storage=storage,
        workers=workers,
        blocks=blocks,
        seconds=round(seconds, 1),
        utilisation=sum(worker.busy for worker in team) / (workers * seconds),
        first_block=first[len(first) // 2],
        between=sum(each.waited for each in team) / sum(each.busy for each in team),
        tail=round(seconds - min(idle), 1) if idle else 0.0,
        requests=world.requests,
        requests_per_second=world.requests / seconds,
        requests_per_block=world.requests / blocks,
        busiest_server=max(server.busy for server in world.servers.values()) / seconds,
        longest_queue=max(server.longest_wait for server in world.servers.values()),
        misses_per_block=sum(each.misses for each in claims) / blocks,
        stolen=int(np.count_nonzero(world.epoch > 1)),
        published=sum(world.published.values()),
        kinds=kinds,
    )
    return outcome, world


def main() -> None:
    """Simulate and print a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--workers", type=int, nargs="+", default=[1000])
    parser.add_argument("--storage", choices=sorted(PROFILES), nargs="+", default=["lustre"])
    parser.add_argument("--blocks-each", type=int, default=100, help="blocks for each worker")
    parser.add_argument("--block-seconds", type=float, default=6.2, help="that one takes a device")
    parser.add_argument(
        "--stagger", type=float, default=0.0, help="seconds within which they start"
    )
    parser.add_argument("--kill", type=int, default=0, help="workers that vanish")
    parser.add_argument("--slow", type=float, default=0.0, help="share that is 3 times as slow")
    parser.add_argument("--speed", type=float, default=1.0, help="of the servers; S3: prefixes")
    parser.add_argument("--past", type=int, default=0, help="heartbeats of workers killed before")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for storage in options.storage:
        for workers in options.workers:
            began = real_time.perf_counter()
            found, _ = simulate(
                storage=storage,
                workers=workers,
                blocks=workers * options.blocks_each,
                block_seconds=options.block_seconds,
                stagger=options.stagger,
                kill=options.kill,
                slow=options.slow,
                speed=options.speed,
                past=options.past,
                seed=options.seed,
            )
            if options.json:
                print(json.dumps(asdict(found)), flush=True)
                continue
            kinds = ", ".join(f"{kind} {number:,}" for kind, number in found.kinds.items())
            print(
                f"{storage}: {workers:,} workers, {found.blocks:,} blocks: "
                f"{found.utilisation:.2%} busy, {found.requests_per_second:,.0f} requests/s, "
                f"{found.requests_per_block:.1f} a block; first block after "
                f"{found.first_block:.1f} s, between blocks {found.between:.2%}, "
                f"end {found.tail:.1f} s, "
                f"{found.misses_per_block:.2f} misses a block, server {found.busiest_server:.1%} "
                f"busy, longest queue {found.longest_queue:.2f} s, {found.stolen} stolen; {kinds} "
                f"({found.seconds:,.0f} s simulated in {real_time.perf_counter() - began:.0f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main()
