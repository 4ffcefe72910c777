"""Which process a worker is, so that others on the same machine can tell that it is gone.

A process id alone proves little: other machines and containers use the same numbers, and a number
is reused after its process ended. A worker is therefore identified by host, boot, pid namespace,
pid and the time at which that pid started, all from the kernel.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_DEAD = frozenset("ZXx")  # zombie or dead: it will never run again
# Where schedulers say which job this is: shown by `status`, never used in a decision.
_JOBS = (
    ("slurm", "SLURM_JOB_ID"),
    ("pbs", "PBS_JOBID"),
    ("lsf", "LSB_JOBID"),
    ("sge", "JOB_ID"),
    ("ray", "RAY_JOB_ID"),
    ("kubernetes", "KUBERNETES_POD_NAME"),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """A process, distinct from every other on any machine."""

    host: str  # host name
    boot: str | None  # the kernel's id of this boot; None where there is none (not Linux)
    pid_ns: str | None  # pid namespace, as /proc/self/ns/pid shows it; None when unknown
    pid: int  # process id within the namespace
    started: int | None  # start of the process in clock ticks after boot; None when unknown
    job: str | None  # scheduler and job id, such as "slurm:4711", of an array "slurm:4711_3"

    @classmethod
    def from_json(cls, found: object) -> Identity | None:
        """Read an identity that was written as a JSON object; None for anything else."""
        if not isinstance(found, dict):
            return None
        host, pid = found.get("host"), found.get("pid")
        # A pid of 0 or less names a process group in kill(), so it must never get that far.
        if not isinstance(host, str) or type(pid) is not int or pid < 1:
            return None
        text = {
            key: found[key] if isinstance(found.get(key), str) else None
            for key in ("boot", "pid_ns", "job")
        }
        started = found.get("started")
        return cls(host=host, pid=pid, started=started if type(started) is int else None, **text)

    def __str__(self) -> str:
        job = f" ({self.job})" if self.job else ""
        return f"process {self.pid} on {self.host}{job}"


def identify() -> Identity:
    """Describe the calling process. Ask again after a fork: the child is another process."""
    pid = os.getpid()
    state = _state(pid)
    return Identity(
        host=socket.gethostname(),
        boot=_read(_PROC / "sys/kernel/random/boot_id"),
        pid_ns=_pid_namespace(),
        pid=pid,
        started=state[1] if state else None,
        job=_job(),
    )


def is_gone(other: Identity, *, me: Identity) -> bool:
    """Whether ``me`` can be sure that the process ``other`` will never run again.

    False means that it runs, or that this cannot be told from here: another host or container. A
    stopped process is not gone, a zombie is.
    """
    here = (me.host, me.boot, me.pid_ns)
    if me.boot is None or me.pid_ns is None or here != (other.host, other.boot, other.pid_ns):
        return False
    try:
        os.kill(other.pid, 0)  # signal 0 only asks, and sees what a /proc with hidepid hides
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    state = _state(other.pid)
    if state is None or other.started is None:
        return False
    return state[0] in _DEAD or state[1] != other.started


def _job() -> str | None:
    """Scheduler and id of the job that this process is part of, as the scheduler's tools say it."""
    array = [os.environ.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK")]
    if all(array):  # SLURM_JOB_ID is another number for each task, which squeue does not show
        return "slurm:" + "_".join(filter(None, array))
    return next((f"{name}:{os.environ[key]}" for name, key in _JOBS if os.environ.get(key)), None)


def _state(pid: int) -> tuple[str, int] | None:
    """State letter and start time of a process: fields 3 and 22 of /proc/<pid>/stat."""
    line = _read(_PROC / str(pid) / "stat")
    if line is None:
        return None
    # Field 2 is the command in brackets and may itself hold spaces and brackets.
    fields = line.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _pid_namespace() -> str | None:
    """Return this process's pid namespace; None when /proc shows another one's processes."""
    try:
        if (_PROC / "self").readlink().name != str(os.getpid()):
            return None
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # also ProcessLookupError: it ended while we read
        return None
