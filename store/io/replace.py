"""An output that appears whole under its name, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from store.errors import UsageError
from store.io.files import fsync_dir


@contextmanager
def replacing(target: Path, *, force: bool) -> Iterator[Path]:
    """Give a free path beside ``target``; what is made there is renamed to it at the end.

    The path may become a file or a directory. If the body fails, nothing is left of it and what
    stood at ``target`` stands.

    Raises
    ------
    UsageError
        If something stands at ``target`` and ``force`` is not set.
    """
    check_free(target, force=force)
    part = target.with_name(f".{target.name}.{uuid4().hex}.part")
    try:
        yield part
        if part.is_file():
            with part.open("rb") as file:
                os.fsync(file.fileno())
        if part.is_dir() or target.is_dir():
            _swap(part, target, force=force)
        else:
            check_free(target, force=force)  # it took a while: somebody may have been faster
            part.replace(target)
        fsync_dir(target.parent)
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file; it replaces the one of that name, if any, when it is safe on disk."""
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        fsync_dir(path.parent)
    finally:
        part.unlink(missing_ok=True)


def check_free(target: Path, *, force: bool) -> None:
    """Refuse a target that exists, unless told to replace it.

    Raises
    ------
    UsageError
        Saying what to do.
    """
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent} is no directory; make it first")
    if target.exists() and not force:
        raise UsageError(f"{target} exists already; choose another name or replace it with --force")


def _swap(part: Path, target: Path, *, force: bool) -> None:
    """Put a directory in the place of what is there; a rename cannot replace one that has files."""
    check_free(target, force=force)
    old = target.with_name(f".{target.name}.{uuid4().hex}.old")
    if target.exists():
        target.rename(old)
    part.rename(target)
    if old.is_dir():
        shutil.rmtree(old)
    else:
        old.unlink(missing_ok=True)
