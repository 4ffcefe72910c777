"""Claims: made, refused, released, stolen, and what others see of them."""

from __future__ import annotations

import errno
import os

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from store.claims.claims import APPEND, Claims
from store.claims.heartbeat import Heartbeat
from store.claims.liveness import Liveness
from store.claims.process import Identity
from store.errors import BusyError, ClaimLostError, UsageError
from store.io.files import WriteError
from tests.store.claims.claiming import BOUNDED

# --- one claim ------------------------------------------------------------------------------------


def test_claim_is_a_file_that_names_its_owner(tmp_path, make_worker):
    a = make_worker("a")
    claim = a.claims.try_claim("m", 17)
    assert (claim.model, claim.block, claim.epoch) == ("m", 17, 1)
    assert claim.is_current()
    assert os.listdir(tmp_path / "claims" / "m") == ["17.1"]
    assert os.listdir(tmp_path / "tmp") == []
    owner = a.claims.owner("m", 17)
    assert (owner.epoch, owner.worker, owner.identity) == (1, a.heartbeat.worker, a.claims.identity)
    assert owner.state == "live"
    assert a.claims.held == (claim,)


def test_held_block_is_refused_to_others_and_to_ourselves(make_worker):
    a, b = make_worker("a"), make_worker("b")
    assert a.claims.try_claim("m", 0) is not None
    assert b.claims.try_claim("m", 0) is None
    assert a.claims.try_claim("m", 0) is None
    assert b.claims.try_claim("other", 0) is not None
    assert b.claims.try_claim("m", 1) is not None


def test_released_block_goes_to_the_next_epoch(tmp_path, make_worker):
    a, b = make_worker("a"), make_worker("b")
    first = a.claims.try_claim("m", 3)
    first.release()
    assert not first.is_current()
    assert a.claims.owner("m", 3).state == "released"
    again = a.claims.try_claim("m", 3)
    assert again.epoch == 2
    first.release()  # the old claim has no say over the new one
    assert again.is_current()
    again.release()
    again.release()
    assert b.claims.try_claim("m", 3).epoch == 3
    assert sorted(os.listdir(tmp_path / "claims" / "m")) == [
        "3.1",
        "3.1.released",
        "3.2",
        "3.2.released",
        "3.3",
    ]


def test_claim_as_context_manager_is_released_on_error(make_worker):
    a = make_worker("a")
    with pytest.raises(RuntimeError), a.claims.try_claim("m", 0):
        raise RuntimeError
    assert a.claims.owner("m", 0).state == "released"


def test_release_all_twice(make_worker):
    a = make_worker("a")
    for block in range(5):
        a.claims.try_claim("m", block)
    assert a.claims.release_all() == 5
    assert a.claims.release_all() == 0
    assert [s.state for s in a.claims.states("m", released=True)] == ["released"] * 5


def test_release_from_within_a_claim(make_worker):
    """A handler that interrupts a claim half way may release everything without a deadlock."""
    a = make_worker("a", step=lambda name: name != "judged" or a.claims.release_all())
    a.claims.try_claim("m", 0)
    a.claims.try_claim("m", 1)
    assert [c.block for c in a.claims.held] == [1]


def test_release_all_goes_on_after_a_failure(make_worker, monkeypatch, caplog):
    a = make_worker("a")
    for block in range(3):
        a.claims.try_claim("m", block)
    real = os.open

    def failing(path, *rest):
        if str(path).endswith("1.1.released"):
            raise OSError(errno.EDQUOT, "quota exceeded")
        return real(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing)
        assert a.claims.release_all() == 2
    assert "block 1 of m could not be released" in caplog.text
    assert [c.block for c in a.claims.held] == [1]
    assert a.claims.release_all() == 1


def test_dead_owners_block_is_taken_and_the_owner_finds_out(make_worker):
    a, b = make_worker("a"), make_worker("b")
    lost = a.claims.try_claim("m", 0)
    assert b.claims.try_claim("m", 0) is None
    b.let_lease_pass()
    stolen = b.claims.try_claim("m", 0)
    assert stolen.epoch == 2
    assert stolen.is_current()
    assert not lost.is_current()
    with pytest.raises(ClaimLostError, match="block 0 of m"):
        lost.require()
    stolen.require()
    lost.release()  # comes late, and changes nothing
    assert stolen.is_current()
    assert b.claims.owner("m", 0).epoch == 2
    assert a.claims.try_claim("m", 0) is None


def test_beating_owner_keeps_its_block_for_ever(make_worker):
    a, b = make_worker("a"), make_worker("b")
    claim = a.claims.try_claim("m", 0)
    for _ in range(50):
        b.clock.now += 15
        a.heartbeat.beat()
        assert b.claims.try_claim("m", 0) is None
    assert claim.is_current()


def test_ended_owner_is_stale_at_once(make_worker):
    a, b = make_worker("a"), make_worker("b")
    a.claims.try_claim("m", 0)
    a.heartbeat.stop()
    assert b.claims.try_claim("m", 0).epoch == 2


def test_own_claim_that_was_lost_on_the_way_is_taken_again(make_worker):
    """Interrupted after its link: nobody else may take it while we live, so we do."""

    a, b = make_worker("a"), make_worker("b")
    names = ["probed", "judged", "written", "linked", "claimed"]

    def at(step):
        def interrupting(name):
            if name == step:
                raise KeyboardInterrupt

        return interrupting

    for block, name in enumerate(names):
        a.claims._step = at(name)
        with pytest.raises(KeyboardInterrupt):
            a.claims.try_claim("m", block)
        a.claims._step = lambda name: None
        made = a.claims.owner("m", block)
        assert (made is not None) == (name in ("linked", "claimed"))
        if made:
            assert b.claims.try_claim("m", block) is None
        claim = a.claims.try_claim("m", block)
        assert claim.epoch == (2 if made else 1)
        assert claim.is_current()


