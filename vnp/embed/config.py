"""Settings of a worker in one place, as a value, as options and as arguments of ``vnp worker``."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from store.schema import Schema
    from vnp.inference.encoder import Precision

PRECISIONS = ("default", "auto", "float32", "bfloat16", "float16", "fp8", "int8")


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """How a worker goes about its work.

    Raises
    ------
    UsageError
        If a setting is out of range.
    """

    models: tuple[str, ...] = ()  # to fill, in this order, as `held_model` takes them; none: all
    device: str = "auto"  # "auto", "cpu", "cuda" or "cuda:N"
    # Without a precision of the store: "default" is what suits the device, "auto" the fastest whose
    # check on the store's records passes, down to a lowest cosine.
    precision: Precision = "default"
    precision_bound: float = 0.9995
    weights_dir: Path | None = None  # searched before the Hugging Face cache and hub
    plugins: tuple[Path, ...] = ()  # scripts that describe models
    token_budget: int | None = None  # most tokens in a batch; None: what suits the device
    threads: int | None = None  # CPU threads; None: those the process may run on
    lease: float | None = None  # seconds of silence before a worker is dead; None: LEASE
    heartbeat: float | None = None  # seconds between signs of life; None: INTERVAL
    poll: float = 2.0  # seconds between two looks for a block when others hold all open ones
    dedup: bool = True  # copy the embeddings of identical records instead of computing them again
    linger: bool = True  # stay until every block is filled, ready to take over from the dead
    prefetched: int = 4  # blocks claimed and tokenised ahead of those being embedded, if short
    unpublished: int = 1  # embedded blocks that may wait for the disk

    def __post_init__(self) -> None:
        from store.errors import UsageError

        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", self.device):
            raise UsageError(f"device {self.device!r} is not auto, cpu, cuda or cuda:N")
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision {self.precision!r} is not {' or '.join(PRECISIONS)}")
        if not 0 < self.precision_bound <= 1:
            raise UsageError(f"--precision-bound {self.precision_bound} is not a cosine up to 1")
        for field, (flag, _) in _OPTIONS.items():
            value = getattr(self, field)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and not 0 < value < float("inf"):
                raise UsageError(f"{flag} {value}: give a positive number")

    def for_store(self, schema: Schema) -> WorkerConfig:
        """Settings with the store's own names of the models, all of them if none was named."""
        from vnp.models.held import held_models

        names = held_models(schema, self.models)
        return replace(self, models=names or tuple(model.name for model in schema.models))

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser, *, every: bool = True) -> None:
        """Add the options of a worker; those of a single process only with ``every``."""
        _add(parser, _OPTIONS if every else _SHARED)

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> WorkerConfig:
        """Build a configuration from parsed options; those that are absent keep their default."""
        given = {field.name: getattr(options, field.name, None) for field in fields(cls)}
        values = {name: value for name, value in given.items() if value is not None}
        values |= {name: tuple(values[name]) for name in ("models", "plugins") if name in values}
        return cls(**values)

    def to_arguments(self) -> list[str]:
        """Return the arguments of ``vnp worker`` from which `from_options` makes this again."""
        arguments: list[str] = []
        for field, (flag, _) in _OPTIONS.items():
            value = getattr(self, field)
            if isinstance(value, bool):
                arguments += [] if value else [flag]  # switches are on by default
            elif isinstance(value, tuple):
                arguments += [f"{flag}={item}" for item in value]
            elif value is not None:
                arguments.append(f"{flag}={value}")
        return arguments


def add_device_arguments(
    parser: argparse.ArgumentParser, *, precision: bool = True, token_budget: bool = False
) -> None:
    """Add where and how a model runs, and where its files are."""
    _add(parser, {name: _DEVICE[name] for name in _DEVICE if precision or name != "precision"})
    if token_budget:
        _add(parser, {"token_budget": _SHARED["token_budget"]})


Option = tuple[str, dict[str, Any]]  # its flag, and what argparse is told


def _add(parser: argparse.ArgumentParser, options: dict[str, Option]) -> None:
    for field, (flag, settings) in options.items():
        parser.add_argument(flag, dest=field, **settings)


def _option(flag: str, about: str = argparse.SUPPRESS, **settings: Any) -> Option:
    return flag, {"help": about, **settings}


def _off(flag: str, about: str) -> Option:
    return _option(flag, about, action="store_const", const=False)


# By the field that they set: the options of every command that runs a model, those of every command
# that embeds, and those of ``vnp worker``.
_DEVICE = {
    "device": _option("--device", "auto (default), cpu, cuda or cuda:N", metavar="DEVICE"),
    "precision": _option(
        "--precision",
        "of the layers (default: the store's, else the device's: bfloat16 on GPUs and on CPUs "
        "that multiply it, float32 on others); auto: the fastest of int8, fp8 and that whose check "
        "on the store's own records passes ('vnp precisions' shows what each changes)",
        choices=PRECISIONS,
    ),
    "weights_dir": _option(
        "--weights", "folder with model files, searched first", type=Path, metavar="DIR"
    ),
    "plugins": _option(
        "--plugin",
        "Python file that describes models (repeatable); it is run",
        type=Path,
        action="append",
        metavar="FILE",
    ),
}
_SHARED = {
    "models": _option(
        "--model", "fill only this model (repeatable)", action="append", metavar="NAME"
    ),
    **_DEVICE,
    "precision_bound": _option(
        "--precision-bound",
        "with --precision auto: least cosine with bfloat16, of the worst record that is checked "
        "(default 0.9995)",
        type=float,
        metavar="COSINE",
    ),
    "dedup": _off("--no-dedup", "embed identical records again instead of copying embeddings"),
    "token_budget": _option("--token-budget", "most tokens in a batch", type=int, metavar="T"),
}
_OPTIONS = {
    **_SHARED,
    "threads": _option("--threads", "CPU threads (default: those allowed)", type=int, metavar="N"),
    "linger": _off("--no-linger", "end when no block is free, do not wait for those of others"),
    "lease": _option(
        "--lease",
        "silence after which a worker is dead (default 60)",
        type=float,
        metavar="SECONDS",
    ),
    "heartbeat": _option("--heartbeat", type=float),
    "poll": _option("--poll", type=float),
    "prefetched": _option("--prefetched", type=int),
    "unpublished": _option("--unpublished", type=int),
}
