"""A guarded look: what the HDF5 library says of a file whose structures it may not survive.

Damaged structures can send the library into an endless loop, or crash it. So a process of its own
opens the file and prints where everything lies.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from store.errors import DamageError, StoreError
from store.hdf5 import map as places_map
from store.hdf5.map import Places

_PATIENCE = 120.0  # seconds; a file of 100 million rows takes about one


def look(path: Path) -> Places:
    """Where everything of a store lies, as the library says.

    DamageError if the library cannot open the file, crashes or does not come to an end, or if the
    file is not a store's.
    """
    command = [sys.executable, "-P", "-m", "store.hdf5.look", str(path)]
    # Our own package, whatever else the environment of this process made importable.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_PATIENCE, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DamageError("the HDF5 library does not come to an end on it") from None
    except OSError as error:
        raise DamageError(f"no process could be started to look at it: {error}") from None
    if done.returncode < 0:
        raise DamageError("the HDF5 library crashes on it")
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise DamageError(said[-1] if said else "the HDF5 library cannot open it")
    return places_map.unpack(done.stdout, where=str(path))


def main(path: str) -> int:
    """Print the packed map of a file; an error as one line."""
    from store.hdf5.home import Home
    from store.hdf5.layout import open_library
    from store.hdf5.overlay import Overlay
    from store.hdf5.places import places_in

    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with open_library(Overlay(fd), "r") as tree:
            found = places_in(Home(tree), where=path)
    except (StoreError, OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return 1
    sys.stdout.buffer.write(places_map.pack(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
