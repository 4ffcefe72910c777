"""Engines that users have on Slurm already: submitit, by the example of the docs, and Snakemake."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.vnp.launch.slurm_cluster import ROOT, Cluster, assert_same_rows, contigs

pytestmark = pytest.mark.slow

DOCS = (ROOT / "docs/cluster.md").read_text()
RULES = ROOT / "workflows/snakemake"
SNAKEMAKE = Path(sys.prefix) / "snakemake/bin/snakemake"  # of its own: see the Makefile


@pytest.fixture(scope="module")
def filled(cluster: Cluster) -> Path:
    """A store of the demo models, filled by one worker in peace."""
    folder = cluster.folder / "filled"
    folder.mkdir()
    store = folder / "run.zarr"
    append(cluster, store)
    cluster.vnp("worker", store, "--device", "cpu", "--threads", 1)
    return store


def append(cluster: Cluster, store: Path) -> Path:
    fasta = contigs(store.parent / "a.fa", codons=4_000)
    cluster.vnp("init", store, "--recipe", "demo", "--block-rows", 8)
    cluster.vnp("append", store, fasta)
    return fasta


def test_the_example_of_submitit_fills_a_store(cluster: Cluster, filled: Path) -> None:
    pytest.importorskip("submitit")
    folder = cluster.folder / "submitit"
    folder.mkdir()
    store = folder / "run.zarr"
    append(cluster, store)
    (example,) = re.findall(r"^```python\n(import submitit\n.*?)^```", DOCS, re.M | re.S)
    assert example.count("\n") <= 14
    for old, new in (
        ("/scratch/me/run.zarr", str(store)),
        ('slurm_partition="gpu", gpus_per_node=1', 'slurm_partition="main", mem_gb=1'),
        ("in_process=True", "in_process=True, device='cpu'"),
    ):
        assert old in example
        example = example.replace(old, new)
    (folder / "example.py").write_text(example)
    ended = cluster.run(sys.executable, "-W", "ignore", "example.py", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    # Threads: what a node allows; the numbers of the demo models do not depend on them.
    assert_same_rows(store, filled)


@pytest.mark.skipif(not SNAKEMAKE.exists(), reason="needs Snakemake: `make test` installs it")
def test_the_rules_of_snakemake_fill_and_certify_a_store(cluster: Cluster, filled: Path) -> None:
    folder = cluster.folder / "snake make's"
    folder.mkdir()
    store = folder / "it's a $(touch owned) {run}.zarr"
    config = {
        "store": str(store),
        "files": [str(shutil.copy(filled.parent / "a.fa", folder / "it's a.fa"))],
        "recipe": "demo",
        "workers": 2,
        "worker_options": ["--device", "cpu"],
        "threads": 1,
        "gres": "gpu:1",
        "mem_mb": 900,
        "runtime": 10,
        "vnp": f"{sys.executable} -P -m vnp",
    }
    (folder / "config.json").write_text(json.dumps(config))
    ended = cluster.run(
        *(SNAKEMAKE, "--snakefile", RULES / "vnp.smk", "--configfile", "config.json"),
        *("--executor", "slurm", "--jobs", 3, "--slurm-no-account", "--default-resources"),
        *("slurm_partition=main", "mem_mb=900", "runtime=10"),
        *("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", 1),
        *("--seconds-between-status-checks", 1, "--latency-wait", 10),
        cwd=folder,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads((folder / "vnp/certified.json").read_text())["complete"]
    assert len(list((folder / "vnp").glob("worker-*.json"))) == 2
    assert not list(cluster.folder.rglob("owned"))
    assert_same_rows(store, filled)


def test_the_configuration_of_snakemake_names_what_the_rules_read() -> None:
    read = set(re.findall(r"""config(?:\.get\(|\[)"(\w+)""", (RULES / "vnp.smk").read_text()))
    named = set(re.findall(r"^(\w+):", (RULES / "config.yaml").read_text(), re.M))
    assert read == named
