"""Which file system a folder lies on, what its mount options mean for a store, and a verdict."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from store.filesystem.trial import Trial

_TABLE = Path("/proc/self/mountinfo")


class Reach(Enum):
    """From where the files of a file system are seen."""

    MACHINE = "one machine"
    HOSTS = "several hosts"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system."""

    kind: str  # as the kernel calls it: ext4, nfs4, lustre, fuse.sshfs, ...
    source: str  # device, or server and path
    point: Path  # where it is mounted
    options: dict[str, str]  # of the mount and of the file system; a flag has the value ""

    @property
    def reach(self) -> Reach:
        """From where its files are seen."""
        return _KINDS[self.kind][0] if self.kind in _KINDS else Reach.UNKNOWN

    @property
    def name(self) -> str:
        """Its name as people know it."""
        return _KINDS[self.kind][1] if self.kind in _KINDS else self.kind


_KINDS = {
    **{
        kind: (Reach.MACHINE, kind)
        for kind in ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "bcachefs")
    },
    "tmpfs": (Reach.MACHINE, "tmpfs"),
    "overlay": (Reach.MACHINE, "overlay"),
    "nfs": (Reach.HOSTS, "NFS"),
    "nfs4": (Reach.HOSTS, "NFS"),
    "lustre": (Reach.HOSTS, "Lustre"),
    "beegfs": (Reach.HOSTS, "BeeGFS"),
    "gpfs": (Reach.HOSTS, "GPFS"),
    "ceph": (Reach.HOSTS, "CephFS"),
    "fuse.ceph-fuse": (Reach.HOSTS, "CephFS"),
    "fuse.glusterfs": (Reach.HOSTS, "GlusterFS"),
    "cifs": (Reach.HOSTS, "SMB"),
    "smb3": (Reach.HOSTS, "SMB"),
    "fuse.sshfs": (Reach.HOSTS, "sshfs"),
}


def mount_of(folder: Path, *, table: str | None = None) -> Mount:
    """Return the mount that a folder lies on; ``table`` is the text of mountinfo, to test it.

    Raises
    ------
    OSError
        If the system has no mount table (not Linux).
    """
    folder = folder.resolve()
    text = _TABLE.read_text(errors="surrogateescape") if table is None else table
    # The last one counts where several are mounted on one point.
    mounts = [mount for mount in _mounts(text) if folder.is_relative_to(mount.point)]
    if not mounts:
        raise FileNotFoundError(f"no mount in {_TABLE} holds {folder}")
    longest = max(len(mount.point.parts) for mount in mounts)
    return next(mount for mount in reversed(mounts) if len(mount.point.parts) == longest)


def _mounts(table: str) -> Iterator[Mount]:
    for line in table.splitlines():
        # number parent device root point options [tags ...] - kind source options
        front, dash, back = line.partition(" - ")
        fields, rest = front.split(" "), back.split(" ")
        if not dash or len(fields) < 6 or len(rest) < 3:
            continue
        options: dict[str, str] = {}
        for option in [*fields[5].split(","), *rest[2].split(",")]:
            name, _, value = option.partition("=")
            options[name] = value
        yield Mount(rest[0], _plain(rest[1]), Path(_plain(fields[4])), options)


