"""The command line: what can be said, and which exit code answers.

Exit codes: 0 done, 1 error in the data or the store, 2 wrong usage, 3 incomplete (some promised
rows are not certified), 130 interrupted. Results go to standard output, talk to standard error.

Nothing heavy is imported before a command is known, so that ``vnp --help`` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from vnp import __version__

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

    init = _command(commands, "init", "make an empty store")
    _store(init)
    init.add_argument(
        "--recipe",
        help="models of a recipe: virnucpro (DNABERT-S + ESM-2 3B, the default) or demo",
    )
    init.add_argument(
        "--model", action="append", metavar="NAME", help="a model (repeatable), instead of a recipe"
    )
    init.add_argument(
        "--segment-length",
        type=_positive,
        default=500,
        metavar="BASES",
        help="length of the windows contigs are cut into (default 500; published: 300, 500)",
    )
    init.add_argument(
        "--block-rows", type=_positive, metavar="R", help="rows per block (default 4096)"
    )
    init.add_argument(
        "--if-missing",
        action="store_true",
        help="do nothing if the store exists with these models and this segment length",
    )
    _json(init)

    append = _command(commands, "append", "append a FASTA or FASTQ file as a sample")
    _store(append)
    append.add_argument(
        "file", metavar="FILE", help="FASTA or FASTQ, plain or .gz/.zst/.bz2; - is standard input"
    )
    append.add_argument("--sample", metavar="NAME", help="sample name (default: from the file)")
    append.add_argument(
        "--duplicates",
        choices=("refuse", "number"),
        default="refuse",
        help="sequence ids that occur twice in the file: refuse the file, or number them",
    )
    append.add_argument(
        "--existing",
        choices=("refuse", "skip"),
        default="refuse",
        help="the store has this very file already: refuse it, or skip it",
    )
    append.add_argument(
        "--report", type=Path, metavar="TSV", help="where to name contigs that give no record"
    )
    _json(append)

    embed = _command(commands, "embed", "fill and certify the whole store (the main job)")
    _store(embed)
    embed.add_argument(
        "--workers", type=_positive, metavar="N", help="workers (default: one per GPU, or one)"
    )
    _worker_options(embed)
    _json(embed)

    worker = _command(commands, "worker", "fill blocks of a store beside other workers")
    _store(worker)
    _worker_options(worker)
    worker.add_argument(
        "--threads", type=_positive, metavar="N", help="CPU threads (default: those allowed)"
    )
    worker.add_argument(
        "--no-linger",
        action="store_true",
        help="end when no block is free, instead of waiting for blocks of workers that may die",
    )
    worker.add_argument(
        "--lease",
        type=_seconds,
        metavar="SECONDS",
        help="standstill after which another worker counts as dead (default 60)",
    )
    _json(worker)

    status = _command(commands, "status", "show how far a store is filled, and who is at it")
    _store(status)
    status.add_argument("--watch", action="store_true", help="show it again every two seconds")
    _json(status)

    verify = _command(commands, "verify", "re-read everything and name what is damaged")
    _store(verify)
    verify.add_argument(
        "--repair",
        action="store_true",
        help="make damaged blocks open again and remove orphans; run embed after it",
    )
    _json(verify)

    models = _command(commands, "models", "list the models, or add one to a store")
    models.add_argument("--add", metavar="NAME", help="add this model to the store")
    models.add_argument("store", metavar="STORE", nargs="?", type=Path, help="with --add")
    _json(models)

    doctor = _command(commands, "doctor", "check this machine: devices, weights, file system")
    doctor.add_argument(
        "store", metavar="STORE", nargs="?", type=Path, help="also check where this store lies"
    )
    doctor.add_argument("--weights", type=Path, metavar="DIR", help="folder with model files")
    _json(doctor)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    options = parser().parse_args(arguments)
    from store.errors import StoreError, UsageError

    try:
        command = importlib.import_module(f"vnp.commands.{options.command}")
        code: int = command.run(options)
        sys.stdout.flush()
    except UsageError as error:
        _complain(options.command, error)
        return USAGE_ERROR
    except StoreError as error:
        _complain(options.command, error)
        return DATA_ERROR
    except KeyboardInterrupt:
        print("vnp: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left; keep Python from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DATA_ERROR
    except OSError as error:
        _complain(options.command, error)
        return DATA_ERROR
    return code


def _complain(command: str, error: BaseException) -> None:
    print(f"vnp {command}: error: {error}", file=sys.stderr)


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, about: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + ".", allow_abbrev=False
    )


def _store(command: argparse.ArgumentParser) -> None:
    command.add_argument("store", metavar="STORE", type=Path, help="the store, e.g. run.zarr")


def _json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print the result as JSON")


def _worker_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="fill only this model (repeatable; default: all of the store)",
    )
    command.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    command.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="arithmetic of the layers (default: the store's, else what suits the device)",
    )
    command.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="folder with model files, looked in before the Hugging Face cache and hub",
    )
    command.add_argument(
        "--token-budget", type=_positive, metavar="T", help="most tokens in a batch"
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of seconds")
    return value
