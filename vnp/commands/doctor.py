"""``vnp doctor``: check this machine before a long run."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from uuid import uuid4

from store.backends import open_store
from store.errors import StoreError
from store.files import publish_new
from vnp import __version__
from vnp.cli import DATA_ERROR, DONE
from vnp.commands.output import print_json, print_lines

_PACKAGES = ("torch", "numpy", "numcodecs", "dnaio", "tokenizers", "safetensors", "zarr", "anndata")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    what: str
    state: str  # "ok", "note" or "problem"
    found: str


def run(options: argparse.Namespace) -> int:
    """Look at everything a run depends on."""
    checks = [*_software(), *_devices(), *_weights(options.weights)]
    if options.store is not None:
        checks += _store(options.store)
    if options.json:
        print_json([asdict(check) for check in checks])
    else:
        print_lines(f"{check.state:<8} {check.what}: {check.found}" for check in checks)
    return DATA_ERROR if any(check.state == "problem" for check in checks) else DONE


def _software() -> Iterator[Check]:
    yield Check("vnp", "ok", f"{__version__} on Python {platform.python_version()}")
    for name in _PACKAGES:
        try:
            yield Check(name, "ok", metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Check(name, "note", "not installed (only needed to read stores with it)")


def _devices() -> Iterator[Check]:
    import torch

    cores = len(os.sched_getaffinity(0))
    yield Check("CPU", "ok", f"{cores} cores may be used")
    if not torch.cuda.is_available():
        yield Check(
            "GPU", "note", f"torch {torch.__version__} sees none: embedding runs on the CPU"
        )
        return
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        yield Check(
            f"cuda:{number}",
            "ok",
            f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, compute capability "
            f"{properties.major}.{properties.minor}",
        )


def _weights(folder: Path | None) -> Iterator[Check]:
    from vnp.models import files, registry

    for name in registry.RECIPES["virnucpro"]:
        try:
            found = files.locate(registry.model(name), weights_dir=folder, download=False)
        except StoreError as error:
            yield Check(f"weights of {name}", "note", str(error))
        else:
            yield Check(f"weights of {name}", "ok", f"{found.folder} ({found.revision})")


def _store(path: Path) -> Iterator[Check]:
    store = open_store(path)
    yield Check("store", "ok", repr(store))
    tmp = store.sidecar.make().tmp
    probe = tmp / f"doctor-{uuid4().hex}"
    try:
        first = publish_new(tmp, probe, [b"a"])
        second = publish_new(tmp, probe, [b"b"])
    except StoreError as error:
        yield Check("file system", "problem", str(error))
        return
    finally:
        probe.unlink(missing_ok=True)
    if first and not second:
        yield Check("file system", "ok", "hard links are made, and refuse a name that is taken")
    else:
        yield Check("file system", "problem", "hard links do not refuse a taken name")
    free = os.statvfs(store.path)
    size = free.f_bavail * free.f_frsize
    wanted = sum(
        len(store.open_blocks(model.name)) * store.schema.block_rows * model.dim * 2
        for model in store.schema.models
    )
    state = "ok" if size > wanted else "problem"
    yield Check(
        "disk", state, f"{size / 1e9:.1f} GB free, the open blocks take {wanted / 1e9:.1f} GB"
    )
