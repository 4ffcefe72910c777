"""Caches of what is trusted without a further look: code that is run, tests that were passed.

Whoever may write to such a folder decides what this process does. So it must be the user's own, or
beside the code and no more open than that. Otherwise it is said once, and nothing is read there.
"""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

_OTHERS = stat.S_IWGRP | stat.S_IWOTH

_said: set[Path] = set()


def user_cache() -> Path | None:
    """Folder ``vnp`` of the user's cache; None without a home: others may write anywhere else."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "") or "~/.cache")
    try:
        cache = cache.expanduser()
    except RuntimeError:
        return None
    return cache / "vnp" if cache.is_absolute() else None


def make_own(folder: Path, *, code: Path | None = None) -> None:
    """Make a folder of a cache and those above it, whatever the umask: nobody else may write there.

    Beside ``code`` others may read it, elsewhere not even that.
    """
    if folder.is_dir():
        return
    make_own(folder.parent, code=code)
    folder.mkdir(0o700 if code is None else 0o755, exist_ok=True)


def close_empty(folder: Path) -> None:
    """Take from others the right to write to a folder of this user's that nothing is in yet.

    Another library made it, and the umask left it open. One that holds something stays as it is:
    others may have put that there.
    """
    with suppress(OSError):
        found = folder.stat()
        if found.st_uid == os.geteuid() and not os.listdir(folder):
            folder.chmod(found.st_mode & ~_OTHERS)
            if any(each.stat().st_uid != found.st_uid for each in folder.iterdir()):
                folder.chmod(found.st_mode)  # somebody else was faster


def is_own(folder: Path, *, code: Path | None = None) -> bool:
    """Whether nobody else may write to a folder, or to make it; a warning says why not, once.

    Parameters
    ----------
    folder
        Of a cache.
    code
        Folder of the code that the cache is for, if it lies beside it. Its owner is trusted, and
        whoever may write there may do so here.
    """
    trouble = stranger(folder, code=code)
    if trouble is not None and folder not in _said:
        _said.add(folder)
        log.warning("the cache %s is left out: %s", folder, trouble)
    return trouble is None


def stranger(path: Path, *, code: Path | None = None) -> str | None:
    """Say how others could change a file or folder; None if they cannot, or it is not there."""
    try:
        found = path.stat()
        beside = None if code is None else code.stat()
    except OSError:
        return None
    owners = {os.geteuid(), 0} | (set() if beside is None else {beside.st_uid})
    if found.st_uid not in owners:
        return f"it belongs to another user (number {found.st_uid}); remove it"
    shared = found.st_mode & _OTHERS
    if shared & ~(0 if beside is None else beside.st_mode):
        return "others may write to it; remove it, as it may not hold what you put there"
    return None
