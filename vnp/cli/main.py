"""The command line: which commands there are, and what becomes of an error.

Results go to standard output, messages to standard error. A command's module is imported when its
options are; what is heavy, it imports when it runs, so that ``vnp --help`` answers at once.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import difflib
import gc
import importlib
import io
import keyword
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from vnp import __version__
from vnp.cli import logs, options
from vnp.cli.exit_codes import DATA_ERROR, INTERRUPTED, USAGE_ERROR, of_error
from vnp.cycles import seldom_searched

COMMANDS = {
    "init": "make an empty store",
    "append": "append FASTA, FASTQ, BAM or CRAM files as samples",
    "embed": "fill and certify the whole store (the main job)",
    "worker": "fill blocks of a store beside other workers",
    "launch": "fill the store by workers of an engine: slurm, ray",
    "status": "show how far a store is filled, and which workers fill it",
    "verify": "re-read everything and name what is damaged",
    "bench": "measure this machine on a store's own records",
    "precisions": "show what faster precisions would change on a store's own records",
    "models": "list the models, or add one to a store",
    "doctor": "check this machine: devices, weights, file system",
    "predict": "score the certified rows with a classifier",
    "classifier": "convert a published classifier file",
    "train": "train a classifier on labelled samples of a store",
    "dataset": "make a training set from annotated genomes by the published recipe",
    "residues": "write hidden states of chosen records, one row a residue",
    "export": "write chosen rows of a store as a file of another kind",
    "import": "make VirNucPro's results, or embeddings of others, rows of a store",
    "compare": "compare a store's embeddings with another's",
    "convert": "copy a store to the other kind: .zarr to .h5 or back",
    "run": "append, embed and predict in one go; every stage resumes",
    "report": "write one HTML page that shows what a store holds",
    "view": "show that page live in a browser, from a store of any size",
    "completion": "print what completes commands in a shell: bash, zsh, fish, tcsh",
}
# The others load a model, a classifier or a file of torch: `vnp.models.extra` says what they need.
_WITHOUT_TORCH = {
    "init",
    "append",
    "launch",
    "status",
    "verify",
    "models",
    "doctor",
    "export",
    "convert",
    "completion",
    "view",
}
_BLAS_THREADS = "OPENBLAS_NUM_THREADS"
_DESCRIPTION = """\
VirNucPro embeddings on one chunked store: make a store, append FASTA/FASTQ samples to it, embed
every stop-free reading frame with a DNA and a protein language model, and read the result as
AnnData, Zarr or NumPy.
"""
_EPILOG = (
    "exit codes: 0 done, 1 error in data or store, 2 wrong usage, 3 incomplete, 130 interrupted"
)


class _Parser(argparse.ArgumentParser):
    """Names an unknown option first where a required one is missing: it may be what was meant."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = args or ()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        if "required" in message:
            words = [word.partition("=")[0] for word in self._given if word.startswith("--")]
            if unknown := [word for word in words if word not in _known(self)]:
                hint = _meant(self, unknown)
                said = f"unrecognized arguments: {' '.join(unknown)}{hint}"
                message = f"{said}{'' if hint else ';'} {message}"
        super().error(message)


def _known(command: argparse.ArgumentParser) -> set[str]:
    return {"--", *re.findall(r"(?<![\w-])--[\w-]+", command.format_help())}


