"""The recipes of containers and of conda: checked by their linters, and against pyproject.toml."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

import vnp
from tests.packaging.conftest import FILES, ROOT, SOURCES

CONDA = {"xxhash": "python-xxhash"}  # names that differ there
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which(
    "hadolint"
)
DOCKERFILE = (ROOT / "Dockerfile").read_text()
APPTAINER = (ROOT / "packaging/apptainer/vnp.def").read_text()


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    text = (ROOT / "packaging/bioconda/meta.yaml").read_text()
    words = {"PYTHON": "python", "pin_subpackage": lambda name, max_pin: f"{name} {max_pin}"}
    rendered = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(text).render(words)
    found: dict[str, Any] = yaml.safe_load(rendered)
    return found


def spaced(requirement: str) -> str:
    name, bound = re.fullmatch(r"([\w-]+)(.*)", requirement).groups()  # type: ignore[union-attr]
    return f"{CONDA.get(name, name)} {bound}".rstrip()


def test_the_conda_recipe_asks_for_what_the_package_does(
    recipe: dict[str, Any], project: dict[str, Any]
) -> None:
    python = f"python {project['requires-python']}"
    assert recipe["requirements"]["run"] == [python, *map(spaced, project["dependencies"])]
    text = (ROOT / "pyproject.toml").read_text()
    needed = re.findall(r'"([^"]+)"', re.findall(r"(?m)^requires = \[(.*)\]", text)[0])
    assert recipe["requirements"]["host"] == [python, "pip", *map(spaced, needed)]


def test_the_conda_recipe_describes_this_package(
    recipe: dict[str, Any], project: dict[str, Any]
) -> None:
    assert recipe["package"] == {"name": project["name"], "version": vnp.__version__}
    assert recipe["build"]["noarch"] == "python"
    scripts = [f"{name} = {place}" for name, place in project["scripts"].items()]
    assert recipe["build"]["entry_points"] == scripts
    assert recipe["about"]["home"] == project["urls"]["Source"]
    assert recipe["about"]["license"] == project["license"]
    assert recipe["source"]["url"].startswith(project["urls"]["Source"])
    assert f"v{vnp.__version__}." in recipe["source"]["url"]


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed")
def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    command = [str(HADOLINT), "--no-color", "--failure-threshold", "style", "Dockerfile"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_images_are_pinned_and_run_as_nobody_special() -> None:
    stages = re.split(r"(?m)^FROM ", DOCKERFILE)[1:]
    assert [stage.split()[2] for stage in stages] == ["wheel", "base", "cuda", "cpu"]
    (base,) = re.findall(r"(?m)^ARG PYTHON=(.*)$", DOCKERFILE)
    assert re.fullmatch(r"python:3\.1[123]\.\d+-slim-\w+", base)
    assert f"From: {base}\n" in APPTAINER
    for stage in stages[2:]:
        assert stage.rstrip().endswith("USER 1000")
    assert 'ENTRYPOINT ["vnp"]' in DOCKERFILE


def test_images_get_what_builds_the_wheel() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    needed = {*SOURCES, *FILES, "constraints.txt"} - {".gitignore"}
    assert {line[1:] for line in ignored if line.startswith("!")} == needed
    files = re.findall(r"(?ms)^%files\n(.*?)\n\n", APPTAINER)[0].split("\n")
    assert {line.split()[0] for line in files} == needed


def test_the_shell_of_the_apptainer_definition_is_well_formed() -> None:
    sections = dict(re.findall(r"(?ms)^%(\w+)\n(.*?)(?=^%|\Z)", APPTAINER))
    assert {"arguments", "files", "post", "runscript", "test", "environment"} <= sections.keys()
    assert 'exec vnp "$@"' in sections["runscript"]
    names = {line.split("=")[0].strip() for line in sections["arguments"].split()}
    assert set(re.findall(r"{{ (\w+) }}", sections["post"])) == names
    for name in ("post", "runscript", "environment", "test"):
        done = subprocess.run(["sh", "-n"], input=sections[name], text=True, check=False)
        assert done.returncode == 0, name


def test_the_lines_of_an_image_are_the_requirements(project: dict[str, Any]) -> None:
    command = [sys.executable, "packaging/requirements.py"]
    done = subprocess.run([*command, "all"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    optional = project["optional-dependencies"]
    expected = {
        line for extra in optional.keys() - {"docs", "test", "all"} for line in optional[extra]
    }
    assert set(lines) == expected | set(project["dependencies"])
    assert len(lines) == len(set(lines))
    done = subprocess.run([*command, "embd"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no extra embd: choose of embed, read" in done.stderr
