"""Processes that race, die and freeze over claims: one owner per block and epoch, always.

The racers pause at random (but seeded) moments between the steps of a claim, so that they overlap
in ways a fast disk would hardly show. What has to be in order is kept so by barriers and pipes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from store.claims.claims import Claims
from store.claims.files import parse_claim
from store.claims.heartbeat import Heartbeat, new_worker
from store.claims.liveness import Liveness, Verdict
from store.claims.process import identify

pytestmark = pytest.mark.skipif(
    identify().boot is None, reason="death is told at once only with Linux's /proc"
)

RACERS = 6
STEPS = ("probed", "judged", "written", "linked", "claimed")
FOREVER = 1e9  # a lease that never ends: only /proc tells of death
SPAWN = multiprocessing.get_context("spawn")


def claims_of_this_process(directory, *, step=lambda name: None, lease=FOREVER):
    me = identify()
    return Claims(
        directory,
        worker=new_worker(),
        identity=me,
        liveness=Liveness(directory, lease=lease, identity=me),
        step=step,
    )


def pausing(rng):
    """Return a step that pauses now and then."""

    def step(name):
        if rng.random() < 0.4:
            time.sleep(rng.random() * 0.002)

    return step


def doomed(directory, model, block, rng, *, at=None):
    """Fork a process that claims a block and dies; return its pid, to be reaped.

    With ``at`` it is killed at that step of the claim, else after it.
    """
    seed = rng.random()
    by_signal = rng.random() < 0.5
    pid = os.fork()
    if pid:
        return pid
    try:
        pause = pausing(random.Random(seed))

        def step(name):
            pause(name)
            if name == at:
                os.kill(os.getpid(), signal.SIGKILL)

        claims_of_this_process(directory, step=step).try_claim(model, block)
        if by_signal:
            os.kill(os.getpid(), signal.SIGKILL)
    finally:
        os._exit(3)


def await_death(pid):
    """Wait until a child is dead, and leave it a zombie."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@contextmanager
def racers(target, *args):
    """Run ``target(number, ...)`` in six processes and see that all of them end well."""
    processes = [SPAWN.Process(target=target, args=(i, *args)) for i in range(RACERS)]
    for process in processes:
        process.start()
    try:
        yield
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [0] * RACERS
    finally:
        for process in processes:
            process.kill()
            process.join()


def files_of(directory, model):
    """Every claim file of a model: (block, epoch) -> worker."""
    found = {}
    for path in (directory / "claims" / model).iterdir():
        parts = path.name.split(".")
        if len(parts) == 2:
            found[int(parts[0]), int(parts[1])] = parse_claim(path.read_bytes())[0]
    return found


def assert_dense(found):
    highest = Counter()
    for block, epoch in found:
        highest[block] = max(highest[block], epoch)
    for block, top in highest.items():
        assert all((block, epoch) in found for epoch in range(1, top + 1))


# --- rounds in step -------------------------------------------------------------------------------

ROUNDS = 150  # of two races each


def race_in_step(number, directory, barrier):
    """Race for one block a round: nobody's or a dead owner's first, then a released one."""
    rng = random.Random(f"in step {number}")
    claims = claims_of_this_process(directory, step=pausing(rng))
    wins = []
    for block in range(ROUNDS):
        victim = None
        if block % 2 and block % RACERS == number:
            victim = doomed(directory, "m", block, rng)
            await_death(victim)
            if block % 4 == 1:
                os.waitpid(victim, 0)  # half of the dead are reaped, half stay zombies
                victim = None
        for _ in range(2):
            barrier.wait()
            claim = claims.try_claim("m", block)
            barrier.wait()
            if claim is not None:
                wins.append((block, claim.epoch, claims.worker))
                assert claim.is_current()
                claim.release()
        if victim is not None:
            os.waitpid(victim, 0)
    (directory / f"wins.{number}").write_text(json.dumps(wins))


def test_each_race_has_exactly_one_winner(tmp_path):
    barrier = SPAWN.Barrier(RACERS, timeout=30)
    with racers(race_in_step, tmp_path, barrier):
        pass
    wins = [win for i in range(RACERS) for win in json.loads((tmp_path / f"wins.{i}").read_text())]
    expected = []
    for block in range(ROUNDS):
        first = 2 if block % 2 else 1  # a dead owner had epoch 1
        expected += [(block, first), (block, first + 1)]
    assert sorted((block, epoch) for block, epoch, _ in wins) == expected
    assert len({worker for *_, worker in wins}) == RACERS  # nobody was shut out
    found = files_of(tmp_path, "m")
    assert all(found[block, epoch] == worker for block, epoch, worker in wins)
    assert_dense(found)
    assert len(found) == 2 * ROUNDS + ROUNDS // 2
    assert list((tmp_path / "tmp").iterdir()) == []


# --- everybody at once ----------------------------------------------------------------------------

BLOCKS = 8
TURNS = 120


def race_freely(number, directory, barrier):
    """Claim, hold, release, and let others die holding, with no order at all."""
    rng = random.Random(f"freely {number}")
    claims = claims_of_this_process(directory, step=pausing(rng))
    wins, zombies, kept = [], [], []
    barrier.wait()
    for _ in range(TURNS):
        block = rng.randrange(BLOCKS)
        if rng.random() < 0.4:
            at = rng.choice((*STEPS, None, None, None))
            zombies.append(doomed(directory, "m", block, rng, at=at))
            continue
        claim = claims.try_claim("m", block)
        if claim is not None:
            wins.append((block, claim.epoch, claims.worker))
            inside = directory / f"inside.{block}"
            inside.mkdir()  # fails if another living owner is in
            kept.append((claim, inside))
        if len(kept) > 1 or (kept and rng.random() < 0.7):
            claim, inside = kept.pop(0)
            assert claim.is_current()
            inside.rmdir()
            claim.release()
        if zombies and rng.random() < 0.3:
            os.waitpid(zombies.pop(0), 0)
    for claim, inside in kept:
        assert claim.is_current()
        inside.rmdir()
    assert claims.release_all() == len(kept)
    for pid in zombies:
        os.waitpid(pid, 0)
    (directory / f"wins.{number}").write_text(json.dumps(wins))