def _plain(text: str) -> str:
    r"""Undo the escapes of blanks and backslashes, such as ``\040``."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def remarks(mount: Mount) -> Iterator[Trial]:
    """Say what the mount is, and which of its options matter to a store, with what to do."""
    values = {
        "kind": mount.kind,
        "source": mount.source,
        "point": str(mount.point),
        "options": mount.options,
        "reach": mount.reach.value,
    }
    seen = {
        Reach.MACHINE: "seen by this machine",
        Reach.HOSTS: "shared by hosts",
        Reach.UNKNOWN: "of a kind that vnp knows nothing about: what is tried must do",
    }[mount.reach]
    yield Trial("mount", "ok", f"{mount.name} ({mount.source}) at {mount.point}, {seen}", values)
    if "ro" in mount.options:
        yield Trial("mount option ro", "problem", "it can be read only: nothing can be embedded")
    if mount.kind in _OF_KIND:
        yield from _OF_KIND[mount.kind](mount.options)


def _of_nfs(options: dict[str, str]) -> Iterator[Trial]:
    if "soft" in options or "softerr" in options:
        found = (
            "a server that does not answer in time loses writes that seemed to succeed: "
            "mount it with hard"
        )
        yield Trial("mount option soft", "problem", found)
    if "nocto" in options:
        found = (
            "a file that another host replaced is not looked at again when it is opened, so "
            "living workers seem dead: mount it without nocto"
        )
        yield Trial("mount option nocto", "problem", found)
    if options.get("lookupcache", "all") == "all" and "noac" not in options:
        late = max(_seconds(options, "acdirmax", 60), _seconds(options, "acdirmin", 30))
        found = (
            f"this host may believe for {late} s that a name does not exist which another host "
            "has made: a worker learns that late that its block was taken over, and the block is "
            "embedded twice. Nothing is damaged by that; mount it with lookupcache=positive"
        )
        yield Trial("mount option lookupcache", "note", found, {"seconds": late})
    if "nolock" in options or options.get("local_lock", "none") != "none":
        found = (
            "locks are known to this host alone. Claims need none; do not append to one HDF5 "
            "store from two hosts at once, and open .h5 files in other programs with "
            "HDF5_USE_FILE_LOCKING=FALSE"
        )
        yield Trial("mount option nolock", "note", found)
    late = max(_seconds(options, "acdirmax", 60), _seconds(options, "acdirmin", 30))
    if late > 60:
        found = (
            f"a listing may be {late} s old: blocks that others filled are tried again, and new "
            "samples are seen that late. Mount it with acdirmax=60 or less"
        )
        yield Trial("mount option acdirmax", "note", found, {"seconds": late})


def _of_lustre(options: dict[str, str]) -> Iterator[Trial]:
    if "flock" not in options:
        which = "localflock" if "localflock" in options else "noflock"
        known = "known to this host alone" if which == "localflock" else "refused"
        found = (
            f"locks are {known}. Claims need none; other programs open .h5 files with "
            "HDF5_USE_FILE_LOCKING=FALSE, or mount it with flock"
        )
        yield Trial(f"mount option {which}", "note", found)


def _of_tmpfs(_options: dict[str, str]) -> Iterator[Trial]:
    yield Trial("tmpfs", "note", "it is memory: a store there ends with the machine, or sooner")


def _of_overlay(_options: dict[str, str]) -> Iterator[Trial]:
    found = "it is a container's own layer: a store there ends with the container; mount a volume"
    yield Trial("overlay", "note", found)


_OF_KIND: dict[str, Callable[[dict[str, str]], Iterator[Trial]]] = {
    "nfs": _of_nfs,
    "nfs4": _of_nfs,
    "lustre": _of_lustre,
    "tmpfs": _of_tmpfs,
    "overlay": _of_overlay,
}


def _seconds(options: dict[str, str], name: str, default: int) -> int:
    """Return a time of attribute caching; ``actimeo`` sets all, ``noac`` makes them 0."""
    if "noac" in options:
        return 0
    value = options.get(name, options.get("actimeo", ""))
    return int(value) if value.isascii() and value.isdigit() else default


def verdict(mount: Mount | None, trials: Sequence[Trial], *, two_hosts: str) -> Trial:
    """Sum up; ``two_hosts`` is the command that tries it from two hosts."""
    name = mount.name if mount is not None else "this file system"
    problems = [trial.what for trial in trials if trial.state == "problem"]
    apart = any(trial.values.get("two_hosts") for trial in trials)
    fit_for = "nothing"
    if problems:
        found = f"{name} is NOT fit for a store here: {', '.join(problems)}"
    elif apart:
        fit_for = "hosts"
        found = f"{name} is fit for a store that workers of several hosts fill"
    elif mount is not None and mount.reach is Reach.MACHINE:
        fit_for = "machine"
        found = f"{name} is fit for a store that workers of this machine fill"
    else:
        fit_for = "machine"
        found = (
            f"{name} is fit for a store, as far as one host can tell; before workers of several "
            f"hosts fill one, try it from two: {two_hosts}"
        )
    return Trial(
        "verdict",
        "problem" if problems else "ok",
        found,
        {"fit_for": fit_for, "problems": problems, "two_hosts_tried": apart},
    )
