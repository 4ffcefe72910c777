"""The Nextflow module without Nextflow: its commands run in bash, and its files agree."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import vnp
from store.open import open_store

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[3]
MODULE = ROOT / "workflows/nextflow/modules/nf-core/vnp/embed"
PROCESS = (MODULE / "main.nf").read_text()
VALUES = {"prefix": "test", "fasta": "lambda_phage.fa.gz", "recipe": "demo", "task.process": "VNP"}


def script(section: str, **values: str) -> str:
    """The commands of a section as Nextflow would write them into a task."""
    text = PROCESS.split(f"    {section}:\n")[1]
    body = textwrap.dedent(text.split('"""\n')[1].rpartition("\n")[0] + "\n")
    given = VALUES | {"args": "", "args2": ""} | values
    body = re.sub(r"(?<!\\)\$\{([\w.]+)\}", lambda found: given[found[1]], body)
    return body.replace("\\$", "$").replace("\\\\", "\\")


def section(name: str) -> str:
    found = re.search(rf"^    {name}:\n(.*?)\n\n", PROCESS, re.M | re.S)
    assert found
    return found[1]


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A folder of a task, with the input staged and vnp on the PATH."""
    command = tmp_path / "bin/vnp"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m vnp "$@"\n')
    command.chmod(0o755)
    folder = tmp_path / "task"
    folder.mkdir()
    shutil.copy(ROOT / "vnp/data/lambda_phage.fa.gz", folder)
    return folder


def run(task: Path, commands: str) -> None:
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        check=True,
        cwd=task,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PATH": f"{task.parent}/bin:{os.environ['PATH']}",
        },
    )
    versions = yaml.safe_load((task / "versions.yml").read_text())
    assert versions == {"VNP": {"vnp": vnp.__version__}}
    for name in re.findall(r'path\("?([^")]+)"?\)|path "([^"]+)"', section("output")):
        assert (task / "".join(name).replace("${prefix}", "test")).exists()


@pytest.mark.slow
def test_the_script_makes_a_certified_store(task: Path) -> None:
    config = (MODULE / "tests/nextflow.config").read_text()
    (arguments,) = re.findall(r"ext\.args = '([^']*)'", config)
    run(task, script("script", args=arguments))
    report = json.loads((task / "test.json").read_text())
    assert report["complete"]
    assert set(report["certified"].values()) == {45}
    assert open_store(task / "test.zarr").schema.samples[0].name == "test"


def test_the_stub_makes_the_same_outputs(task: Path) -> None:
    run(task, script("stub"))


def test_meta_yml_describes_the_channels_of_the_process() -> None:
    meta: dict[str, Any] = yaml.safe_load((MODULE / "meta.yml").read_text())
    assert list(meta["output"]) == re.findall(r"emit: (\w+)", section("output"))
    assert list(meta["topics"]) == re.findall(r"topic: (\w+)", section("output"))
    names = re.findall(r"(?:val|path)\W(\w+)", section("input"))
    described = [name for item in meta["input"] for part in _parts(item) for name in part]
    assert described == names
    outputs = [name for item in meta["output"].values() for part in _parts(item) for name in part]
    for name in outputs:
        assert name in section("output")


def _parts(item: Any) -> list[dict[str, Any]]:
    """The elements of a channel, however deep its list is."""
    if isinstance(item, dict):
        return [item]
    return [part for each in item for part in _parts(each)]


def test_what_is_pinned_is_this_version() -> None:
    environment = yaml.safe_load((MODULE / "environment.yml").read_text())
    assert f"vnp[embed]=={vnp.__version__}" in environment["dependencies"][-1]["pip"]
    assert PROCESS.count(f"/vnp:{vnp.__version__}'") == 2


def test_names_that_the_shell_could_read_are_refused() -> None:
    sample, recipe = re.findall(r"==~ /(.*)/\)", PROCESS)
    for bad in ("$(touch x)", "a b", "a'b", "-x", "a\nb", ""):
        assert not re.fullmatch(sample, bad)
        assert not re.fullmatch(recipe, bad)
    assert re.fullmatch(sample, "Sample_1.a-b")
    assert re.fullmatch(recipe, "virnucpro")
