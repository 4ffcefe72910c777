"""``vnp doctor --filesystem DIR``: whether a file system is fit for a store."""

from __future__ import annotations

import argparse
import logging
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from store.filesystem.mounts import Mount
    from store.filesystem.trial import Trial

log = logging.getLogger(__name__)

_TO_JOIN = 60.0  # seconds that a process of this host gets to start
_TO_JOIN_BY_HAND = 600.0  # and one that somebody starts on another


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group("file systems")
    group.add_argument(
        "--filesystem",
        type=Path,
        metavar="DIR",
        help="try in this folder what a store needs of its file system, also between two "
        "processes, and judge it; nothing else is checked",
    )
    group.add_argument(
        "--second-host",
        action="store_true",
        help="with --filesystem: the second process is one that you start on another host; the "
        "command for it is printed",
    )
    group.add_argument(
        "--join", metavar="WORD", help="with --filesystem: be the second process, as printed"
    )


def look(given: argparse.Namespace) -> list[Trial]:
    """Try everything; the last trial is the verdict, but for the process that joins.

    Raises
    ------
    UsageError
        If the folder, or the exchange of that name in it, does not exist.
    """
    from store.errors import UsageError
    from store.filesystem import exchange
    from store.filesystem.mounts import verdict
    from store.filesystem.trial import Trial
    from store.io.files import make_dir

    directory: Path = given.filesystem
    if str(directory).startswith("s3:"):
        raise UsageError(
            "a bucket is not a file system: 'vnp doctor s3://BUCKET/run.zarr' tries its server"
        )
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a folder: name one on the file system to be tried")
    if given.join is not None and given.second_host:
        raise UsageError("--join is for the second host, --second-host for the first: give one")
    directory = directory.resolve()
    mount, trials = mounted(directory)
    token = given.join if given.join is not None else exchange.new_token()
    folder = exchange.folder_of(directory, token)
    if given.join is not None:
        if not folder.is_dir():
            raise UsageError(
                f"{folder} is not there: this host sees other files under that name than the first "
                "one, or the first one has ended"
            )
        trials += _tried(folder / "joined")
        joined = exchange.join(folder, exchange.Waiting(_TO_JOIN), alone=trials)
        return [*trials, *joined]
    command = ["vnp", "doctor", "--filesystem", str(directory)]
    make_dir(folder)
    try:
        trials += _tried(folder / "led")
        joining = [*command, "--join", token]
        if any(trial.what == "link" and trial.state == "problem" for trial in trials):
            trials.append(Trial("second process", "note", "not tried: it takes hard links"))
        elif given.second_host:
            minutes = _TO_JOIN_BY_HAND / 60
            log.info(f"within {minutes:g} minutes, on the second host: {shlex.join(joining)}")
            trials += _exchanged(folder, _TO_JOIN_BY_HAND, trials)
        else:
            with _second_process(joining[1:]):
                trials += _exchanged(folder, _TO_JOIN, trials)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        trials.append(Trial("leftovers", "note", f"{folder} could not be removed: remove it"))
    two_hosts = shlex.join([*command, "--second-host"])
    return [*trials, verdict(mount, trials, two_hosts=two_hosts)]


def mounted(path: Path) -> tuple[Mount | None, list[Trial]]:
    """Return the mount that a path lies on, and what its options mean."""
    from store.filesystem.mounts import mount_of, remarks
    from store.filesystem.trial import Trial

    try:
        mount = mount_of(path)
    except OSError as error:
        return None, [Trial("mount", "note", f"not known here: {error}")]
    return mount, list(remarks(mount))


def _tried(folder: Path) -> list[Trial]:
    from store.filesystem.primitives import try_primitives
    from store.io.files import make_dir

    make_dir(folder)
    return list(try_primitives(folder))


def _exchanged(folder: Path, to_join: float, alone: Sequence[Trial]) -> list[Trial]:
    from store.errors import StoreError
    from store.filesystem import exchange
    from store.filesystem.trial import Trial

    found: list[Trial] = []
    try:
        found.extend(exchange.lead(folder, exchange.Waiting(to_join), alone=alone))
    except StoreError as error:
        found.append(Trial("second process", "problem", str(error)))
    return found


@contextmanager
def _second_process(arguments: list[str]) -> Iterator[None]:
    """Run vnp beside this process; it has said its last word when the body ends, or is stuck."""
    from vnp.embed.supervisor import environment

    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "vnp", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()
