"""Every command block of the documentation is run, page by page, or says why it is not.

`docs/start.md` is run first; every other page begins in a copy of the folder that it left.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import (
    ROOT,
    RUN,
    SHOWN,
    Block,
    blocks,
    environment,
    pages,
    run_shell,
    shell_of,
)
from tests.store.s3 import servers
from vnp.cli import main as command_line

START = "docs/start.md"
ALL = [block for page in pages() for block in blocks(page)]
COMMANDS = [block for block in ALL if block.language in RUN]
LEFT_OUT = [block for block in COMMANDS if block.reason]
PAGES = [page for page in pages() if any(b.page == page and not b.reason for b in COMMANDS)]


def run(page: str, folder: Path, env: dict[str, str]) -> None:
    """Run the blocks of a page in order; Python shares its names, R may be missing."""
    names: dict[str, Any] = {}
    without_r = False
    for block in blocks(page):
        if block.language not in RUN or block.reason:
            continue
        if block.file:
            (folder / block.file).write_text(block.text)
        elif block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.text, block.page, "exec"), names)
        elif block.language == "r":
            if without_r := without_r or not has_rhdf5():
                continue
            command = ["Rscript", "-e", block.text]
            ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            assert ran.returncode == 0, f"{block}: {ran.stderr}"
        else:
            run_shell(block, folder, env)
    if without_r:
        pytest.skip("R with rhdf5 is not here: all but the blocks of R ran")


def has_rhdf5() -> bool:
    rscript = shutil.which("Rscript")
    return rscript is not None and not subprocess.call(
        [rscript, "-e", "library(rhdf5)"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of the commands; without UMAP, whose compilation takes half a minute."""
    folder = tmp_path_factory.mktemp("without_umap")
    (folder / "umap.py").write_text("raise ImportError('left out by the tests of the docs')\n")
    env = environment()
    return env | {"PYTHONPATH": f"{folder}:{env['PYTHONPATH']}", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other packages say of themselves is theirs
        yield


@pytest.fixture(scope="module")
def first_hour(tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]) -> Path:
    """The folder that the page for beginners leaves."""
    folder = tmp_path_factory.mktemp("first_hour")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(folder)
        run(START, folder, env)
    return folder


@pytest.mark.slow
def test_the_first_hour_runs(first_hour: Path) -> None:
    assert (first_hour / "calls/lambda_phage/contigs.tsv").exists()


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page != START])
def test_the_commands_of_a_page_run(
    page: str,
    first_hour: Path,
    env: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "work"
    shutil.copytree(first_hour, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "agg")
    if page == "docs/guides/s3.md":
        pytest.importorskip("moto")
        pytest.importorskip("obstore")
        with servers.moto() as endpoint:
            run(page, folder, env | servers.environment(endpoint) | {"AWS_ALLOW_HTTP": "true"})
    else:
        run(page, folder, env)


def test_the_picture_of_the_report_is_small_and_says_what_it_shows() -> None:
    assert (ROOT / "docs/images/report.png").stat().st_size < 200_000
    text = (ROOT / "README.md").read_text()
    caption = text.partition("docs/images/report.png)")[2].partition("```")[0]
    assert "demo models" in caption
    assert "not a result" in caption
    assert "tools/report_picture.py" in caption


def test_blocks_have_a_language_that_is_known() -> None:
    assert not [str(block) for block in ALL if block.language not in {*RUN, *SHOWN}]


def test_what_is_not_run_is_the_exception_and_says_why() -> None:
    assert len(LEFT_OUT) * 2 < len(COMMANDS)
    for block in LEFT_OUT:
        assert block.reason.startswith("needs "), block
        for test in re.findall(r"tests/[\w/.]+\.py", block.reason):
            assert (ROOT / test).is_file(), f"{block}: {test} is not there"


@pytest.mark.parametrize("block", [b for b in COMMANDS if b.language in ("sh", "console")], ids=str)
def test_every_command_line_is_one_that_vnp_has(block: Block) -> None:
    for words in vnp_commands(shell_of(block)):
        parse(words)


def vnp_commands(script: str) -> Iterator[list[str]]:
    """Yield the arguments of every call of vnp in a script."""
    script = re.sub(r"<<'?(\w+)'?\n.*?^\1$", "", script, flags=re.MULTILINE | re.DOTALL)
    for line in script.replace("\\\n", " ").splitlines():
        command: list[str] = []
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.wordchars += "$:%,=@+{}[]"
        for word in [*lexer, ";"]:
            if not set(word) <= set("();<>|&"):
                command.append(word)
                continue
            if command and Path(command[0]).name == "vnp":
                yield command[1:]
            command = []


def parse(words: list[str]) -> None:
    """Parse a command line as vnp does; what is wrong with it is an error."""
    if words[0] == "launch" and "--" in words:
        words = words[: words.index("--")]
    try:
        command_line.parser(words[0]).parse_args(words)
    except SystemExit:
        pytest.fail(f"vnp {shlex.join(words)} is not a command line of vnp")


@pytest.mark.parametrize("page", pages())
def test_options_that_a_text_names_exist(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    for code in re.findall(r"`vnp ([a-z][^`]*)`", " ".join(text.split())):
        name, _, rest = code.partition(" ")
        names = name.split("|")
        assert set(names) <= set(command_line.COMMANDS), f"{page}: there is no vnp {name}"
        known = set().union(*(options_of(each) for each in names))
        named = {word.partition("=")[0] for word in re.findall(r"(?<=\s)--[\w-]+", f" {rest}")}
        unknown = named - known
        assert not unknown, f"{page}: vnp {name} has no {' '.join(sorted(unknown))}"


@pytest.mark.parametrize("page", pages())
def test_tests_and_tools_that_a_text_names_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    for path, test in re.findall(r"((?:\w+/)+test_\w+\.py)(?:::(\w+))?", text):
        file = ROOT / "tests" / path.removeprefix("tests/")
        assert file.is_file(), f"{page}: there is no {path}"
        assert f"def {test}" in file.read_text(), f"{page}: {path} has no {test}"
    tools = re.findall(r"(?<![\w/])tools/\w+\.\w+", text)
    assert not [tool for tool in tools if not (ROOT / tool).is_file()], page


def options_of(name: str) -> set[str]:
    """Options of a command and of its subcommands."""
    from tools.docs_hooks import subcommands

    found: set[str] = {"--"}
    waiting = [subcommands(command_line.parser(name))[name]]
    while waiting:
        command = waiting.pop()
        found |= set(command._option_string_actions)
        waiting += subcommands(command).values()
    return found


def test_pages_that_share_a_folder_write_no_file_twice() -> None:
    """A second page would be refused the file of the first without --force."""
    output = re.compile(r"(?:-o|--to|--bed|--gff|--fasta-out) (\w+\.\w+)")
    made: dict[str, set[str]] = {}
    for block in COMMANDS:
        for name in () if block.reason else output.findall(block.text):
            made.setdefault(name, set()).add(block.page)
    assert {name: sorted(found) for name, found in made.items() if len(found) > 1} == {}
