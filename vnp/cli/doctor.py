"""``vnp doctor``: check this machine before a long run, also against reference values."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vnp import __version__
from vnp.cli import filesystem, options
from vnp.cli.exit_codes import DATA_ERROR, DONE
from vnp.cli.output import Outcome, printable
from vnp.embed.config import add_device_arguments

if TYPE_CHECKING:
    from store.location import Location
    from store.schema import Model
    from store.store import Store


# Whether vnp itself needs it.
_PACKAGES = {
    "torch": True,
    "numpy": True,
    "numcodecs": True,
    "h5py": True,
    "dnaio": True,
    "tokenizers": True,
    "safetensors": True,
    "zarr": False,
    "anndata": False,
}
# What the other extras are for (pyproject.toml says what they bring); none is needed by all.
_EXTRAS = {
    "export": "vnp export to Parquet",
    "faiss": "vnp export to faiss, and faster searches for many records",
    "lance": "vnp export to Lance",
    "view": "vnp view",
    "umap": "the map of vnp report and vnp view by UMAP; without it by PCA",
    "train": "vnp train --classifier logistic or hist-gradient-boosting",
    "bam": "BAM and CRAM as input",
    "ray": "vnp launch ray",
    "s3": "stores in S3",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    about = "check where this store lies, and its models' weights instead of VirNucPro's"
    parser.add_argument("store", metavar="STORE", nargs="?", type=options.place, help=about)
    parser.add_argument(
        "--golden",
        type=Path,
        metavar="FILE",
        help="embed --fasta and compare with these reference values: the published tool's "
        "*_merged.pt, *_DNABERT_S.pt or *_ESM.pt",
    )
    parser.add_argument("--fasta", metavar="FASTA", help="the file the reference was made from")
    about = "models of the reference (default: virnucpro)"
    parser.add_argument("--recipe", default="virnucpro", help=about)
    parser.add_argument(
        "--segment-length",
        type=options.segment_length,
        metavar="BASES",
        help="segment length of the reference (default: that of STORE, else 500)",
    )
    options.genetic_code(parser, of="the reference (default: that of STORE, else 1)", default=None)
    add_device_arguments(parser)
    filesystem.add_arguments(parser)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    what: str
    state: str  # "ok", "note" or "problem"
    found: str
    values: dict[str, Any] = field(default_factory=dict)  # the figures behind it, for programs


def run(given: argparse.Namespace) -> int:
    """Look at everything a run depends on."""
    from store.errors import UsageError
    from store.location import S3Location
    from store.schema import STANDARD_CODE, Model
    from vnp.models import registry
    from vnp.models.extra import missing_packages, require_embed
    from vnp.sequence.create import DEFAULT_SEGMENT

    if given.filesystem is not None:
        if given.store is not None or given.golden is not None:
            raise UsageError("--filesystem checks a folder and nothing else: leave the others out")
        return _show([Check(*astuple(trial)) for trial in filesystem.look(given)], given)
    if given.join is not None or given.second_host:
        raise UsageError("--join and --second-host belong to --filesystem DIR: name the folder")
    if (given.golden is None) != (given.fasta is None):
        raise UsageError("to compare with a reference give both --golden FILE and --fasta FASTA")
    missing = missing_packages()
    if given.golden is not None:
        require_embed("--golden")
    checks = list(_software())
    if not missing:
        checks += _reported("devices", _devices)
        checks += _reported("kernels", _kernels)
    models = [Model(spec.name, spec.dim) for spec in registry.recipe("virnucpro")]
    length, code = DEFAULT_SEGMENT, STANDARD_CODE
    if given.store is not None:
        store, found = _opened(given.store)
        checks.append(found)
        models = list(store.schema.models) if store is not None else []
        if store is None and isinstance(given.store, S3Location):
            checks += _reported("server", lambda: _server(given.store))
        if store is not None:
            length, code = store.schema.segment_length, store.schema.genetic_code
            if isinstance(path := store.path, Path):
                checks += _reported("mount", lambda: _mount(path))
            checks += _reported("file system", lambda: _file_system(store))
            checks += _reported("disk", lambda: _disk(store))
    if not missing:
        checks += _reported("weights", lambda: _weights(models, given.weights_dir))
    if given.golden is not None:
        length = length if given.segment_length is None else given.segment_length
        code = code if given.code is None else given.code
        checks += _golden(given, segment_length=length, genetic_code=code)
    return _show(checks, given)


def _show(checks: list[Check], given: argparse.Namespace) -> int:
    lines = [printable(f"{check.state:<8} {check.what}: {check.found}") for check in checks]
    code = DATA_ERROR if any(check.state == "problem" for check in checks) else DONE
    return Outcome([asdict(check) for check in checks], lines, code).show(as_json=given.json)


def _reported(what: str, look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """Yield what a look finds; an error that ends it is a finding too, unless it is wrong usage."""
    from store.errors import StoreError, UsageError
    from store.io.files import explained
    from store.io.optional import MissingPackageError

    try:
        yield from look()
    except MissingPackageError as error:
        yield Check(what, "problem", str(error))
    except UsageError:
        raise
    except (StoreError, MemoryError) as error:
        yield Check(what, "problem", str(error))
    except OSError as error:
        yield Check(what, "problem", explained(error))


def _software() -> Iterator[Check]:
    from store.io.optional import EXTRAS, install, is_installed, why_not
    from vnp.models.extra import INSTALL, PACKAGES

    yield Check("vnp", "ok", f"{__version__} on Python {platform.python_version()}")
    for name, needed in _PACKAGES.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "not installed"
            if name in PACKAGES:
                found += f", needed to embed: {INSTALL}"
            elif not needed:
                found += f" (only needed to read stores with): {install('read')}"
            yield Check(name, "problem" if needed else "note", found)
            continue
        trouble = why_not(name)
        if trouble is None:
            yield Check(name, "ok", version)
        else:
            yield Check(name, "problem" if needed else "note", f"{version} {trouble}")
    for extra, about in _EXTRAS.items():  # not imported: that may take half a minute
        brought = [name for name, of in EXTRAS.items() if of == extra]
        missing = [name for name in brought if not is_installed(name)]
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            found = f"{', '.join(missing)} {verb} not installed: {install(extra)}, for {about}"
            yield Check(f"extra {extra}", "note", found)
        else:
            yield Check(f"extra {extra}", "ok", f"{', '.join(brought)}: {about}")


def _devices() -> Iterator[Check]:
    import torch

    from store.io.concurrent import processors

    cores = processors()
    yield Check("CPU", "ok", f"{cores} cores may be used")
    if not torch.cuda.is_available():
        found = f"torch {torch.__version__} sees none: embedding runs on the CPU"
        yield Check("GPU", "note", found)
        return
    for number in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(number)
        memory = f"{gpu.total_memory / 2**30:.0f} GiB"
        found = f"{gpu.name}, {memory}, compute capability {gpu.major}.{gpu.minor}"
        yield Check(f"cuda:{number}", "ok", found)


def _kernels() -> Iterator[Check]:
    """Test the kernels anew that a worker trusts if they were tested on such a machine before."""
    import torch

    from vnp.inference.kernels import retest

    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        device = torch.device("cuda", number)
        what = f"kernels of cuda:{number}"
        try:
            tested = retest(device)
        except Exception as error:  # noqa: BLE001 - a compiler may raise anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            yield Check(what, "note", f"they do not work, slower ones take their place ({reason})")
        else:
            if tested:
                yield Check(what, "ok", "the kernels for Hopper agree with plain torch")


def _weights(models: Iterable[Model], folder: Path | None) -> Iterator[Check]:
    from store.errors import StoreError
    from vnp.models import files, hub, registry
    from vnp.models.spec import HUB

    for model in models:
        name, _, options = (model.source or model.name).partition("@")
        spec = registry.MODELS.get(name)
        what = f"weights of {model.name}"
        try:
            if name.startswith(HUB):
                first = options.partition(",")[0]
                revision = first if first and "=" not in first else "main"
                repo = name.removeprefix(HUB)
                found = str(hub.here(repo, folder, model.name, revision=revision))
            elif spec is None or spec.demo:
                continue  # a column that was imported, or weights that come with the package
            elif spec.architecture == "transformers":
                found = str(hub.here(str(spec.repo), folder, name, revision=spec.revision))
            else:
                where = files.locate(spec, weights_dir=folder, download=False)
                found = f"{where.folder} ({where.revision})"
        except StoreError as error:  # its line says already whose weights they are
            yield Check(what, "note", str(error).removeprefix(f"the {what} are "))
        else:
            yield Check(what, "ok", found)


def _opened(path: Path) -> tuple[Store | None, Check]:
    from store.open import open_store

    opened: list[Store] = []

    def look() -> Iterator[Check]:
        opened.append(open_store(path))
        yield Check("store", "ok", repr(opened[0]))

    [found] = _reported("store", look)
    return (opened[0] if opened else None), found


def _mount(path: Path) -> Iterator[Check]:
    yield from (Check(*astuple(trial)) for trial in filesystem.mounted(path)[1])


def _server(place: Location) -> Iterator[Check]:
    """Try whether the server of a bucket honours conditions."""
    from store.open import backend

    backend(place).probe(place)
    yield Check("server", "ok", "it honours If-None-Match and If-Match")


def _file_system(store: Store) -> Iterator[Check]:
    """Try what workers and appenders do beside the store; look whether they may do it in it."""
    from store.io.files import publish_new
    from store.sidecar import DirectorySidecar

    if not isinstance(store.path, Path) or not isinstance(store.sidecar, DirectorySidecar):
        yield from _server(store.path)
        return
    tmp = store.sidecar.make().tmp
    probe = store.sidecar.temporary("doctor")
    try:
        first = publish_new(tmp, probe, [b"a"])
        second = publish_new(tmp, probe, [b"b"])
    finally:
        with suppress(OSError):
            probe.unlink()
    if first and not second:
        yield Check("file system", "ok", "hard links are made, and refuse a name that is taken")
    else:
        yield Check("file system", "problem", "hard links do not refuse a taken name")
    written = [store.path, *(store.sidecar.path / name for name in ("claims", "workers", "logs"))]
    written += [path for path in store.path.glob("ob*/*") if path.is_dir()]
    for path in written:
        if path.exists() and not os.access(path, os.W_OK):
            found = f"{path} is not writable for you: you can read, but not append or embed"
            yield Check("store", "problem", found)


def _disk(store: Store) -> Iterator[Check]:
    if not isinstance(store.path, Path):
        return  # a bucket has no end
    free = os.statvfs(store.path)
    size = free.f_bavail * free.f_frsize
    wanted = sum(
        len(store.open_blocks(model.name)) * store.schema.block_rows * model.dim * 2
        for model in store.schema.models
    )
    found = f"{size / 1e9:.1f} GB free, the open blocks take {wanted / 1e9:.1f} GB"
    yield Check("disk", "ok" if size > wanted else "problem", found)


def _golden(
    given: argparse.Namespace, *, segment_length: int, genetic_code: int
) -> Iterator[Check]:
    from store.io.words import count
    from vnp.exchange.golden import compare, read_reference
    from vnp.inference.encoder import Encoder
    from vnp.inference.load import load_encoder
    from vnp.models import registry

    def load(model: str) -> Encoder:
        return load_encoder(
            model,
            device=given.device or "auto",
            precision=given.precision or "auto",
            weights_dir=given.weights_dir,
        )

    reference = read_reference(given.golden, models=registry.recipe(given.recipe))
    report = compare(
        reference,
        given.fasta,
        segment_length=segment_length,
        genetic_code=genetic_code,
        load=load,
    )
    for band in report.bands:
        found = (
            f"{count(band.rows, 'row')} in {band.precision} on {band.device}: cosine lowest "
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
        found = (
            f"{len(report.missing):,} of {report.rows:,} ids of the reference do not come out of "
            f"{given.fasta}: {named}"
        )
        yield Check("golden ids", "problem", found)
    if report.extra:
        found = (
            f"{count(report.extra, 'record')} of {given.fasta} "
            f"{'is' if report.extra == 1 else 'are'} not in the reference"
        )
        yield Check("golden ids", "note", found)
    state, verdict = "ok", f"this installation reproduces {given.golden}"
    if not report.reproduced:
        state = "problem"
        verdict = (
            f"this installation does NOT reproduce {given.golden}: do not use its embeddings "
            "with classifiers trained on such values before the reason is found"
        )
    yield Check("golden", state, verdict, report.to_json())
