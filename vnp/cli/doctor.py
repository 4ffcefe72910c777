"""``vnp doctor``: check this machine before a long run, also against reference values."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import uuid4

from store.errors import StoreError, UsageError
from store.io.files import publish_new
from store.open import open_store
from store.store import Store
from vnp import __version__
from vnp.cli.main import DATA_ERROR, DONE
from vnp.cli.output import print_json, print_lines, say
from vnp.models import registry

_PACKAGES = ("torch", "numpy", "numcodecs", "dnaio", "tokenizers", "safetensors", "zarr", "anndata")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    what: str
    state: str  # "ok", "note" or "problem"
    found: str
    values: dict[str, Any] = field(default_factory=dict)  # the figures behind it, for programs


def run(options: argparse.Namespace) -> int:
    """Look at everything a run depends on."""
    if (options.golden is None) != (options.fasta is None):
        raise UsageError(
            "to compare with reference values give both --golden FILE and --fasta FASTA"
        )
    checks = [*_software(), *_devices()]
    if options.store is None:
        checks += _weights(registry.RECIPES["virnucpro"], options.weights)
    else:
        store = open_store(options.store)
        checks += _weights([model.name for model in store.schema.models], options.weights)
        checks += _store(store)
    if options.golden is not None:
        checks += _golden(options)
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


def _weights(names: Iterable[str], folder: Path | None) -> Iterator[Check]:
    from vnp.models import files

    for name in names:
        model = registry.MODELS.get(name)
        if model is None or model.demo:
            continue  # a column that was imported, or weights that come with the package
        try:
            found = files.locate(model, weights_dir=folder, download=False)
        except StoreError as error:
            yield Check(f"weights of {name}", "note", str(error))
        else:
            yield Check(f"weights of {name}", "ok", f"{found.folder} ({found.revision})")


def _store(store: Store) -> Iterator[Check]:
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


def _golden(options: argparse.Namespace) -> Iterator[Check]:
    from vnp.exchange.golden import compare, read_reference
    from vnp.inference.encoder import Encoder, load_encoder

    def load(model: str) -> Encoder:
        return load_encoder(
            model,
            device=options.device,
            precision=options.precision,
            weights_dir=options.weights,
            warn=say,
        )

    reference = read_reference(options.golden, models=registry.recipe(options.recipe))
    report = compare(reference, options.fasta, segment_length=options.segment_length, load=load)
    for band in report.bands:
        found = (
            f"{band.rows:,} rows in {band.precision} on {band.device}: cosine lowest "
            f"{band.lowest_cosine:.6f}, median {band.median_cosine:.6f}; difference median "
            f"{band.median_relative:.1e} of a row's length, largest of a number "
            f"{band.largest_difference:.1e}"
        )
        if not band.reproduced:
            rows = ", ".join(f"{row.id} ({row.cosine:.4f})" for row in band.worst)
            found += f"; farthest off: {rows}"
        state = "ok" if band.reproduced else "problem"
        yield Check(f"golden {band.model}", state, found, asdict(band))
    if report.missing:
        named = ", ".join(report.missing[:3]) + (", ..." if len(report.missing) > 3 else "")
        yield Check(
            "golden ids",
            "problem",
            f"{len(report.missing):,} of {report.rows:,} ids of the reference do not come out of "
            f"{options.fasta}: {named}",
        )
    if report.extra:
        yield Check(
            "golden ids",
            "note",
            f"{report.extra:,} records of {options.fasta} are not in the reference",
        )
    verdict = (
        f"this installation reproduces {options.golden}"
        if report.reproduced
        else f"this installation does NOT reproduce {options.golden}: do not use its embeddings "
        "with classifiers trained on such values before the reason is found"
    )
    yield Check("golden", "ok" if report.reproduced else "problem", verdict, report.to_json())
