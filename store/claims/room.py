"""Where claims and heartbeats are kept: a small port, and its implementation in files.

Names are relative, with one slash: ``claims/<model>/<block>.<epoch>``, ``workers/<uuid>``. All that
decides is `Room.make`: of many writers of one name exactly one wins. Claims are never removed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from store.errors import DamageError
from store.io.files import (
    WriteError,
    make_dir,
    names_in,
    publish_new,
    publish_replace,
    write_failure,
)
from store.io.regular import open_regular, read_regular


class Room(Protocol):
    """Small contents by name, which processes on many hosts make and read."""

    looks: int  # at claims here and there that pay at a time, for who searches a free block

    def names(self, folder: str) -> list[str]:
        """Names in a folder, in any order; empty if the folder does not exist."""

    def claims_from(self, folder: str, block: int) -> tuple[list[str], bool] | None:
        """Names of a model's claims from a block on, and whether there are more.

        As many as one request gives. None where that would cost as much as all of them.
        """

    def exists(self, name: str) -> bool:
        """Whether there is anything under the name."""

    def read(self, name: str, *, most: int) -> bytes | None:
        """Content of at most ``most`` bytes; None when it is missing or cannot be read."""

    def make(self, name: str, content: bytes) -> bool:
        """Make a name with its content, at once; False if it is taken. `WriteError` if neither."""

    def mark(self, name: str) -> None:
        """Make an empty name; fine if it is there. `WriteError` if that is impossible."""

    def overwrite(self, name: str, content: bytes) -> None:
        """Write a content whose size never changes; `WriteError` if that is impossible.

        A reader may see a mixture of the old and the new.
        """

    def remove(self, name: str) -> bool:
        """Remove a name; whether it is gone."""


class FileRoom:
    """Files in the directory beside a store; tests make ``link`` fail."""

    looks = 32  # each at one claim

    def __init__(self, directory: Path, *, link: Callable[[Path, Path], None] = os.link) -> None:
        self.directory = directory
        self._link = link

    def __str__(self) -> str:
        return str(self.directory)

    def names(self, folder: str) -> list[str]:
        """Names in a folder, from one listing."""
        return names_in(self.directory / folder)

    def claims_from(self, folder: str, block: int) -> None:  # noqa: ARG002
        """No part of a directory can be listed."""
        return

    def exists(self, name: str) -> bool:
        """Whether the name is taken, as a listing says it: by a link to nothing, too."""
        return os.path.lexists(self.directory / name)

    def read(self, name: str, *, most: int) -> bytes | None:
        """Content of a regular file."""
        try:
            return read_regular(self.directory / name, most=most, follow=False)
        except (OSError, DamageError):
            return None

    def make(self, name: str, content: bytes) -> bool:
        """Make a file with ``link``, see `publish_new`."""
        target, tmp = self.directory / name, self.directory / "tmp"
        # Not synced: a power cut that takes a claim away takes its owner too.
        try:
            return publish_new(tmp, target, [content], durable=False, link=self._link)
        except WriteError as error:
            if error.errno != errno.ENOENT:
                raise
        make_dir(target.parent, durable=False)  # the first one, or somebody cleaned up
        make_dir(tmp, durable=False)
        return publish_new(tmp, target, [content], durable=False, link=self._link)

    def mark(self, name: str) -> None:
        """Make an empty file."""
        path = self.directory / name
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        except FileExistsError:
            pass
        except OSError as error:
            raise write_failure(error, path) from error

    def overwrite(self, name: str, content: bytes) -> None:
        """Write into the file: that needs no space, so a worker survives a full disk."""
        path = self.directory / name
        try:
            fd = open_regular(path, os.O_WRONLY, follow=False)
            with os.fdopen(fd, "wb", buffering=0) as file:
                file.write(content)
        except FileNotFoundError:
            make_dir(path.parent, durable=False)
            make_dir(self.directory / "tmp", durable=False)
            publish_replace(self.directory / "tmp", path, [content], durable=False)
        except DamageError as error:
            raise WriteError(f"{path} {error}: remove it") from None
        except OSError as error:
            raise write_failure(error, path) from error

    def remove(self, name: str) -> bool:
        """Remove a regular file; directories and files of other users are left."""
        try:
            (self.directory / name).unlink(missing_ok=True)
        except OSError:
            return False
        return True


def room_of(place: Room | Path) -> Room:
    """Return the room in a directory, or the room that is given."""
    return FileRoom(place) if isinstance(place, Path) else place
