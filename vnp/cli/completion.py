"""``vnp completion``: print the completion script of a shell."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from vnp.cli import options
from vnp.cli.output import Outcome

SHELLS = ("bash", "zsh", "fish", "tcsh")
_HOW_TO = """\
for this session:
  bash  eval "$(vnp completion bash)"
  zsh   eval "$(vnp completion zsh)"
  fish  vnp completion fish | source
  tcsh  vnp completion tcsh > ~/.vnp.tcsh; source ~/.vnp.tcsh

for good, write it to
  bash  ~/.local/share/bash-completion/completions/vnp
  zsh   _vnp in a folder of $fpath
  fish  ~/.config/fish/completions/vnp.fish
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _HOW_TO
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))


def run(given: argparse.Namespace) -> int:
    """Print the script."""
    text = script(given.all_commands(), given.shell)
    return Outcome({"shell": given.shell, "script": text}, [text]).show(as_json=given.json)


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Completion script of a parser: commands, options, choices, and names of files."""
    import shtab

    for action in _actions(parser):
        if action.metavar == "DIR":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.type in (Path, options.place) or action.metavar in ("FILE", "FASTA"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    text: str = shtab.complete(parser, shell=shell)
    return text.rstrip("\n")


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # nothing public lists them; shtab reads the same
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
