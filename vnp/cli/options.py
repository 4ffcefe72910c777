"""Arguments that several commands share. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, TypeVar

T = TypeVar("T")
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def command(commands: Commands, name: str, about: str) -> argparse.ArgumentParser:
    """Add a command."""
    return commands.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + ".", allow_abbrev=False
    )


def store(command: argparse.ArgumentParser) -> None:
    """Add the argument STORE."""
    command.add_argument("store", metavar="STORE", type=Path, help="the store, e.g. run.zarr")


def json_flag(command: argparse.ArgumentParser) -> None:
    """Add the option --json."""
    command.add_argument("--json", action="store_true", help="print the result as JSON")


def worker_options(command: argparse.ArgumentParser) -> None:
    """Add what every command that embeds takes."""
    command.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="fill only this model (repeatable; default: all of the store)",
    )
    device_options(command)
    command.add_argument(
        "--no-dedup",
        action="store_true",
        help="embed identical records again instead of copying the embeddings they have",
    )
    command.add_argument(
        "--token-budget", type=positive, metavar="T", help="most tokens in a batch"
    )


def device_options(command: argparse.ArgumentParser) -> None:
    """Add where and how a model runs, and where its files are."""
    command.add_argument(
        "--device", type=device, default="auto", help="auto (default), cpu, cuda or cuda:N"
    )
    command.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16", "fp8"),
        default="auto",
        help="arithmetic of the layers (default: the store's, else what suits the device)",
    )
    command.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="folder with model files, looked in before the Hugging Face cache and hub",
    )


def device(text: str) -> str:
    """Parse the name of a device."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, cpu, cuda or cuda:N")
    return text


def _number(kind: Callable[[str], T], text: str) -> T:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None


def positive(text: str) -> int:
    """Parse a positive whole number."""
    value = _number(int, text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def segment_length(text: str) -> int:
    """Parse a segment length: bases, or ``whole``, which is 0 (`vnp.sequence.segments.WHOLE`)."""
    if text == "whole":
        return 0
    try:
        return positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}: give bases, or 'whole'") from None


def seconds(text: str) -> float:
    """Parse a positive time span in seconds."""
    value = _number(float, text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of seconds")
    return value
