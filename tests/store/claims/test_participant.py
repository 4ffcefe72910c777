"""A participant's view of the others: who is alive, and whose files are read again."""

from __future__ import annotations

import os

import numpy as np
import pytest

from store.claims import liveness
from store.claims import participant as participants
from store.claims.claims import Claims
from store.claims.heartbeat import Heartbeat, read_beat, read_content
from store.claims.liveness import Liveness, Verdict
from store.claims.participant import WINDOW, Participant
from store.claims.process import Identity
from store.claims.worklist import WorkList
from store.io.files import WriteError


def identity(name):
    return Identity(host=name, boot="b", pid_ns="n", pid=7, started=1, job=None)


@pytest.fixture
def participant(tmp_path):
    """A participant with a clock of its own, which each look moves on by ten seconds."""
    participant, now = Participant(tmp_path, interval=5.0), [0.0]
    participant.liveness._clock = lambda: now[0]

    def others():
        participant._look_again = 0.0
        now[0] += 10.0
        return [beat.worker for beat in participant.others()]

    participant.now, participant.look = now, others
    return participant


def test_others_are_those_seen_to_move(participant, tmp_path):
    assert participant.look() == []  # no file of anybody yet
    moving, still = (Heartbeat(tmp_path, identity=identity(name)) for name in "ab")
    moving.beat()
    still.beat()
    participant.heartbeat.beat()
    assert participant.look() == []  # not seen to move yet
    moving.report({"model": "small", "record_seconds": 0.25})
    moving.beat()
    participant.heartbeat.beat()
    assert participant.look() == [moving.worker]
    assert participant.others()[0].progress == {"model": "small", "record_seconds": 0.25}
    assert participant._look_again > 0  # the same list for now
    moving.stop()
    assert participant.look() == []


def test_workers_that_left_are_not_read_again(participant, tmp_path, monkeypatch):
    ended, silent = (Heartbeat(tmp_path, identity=identity(name)) for name in "ab")
    ended.beat()
    ended.stop()
    silent.beat()
    for _ in range(8):
        assert participant.look() == []
    read = []
    monkeypatch.setattr(
        participant.liveness, "verdict", lambda worker, **_: read.append(worker) or Verdict.UNKNOWN
    )
    participant.look()
    assert read == []  # one for good, the other for a lease


def test_a_pipe_among_the_heartbeats_holds_nobody_up(participant, tmp_path):
    (tmp_path / "workers").mkdir()
    os.mkfifo(tmp_path / "workers" / ("d" * 32))
    (tmp_path / "workers" / ("e" * 32)).mkdir()
    assert participant.look() == participant.look() == []


def files(folder):
    return sorted(path.name for path in (folder / "workers").iterdir())


def dead(folder, count):
    """Heartbeats of so many workers of other machines, which will never move again."""
    made = [Heartbeat(folder, identity=identity(f"host{n}")) for n in range(count)]
    for heartbeat in made:
        heartbeat.beat()
    return made


def test_who_leaves_in_order_takes_its_file_along(tmp_path):
    with Participant(tmp_path) as participant:
        with participant.claims.try_claim("m", 3):
            assert files(tmp_path) == [participant.worker]
        assert participant.claims.try_claim("m", 4) is not None  # released on the way out
    assert files(tmp_path) == []


def test_who_cannot_release_a_claim_says_so_and_is_tidied_once_it_is_settled(tmp_path, monkeypatch):
    def fail(*_):
        raise WriteError("no space")

    with Participant(tmp_path) as participant:
        claim = participant.claims.try_claim("m", 3)
        monkeypatch.setattr(participant.claims._files, "mark_released", fail)
    beat = read_beat(tmp_path, participant.worker)
    assert beat.ended
    assert beat.progress == {"unreleased": [["m", 3]]}
    assert Participant(tmp_path).tidy() == 0
    other = Participant(tmp_path)
    taken = other.claims.try_claim("m", 3)  # at once: its owner says that it ended
    assert taken.epoch == claim.epoch + 1
    assert Participant(tmp_path).tidy() == 1
    assert files(tmp_path) == []


def test_a_claim_that_was_interrupted_keeps_the_file(tmp_path):
    def interrupt(name):
        if name == "linked":
            raise KeyboardInterrupt

    with Participant(tmp_path) as participant:
        participant.claims._step = interrupt
        with pytest.raises(KeyboardInterrupt):
            participant.claims.try_claim("m", 3)
    assert read_beat(tmp_path, participant.worker).ended  # so the block is free at once
    assert Participant(tmp_path).claims.try_claim("m", 3).epoch == 2


