"""The files for KubeRay and SkyPilot: their fields, their commands, and that the docs show them."""

from __future__ import annotations

import copy
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vnp.cli.main import parser

jsonschema = pytest.importorskip("jsonschema")
yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
SHAPES = {"rayjob": "kuberay/rayjob.yaml", "skypilot": "skypilot/vnp.yaml"}


def read(shape: str) -> Any:
    return yaml.safe_load((ROOT / "workflows" / SHAPES[shape]).read_text())


def check(shape: str, content: Any) -> None:
    schema = json.loads((ROOT / f"tests/data/shapes/{shape}.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(content, schema, cls=jsonschema.Draft7Validator)


def launched(command: str) -> Any:
    """Parse the options of the one ``vnp launch`` in a shell command, as vnp does."""
    [line] = re.findall(r"^vnp launch .*", command, flags=re.M)
    given, unknown = parser("launch").parse_known_args(shlex.split(line)[1:])
    assert unknown == []
    return given


@pytest.mark.parametrize("shape", SHAPES)
def test_the_fields_are_those_of_the_engine(shape: str) -> None:
    check(shape, read(shape))


@pytest.mark.parametrize(
    ("shape", "spoil"),
    [
        ("rayjob", lambda job: job["spec"].update(entryPoint="vnp")),
        ("rayjob", lambda job: job["spec"]["rayClusterSpec"].pop("headGroupSpec")),
        ("rayjob", lambda job: job["spec"].update(backoffLimit="3")),
        ("skypilot", lambda task: task["resources"].update(accelerator="H100:1")),
        ("skypilot", lambda task: task.update(num_nodes="4")),
    ],
)
def test_a_field_that_is_wrong_is_noticed(shape: str, spoil: Callable[[Any], Any]) -> None:
    content = copy.deepcopy(read(shape))
    spoil(content)
    with pytest.raises(jsonschema.ValidationError):
        check(shape, content)


def test_the_ray_job_starts_a_worker_on_each_gpu() -> None:
    spec = read("rayjob")["spec"]
    given = launched(spec["entrypoint"])
    [group] = spec["rayClusterSpec"]["workerGroupSpecs"]
    [container] = group["template"]["spec"]["containers"]
    gpus = int(container["resources"]["limits"]["nvidia.com/gpu"])
    assert given.workers == group["replicas"] * gpus / given.gpus_per_worker
    assert given.cpus_per_worker == int(container["resources"]["limits"]["cpu"])
    pods = [spec["rayClusterSpec"]["headGroupSpec"], group]
    for pod in (each["template"]["spec"] for each in pods):  # the driver reads the store too
        [mount] = pod["containers"][0]["volumeMounts"]
        assert given.store.is_relative_to(mount["mountPath"])
        assert mount["name"] in {volume["name"] for volume in pod["volumes"]}


def test_the_task_of_skypilot_is_a_script_that_launches() -> None:
    task = read("skypilot")
    subprocess.run(["bash", "-n"], input=task["run"], text=True, check=True)
    nodes = r"$((SKYPILOT_NUM_NODES * SKYPILOT_NUM_GPUS_PER_NODE))"
    assert nodes in task["run"]
    command = task["run"].replace(nodes, "4").replace("$STORE", task["envs"]["STORE"])
    given = launched(re.sub(r"^ +", "", command, flags=re.M))
    assert given.store.is_relative_to(next(iter(task["volumes"])))
    assert (given.workers, given.address) == (4, "127.0.0.1:6379")


@pytest.mark.parametrize("shape", SHAPES)
def test_the_docs_show_the_file_as_it_is(shape: str) -> None:
    shown = re.findall(
        r"^```yaml\n(.*?)^```", (ROOT / "docs/cluster.md").read_text(), flags=re.M | re.S
    )
    assert (ROOT / "workflows" / SHAPES[shape]).read_text() in shown
