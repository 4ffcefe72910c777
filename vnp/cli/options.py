"""Options that several commands share, and how their values are read. Imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from store.location import Location

T = TypeVar("T")
STORE = "the store: run.zarr, run.h5, or s3://BUCKET/run.zarr"


def common(parser: argparse.ArgumentParser) -> None:
    """Add what every command has; without defaults, an action leaves its command's values alone."""
    group = parser.add_argument_group("results and messages", argument_default=argparse.SUPPRESS)
    group.add_argument("--json", action="store_true", help="print the result as JSON")
    loud = group.add_mutually_exclusive_group()
    loud.add_argument("-v", "--verbose", action="store_true", help="say more")
    about = "only warnings and errors, no progress"
    loud.add_argument("-q", "--quiet", action="store_true", help=about)
    group.add_argument(
        "--log-file", type=Path, metavar="FILE", help="append all messages to FILE, with times"
    )


def store(parser: argparse.ArgumentParser) -> None:
    """Add the argument STORE."""
    parser.add_argument("store", metavar="STORE", type=place, help=STORE)


def allowed_threads(text: str) -> int:
    """Parse a number of threads that compute: no more than there are processors for."""
    from store.io.concurrent import processors
    from store.io.words import count

    threads, most = positive(text), processors()
    if threads > most:
        raise argparse.ArgumentTypeError(f"{text}: this process may use {count(most, 'processor')}")
    return threads


def force(parser: argparse.ArgumentParser, what: str = "the output if it exists") -> None:
    """Add ``--force``, of every command that writes an output with a name of the user's."""
    about = f"replace {what}; without it an existing one is refused"
    parser.add_argument("--force", action="store_true", help=about)


def names(parser: argparse.ArgumentParser, flag: str, about: str) -> None:
    """Add an option that is given once for each name: samples or models."""
    parser.add_argument(
        flag, action="append", default=[], metavar="NAME", help=f"{about} (repeatable)"
    )


def sample(parser: argparse.ArgumentParser) -> None:
    """Add the name of a new sample, and what becomes of its duplicate ids."""
    parser.add_argument("--sample", metavar="NAME", help="sample name (default: from the file)")
    parser.add_argument(
        "--duplicates",
        choices=("refuse", "number"),
        default="refuse",
        help="sequence ids that occur twice in a file: refuse the file, or number them",
    )


def recipe(parser: argparse.ArgumentParser) -> None:
    """Add the option --recipe of a new store."""
    parser.add_argument(
        "--recipe", help="models: virnucpro (DNABERT-S + ESM-2 3B, the default) or demo"
    )


def plugins(parser: argparse.ArgumentParser) -> None:
    """Add the option --plugin, of commands that name models but run none."""
    parser.add_argument(
        "--plugin",
        dest="plugins",
        type=Path,
        action="append",
        metavar="FILE",
        help="Python file that describes models (repeatable); it is run",
    )


def hub_weights(parser: argparse.ArgumentParser) -> None:
    """Add the option --weights, of commands that name models of the hub but run none."""
    parser.add_argument(
        "--weights",
        dest="weights_dir",
        type=Path,
        metavar="DIR",
        help="folder with files of hf: models, DIR/NAME or DIR itself if it is called NAME, looked "
        "in before the cache and the hub; needed on a machine without internet",
    )


def genetic_code(
    parser: argparse.ArgumentParser, *, of: str = "a new store", default: int | None = 1
) -> None:
    """Add the option --code; ``default`` None tells whether it was given."""
    parser.add_argument(
        "--code",
        type=positive,
        default=default,
        metavar="N",
        help=f"genetic code of {of}, NCBI's number of the translation table: 1 (standard, the "
        "default; VirNucPro's), 4 (TGA is W), 15 (TAG is Q), ...; 11 (bacteria) has the stops and "
        "the translation of 1, so it gives the same records",
    )


def workers(parser: argparse.ArgumentParser) -> None:
    """Add the option --workers."""
    parser.add_argument(
        "--workers", type=positive, metavar="N", help="workers (default: one per GPU, or one)"
    )


def check_threads(parser: argparse.ArgumentParser) -> None:
    """Add the option --check-threads."""
    parser.add_argument(
        "--check-threads",
        type=positive,
        metavar="N",
        help="threads that check blocks (default: as many as the file system's latency asks for, "
        "at most 32)",
    )


def classifier(parser: argparse.ArgumentParser) -> None:
    """Add the option --classifier, and where the tables go."""
    parser.add_argument(
        "--classifier",
        type=Path,
        required=True,
        metavar="FILE",
        help="a published .pth, or a .safetensors made by vnp train or vnp classifier convert",
    )
    about = "where the tables go, a folder per sample (default: STORE.predictions)"
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help=about)


def feature_models(parser: argparse.ArgumentParser) -> None:
    """Add the option --models."""
    about = "models whose embeddings make a feature row, in order (default: what fits)"
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME", help=about)


def classifier_device(parser: argparse.ArgumentParser) -> None:
    """Add the option --device of a command that runs a classifier."""
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")


def place(text: str) -> Location:
    """Read where a store is."""
    from store.errors import UsageError
    from store.location import location

    try:
        return location(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """Read a positive whole number."""
    return _number(int, text, lambda value: value >= 1, "a positive number")


def port(text: str) -> int:
    """Read a port; 0 is any."""
    return _number(int, text, lambda value: 0 <= value < 1 << 16, "a port, 0 to 65535")


def folds(text: str) -> int:
    """Read a number of folds."""
    return _number(int, text, lambda value: 2 <= value <= 100, "a number of folds, 2 to 100")


def positive_float(text: str) -> float:
    """Read a positive number."""
    return _number(float, text, lambda value: 0 < value < float("inf"), "a positive number")


def share(text: str) -> float:
    """Read a share: 0 or more, less than 1."""
    return _number(float, text, lambda value: 0 <= value < 1, "a share of 1")


def score(text: str) -> float:
    """Read a score: 0 to 1."""
    return _number(float, text, lambda value: 0 <= value <= 1, "a score between 0 and 1")


def bases(text: str) -> int:
    """Read a number of bases, which may be 0."""
    return _number(int, text, lambda value: value >= 0, "a number of bases")


def gpus(text: str) -> float:
    """Read a number of GPUs, which may be 0 or less than one."""
    return _number(float, text, lambda value: 0 <= value < float("inf"), "a number of GPUs")


def times(text: str) -> int:
    """Read how often something is done, which may be never."""
    return _number(int, text, lambda value: value >= 0, "a number of times")


def cosine(text: str) -> float:
    """Read a cosine similarity."""
    return _number(float, text, lambda value: -1 <= value <= 1, "a cosine between -1 and 1")


def segment_length(text: str) -> int:
    """Read a segment length: bases, or ``whole``, which is 0 (`vnp.sequence.segments.WHOLE`)."""
    if text == "whole":
        return 0
    try:
        return positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}: give bases, or 'whole'") from None


def _number(kind: Callable[[str], T], text: str, fits: Callable[[T], bool], what: str) -> T:
    try:
        value = kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not fits(value):
        raise argparse.ArgumentTypeError(f"{text} is not {what}")
    return value
