"""Settings of a worker in one place, as a value, as options and as arguments of ``vnp worker``."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from vnp.inference.encoder import Precision

PRECISIONS = ("auto", "float32", "bfloat16", "float16", "fp8")


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """How a worker goes about its work.

    Raises
    ------
    UsageError
        If a setting is out of range.
    """

    models: tuple[str, ...] = ()  # models to fill, in this order; none: all of the store
    device: str = "auto"  # "auto", "cpu", "cuda" or "cuda:N"
    precision: Precision = "auto"  # "auto": the store's, else what suits the device
    weights_dir: Path | None = None  # searched before the Hugging Face cache and hub
    token_budget: int | None = None  # most tokens in a batch; None: what suits the device
    threads: int | None = None  # CPU threads; None: those the process may run on
    lease: float | None = None  # seconds of silence before a worker is dead; None: LEASE
    heartbeat: float | None = None  # seconds between signs of life; None: INTERVAL
    poll: float = 2.0  # seconds between two looks for a block when others hold all open ones
    dedup: bool = True  # copy the embeddings of identical records instead of computing them again
    linger: bool = True  # stay until every block is filled, ready to take over from the dead
    prefetched: int = 1  # blocks claimed and tokenised ahead of the one being embedded
    unpublished: int = 1  # embedded blocks that may wait for the disk

    def __post_init__(self) -> None:
        from store.errors import UsageError

        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", self.device):
            raise UsageError(f"device {self.device!r} is not auto, cpu, cuda or cuda:N")
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision {self.precision!r} is not {' or '.join(PRECISIONS)}")
        for option in _OPTIONS:
            value = getattr(self, option.field)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and not 0 < value < float("inf"):
                raise UsageError(f"{option.flag} {value}: give a positive number")

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser, *, every: bool = True) -> None:
        """Add the options of a worker; those of a single process only with ``every``."""
        for option in _OPTIONS:
            if option.shared or every:
                parser.add_argument(option.flag, dest=option.field, **option.settings)

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> WorkerConfig:
        """Build a configuration from parsed options; those that are absent keep their default."""
        values = {
            field.name: value
            for field in fields(cls)
            if (value := getattr(options, field.name, None)) is not None
        }
        if "models" in values:
            values["models"] = tuple(values["models"])
        return cls(**values)

    def to_arguments(self) -> list[str]:
        """Return the arguments of ``vnp worker`` from which `from_options` makes this again."""
        arguments: list[str] = []
        for option in _OPTIONS:
            value = getattr(self, option.field)
            if isinstance(value, bool):
                arguments += [] if value else [option.flag]  # switches are on by default
            elif isinstance(value, tuple):
                arguments += [f"{option.flag}={item}" for item in value]
            elif value is not None:
                arguments.append(f"{option.flag}={value}")
        return arguments


class _Option(NamedTuple):
    field: str  # of WorkerConfig
    flag: str
    shared: bool  # an option of every command that embeds, not of ``vnp worker`` alone
    settings: dict[str, Any]  # what argparse is told


_MODELS = _Option(
    "models",
    "--model",
    True,
    {
        "action": "append",
        "metavar": "NAME",
        "help": "fill only this model (repeatable; default: all of the store)",
    },
)
_DEVICE_OPTIONS = (
    _Option(
        "device",
        "--device",
        True,
        {"metavar": "DEVICE", "help": "auto (default), cpu, cuda or cuda:N"},
    ),
    _Option(
        "precision",
        "--precision",
        True,
        {
            "choices": PRECISIONS,
            "help": "arithmetic of the layers (default: the store's, else what suits the device)",
        },
    ),
    _Option(
        "weights_dir",
        "--weights",
        True,
        {
            "type": Path,
            "metavar": "DIR",
            "help": "folder with model files, searched before the Hugging Face cache and hub",
        },
    ),
)
_OPTIONS = (
    _MODELS,
    *_DEVICE_OPTIONS,
    _Option(
        "dedup",
        "--no-dedup",
        True,
        {
            "action": "store_const",
            "const": False,
            "help": "embed identical records again instead of copying their embeddings",
        },
    ),
    _Option(
        "token_budget",
        "--token-budget",
        True,
        {"type": int, "metavar": "T", "help": "most tokens in a batch"},
    ),
    _Option(
        "threads",
        "--threads",
        False,
        {"type": int, "metavar": "N", "help": "CPU threads (default: those allowed)"},
    ),
    _Option(
        "linger",
        "--no-linger",
        False,
        {
            "action": "store_const",
            "const": False,
            "help": "end when no block is free, instead of waiting for blocks of workers that "
            "may die",
        },
    ),
    _Option(
        "lease",
        "--lease",
        False,
        {
            "type": float,
            "metavar": "SECONDS",
            "help": "silence after which another worker counts as dead (default 60)",
        },
    ),
    *(
        _Option(field, f"--{field}", False, {"type": kind, "help": argparse.SUPPRESS})
        for field, kind in (
            ("heartbeat", float),
            ("poll", float),
            ("prefetched", int),
            ("unpublished", int),
        )
    ),
)


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where and how a model runs, and where its files are."""
    for option in _DEVICE_OPTIONS:
        parser.add_argument(option.flag, dest=option.field, **option.settings)
