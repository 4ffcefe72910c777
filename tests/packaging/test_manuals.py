"""Shell completion and the man page, made of the parser that reads the command line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import vnp
from tests.packaging.conftest import Built
from vnp.cli.completion import SHELLS, script
from vnp.cli.main import COMMANDS, main, parser

# What bash would offer after the words, the last of which is being typed.
_OFFER = """
COMP_WORDS=(%s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE="${COMP_WORDS[*]}"
COMP_POINT=${#COMP_LINE}
_shtab_vnp vnp "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" 2>/dev/null
printf '%%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def manual(built: Built) -> str:
    with zipfile.ZipFile(built.wheel) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith("/vnp.1"))
        return wheel.read(name).decode()


@pytest.fixture(scope="module")
def bash() -> str:
    return script(parser(), "bash")


@pytest.mark.parametrize(
    ("words", "some", "not_others"),
    [
        ("vnp ve", {"verify"}, {"embed"}),
        ("vnp ''", set(COMMANDS), {"run.zarr"}),
        ("vnp embed --pre", {"--precision", "--precision-bound"}, {"--weights"}),
        ("vnp append run.zarr sa", {"sample.fa"}, {"other.txt"}),
        ("vnp status ru", {"run.zarr"}, {"sample.fa"}),
        ("vnp append run.zarr x.fa --duplicates ''", {"refuse", "number"}, set()),
        ("vnp launch ''", {"slurm", "ray"}, set()),
        ("vnp completion ''", set(SHELLS), set()),
    ],
)
def test_bash_offers(
    bash: str, words: str, some: set[str], not_others: set[str], tmp_path: Path
) -> None:
    for name in ("sample.fa", "other.txt"):
        (tmp_path / name).touch()
    (tmp_path / "run.zarr").mkdir()
    done = subprocess.run(
        ["bash", "--norc", "-c", bash + _OFFER % words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    offered = set(done.stdout.split())
    assert some <= offered, done
    assert not not_others & offered


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_what_a_shell_can_read(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    assert main(["completion", shell, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"shell": shell, "script": text[:-1]}


@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell != "tcsh"])
def test_the_shell_itself_can_read_it(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    text = script(parser(), shell)
    read = subprocess.run([shell, "-n"], input=text, capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")


def test_another_shell_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["completion", "powershell"])
    assert end.value.code == 2
    assert "choose from" in capsys.readouterr().err


def test_help_does_not_pay_for_it() -> None:
    code = "import sys; from vnp.cli.main import parser; parser('--help').format_help(); print("
    code += "[name for name in sys.modules if name in ('shtab', 'vnp.cli.completion', 'numpy')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_parser_needs_nothing_but_python() -> None:
    """A wheel's man page is made where nothing that vnp depends on is installed."""
    code = "from vnp.cli.main import parser; parser(); import sys; print(sorted({name.partition("
    code += "'.')[0] for name in sys.modules} - sys.stdlib_module_names - {'vnp', 'store'}))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True, text=True, check=True, cwd=Path(vnp.__file__).parents[1],
    )  # fmt: skip
    assert done.stdout == "['__main__']\n" or done.stdout == "[]\n"


def test_the_man_page_has_every_command_and_option(manual: str) -> None:
    assert manual.startswith(f'.TH VNP 1 "" "vnp {vnp.__version__}"')
    text = manual.replace(r"\-", "-")
    assert [name for name in COMMANDS if f"\n.SS vnp {name}\n" not in text] == []
    options = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", script(parser(), "bash")))
    assert {option for option in options if option not in text} == set()
    assert "130 interrupted" in text


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_the_man_page_is_well_formed(manual: str) -> None:
    command = ["groff", "-man", "-ww", "-Tutf8"]
    done = subprocess.run(command, input=manual, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    plain = re.sub(r"\x1b\[[\d;]*m|.\x08", "", done.stdout)
    assert "vnp - embeddings of viral metagenomes" in plain
    assert "--segment-length BASES" in plain