def test_odd_entries_of_what_is_unreleased_name_no_path(tmp_path):
    heartbeat = Heartbeat(tmp_path, identity=identity("a"))
    odd = [["../m", 0], ["m", "../../x"], ["m", True], [], ["m"], 3, None, ["m", 0, 0]]
    heartbeat.report({"unreleased": odd})
    heartbeat.stop()
    assert Participant(tmp_path).tidy() == 1


def test_the_dead_are_tidied_a_window_at_a_time(participant, tmp_path, monkeypatch):
    dead(tmp_path, 3 * WINDOW)
    participant.heartbeat.beat()
    read = []
    monkeypatch.setattr(
        liveness, "read_content", lambda *where: read.append(where) or read_content(*where)
    )
    for looks in range(1, 7):
        assert participant.look() == []
        assert len(read) <= looks * WINDOW, "whatever the number of past workers"
    assert len(files(tmp_path)) == 3 * WINDOW + 1, "not watched for a lease yet"
    for _ in range(30):
        participant.look()
    assert files(tmp_path) == [participant.worker]


def test_a_dead_worker_whose_claim_owns_a_block_is_kept_until_it_is_settled(participant, tmp_path):
    [heartbeat] = dead(tmp_path, 1)
    theirs = Claims(
        tmp_path,
        worker=heartbeat.worker,
        identity=heartbeat.identity,
        liveness=Liveness(tmp_path, identity=heartbeat.identity),
    )
    theirs.try_claim("m", 5)
    work = WorkList(participant.claims, model="m", open_blocks=lambda: np.array([5]))
    assert work.next() is None  # held, as far as can be told
    for _ in range(20):
        participant.look()
    assert heartbeat.worker in files(tmp_path)
    claim = work.next()
    assert claim.epoch == 2
    participant._skipped.clear()  # as a lease later
    for _ in range(20):
        participant.look()
    assert heartbeat.worker not in files(tmp_path)


def test_a_worker_that_thaws_after_it_was_tidied_lives_again(participant, tmp_path):
    [heartbeat] = dead(tmp_path, 1)
    theirs = Claims(
        tmp_path,
        worker=heartbeat.worker,
        identity=heartbeat.identity,
        liveness=Liveness(tmp_path, identity=heartbeat.identity),
    )
    lost = theirs.try_claim("m", 5)
    kept = theirs.try_claim("m", 6)
    for _ in range(20):
        participant.look()
    assert files(tmp_path) == []
    # A missing file says what a silent one says: after a lease its claims can be taken.
    assert participant.claims.try_claim("m", 5).epoch == 2
    heartbeat.beat()  # it thaws: the file is there again
    participant.look()
    heartbeat.beat()
    assert participant.look() == [heartbeat.worker]
    assert not lost.is_current(), "the higher epoch tells it"
    assert kept.is_current()
    assert participant.claims.try_claim("m", 6) is None, "it lives"


def test_a_worker_that_moves_just_before_it_is_tidied_is_kept(participant, tmp_path, monkeypatch):
    [heartbeat] = dead(tmp_path, 1)
    verdict = participant.liveness.verdict

    def thaws(worker, **options):
        found = verdict(worker, **options)
        if found is Verdict.SILENT:
            heartbeat.beat()
        return found

    monkeypatch.setattr(participant.liveness, "verdict", thaws)
    for _ in range(20):
        participant.look()
        assert files(tmp_path) == [heartbeat.worker]


def test_two_that_tidy_at_once_do_no_harm(tmp_path, monkeypatch):
    for heartbeat in dead(tmp_path, 8):
        heartbeat.stop()  # ended: seen at one look
    first, second = Participant(tmp_path), Participant(tmp_path)
    remove = participants.remove_beat

    def after_the_other(*where):
        monkeypatch.setattr(participants, "remove_beat", remove)
        assert second.tidy() == 8
        return remove(*where)

    monkeypatch.setattr(participants, "remove_beat", after_the_other)
    assert first.tidy() == 1, "of the others nothing was left to read"
    assert files(tmp_path) == []


def test_a_killed_tidier_leaves_the_rest_to_the_next(tmp_path, monkeypatch):
    for heartbeat in dead(tmp_path, 8):
        heartbeat.stop()
    remove, done = participants.remove_beat, []

    def killed(*where):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(where)
        return remove(*where)

    monkeypatch.setattr(participants, "remove_beat", killed)
    with pytest.raises(KeyboardInterrupt):
        Participant(tmp_path).tidy()
    monkeypatch.setattr(participants, "remove_beat", remove)
    assert len(files(tmp_path)) == 5
    assert Participant(tmp_path).tidy() == 5


def test_a_file_that_no_worker_wrote_is_left_alone(participant, tmp_path):
    (tmp_path / "workers").mkdir()
    strange = tmp_path / "workers" / ("d" * 32)
    strange.write_text("notes")
    for _ in range(20):
        participant.look()
    assert strange.read_text() == "notes"
