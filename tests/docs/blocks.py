"""The fenced blocks of the documentation, and how those that are commands are run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = ("sh", "console", "python", "r")  # other languages are shown, not run
SHOWN = ("", "text", "yaml", "toml", "dockerfile", "markdown")
_FENCE = re.compile(
    r"^(?P<indent> *)(?:<!-- not run: (?P<reason>[^\n]+) -->\n *)?"
    r'```(?P<language>\w*)(?: title="(?P<file>[\w.]+)")?\n(?P<text>.*?)^(?P=indent)```$',
    re.MULTILINE | re.DOTALL,
)
# What differs between two runs or two processors: seconds, scores, precision, where the store is.
_VARYING = (
    (re.compile(r"\((\d+ (h|min) )*\d+(\.\d+)? (s|min)\)"), "(time)"),
    (re.compile(r"\d+\.\d+"), "N"),
    (re.compile(r"^    in (bfloat16|float32)$"), "    in PRECISION"),
    (re.compile(r"(?<!\S)/\S*/(?=[\w.]+)"), ""),
)
WHOLE = {"docs/start.md"}  # pages that show all of a result; messages come besides


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    page: str  # path in the repository
    line: int  # of its first line, 1-based
    language: str
    text: str
    reason: str  # why it is not run here; empty if it is
    file: str  # the file that it is the content of; empty if it is code to run

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Every page that tells a reader what to do: not the records of decisions and benchmarks."""
    found = ROOT.glob("docs/**/*.md")
    names = [str(path.relative_to(ROOT)) for path in found]
    records = ("docs/decisions/", "docs/benchmarks/")
    return ["README.md", *sorted(name for name in names if not name.startswith(records))]


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page in order."""
    text = (ROOT / page).read_text()
    for match in _FENCE.finditer(text):
        indent = len(match["indent"])
        lines = [line[indent:] for line in match["text"].splitlines()]
        line = text.count("\n", 0, match.start("text")) + 1
        given = (match["reason"] or "", match["file"] or "")
        yield Block(page, line, match["language"], "\n".join(lines), *given)


def environment() -> dict[str, str]:
    """Where the commands find this vnp, on as few threads as this machine can spare."""
    path = [str(Path(sys.executable).parent), os.environ["PATH"]]
    return os.environ | {
        "PATH": os.pathsep.join(path),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "100",
    }


def run_shell(block: Block, folder: Path, env: dict[str, str]) -> None:
    """Run the commands of a block by bash; the output that a ``console`` shows must be theirs.

    On a page of `WHOLE` it is all that they print on standard output, elsewhere lines of it.
    """
    whole = block.page in WHOLE
    commands = shell_of(block)
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if whole else subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    said = f"{ended.stdout}{ended.stderr or ''}"
    assert ended.returncode == 0, f"{block}: exit code {ended.returncode}\n{said}"
    if block.language == "console":
        printed = list(map(_stable, ended.stdout.splitlines()))
        shown = [_stable(line) for line in block.text.splitlines() if not line.startswith("$ ")]
        if whole:
            assert shown == printed, f"{block}: this is printed:\n{ended.stdout}"
        for line in shown:
            assert line in printed, f"{block}: not printed: {line}\n{ended.stdout}"
            printed = printed[printed.index(line) + 1 :]


def shell_of(block: Block) -> str:
    """The commands of a block, without the output that a ``console`` shows."""
    if block.language != "console":
        return block.text
    lines = block.text.splitlines()
    return "\n".join(line.removeprefix("$ ") for line in lines if line.startswith("$ "))


def _stable(line: str) -> str:
    for pattern, instead in _VARYING:
        line = pattern.sub(instead, line)
    return line