def _meant(command: argparse.ArgumentParser, words: Iterable[str]) -> str:
    """Name the options that unknown words are nearest to, as the end of a message."""
    known = _known(command)
    unknown = [word for word in words if word not in known]  # one that is stood after '--'
    near = [near for word in unknown for near in difflib.get_close_matches(word, known, n=1)]
    return f"; did you mean {' and '.join(near)}?" if near else ""


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """Build the parser of all commands, or with the options of ``only`` this one."""
    top = _Parser(prog="vnp", description=_DESCRIPTION, epilog=_EPILOG, allow_abbrev=False)
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, about in COMMANDS.items():
        command = commands.add_parser(
            name, help=about, description=about[0].upper() + about[1:] + ".", allow_abbrev=False
        )
        if only not in (None, name):
            continue
        # ``import`` is a keyword of the language.
        file = f"{name}_" if keyword.iskeyword(name) else name
        module = importlib.import_module(f"vnp.cli.{file}")
        module.add_arguments(command)
        options.common(command)
        command.set_defaults(run=module.run, command_parser=command, json=False)
        if name == "completion":
            command.set_defaults(all_commands=parser)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    for name in ("stdout", "stderr"):  # None where the caller closed it: print() would mix them
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may not be text
    arguments = sys.argv[1:] if arguments is None else arguments
    name = arguments[0] if arguments else ""
    top = parser(name)
    if not name:
        top.print_help(sys.stderr)
        return USAGE_ERROR  # a script that forgot the command has not succeeded
    if not name.startswith("-") and name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "'vnp' alone lists the commands"
        top.error(f"unknown command {name!r}; {hint}")
    try:
        with _light(name):
            with _one_blas_thread(name):
                given = _given(top, name, arguments)
            with _signals():  # not while NumPy loads: it takes the interrupt for a broken NumPy
                return _run(given)
    except KeyboardInterrupt:
        print("vnp: interrupted", file=sys.stderr)
        return INTERRUPTED


def _given(top: argparse.ArgumentParser, name: str, arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line of a command."""
    passed_on: Sequence[str] = ()
    if name == "launch" and "--" in arguments:  # what follows is an engine's own
        at = list(arguments).index("--")
        arguments, passed_on = arguments[:at], arguments[at + 1 :]
    given, unknown = top.parse_known_args(arguments)
    given.passed_on = passed_on
    if unknown:
        if name.startswith("-"):
            top.error(f"unrecognized arguments: {' '.join(unknown)}; options follow the command")
        hint = _meant(given.command_parser, unknown)
        given.command_parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return given


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """End a command in order, until it handles signals itself; leave them as they were."""
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    }
    with contextlib.suppress(ValueError):  # not in the main thread: nothing to arrange
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError, TypeError):  # of C's: it cannot be put back
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _light(command: str) -> Iterator[None]:
    """Seldom search for cycles of objects in a command that loads no torch."""
    if command not in _WITHOUT_TORCH:
        yield
        return
    # Modules are what there is to search for cycles: seldom while they load, and not at the end.
    atexit.unregister(gc.freeze)  # of an earlier call
    atexit.register(gc.freeze)
    with seldom_searched():
        yield


@contextlib.contextmanager
def _one_blas_thread(command: str) -> Iterator[None]:
    """Have a command that loads no torch load NumPy here, if an option's value does not already.

    Threads of its BLAS, of which nothing is used, would spin for as long as the rest of the start
    takes. Workers that the command starts may want theirs.
    """
    if command not in _WITHOUT_TORCH:
        yield
        return
    alone = {_BLAS_THREADS: "1"} if _BLAS_THREADS not in os.environ else {}
    os.environ.update(alone)
    try:
        yield
        importlib.import_module("numpy")
    finally:
        for each in alone:
            del os.environ[each]


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _run(given: argparse.Namespace) -> int:
    from store.errors import StoreError
    from vnp.embed.progress import show_progress

    try:
        logs.configure(given)
        if given.command not in _WITHOUT_TORCH:
            from vnp.models.extra import require_embed

            require_embed(f"vnp {given.command}")
        if getattr(given, "plugins", None):
            from vnp.models.registry import load_plugins

            load_plugins(given.plugins)
        code: int = given.run(given)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has left; keep Python from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DATA_ERROR
    except (StoreError, OSError, MemoryError) as error:
        logs.complain(given.command, error)
        return of_error(error)
    finally:
        show_progress(True)  # a caller of `main` may go on
    return code