def test_living_owners_are_never_two(tmp_path):
    barrier = SPAWN.Barrier(RACERS, timeout=30)
    with racers(race_freely, tmp_path, barrier):
        pass
    wins = [win for i in range(RACERS) for win in json.loads((tmp_path / f"wins.{i}").read_text())]
    found = files_of(tmp_path, "m")
    assert max(Counter((block, epoch) for block, epoch, _ in wins).values()) == 1
    assert all(found[block, epoch] == worker for block, epoch, worker in wins)
    assert_dense(found)
    # Enough happened for this to mean something: living winners, and owners that died.
    assert len(wins) > 50
    assert len(found) - len(wins) > 5
    # All are dead or have released, so everything can be had.
    claims = claims_of_this_process(tmp_path)
    assert all(claims.try_claim("m", block) for block in range(BLOCKS))


# --- death at every step --------------------------------------------------------------------------


def die_at(directory, at):
    def step(name):
        if name == at:
            os.kill(os.getpid(), signal.SIGKILL)

    claims_of_this_process(directory, step=step).try_claim("m", 0)


@pytest.mark.parametrize("at", STEPS)
def test_owner_killed_at_any_step_blocks_nobody(tmp_path, at):
    process = SPAWN.Process(target=die_at, args=(tmp_path, at))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    claim = claims_of_this_process(tmp_path).try_claim("m", 0)
    assert claim.epoch == (2 if at in ("linked", "claimed") else 1)
    assert claim.is_current()


# --- frozen ---------------------------------------------------------------------------------------


def obey(directory, pipe):
    """Be a worker that does as it is told; at the step named ``freeze`` it stops itself."""
    freeze = []

    def step(name):
        if name in freeze:
            freeze.clear()
            os.kill(os.getpid(), signal.SIGSTOP)

    heartbeat = Heartbeat(directory, interval=3600)
    claims = Claims(
        directory,
        worker=heartbeat.worker,
        identity=heartbeat.identity,
        liveness=Liveness(directory),
        step=step,
    )
    while (order := pipe.recv()) != "end":
        if order == "beat":
            heartbeat.beat()
            pipe.send(None)
        elif order == "claim":
            claim = claims.try_claim("m", 0)
            pipe.send(claim.epoch if claim else None)
        elif order == "current":
            pipe.send([claim.is_current() for claim in claims.held])
        elif order == "release":
            pipe.send(claims.release_all())
        else:
            freeze.append(order)
            pipe.send(None)


class Puppet:
    """The process that obeys."""

    def __init__(self, directory: Path) -> None:
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=obey, args=(directory, theirs))
        self.process.start()
        theirs.close()

    def do(self, order: str):
        self.pipe.send(order)
        return self.pipe.recv()

    def await_stop(self) -> None:
        assert os.WIFSTOPPED(os.waitpid(self.process.pid, os.WUNTRACED)[1])

    def freeze(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)
        self.await_stop()

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)


@pytest.fixture
def puppet(tmp_path):
    puppet = Puppet(tmp_path)
    yield puppet
    puppet.process.kill()
    puppet.process.join()
    puppet.pipe.close()


def test_owner_frozen_past_its_lease_loses_the_block_and_knows_it(tmp_path, puppet):
    now = [0.0]
    me = identify()
    claims = Claims(
        tmp_path,
        worker=new_worker(),
        identity=me,
        liveness=Liveness(tmp_path, lease=60.0, identity=me, clock=lambda: now[0]),
    )
    puppet.do("beat")
    assert puppet.do("claim") == 1
    for _ in range(20):  # longer than a lease, and beating
        assert claims.try_claim("m", 0) is None
        now[0] += 5
        puppet.do("beat")
    assert claims.owner("m", 0).verdict is Verdict.LIVE

    puppet.freeze()
    for _ in range(11):
        now[0] += 5
        assert claims.try_claim("m", 0) is None
    now[0] += 5
    stolen = claims.try_claim("m", 0)
    assert stolen.epoch == 2

    puppet.thaw()
    assert puppet.do("current") == [False]
    puppet.do("beat")
    now[0] += 5
    assert stolen.is_current()
    assert puppet.do("claim") is None  # we live
    assert puppet.do("release") == 1  # of what it lost
    assert stolen.is_current()
    assert claims.owner("m", 0).epoch == 2
    stolen.release()
    assert puppet.do("claim") == 3
    assert puppet.do("current") == [True]


@pytest.mark.parametrize("step", ["probed", "judged", "written"])
def test_contender_frozen_on_the_way_loses_to_who_was_faster(tmp_path, puppet, step):
    claims = claims_of_this_process(tmp_path)
    puppet.do(step)
    puppet.pipe.send("claim")
    puppet.await_stop()
    mine = claims.try_claim("m", 0)
    assert mine.epoch == 1
    puppet.thaw()
    assert puppet.pipe.recv() is None
    assert mine.is_current()
    assert list((tmp_path / "tmp").iterdir()) == []
