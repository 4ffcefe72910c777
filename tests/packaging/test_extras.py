"""Each library that vnp imports comes with vnp, or with the extra that its absence is told by."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.io.optional import EXTRAS, install
from vnp.models.extra import PACKAGES

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPTIONAL: dict[str, list[str]] = PROJECT["optional-dependencies"]
DEVELOPERS = {"docs", "test"}  # extras for who works on vnp
OURS = {"vnp", "store"}
# What the table of extras need not name: it comes with torch, or is read by type checkers only.
ELSEWHERE = {"triton", "_typeshed", "typing_extensions"}
# Whose distribution has another name.
DISTRIBUTIONS = {
    "lance": "pylance",
    "faiss": "faiss-cpu",
    "sklearn": "scikit-learn",
    "Bio": "biopython",
}
DISTRIBUTIONS |= {"umap": "umap-learn", "google_crc32c": "google-crc32c"}


def names(requirements: list[str]) -> set[str]:
    """Names of the distributions that requirements ask for."""
    return {re.split(r"[\[<>=!~; ]", line)[0].lower().replace("_", "-") for line in requirements}


def distribution(library: str) -> str:
    return DISTRIBUTIONS.get(library, library).replace("_", "-")


def imported() -> Iterator[tuple[str, str]]:
    """Library and file of every import, and of every ``require("library")`` and the like."""
    for package in sorted(OURS):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                found: list[str | None] = []
                if isinstance(node, ast.Import):
                    found = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    found = [node.module]
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    of_optional = node.func.id in ("require", "available", "why_not")
                    first = node.args[0] if of_optional and node.args else None
                    found = [first.value] if isinstance(first, ast.Constant) else []
                for name in found:
                    library = str(name).partition(".")[0]
                    if library not in sys.stdlib_module_names and library not in OURS:
                        yield library, f"{path.relative_to(ROOT)}:{node.lineno}"


def test_an_import_is_of_what_vnp_or_a_named_extra_brings() -> None:
    always = names(PROJECT["dependencies"])
    homeless = {
        library: where
        for library, where in imported()
        if distribution(library) not in always and library not in {*EXTRAS, *PACKAGES, *ELSEWHERE}
    }
    assert not homeless, "neither a dependency, nor in store.io.optional.EXTRAS"


@pytest.mark.parametrize(("library", "extra"), [*EXTRAS.items(), *((p, "embed") for p in PACKAGES)])
def test_the_extra_that_is_named_brings_the_library(library: str, extra: str) -> None:
    if library == "llvmlite":
        library = "numba"  # is built on it
    assert distribution(library) in names(OPTIONAL[extra]), install(extra)


def test_the_extras_that_people_are_told_of() -> None:
    told = {"embed", "read", "export", "view", "umap", "faiss", "bam", "ray", "s3", "slurm", "all"}
    assert told | {"lance", "train", *DEVELOPERS} == set(OPTIONAL)
    brought = re.findall(r"vnp\[(.*)\]", OPTIONAL["all"][0])[0].split(",")
    assert sorted([*brought, "all", *DEVELOPERS]) == sorted(OPTIONAL)


def test_every_extra_is_in_the_docs() -> None:
    text = (ROOT / "docs/install.md").read_text()
    for extra in OPTIONAL.keys() - DEVELOPERS:
        assert f"| `{extra}` |" in text, extra


def test_no_requirement_of_a_user_is_capped_without_need() -> None:
    capped = {
        line
        for lines in [
            PROJECT["dependencies"],
            *(OPTIONAL[each] for each in OPTIONAL.keys() - DEVELOPERS),
        ]
        for line in lines
        if "<" in line or "==" in line.partition(";")[0]
    }
    # transformers is called by its private layout; obstore is before its first stable version.
    assert capped == {"transformers>=5.17,<6", "obstore>=0.12,<0.13"}
