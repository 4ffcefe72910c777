"""The map, made by a process of its own.

That takes some 500 MB of memory and, by UMAP, minutes; both are gone with the process, which can be
ended at any time, and answers do not wait for it::

    server --rows, lengths, scores (npz)--> process --map() as JSON--> server

It also holds the end of a pipe from the server, on which nothing is sent: that closes when the
server ends, even if killed, and then the process ends too.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.errors import StoreError
from store.location import location
from store.open import open_store
from store.store import Store
from vnp.embed.progress import show_progress
from vnp.embed.supervisor import environment
from vnp.report.collect import sampled_at
from vnp.report.overview import Json, map_json
from vnp.view.search import Cancelled

_LOOK_SECONDS = 0.2  # between two looks whether to stop
_NO_UMAP = "--no-umap"


def draw(
    store: Store,
    rows: NDArray[np.int64],
    *,
    bases: NDArray[np.int64],
    score: NDArray[np.float64] | None,
    umap: bool,
    stop: threading.Event,
) -> Json | None:
    """Make the map of some certified rows, ascending; see `vnp.report.collect.sampled_at`.

    `Cancelled` once ``stop`` is set, `StoreError` if the process fails.
    """
    arrays: dict[str, Any] = {"rows": rows, "bases": bases}
    watched, held = os.pipe()
    words = [sys.executable, "-m", "vnp.view.drawing", str(store.path), str(watched)]
    words += [] if umap else [_NO_UMAP]
    with os.fdopen(watched), os.fdopen(held, "w"), tempfile.TemporaryFile() as given:
        np.savez(given, **arrays if score is None else {**arrays, "score": score})
        given.seek(0)
        run = subprocess.Popen(
            words,
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            pass_fds=[watched],
            start_new_session=True,  # Ctrl-C is for the server alone, which ends it
        )
        made, said = _answer(run, stop)
    if run.returncode:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise StoreError(f"the map cannot be made: {last or f'exit code {run.returncode}'}")
    found: Json | None = json.loads(made)
    return found


def _answer(run: subprocess.Popen[bytes], stop: threading.Event) -> tuple[bytes, bytes]:
    """What a process writes, and what it says of errors."""
    with run:
        while True:
            try:
                return run.communicate(timeout=_LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                if stop.is_set():
                    run.kill()
                    raise Cancelled from None


def end_with(watched: int) -> None:
    """End this process as soon as nobody holds the other end of a pipe."""

    def wait() -> None:
        os.read(watched, 1)
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def main(place: str, watched: str, *options: str) -> None:
    """Read what is given, and write the map."""
    end_with(int(watched))
    show_progress(False)  # the last line on standard error is an error's
    given: dict[str, Any] = dict(np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False))
    store = open_store(location(place))
    sampled = sampled_at(
        store.merged(),
        store,
        given["rows"],
        bases=given["bases"],
        score=given.get("score"),
        umap=_NO_UMAP not in options,
    )
    json.dump(map_json(sampled), sys.stdout, allow_nan=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
