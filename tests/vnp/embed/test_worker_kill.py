"""Workers are killed and frozen; every row ends certified and equal to an undisturbed run's."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.open import create_store
from store.store import Store
from tests.rows import MODELS, append
from tests.vnp.embed.test_worker import assert_whole

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=[".zarr", ".h5"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Store:
    store = create_store(
        tmp_path / f"run{request.param}", models=MODELS, segment_length=500, block_rows=16
    )
    append(store, "a", 200)
    return store


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def start(store: Store, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.vnp.embed.stub_worker", str(store.path), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def contents(path: Path) -> dict[Path, bytes]:
    files = path.rglob("*") if path.is_dir() else [path]
    return {file: file.read_bytes() for file in files if file.is_file()}


def go_on(process: subprocess.Popen[str], step: str) -> bool:
    """Let a paused worker go on to the next pause; False if it came to its end."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("\n")
        process.stdin.flush()
    except BrokenPipeError:
        return False
    return process.stdout.readline().strip() == step


def wait_for(process: subprocess.Popen[str], step: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == step


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


@pytest.mark.parametrize("seed", range(3))
def test_workers_killed_at_random_moments_lose_nothing(
    store: Store, processes: list[subprocess.Popen[str]], seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(4):
        step = chance.choice(["embedding", "embedded"])
        worker = start(store, "--pause-at", step)
        processes.append(worker)
        wait_for(worker, step)
        for _ in range(chance.randrange(4)):
            if not go_on(worker, step):
                break
        # At this moment the block before may be anywhere in its publication.
        worker.kill()
        worker.wait()
    last = start(store)
    processes.append(last)
    finish(last)
    assert_whole(store)


def test_a_frozen_worker_is_robbed_and_changes_nothing_when_it_thaws(
    store: Store, processes: list[subprocess.Popen[str]]
) -> None:
    frozen = start(store, "--pause-at", "embedded")
    processes.append(frozen)
    wait_for(frozen, "embedded")
    frozen.send_signal(signal.SIGSTOP)
    thief = start(store, "--lease", "0.6")
    processes.append(thief)
    finish(thief)
    assert_whole(store)
    before = contents(store.path)
    frozen.send_signal(signal.SIGCONT)
    frozen.communicate("\n" * 100, timeout=120)
    assert frozen.returncode == 0
    assert contents(store.path) == before


def test_a_frozen_worker_of_the_tail_changes_nothing_after_the_store_has_grown(
    store: Store, processes: list[subprocess.Popen[str]]
) -> None:
    # 200 rows are 12 blocks and a tail of 8; only the tail of one model is left open.
    finish(start(store))
    store.reopen("wide", 12)
    frozen = start(store, "--pause-at", "embedded")
    processes.append(frozen)
    wait_for(frozen, "embedded")
    frozen.send_signal(signal.SIGSTOP)
    append(store, "b", 30)
    thief = start(store, "--lease", "0.6")
    processes.append(thief)
    finish(thief)
    assert_whole(store)
    frozen.send_signal(signal.SIGCONT)
    frozen.communicate("\n" * 100, timeout=120)
    assert frozen.returncode == 0
    assert_whole(store)


def test_many_workers_and_an_appender_at_once(
    store: Store, processes: list[subprocess.Popen[str]]
) -> None:
    crowd = [start(store) for _ in range(4)]
    processes += crowd
    for number in range(3):
        append(store, f"more{number}", 33)
    for worker in crowd:
        finish(worker)
    finish(start(store))
    assert store.n_rows == 299
    assert_whole(store)
