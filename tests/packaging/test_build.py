"""What an sdist and a wheel hold, and that the wheel works by itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

import vnp
from store.io.optional import EXTRAS
from tests.packaging.conftest import FILES, ROOT, SOURCES, Built
from tools.check_package import STEPPER, steps, wrong
from vnp.models.extra import PACKAGES

MANUALS = {
    "share/man/man1/vnp.1",
    "share/bash-completion/completions/vnp",
    "share/zsh/site-functions/_vnp",
    "share/fish/vendor_completions.d/vnp.fish",
}
# A process in which what the extras bring is not installed, like a fresh environment.
WITHOUT = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])
sys.meta_path.insert(0, Blocked())
"""


def sources() -> set[str]:
    """Files of the packages in this tree that git would keep."""
    return {
        str(path.relative_to(ROOT))
        for folder in SOURCES
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def metadata(built: Built) -> Message:
    with zipfile.ZipFile(built.wheel) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
        return message_from_string(wheel.read(name).decode())


def test_an_sdist_holds_what_builds_the_wheel_and_nothing_that_lay_about(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert names == sources() | set(FILES) | {"PKG-INFO"}


def test_a_wheel_holds_the_packages_and_its_manuals(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    manuals = {f"vnp-{vnp.__version__}.data/data/{name}" for name in MANUALS}
    packages = {name for name in sources() if not name.startswith("packaging/")}
    assert names == packages | manuals


def test_the_metadata_are_those_of_the_project(metadata: Message, project: dict[str, Any]) -> None:
    assert metadata["Version"] == vnp.__version__
    assert metadata["Author"] == "the vnp developers"
    assert 'name: "the vnp developers"' in (ROOT / "CITATION.cff").read_text()
    labels = {line.partition(",")[0] for line in metadata.get_all("Project-URL") or []}
    assert labels == {"Source", "Documentation", "Changelog", "Issues"}
    source = project["urls"]["Source"]
    assert all(url.startswith(source) for url in project["urls"].values())
    assert set(metadata.get_all("Provides-Extra") or []) == set(project["optional-dependencies"])
    versions = [line for line in metadata.get_all("Classifier") or [] if "Python :: 3." in line]
    assert [line.rpartition(".")[2] for line in versions] == ["11", "12", "13"]


def test_links_of_the_long_description_are_absolute(
    metadata: Message, project: dict[str, Any]
) -> None:
    text = metadata.get_payload()
    assert metadata["Description-Content-Type"] == "text/markdown"
    links = re.findall(r"\]\(([^)]*)\)", text)
    relative = re.findall(r"\]\(([^)]*)\)", (ROOT / "README.md").read_text())
    assert len(links) == len(relative)
    ours = 0
    for link, written in zip(links, relative, strict=True):
        if written.startswith("#"):
            continue
        assert link.startswith("https://"), link
        if link.startswith(project["urls"]["Source"] + "/"):
            ours += 1
            path = re.sub(r"^(blob|raw)/main/|#.*$", "", link[len(project["urls"]["Source"]) + 1 :])
            assert (ROOT / path).exists(), link
    assert ours > 5


def test_the_wheel_by_itself_does_the_work_and_names_what_it_lacks(
    built: Built, tmp_path: Path
) -> None:
    packages, work = tmp_path / "packages", tmp_path / "work"
    work.mkdir()
    with zipfile.ZipFile(built.wheel) as wheel:
        wheel.extractall(packages)
    blocked = {*EXTRAS, *PACKAGES, "triton"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT.replace("BLOCKED", repr(blocked)) + STEPPER],
        input=steps(),
        capture_output=True,
        text=True,
        cwd=work,
        env=os.environ | {"PYTHONPATH": str(packages)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not wrong(done.stdout)