@pytest.mark.parametrize("content", [b"", b"\x00" * 200, b"[]", b'{"worker": "../../x"}'])
def test_unreadable_claim_is_free_after_a_lease(tmp_path, make_worker, content):
    a = make_worker("a")
    a.claims.try_claim("m", 1)
    (tmp_path / "claims" / "m" / "0.1").write_bytes(content)
    assert a.claims.try_claim("m", 0) is None
    assert "cannot be read" in str(a.claims.states("m")[0])
    a.let_lease_pass()
    assert a.claims.try_claim("m", 0).epoch == 2


def test_wiped_side_directory(tmp_path, make_worker):
    """Deleting it under a worker costs work done twice, never a claim that is not ours."""
    a, b = make_worker("a"), make_worker("b")
    old = a.claims.try_claim("m", 0)
    (tmp_path / "claims" / "m" / "0.1").unlink()
    (tmp_path / "claims" / "m").rmdir()
    (tmp_path / "tmp").rmdir()
    assert not old.is_current()
    new = b.claims.try_claim("m", 0)
    assert new.epoch == 1
    assert not old.is_current()
    old.release()
    assert new.is_current()
    assert b.claims.owner("m", 0).state == "live"


def test_directory_that_another_worker_makes_meanwhile(tmp_path, make_worker):
    """Many workers start at once: each may find its directory missing, and then there."""

    def link(source, target):
        if not target.parent.exists():
            target.parent.mkdir()
            raise FileNotFoundError(errno.ENOENT, "no such directory")
        os.link(source, target)

    (tmp_path / "claims").mkdir()
    (tmp_path / "tmp").mkdir(exist_ok=True)
    assert make_worker("a", link=link).claims.try_claim("m", 0).epoch == 1


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "x" * 101, "a b", "ä"])
def test_bad_names_are_refused(make_worker, name):
    with pytest.raises(UsageError, match="name of a model"):
        make_worker("a").claims.try_claim(name, 0)


def test_write_errors_surface_and_leave_nothing(tmp_path, make_worker):
    def full(source, target):
        raise OSError(errno.ENOSPC, "no space")

    a = make_worker("a", link=full)
    with pytest.raises(WriteError, match=r"m/0\.1"):
        a.claims.try_claim("m", 0)
    assert os.listdir(tmp_path / "tmp") == []
    assert a.claims.held == ()
    assert a.claims.scan("m").block.tolist() == []


@BOUNDED
@given(replies=st.lists(st.sampled_from(["fine", "lost", "repeated"]), min_size=1, max_size=8))
def test_nfs_errors_after_a_link_that_was_made_count_as_won(tmp_path_factory, replies):
    """The client sends again what the server did already, and is told that the name exists."""
    left = list(replies)

    def link(source, target):
        os.link(source, target)
        reply = left.pop(0)
        if reply == "lost":
            raise OSError(errno.EIO, "no answer")
        if reply == "repeated":
            raise FileExistsError(errno.EEXIST, "exists")

    directory = tmp_path_factory.mktemp("nfs")
    identity = Identity(host="h", boot="b", pid_ns="n", pid=7, started=1, job=None)
    heartbeat = Heartbeat(directory, identity=identity)
    claims = Claims(
        directory,
        worker=heartbeat.worker,
        identity=identity,
        liveness=Liveness(directory),
        link=link,
    )
    for epoch in range(1, len(replies) + 1):
        claim = claims.try_claim("m", 5)
        assert claim is not None
        assert claim.epoch == epoch
        assert claim.is_current()
        claim.release()
    assert os.listdir(directory / "tmp") == []


# --- the appender's lock --------------------------------------------------------------------------


def test_lock_of_a_living_owner_is_busy(make_worker):
    a, b = make_worker("a"), make_worker("b")
    with a.claims.acquire(APPEND):

        def sleep(seconds):
            b.clock.sleep(seconds)
            a.heartbeat.beat()

        with pytest.raises(BusyError, match="append is locked by process 7 on a"):
            b.claims.acquire(APPEND, sleep=sleep)
        with pytest.raises(BusyError, match="this very process"):
            a.claims.acquire(APPEND)
    assert b.claims.acquire(APPEND).epoch == 2


def test_lock_of_a_dead_owner_is_taken_after_a_lease(make_worker):
    a, b = make_worker("a"), make_worker("b")
    lost = a.claims.acquire(APPEND)
    before = b.clock.now
    assert b.claims.acquire(APPEND, sleep=b.clock.sleep).epoch == 2
    assert 60 <= b.clock.now - before <= 62
    assert not lost.is_current()
    assert b.claims.models() == [APPEND]


# --- listings -------------------------------------------------------------------------------------


def test_states_name_every_claim(make_worker):
    a, b, c = make_worker("a"), make_worker("b"), make_worker("c")
    for block, worker in enumerate((a, b, c, a)):
        worker.claims.try_claim("m", block)
    a.claims.held[1].release()
    b.heartbeat.stop()
    watcher = make_worker("w").claims
    assert [(s.block, s.state) for s in watcher.states("m")] == [
        (0, "unknown"),
        (1, "ended"),
        (2, "unknown"),
    ]
    assert [s.block for s in watcher.states("m", released=True)] == [0, 1, 2, 3]
    some = watcher.states("m", open_blocks=np.array([True, False, True, True, True]))
    assert [s.block for s in some] == [0, 2]
    assert "epoch 1: process 7 on b, ended" in str(watcher.states("m")[1])
    assert watcher.states("nothing") == []
    assert watcher.owner("m", 9) is None
    assert watcher.models() == ["m"]
