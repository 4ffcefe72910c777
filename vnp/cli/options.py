"""Options that several commands share, and how their values are read. Imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def store(parser: argparse.ArgumentParser) -> None:
    """Add the argument STORE."""
    parser.add_argument("store", metavar="STORE", type=Path, help="the store, e.g. run.zarr")


def json_flag(parser: argparse.ArgumentParser) -> None:
    """Add the option --json."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def duplicates(parser: argparse.ArgumentParser) -> None:
    """Add the option --duplicates."""
    parser.add_argument(
        "--duplicates",
        choices=("refuse", "number"),
        default="refuse",
        help="sequence ids that occur twice in a file: refuse the file, or number them",
    )


def workers(parser: argparse.ArgumentParser) -> None:
    """Add the option --workers."""
    parser.add_argument(
        "--workers", type=positive, metavar="N", help="workers (default: one per GPU, or one)"
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
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="where the tables go, a folder per sample (default: beside the store, "
        "STORE.predictions)",
    )


def feature_models(parser: argparse.ArgumentParser) -> None:
    """Add the option --models."""
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="NAME",
        help="models whose embeddings make a feature row, in order (default: what fits)",
    )


def classifier_device(parser: argparse.ArgumentParser) -> None:
    """Add the option --device of a command that runs a classifier."""
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")


def positive(text: str) -> int:
    """Read a positive whole number."""
    value = _number(int, text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def positive_float(text: str) -> float:
    """Read a positive number."""
    value = _number(float, text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def share(text: str) -> float:
    """Read a share: 0 or more, less than 1."""
    value = _number(float, text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share of 1")
    return value


def segment_length(text: str) -> int:
    """Read a segment length: bases, or ``whole``, which is 0 (`vnp.sequence.segments.WHOLE`)."""
    if text == "whole":
        return 0
    try:
        return positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}: give bases, or 'whole'") from None


def _number(kind: Callable[[str], T], text: str) -> T:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
