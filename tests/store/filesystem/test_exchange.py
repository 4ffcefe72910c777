"""Two processes that see each other through a folder; here they are threads, or nobody."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from store.errors import UsageError
from store.filesystem import exchange
from store.filesystem.exchange import NoAnswerError, Waiting, folder_of, new_token
from store.filesystem.trial import Trial

WAITING = Waiting(to_join=60.0, answer=60.0, look=0.001)


def both(folder: Path, *, alone: tuple[Trial, ...] = ()) -> tuple[list[Trial], list[Trial]]:
    with ThreadPoolExecutor(2) as threads:
        led = threads.submit(lambda: list(exchange.lead(folder, WAITING)))
        joined = threads.submit(lambda: list(exchange.join(folder, WAITING, alone=alone)))
        return led.result(), joined.result()


def test_both_see_what_the_other_does(tmp_path: Path) -> None:
    led, joined = both(tmp_path)
    assert [trial.state for trial in (*led, *joined)] == ["ok"] * 13
    names = [trial.what for trial in led]
    assert names[1:5] == ["new names", "listings", "replaced", "overwritten"]
    race = next(trial for trial in led if trial.what == "race for names")
    assert race.values["mine"] + race.values["theirs"] == 64


def test_problems_of_the_other_alone_are_told(tmp_path: Path) -> None:
    led, _ = both(tmp_path, alone=(Trial("mmap", "problem", ""), Trial("link", "ok", "")))
    assert led[-1].state == "problem"
    assert "mmap;" in led[-1].found
    with ThreadPoolExecutor(2) as threads:  # which the leader has itself
        (folder := tmp_path / "again").mkdir()
        alone = [Trial("mmap", "problem", "")]
        led = threads.submit(lambda: list(exchange.lead(folder, WAITING, alone=alone)))
        threads.submit(lambda: list(exchange.join(folder, WAITING, alone=alone)))
        assert {trial.state for trial in led.result()} == {"ok"}


def test_two_owners_of_a_name_are_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = exchange.publish_new

    def publish_new(folder: Path, target: Path, data: Any, **options: Any) -> bool:
        made = real(folder, target, data, **options)
        return made or target.name == "race.7"

    monkeypatch.setattr(exchange, "publish_new", publish_new)
    [race] = [trial for trial in both(tmp_path)[0] if trial.what == "race for names"]
    assert race.state == "problem"
    assert "both processes got 1 and neither got 0" in race.found


def test_what_one_wrote_beside_the_other_is_a_problem_if_it_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def pwrite(fd: int, data: bytes, at: int) -> int:
        return len(data) if data.startswith(b"join") else real(fd, data, at)

    monkeypatch.setattr(exchange.os, "pwrite", pwrite)
    for trials in both(tmp_path):
        [trial] = [trial for trial in trials if trial.what == "writes beside each other"]
        assert trial.state == "problem"


class Clock:
    """Sleeping is all that takes time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("act", [exchange.lead, exchange.join])
def test_nobody_answers(tmp_path: Path, act: Any) -> None:
    clock = Clock()
    waiting = Waiting(to_join=30.0, look=1.0, clock=clock, sleep=clock.sleep)
    with pytest.raises(NoAnswerError, match="within 30 s"):
        list(act(tmp_path, waiting))
    assert 30 < clock.now < 33


@pytest.mark.parametrize(
    ("way", "seconds", "state"),
    [
        ("overwritten", 0.1, "ok"),
        ("overwritten", 6.0, "note"),
        ("overwritten", 45.0, "problem"),
        ("new names", 45.0, "note"),  # a claim that is seen late costs work, and nothing else
    ],
)
def test_how_late_is_too_late(way: str, seconds: float, state: str) -> None:
    trial = exchange._seen(way, seconds)
    assert trial.state == state
    assert ("--lease 180" in trial.found) == (state == "problem")


@pytest.mark.parametrize("word", ["", "..", "../../etc", "0" * 11, "g" * 12, "0" * 12 + "/x"])
def test_a_word_is_no_path(tmp_path: Path, word: str) -> None:
    with pytest.raises(UsageError):
        folder_of(tmp_path, word)
    assert folder_of(tmp_path, new_token()).parent == tmp_path
