"""The Galaxy tool: Galaxy's own linter, and its tests' commands, run without a Galaxy."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import vnp
from vnp.cli.main import parser

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of packages about themselves
    pytest.importorskip("galaxy.tool_util")
    from Cheetah.Template import Template
    from galaxy.tool_util import lint
    from galaxy.tool_util.parser import get_tool_source
    from galaxy.tool_util.verify.asserts import verify_assertions

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "workflows/galaxy"
TOOL = FOLDER / "vnp_run.xml"
HOSTILE = "-gut '$(touch hacked)`touch hacked`;&|\"\\ é/../x"


class Dataset(str):
    """What a template sees of a dataset: its path, and the name that a user gave it."""

    element_identifier: str

    def __new__(cls, path: Path, name: str) -> Dataset:
        made = super().__new__(cls, path)
        made.element_identifier = name
        return made


class Section(dict[str, Any]):
    """A section or conditional: its members as attributes; its own text for `models`."""

    __getattr__ = dict.__getitem__


@pytest.fixture(scope="module")
def source() -> Any:
    return get_tool_source(str(TOOL))


@pytest.fixture
def ignoring() -> Any:
    """Warnings of Galaxy's packages are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def values(source: Any, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """Every parameter of the tool: the values of a test, else the defaults."""
    given = dict(given or {})

    def of(page: Any, prefix: str = "") -> Section:
        found = Section()
        for item in page.parse_input_sources():
            name = item.get("name") or item.get("argument").lstrip("-").replace("-", "_")
            key = f"{prefix}{name}"
            kind = item.parse_input_type()
            if kind == "conditional":
                chooser = item.parse_test_input_source()
                choice = given.pop(f"{key}|{chooser.get('name')}", None)
                choice = choice or chooser.parse_static_options()[0][1]
                [case] = [c for value, c in item.parse_when_input_sources() if value == choice]
                found[name] = Section({chooser.get("name"): choice}) | of(case, f"{key}|")
                found[name] = Section(found[name])
            elif kind == "section":
                found[name] = of(item.parse_nested_inputs_source(), f"{key}|")
            elif item.get("type") == "data":
                file = given.pop(key, "contigs.fasta")
                found[name] = Dataset(FOLDER / "test-data" / file, file)
            elif item.get("type") == "select":
                options = item.parse_static_options()
                chosen = [value for _, value, selected in options if selected] or ["none"]
                found[name] = given.pop(key, chosen[0])
            else:
                found[name] = given.pop(key, item.get("value") or "")
        return found

    found = of(source.parse_input_pages().page_sources[0])
    assert given == {}, "a test names parameters that the tool lacks"
    return found


def command(source: Any, params: dict[str, Any]) -> str:
    """The command line, as Galaxy makes it: on one line, from the template."""
    text = str(Template(source=source.parse_command(), searchList=[params]))
    return " ".join(text.split())


def options_of(text: str, name: str) -> Any:
    """Parse the arguments of the one ``vnp NAME`` in a command line, as vnp does."""
    [line] = [part for part in text.split(" && ") if part.startswith(f"vnp {name} ")]
    given, unknown = parser(name).parse_known_args(shlex.split(line)[1:])
    assert unknown == []
    return given


def described(source: Any) -> list[dict[str, Any]]:
    return list(source.parse_tests_to_dict()["tests"])


def given_in(test: dict[str, Any]) -> dict[str, Any]:
    return {item["name"]: item["value"] for item in test["inputs"]}


@pytest.mark.usefixtures("ignoring")
def test_galaxys_linter_finds_nothing(source: Any) -> None:
    context = lint.get_lint_context_for_tool_source(source)
    found = [str(message) for message in [*context.error_messages, *context.warn_messages]]
    assert found == []
    assert context.valid_messages
    assert source.parse_version().partition("+")[0] == vnp.__version__


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_commands_of_its_tests_are_commands_of_vnp(source: Any, number: int) -> None:
    test = described(source)[number]
    params = values(source, given_in(test))
    text = command(source, params)
    run, report = options_of(text, "run"), options_of(text, "report")
    assert (run.recipe, run.weights_dir) == ("demo", None)
    assert run.code == int(params["code"])
    assert run.min_region == int(params["regions"]["min_region"])
    assert run.store == report.store
    assert report.multiqc
    outputs = source.parse_outputs(None)[0]
    produced = {output.from_work_dir for output in outputs.values()}
    assert {str(run.fasta_out), str(run.bed), str(run.gff), str(report.output)} <= produced


def test_published_models_come_from_the_table_of_weights(source: Any) -> None:
    params = values(source)
    assert params["models"]["recipe"] == "virnucpro"
    params["models"]["weights"] = Section(fields=Section(path="/data/my weights"))
    run = options_of(command(source, params), "run")
    assert run.weights_dir == Path("/data/my weights")


@pytest.mark.parametrize("name", [HOSTILE, "...", "x" * 500, "gut.fa"])
def test_a_name_of_a_dataset_means_nothing_to_the_shell(source: Any, name: str) -> None:
    params = values(source)
    params["models"] = Section(recipe="demo")
    params["input"] = Dataset(FOLDER / "test-data/contigs.fasta", name)
    text = command(source, params)
    assert set('$`"\\;|').isdisjoint(text)
    run = options_of(text, "run")
    assert set(run.sample) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
    )
    assert 1 <= len(run.sample) <= 128
    assert run.sample[0] not in ".-"


@pytest.mark.slow
@pytest.mark.usefixtures("ignoring")
@pytest.mark.parametrize("number", [0, 2])
def test_its_tests_pass(source: Any, number: int, tmp_path: Path) -> None:
    """Runs the command in a folder as Galaxy would, and holds the outputs to the assertions."""
    test = described(source)[number]
    programs = tmp_path / "bin"
    programs.mkdir()
    shim = programs / "vnp"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vnp "$@"\n')
    shim.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    text = command(source, values(source, given_in(test)))
    ended = subprocess.run(
        ["bash", "-e", "-c", text],
        cwd=work,
        env=os.environ
        | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(work)},
        capture_output=True,
        text=True,
        check=False,
    )
    expected = int(test["expect_exit_code"] or 0)
    assert ended.returncode == expected, ended.stderr
    verify_assertions(ended.stderr.encode(), test["stderr"] or [])
    verify_assertions(text.encode(), test["command"] or [])
    outputs = source.parse_outputs(None)[0]
    for item in test["outputs"]:
        path = work / outputs[item["name"]].from_work_dir
        verify_assertions(path.read_bytes(), item["attributes"]["assert_list"])
    if expected == 0:
        for output in outputs.values():
            assert (work / output.from_work_dir).is_file(), output.from_work_dir
    else:
        assert not (work / "run.zarr").exists(), "refused before any work"
