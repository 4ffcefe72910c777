"""One Slurm for all tests that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vnp.launch.slurm_cluster import Cluster, missing, slurm


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := missing():
        pytest.skip(reason)
    with slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster
