"""Output files and folders that appear whole under their name, or not at all.

What is written goes to a hidden name beside the target first::

    .<name>.<uuid>.part  --write, fsync--> rename to <name> --fsync directory-->

A rename cannot replace a folder, so an old folder is moved aside first and removed at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from store.errors import UsageError
from store.io.files import (
    fsync_dir,
    publish_replace,
    rename_over,
    temporary_name,
    write_failure,
)
from store.io.regular import kind_of
from store.location import in_bucket

_HDF5 = b"\x89HDF\r\n\x1a\n"


def write_whole(target: Path, content: bytes) -> None:
    """Write a file; it replaces the one of that name, if any, when it is safe on disk.

    If it cannot be written (`WriteError`), nothing is left of it and an old file is as it was.
    """
    refuse_store(target)
    _refuse_system(target)
    publish_replace(target.parent, target, [content])


@contextmanager
def replacing(target: Path, *, force: bool) -> Iterator[Path]:
    """Give a free path beside ``target``; what is made there is renamed to it at the end.

    The path may become a file or a folder. If the body fails, nothing is left of it and
    ``target`` is as it was. A ``target`` that exists is refused without ``force``.
    """
    check_free(target, force=force)
    part = temporary_name(target.parent, target)
    try:
        yield part
        check_free(target, force=force)  # it took a while: somebody may have been faster
        if part.is_file():
            with part.open("rb") as file:
                os.fsync(file.fileno())
        if part.is_dir() or target.is_dir():
            _swap(part, target)
        else:
            rename_over(part, target)
        fsync_dir(target.parent)
    except OSError as error:
        # The system names no file when a write fails.
        if error.errno is not None and error.filename is None:
            raise write_failure(error, target) from error
        raise
    finally:
        _remove(part)


def check_free(target: Path, *, force: bool) -> None:
    """Refuse a target that exists, unless told to replace it."""
    _refuse_bucket(target)
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent} is not a directory; make it first")
    refuse_existing(target, force=force)


def refuse_existing(target: Path, *, force: bool) -> None:
    """The one rule of every output that a user names: what is there stays, without ``force``.

    A store stays with it too: it may be the work of weeks, and no output is meant to be one.
    """
    refuse_store(target)
    _refuse_system(target)
    if os.path.lexists(target) and not force:
        raise UsageError(f"{target} exists already; choose another name or replace it with --force")
    if target.is_symlink():
        raise UsageError(
            f"{target} is a symbolic link, which the output would replace, not what it leads to: "
            "name that, or remove the link"
        )


def refuse_store(target: Path) -> None:
    """Refuse an output that is a store, lies in one or its sidecar, or is not a file or folder.

    Logs in a sidecar are anybody's.
    """
    _refuse_bucket(target)
    refuse_inside_store(target)
    with suppress(OSError):  # which whoever writes it will meet
        mode = target.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UsageError(
                f"{target} is {kind_of(mode)}, and an output appears whole under its name: "
                "choose another name"
            )
    if _is_a_store(target):
        raise UsageError(f"{target} is a store; no output replaces one, choose another name")
    real = Path(os.path.realpath(target.parent), target.name)
    for folder in (real, *real.parents):
        if folder.suffix == ".vnp" and _is_a_store(folder.with_suffix("")):
            below = real.relative_to(folder).parts
            if len(below) < 2 or below[0] != "logs":
                raise UsageError(
                    f"{target} lies in {folder}, where vnp keeps its own files of the store beside "
                    "it: choose another place"
                )


def _refuse_bucket(target: Path) -> None:
    if (place := in_bucket(target)) is not None:
        raise UsageError(f"{place}: outputs are files; write one here and copy it into the bucket")


def _refuse_system(target: Path) -> None:
    """Refuse a name of the system's: ``/dev/stdout`` is a link, which a file would replace."""
    place = Path(os.path.realpath(target.parent), target.name)
    top = place.parts[1:3]
    if top[:1] in (("dev",), ("proc",)) and top != ("dev", "shm"):  # that is memory for anything
        raise UsageError(
            f"{target} is a name of the system's, and an output appears whole under its name: "
            "choose another name"
        )


def refuse_shared(outputs: Iterable[Path | None], inputs: Iterable[Path | None] = ()) -> None:
    """Refuse two outputs that are one file, and an output that is an input or has one inside.

    Files are compared, not names: by another path, a symbolic or a hard link it is the same one.
    None stands for a file that is not wanted.
    """
    named = [path for path in outputs if path is not None]
    sources = [path for path in inputs if path is not None]
    for number, target in enumerate(named):
        for other in named[:number]:
            if _same(target, other):
                spelt = "" if target == other else f" (also as {other})"
                raise UsageError(
                    f"{target} is named for two outputs{spelt}; give each its own name"
                )
    for target in named:
        for source in sources:
            if _same(target, source) or _inside(target, source):
                raise UsageError(
                    f"{target} is one of the files to read, or holds one ({source}); give the "
                    "output another name"
                )


def _same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, which need not be there yet."""
    try:
        return one.samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def _inside(folder: Path, path: Path) -> bool:
    """Whether a path lies in a folder that is there."""
    if not folder.is_dir():
        return False
    return Path(os.path.realpath(folder)) in Path(os.path.realpath(path)).parents


def refuse_inside_store(target: Path) -> None:
    """Refuse a path below a store: verify reports foreign files there."""
    # Not `Path.resolve`: it raises other errors than OSError where links lead in a circle.
    for folder in Path(os.path.realpath(target.parent), target.name).parents:
        if _is_a_store(folder):
            raise UsageError(
                f"{target} lies inside the store {folder}, which holds nothing but its own files; "
                "choose a place outside it"
            )


def _is_a_store(target: Path) -> bool:
    """Whether the root of a Zarr group or HDF5 file has the attribute of a store."""
    try:
        mode = target.stat().st_mode
        if stat.S_ISDIR(mode):
            root = json.loads((target / "zarr.json").read_bytes())
            return isinstance(root, dict) and "vnp" in (root.get("attributes") or {})
        if not stat.S_ISREG(mode):
            return False  # opening a pipe would wait
        with target.open("rb") as file:
            if file.read(len(_HDF5)) != _HDF5:
                return False
        import h5py

        with h5py.File(target, "r", locking=False) as tree:
            return "vnp" in tree.attrs
    except (OSError, ValueError, ImportError):
        return False


def _swap(part: Path, target: Path) -> None:
    """Put a file or folder in the place of what is there, which comes back if that fails."""
    old = temporary_name(target.parent, target)
    if not target.exists():
        part.rename(target)
        return
    target.rename(old)
    try:
        part.rename(target)
    except BaseException:
        old.rename(target)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
