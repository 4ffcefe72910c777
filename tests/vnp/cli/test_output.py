"""Standard output that is closed, full, or read to its first line only: no traceback."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rows import filled_store

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.slow
COMMANDS = ["status {}", "status {} --json", "verify {}", "models", "--help", "status --help"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled_store(tmp_path_factory.mktemp("store") / "run.zarr", rows=40).path


def shell(line: str, **options: int) -> subprocess.CompletedProcess[str]:
    command = f"{shlex.quote(sys.executable)} -m vnp {line}"
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(command, shell=True, text=True, check=False, cwd=ROOT, **given)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_standard_output_is_no_error(path: Path, command: str) -> None:
    command = command.format(shlex.quote(str(path)))
    assert shell(f"{command} >&-").returncode == 0
    assert shell(f"{command} >&- 2>&-").returncode == 0
    assert shell(f"{command} <&- >&-").stderr == ""


@pytest.mark.parametrize("command", [*COMMANDS, "status {} --watch"])
def test_a_reader_that_leaves_ends_it_quietly(path: Path, command: str) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        run = shell(command.format(shlex.quote(str(path))), stdout=write)
    finally:
        os.close(write)
    assert run.stderr == ""
    assert run.returncode in (0, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_behind_standard_output_is_named(path: Path) -> None:
    run = shell(f"status {shlex.quote(str(path))} > /dev/full")
    assert run.returncode == 1
    assert run.stderr.startswith("vnp status: error: standard output could not be written")
    assert run.stderr.count("\n") == 1


def test_a_path_that_is_not_text_is_printed(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    store = filled_store(folder / "run.zarr", rows=20)
    for command in ("status", "verify", "doctor"):
        quoted = shlex.quote(str(store.path))
        run = subprocess.run(
            os.fsencode(f"{shlex.quote(sys.executable)} -m vnp {command} {quoted}"),
            shell=True,
            capture_output=True,
            check=False,
            cwd=ROOT,
        )
        assert b"Traceback" not in run.stderr
        assert run.returncode == 0
