"""A real Slurm of four nodes for tests, brought up and down by ``tools/slurm_cluster.sh``."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from store.open import open_store
from vnp.embed.status import read_status

ROOT = Path(__file__).parents[3]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
PATIENCE = 120.0  # seconds that anything may take before a test fails


def missing() -> str:
    """Say why there can be no Slurm here; empty if there can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if absent:
        return f"needs {', '.join(absent)}: apt-get install slurmctld slurmd slurm-client munge"
    return "" if os.geteuid() == 0 else "slurmd starts jobs as their users: needs root"


def until(what: str, look: Callable[[], Any], *, patience: float = PATIENCE) -> Any:
    """Look until there is something true, and return it."""
    deadline = time.monotonic() + patience
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {patience:.0f} s: {what}"
        time.sleep(0.3)
    return seen


class Cluster:
    """A running Slurm, and vnp on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("SLURM_")},
            "PATH": _path(),
            "PYTHONPATH": str(ROOT),
            "SLURM_CONF": str(folder / "slurm.conf"),
        }

    def run(self, *command: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command where Slurm is."""
        settings = {"capture_output": True, "text": True, "check": False, "cwd": self.folder}
        words = [str(word) for word in command]
        return subprocess.run(words, env=self.environment, **(settings | options))

    def vnp(self, *arguments: object, code: int = 0) -> str:
        """Run vnp and return what it printed."""
        ended = self.run(sys.executable, "-P", "-m", "vnp", *arguments)
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended.stdout

    def launch(self, store: Path, *arguments: object, sbatch: tuple[str, ...] = ()) -> Any:
        """Launch workers, and return the report."""
        words = ("--device", "cpu", "--threads", 1, "--json", *arguments)
        return json.loads(self.vnp("launch", "slurm", store, *words, "--", "--mem=900", *sbatch))

    def job(self, job: str) -> dict[str, str]:
        """What ``scontrol show job`` says of a job or a task."""
        said = self.run("scontrol", "show", "job", "--oneliner", job)
        return dict(re.findall(r"(\w+)=(\S*)", said.stdout.splitlines()[0] if said.stdout else ""))

    def exit_code(self, job: str, *, patience: float = PATIENCE) -> int:
        """Wait for the end of a job and return its exit code."""
        states = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")
        found = until(
            f"the end of job {job}",
            lambda: (seen := self.job(job))["JobState"] in states and seen,
            patience=patience,
        )
        return int(found["ExitCode"].partition(":")[0])

    def at_work(self, store: Path) -> dict[str, str]:
        """Node names by task, of the workers whose heartbeats tell of a block in hand."""
        workers = read_status(open_store(store)).workers
        where = [worker.where for worker in workers if worker.model is not None]
        tasks = [re.search(r"\(slurm:(\d+_\d+)\)$", each) for each in where]
        return {task[1]: self.job(task[1])["NodeList"] for task in tasks if task}

    def kill_node(self, node: str) -> None:
        """End a node as a power cut would: its slurmd, the steps on it, and all they started."""
        daemon = int((self.folder / f"slurmd-{node}.pid").read_text())
        jobs = self.run("squeue", "--noheader", "--nodelist", node, "--format=%A").stdout.split()
        doomed = [daemon]
        for pid, line in _processes():
            if any(line.startswith(f"slurmstepd: [{job}.") for job in jobs):
                doomed += [pid, *_descendants(pid)]
        assert len(doomed) > 1
        for pid in doomed:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def start_node(self, node: str) -> None:
        """Start a node again."""
        assert self.run("slurmd", "-N", node).returncode == 0
        until(f"node {node} idle", lambda: "IDLE" in self.node_state(node))

    def node_state(self, node: str) -> str:
        """State of a node, such as ``DOWN``."""
        said = self.run("scontrol", "show", "node", "--oneliner", node).stdout
        found = re.search(r" State=(\S+)", said)
        return found[1] if found else ""


@contextmanager
def slurm(folder: Path) -> Iterator[Cluster]:
    """Bring a cluster up, and down."""
    cluster = Cluster(folder)
    script = ROOT / "tools/slurm_cluster.sh"
    up = cluster.run(script, "up", folder)
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        yield cluster
    finally:
        cluster.run(script, "down", folder)


def contigs(path: Path, *, codons: int) -> Path:
    """Write a FASTA file of one contig whose first frame has no stop; the same at each call."""
    letters = "ACGT"
    every = [a + b + c for a in letters for b in letters for c in letters]
    open_ones = [codon for codon in every if codon not in ("TAA", "TAG", "TGA")]
    path.write_text(">contig\n" + "".join(random.Random(7).choices(open_ones, k=codons)) + "\n")
    return path


def assert_same_rows(store: Path, other: Path) -> None:
    """Every row of every model is certified in both, and the same bit for bit."""
    one, two = open_store(store), open_store(other)
    for model in one.schema.models:
        for opened in (one, two):
            assert opened.certify(model.name).complete
        np.testing.assert_array_equal(
            one.read(model.name).view(np.uint16), two.read(model.name).view(np.uint16)
        )


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def _processes() -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield int(folder.name), (folder / "cmdline").read_text(errors="replace")


def _descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return found + [each for child in found for each in _descendants(child)]
