"""``vnp status --watch`` fits the terminal: nothing wraps, nothing scrolls."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.rows import filled_store
from vnp.cli.output import fitting

ROOT = Path(__file__).parents[3]


def test_lines_are_cut_to_columns_and_rows() -> None:
    lines = ["a" * 100, "短い" * 30, "e\u0301" * 50, *(f"line {n}" for n in range(20))]
    cut = fitting(lines, columns=40, rows=10)
    assert len(cut) == 9, "the cursor has a line of its own"
    assert cut[0] == "a" * 40
    assert cut[1] == ("短い" * 30)[:20], "these letters take two columns each"
    assert cut[2] == "e\u0301" * 40
    assert cut[-1] == "  ... 15 more lines"
    assert fitting(lines, columns=200, rows=100) == lines
    assert fitting(lines, columns=1, rows=1) == [" "]
    assert fitting([], columns=80, rows=24) == []


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "columns"), [(24, 80), (3, 30), (1, 10)])
def test_watching_in_a_terminal_never_wraps_or_scrolls(
    tmp_path: Path, rows: int, columns: int
) -> None:
    store = filled_store(tmp_path / "run.zarr", rows=40)  # whole, so that --watch ends
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "vnp", "status", str(store.path), "--watch"]
    run = subprocess.run(
        command, stdin=child, stdout=child, stderr=child, check=True, cwd=ROOT, env=environment
    )
    os.close(child)
    said = b""
    while True:
        try:
            part = os.read(parent, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        said += part
    os.close(parent)
    shown = said.decode().replace("\x1b[2J\x1b[H", "").replace("\r\n", "\n")
    assert run.returncode == 0
    assert said.startswith(b"\x1b[2J\x1b[H")
    assert shown.count("\n") <= max(rows - 1, 1)
    assert all(len(line) <= columns for line in shown.split("\n"))
