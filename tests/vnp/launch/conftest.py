"""A Slurm for the tests of a module; there is one on a machine at a time."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vnp.launch.slurm_cluster import Cluster, missing, slurm


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := missing():
        pytest.skip(reason)
    with (Path(tempfile.gettempdir()) / "vnp-tests-slurm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other test processes may want one, too
        with slurm(tmp_path_factory.mktemp("slurm")) as cluster:
            yield cluster
