"""Two hosts on one machine, for tests: namespaces of their own, clocks an hour apart, one disk.

A `Host` has its own host name, network, process ids (its first process is 1, as on the other one)
and clocks: the monotonic ones by a time namespace, the wall clock by libfaketime. They share the
file system, as two machines share one that is mounted on both.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOUR = 3600
_FAKETIME = "libfaketimeMT.so.1"
_SPACES = ("--net", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")


@functools.cache
def why_not() -> str | None:
    """Say why there can be no hosts here; None if there can."""
    if shutil.which("unshare") is None:
        return "needs unshare (util-linux)"
    command = ["unshare", *_SPACES, "--time", "--boottime", str(HOUR), "hostname", "other"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"may not make namespaces: {tried.stderr.strip()}"
    if _faketime() is None:
        return "needs libfaketime (Debian's package of that name)"
    return None


@functools.cache
def _faketime() -> Path | None:
    return next(iter(sorted(Path("/usr/lib").glob(f"*/faketime/{_FAKETIME}"))), None)


@dataclass
class Host:
    """A host; ``ahead`` is how many seconds its clocks are ahead of the machine's."""

    name: str
    ahead: int = 0
    _started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start Python with these arguments on the host, with pipes for all three streams."""
        clocks = ["--time", f"--monotonic={self.ahead}", f"--boottime={self.ahead}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "VNP_TEST_HOST": self.name}
        if self.ahead:
            environment |= {
                "LD_PRELOAD": str(_faketime()),
                "FAKETIME": f"{self.ahead:+d}",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "PYTHONPATH": f"{Path(__file__).parent / 'ahead'}:{ROOT}",
            }
        # The shell becomes Python, so that this is process 1.
        script = 'hostname "$VNP_TEST_HOST" && exec "$@"'
        process = subprocess.Popen(
            ["unshare", *_SPACES, *clocks, "sh", "-c", script, "sh", sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        self._started.append(process)
        return process

    def run(self, *arguments: str) -> str:
        """Run Python with these arguments on the host; return what it prints."""
        process = self.start(*arguments)
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        return out

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Kill a process of the host with -9."""
        outside = process.pid  # unshare, whose only child it is
        [inside] = Path(f"/proc/{outside}/task/{outside}/children").read_text().split()
        os.kill(int(inside), signal.SIGKILL)
        process.wait(timeout=120)

    def shutdown(self) -> None:
        """End whatever still runs."""
        for process in self._started:
            process.kill()
            process.communicate()
