"""The process that makes the map, and its end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from store.errors import StoreError
from store.open import create_store
from store.store import Store
from tests import rows
from vnp.embed.supervisor import environment
from vnp.view.drawing import draw

# Says whether what it is given is a pipe that is open; stands for the process.
PROGRAM = """#!{python}
import json, os, select, stat, sys
watched = int(sys.argv[4])
closed = select.select([watched], [], [], 0)[0]
if "--no-umap" in sys.argv:
    sys.exit("first\\nit fails")
json.dump({{"pipe": stat.S_ISFIFO(os.fstat(watched).st_mode), "closed": bool(closed)}}, sys.stdout)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return create_store(tmp_path / "run.zarr", models=rows.MODELS, segment_length=500)


def test_the_process_ends_with_whoever_started_it() -> None:
    watched, held = os.pipe()
    program = (
        "import signal, sys; from vnp.view.drawing import end_with; end_with(int(sys.argv[1])); "
        "print('ready', flush=True); signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(watched)],
        stdout=subprocess.PIPE,
        pass_fds=[watched],
        env=environment(),
    ) as run:
        os.close(watched)
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        assert run.poll() is None
        os.close(held)  # as the kernel does where the server is killed
        assert run.wait(60) == 1


def test_the_process_is_given_a_pipe_that_stays_open(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    nothing, stop = np.empty(0, np.int64), threading.Event()
    found = draw(store, nothing, bases=nothing, score=None, umap=True, stop=stop)
    assert found == {"pipe": True, "closed": False}
    with pytest.raises(StoreError, match="the map cannot be made: it fails$"):
        draw(store, nothing, bases=nothing, score=None, umap=False, stop=stop)
