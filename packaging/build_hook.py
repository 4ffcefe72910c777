"""What hatchling does with vnp beside copying its files.

The long description is the README with its relative links made links into the repository. A wheel
brings a man page and the completions of shells, made of the same parser that reads the command
line, which imports nothing outside Python's library.
"""

from __future__ import annotations

import argparse
import importlib
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

# Where a wheel puts a completion, below the prefix of the environment; tcsh has no such folder.
_COMPLETIONS = {
    "bash": "share/bash-completion/completions/vnp",
    "zsh": "share/zsh/site-functions/_vnp",
    "fish": "share/fish/vendor_completions.d/vnp.fish",
}
_MANUAL = "share/man/man1/vnp.1"
_ABOUT = "embeddings of viral metagenomes on one chunked store"


class LongDescription(MetadataHookInterface):
    """The README as the metadata have it."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set ``readme``."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = with_absolute_links(text, metadata["urls"]["Source"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


class Manuals(BuildHookInterface):
    """The man page and the completions of a wheel."""

    def initialize(self, _version: str, build_data: dict[str, Any]) -> None:
        """Write them, and have them packed."""
        self._folder = folder = Path(tempfile.mkdtemp(prefix="vnp-manuals-"))
        for place, text in manuals(Path(self.root)).items():
            file = folder / Path(place).parts[1] / Path(place).name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
            build_data["shared_data"][str(file)] = place

    def finalize(self, _version: str, _build_data: dict[str, Any], _artifact: str) -> None:
        """Remove what was packed."""
        shutil.rmtree(self._folder)


def with_absolute_links(text: str, source: str) -> str:
    """Make relative links of Markdown lead into the repository, and pictures show."""

    def absolute(found: re.Match[str]) -> str:
        kind = "raw" if found[1] else "blob"
        return f"{found[1]}{found[2]}({source}/{kind}/main/{found[3]}"

    return re.sub(r"(!?)(\[[^]]*\])\((?!https?:|mailto:|#)([^)]*)", absolute, text)


def manuals(root: Path) -> dict[str, str]:
    """Text of each file, by its place below the prefix."""
    sys.path.insert(0, str(root))
    try:
        main = importlib.import_module("vnp.cli.main")
        completion = importlib.import_module("vnp.cli.completion")
    finally:
        sys.path.remove(str(root))
    urls = tomllib.loads((root / "pyproject.toml").read_text())["project"]["urls"]
    found = {_MANUAL: manual(main.parser(), main.__version__, urls["Documentation"])}
    for shell, place in _COMPLETIONS.items():
        found[place] = completion.script(main.parser(), shell) + "\n"
    return found


def manual(parser: argparse.ArgumentParser, version: str, documentation: str) -> str:
    """Write the man page of a parser and of its commands."""
    lines = [
        f'.TH VNP 1 "" "vnp {version}" "User Commands"',
        ".SH NAME",
        rf"vnp \- {_roff(_ABOUT)}",
        ".SH SYNOPSIS",
        *_usage(parser),
        ".SH DESCRIPTION",
        _roff(parser.description),
        ".SH COMMANDS",
        *_commands(parser),
        ".SH EXIT STATUS",
        _roff((parser.epilog or "").partition(": ")[2]),
        ".SH SEE ALSO",
        rf".UR {_roff(documentation)}",
        "The documentation",
        ".UE",
    ]
    return "\n".join(lines) + "\n"


def _commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        for command in action.choices.values():
            yield f".SS {_roff(command.prog)}"
            yield _roff(command.description)
            yield ".PP"
            yield from _usage(command)
            yield from _options(command)
            if command.epilog:
                yield from (".PP", ".nf", _roff(command.epilog.rstrip()), ".fi")
            yield from _commands(command)


def _usage(parser: argparse.ArgumentParser) -> Iterator[str]:
    usage = parser.format_usage().removeprefix("usage: ").rstrip()
    indent = " " * len("usage: ")
    yield from (".nf", _roff(usage.replace("\n" + indent, "\n")), ".fi")


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    words = parser._get_formatter()
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._SubParsersAction):
            continue
        yield ".TP"
        yield rf"\fB{_roff(words._format_action_invocation(action))}\fR"
        yield _roff(words._expand_help(action) if action.help else "")


def _roff(text: str | None) -> str:
    """Escape what troff would take for a request, a font or a dash of its own."""
    escaped = (text or "").replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")
    return re.sub(r"^\.", r"\\&.", escaped, flags=re.MULTILINE)
