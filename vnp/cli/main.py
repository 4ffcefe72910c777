"""The command line: what can be said, and which exit code answers.

Exit codes: 0 done, 1 error in the data or the store, 2 wrong usage, 3 incomplete (some promised
rows are not certified), 130 interrupted. Results go to standard output, talk to standard error.

Nothing heavy is imported before a command is known, so that ``vnp --help`` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import keyword
import os
import signal
import sys
from collections.abc import Sequence

from vnp import __version__
from vnp.cli import arguments_calling as calling
from vnp.cli import arguments_converting as converting
from vnp.cli import arguments_filling as filling
from vnp.cli import arguments_reading as reading
from vnp.cli import arguments_showing as showing
from vnp.cli.logs import configure

DONE, DATA_ERROR, USAGE_ERROR, INCOMPLETE, INTERRUPTED = 0, 1, 2, 3, 130

_DESCRIPTION = """\
VirNucPro embeddings on one chunked store: make a store, append FASTA/FASTQ samples to it, embed
every stop-free reading frame with a DNA and a protein language model, and read the result as
AnnData, Zarr or NumPy.
"""
_EPILOG = """\
exit codes: 0 done, 1 error in the data or the store, 2 wrong usage, 3 incomplete, 130 interrupted
"""


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="vnp",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    filling.add(commands)
    calling.add(commands)
    reading.add(commands)
    converting.add(commands)
    showing.add(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    options = parser().parse_args(arguments)
    configure()
    for number in (signal.SIGTERM, signal.SIGUSR1):  # until a command has its own way with them
        with contextlib.suppress(ValueError):  # not in the main thread: nothing to arrange
            signal.signal(number, _interrupt)
    try:
        return _run(options)
    except KeyboardInterrupt:
        print("vnp: interrupted", file=sys.stderr)
        return INTERRUPTED


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _run(options: argparse.Namespace) -> int:
    from store.errors import StoreError, UsageError

    try:
        command = importlib.import_module(f"vnp.cli.{_module(options.command)}")
        code: int = command.run(options)
        sys.stdout.flush()
    except UsageError as error:
        _complain(options.command, error)
        return USAGE_ERROR
    except StoreError as error:
        _complain(options.command, error)
        return DATA_ERROR
    except BrokenPipeError:
        # Whoever read our output has left; keep Python from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DATA_ERROR
    except OSError as error:
        _complain(options.command, error)
        return DATA_ERROR
    return code


def _module(command: str) -> str:
    """Name of a command's module; that of ``import`` would be a word of the language."""
    return f"{command}_" if keyword.iskeyword(command) else command


def _complain(command: str, error: BaseException) -> None:
    print(f"vnp {command}: error: {error}", file=sys.stderr)
