"""From a model's name to an encoder: which operations, in which precision, on which device.

Every fallback is reported through ``warn`` and recorded in the provenance's environment.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import tokenizers
import torch
from torch import Tensor

import vnp
from store.errors import DataError, UsageError
from store.io.optional import why_not
from vnp.inference import esm2, esmc, mosaicbert
from vnp.inference.calibrate import calibrate
from vnp.inference.calibrated import Int8Encoder
from vnp.inference.calibration import Calibration
from vnp.inference.device import Placement, bfloat16_instructions, place
from vnp.inference.encoder import Encoder, Precision, Warn
from vnp.inference.loop import Engine, LoopEncoder, Settings
from vnp.inference.ops import cpu
from vnp.inference.ops import torch as plain
from vnp.inference.pipeline import EngineEncoder
from vnp.inference.selftest import check_products
from vnp.models import demo, files, registry, weights
from vnp.models.errors import DeviceError
from vnp.models.spec import ModelSpec
from vnp.models.tokens import BpeTokenizer, ResidueTokenizer, Tokenise

log = logging.getLogger(__name__)

_LEAST_CAPABILITY = (8, 0)  # what Triton's matrix instructions are tested on

_FUSED_CAPABILITY = 9  # Hopper, whose instructions `hopper` is written for

# Tokens in a batch: enough to fill the chip's products, small enough to leave room. On an H100 the
# tiles of 256 times 132 rows fill its 132 multiprocessors a whole number of times.
TOKEN_BUDGETS = {"esm2": 33_792, "mosaicbert": 67_584, "esmc": 67_584}

_OTHERS = {"transformers": "vnp.inference.hub", "plugin": "vnp.inference.plugin"}


def load_encoder(
    name: str,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    weights_dir: Path | None = None,
    token_budget: int | None = None,
    threads: int | None = None,
    warn: Warn | None = None,
) -> Encoder:
    """Load a model onto a device.

    Parameters
    ----------
    name : str
        What `vnp.models.registry.model` resolves.
    device : str
        ``auto`` (a CUDA device if there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.
    precision : {"auto", "float32", "bfloat16", "float16", "fp8", "int8"}
        Arithmetic of the layers. ``auto`` or ``default``: bfloat16 on CUDA devices from compute
        capability 8.0 and float16 on older ones; on a CPU bfloat16 if it has instructions for it
        (AVX512-BF16 or AMX-BF16) and float32 if not, as for models of `transformers` and plug-ins.
        ``fp8``: matrix products of ESM-2 in fp8, on CUDA devices from compute capability 8.9.
        ``int8``: those of ESM-2 in int8, with scales from a store (``qualify``), on CUDA devices
        from compute capability 8.0. Pooling is always in float32.
    weights_dir : Path, optional
        Folder to look for the model's files in before the Hugging Face cache and hub.
    token_budget : int, optional
        Most tokens in a batch; by default what suits the device.
    threads : int, optional
        Threads of the CPU to use; by default as many as the process may run on.
    warn : callable, optional
        Called with one sentence for each fallback, and when memory runs out. By default the
        sentence is logged as a warning; a worker also records it in the store.

    Raises
    ------
    UsageError
        If the name, the device, the precision or the folder does not exist.
    WeightsNotFoundError, WeightsError
        If the files cannot be had or are not those of the model.
    """
    warn = warn or log.warning
    if precision == "default":
        precision = "auto"
    spec = registry.model(name, weights_dir=weights_dir)
    if token_budget is not None and token_budget < 1:
        raise UsageError(f"a token budget of {token_budget} holds no token")
    if spec.architecture in _OTHERS:  # imported only where such a model is asked for
        other = importlib.import_module(_OTHERS[spec.architecture])
        encoder: Encoder = other.load(
            spec,
            device=device,
            precision=precision,
            weights_dir=weights_dir,
            token_budget=token_budget,
            threads=threads,
            warn=warn,
        )
        return encoder
    if precision in ("fp8", "int8") and spec.architecture != "esm2":
        warn(
            f"{spec.name} has no {precision} form: running it in the precision that suits the "
            "device"
        )
        precision = "auto"
    # A demo model is meant for any machine: no word about the CPU.
    placement = place(
        device, precision=precision, threads=threads, warn=log.debug if spec.demo else warn,
        short_on_cpu=True,
    )  # fmt: skip
    naming = naming_of(spec)
    if spec.demo:
        source = f"the demo model {spec.name}"
        tensors = weights.select(demo.tensors_of(spec, naming), naming, source=source)
        tokenizer_path = demo.tokenizer_file() if spec.architecture == "mosaicbert" else None
        origin, revision = "vnp", spec.revision
    else:
        found = files.locate(spec, weights_dir=weights_dir, warn=warn)
        tensors = weights.read(found.tensors, naming, source=str(found.folder))
        tokenizer_path, origin, revision = found.tokenizer, found.origin, found.revision
    if placement.device.type == "cpu":
        torch.set_num_threads(placement.threads)
    tokenizer = tokenizer_of(spec, tokenizer_path)
    return encoder_of(
        spec,
        tensors,
        tokenizer,
        placement=placement,
        token_budget=token_budget,
        identity={
            "model": spec.name,
            "weights": weights.digest(tensors),
            "tokenizer": tokenizer.identity,
            "pooling": spec.pooling + (f" of layer {spec.layer}" if spec.layer else ""),
            "precision": placement.precision,
        },
        environment={
            "repository": spec.repo or "none",
            "revision": revision,
            "origin": origin,
            "device": placement.device_name,
            "chosen": placement.chosen,
            "threads": str(placement.threads),
            "vnp": vnp.__version__,
            "torch": torch.__version__,
            "tokenizers": tokenizers.__version__,
        },
        warn=warn,
    )


def faster_precisions(name: str, *, device: str) -> tuple[Precision, ...]:
    """Precisions in eight bits that a model can run in on a device, the fastest first.

    Parameters
    ----------
    name, device
        See ``load_encoder``.
    """
    try:
        spec = registry.model(name)
        if spec.architecture != "esm2" or spec.demo or device == "cpu":
            return ()
        placement = place(device, precision="auto", threads=None, warn=log.debug)
    except (UsageError, DataError):  # loading tells what is wrong
        return ()
    if obstacle(placement) is not None:
        return ()
    has_fp8 = torch.cuda.get_device_capability(placement.device) >= (8, 9)
    return ("int8", "fp8") if has_fp8 else ("int8",)


def compared_precisions(name: str, *, device: str) -> tuple[Precision, tuple[Precision, ...]]:
    """Precision that a model's faster ones are held against on a device, and these, fastest first.

    On a GPU that is the usual precision. On a CPU that multiplies bfloat16 it is float32, and
    bfloat16, the usual one there, is what is compared. Without faster ones it is ``auto``.

    Parameters
    ----------
    name, device
        See ``load_encoder``.
    """
    faster = faster_precisions(name, device=device)
    if faster:
        return "bfloat16", faster
    try:
        spec = registry.model(name)
        on_cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    except (UsageError, DataError):  # loading tells what is wrong
        return "auto", ()
    if spec.architecture in _OTHERS or not on_cpu or bfloat16_instructions() is None:
        return "auto", ()
    return "float32", ("bfloat16",)


def naming_of(spec: ModelSpec) -> weights.Naming:
    """Name the tensors that a model's checkpoint must have."""
    namings = {"esm2": esm2.naming, "esmc": esmc.naming, "mosaicbert": mosaicbert.naming}
    return namings[spec.architecture](spec)


def tokenizer_of(spec: ModelSpec, path: Path | None) -> Tokenise:
    """Make a model's tokenizer; without a file it is ESM-2's fixed alphabet."""
    return ResidueTokenizer() if path is None else BpeTokenizer(path, vocab=spec.vocab)


def encoder_of(
    spec: ModelSpec,
    tensors: Mapping[str, Tensor],
    tokenizer: Tokenise,
    *,
    placement: Placement,
    token_budget: int | None,
    identity: dict[str, str],
    environment: dict[str, str],
    warn: Warn,
) -> LoopEncoder:
    """Build the encoder around a model: pipelined on a GPU; in fp8 it can check itself.

    Raises
    ------
    DeviceError
        If fp8 is asked for where its kernels cannot run.
    """
    reason = obstacle(placement)
    if reason is not None:
        if placement.precision in ("fp8", "int8"):
            raise DeviceError(f"{placement.precision} runs in the fused engine alone, and {reason}")
        if placement.device.type == "cuda":
            warn(
                f"{placement.device_name}: {reason}, so {spec.name} runs in plain torch, several "
                "times slower than the fused engine"
            )
        kind: type[LoopEncoder] = EngineEncoder
        ops, word = plain, f"plain torch ({reason})"
        if placement.device.type == "cpu":
            kind = LoopEncoder
            ops, word = cpu_operations(placement)
        return kind(
            spec,
            engine_of(spec, tensors, placement=placement, ops=ops),
            tokenizer,
            placement=placement,
            token_budget=token_budget or placement.token_budget,
            identity=identity,
            environment=environment
            | {
                "engine": word,
                "attention": "sdpa, groups of equal length",
            },
            warn=warn,
        )
    ops = importlib.import_module("vnp.inference.ops.triton")
    token_budget = token_budget or TOKEN_BUDGETS[spec.architecture]

    def at(placement: Placement) -> EngineEncoder:
        fused, word = fused_products(spec, placement, warn=warn)
        settings: Settings = {
            "placement": placement,
            "token_budget": token_budget,
            "identity": dict(identity),
            "environment": environment | {"engine": f"fused, {ops.name} {ops.version}, {word}"},
            "warn": warn,
        }
        if placement.precision != "int8":
            engine = engine_of(spec, tensors, placement=placement, ops=ops, fused=fused)
            return EngineEncoder(spec, engine, tokenizer, **settings)
        return Int8Encoder(
            spec,
            tokenizer,
            build=lambda found: engine_of(
                spec, tensors, placement=placement, ops=ops, fused=fused, calibration=found
            ),
            measure=lambda tokens: calibrate(
                spec, tensors, tokens, placement=placement, ops=ops, token_budget=token_budget
            ),
            **settings,
        )

    encoder = at(placement)
    if placement.precision in ("fp8", "int8"):
        encoder.reference = lambda: at(replace(placement, precision="bfloat16"))
    return encoder


def engine_of(
    spec: ModelSpec,
    tensors: Mapping[str, Tensor],
    *,
    placement: Placement,
    ops: ModuleType,
    fused: ModuleType | None = None,
    calibration: Calibration | None = None,
) -> Engine:
    """Build a model on its device; in int8 with the scales of a calibration."""
    device, dtype = placement.device, placement.dtype
    if spec.architecture == "esm2":
        fp8 = placement.precision == "fp8"
        return esm2.Esm2Engine(
            spec, tensors, device=device, dtype=dtype, fp8=fp8, ops=ops, fused=fused,
            calibration=calibration,
        )  # fmt: skip
    if spec.architecture == "esmc":
        return esmc.EsmcEngine(spec, tensors, device=device, dtype=dtype, ops=ops, fused=fused)
    return mosaicbert.MosaicBertEngine(spec, tensors, device=device, dtype=dtype, ops=ops)


def obstacle(placement: Placement) -> str | None:
    """Why the kernels cannot run on a device, or None if they can."""
    if placement.device.type != "cuda":
        return "no CUDA device"
    if placement.precision == "float32":
        return "float32 asks for plain arithmetic"
    major, minor = torch.cuda.get_device_capability(placement.device)
    if (major, minor) < _LEAST_CAPABILITY:
        return (
            f"compute capability {major}.{minor} is below {'.'.join(map(str, _LEAST_CAPABILITY))}"
        )
    trouble = why_not("triton")
    return None if trouble is None else f"Triton {trouble}"


def cpu_operations(placement: Placement) -> tuple[ModuleType, str]:
    """What a CPU computes with, and why, in words."""
    reason = cpu.obstacle(placement.dtype)
    if reason is not None:
        return plain, f"plain torch ({reason})"
    return cpu, f"{cpu.name}, weights packed"


def fused_products(
    spec: ModelSpec, placement: Placement, *, warn: Warn
) -> tuple[ModuleType | None, str]:
    """Matrix products fused with the operations that follow them, or None; and why, in words.

    They are for ESM-2 and ESM-C on Hopper. The language that they are written in is young, so they
    are tested before they are used.
    """
    major, minor = torch.cuda.get_device_capability(placement.device)
    gated = spec.architecture == "esmc"
    narrow = {"fp8": torch.float8_e4m3fn, "int8": torch.int8}.get(placement.precision)
    instead = "products by Triton" if narrow == torch.int8 else "products by cuBLAS"
    if spec.architecture not in ("esm2", "esmc") or placement.dtype != torch.bfloat16:
        return None, instead
    if major != _FUSED_CAPABILITY:
        return None, f"{instead} (no kernels for compute capability {major}.{minor})"
    try:
        hopper = importlib.import_module("vnp.inference.ops.hopper")
        if not (
            (hopper.fits_gated if gated else hopper.fits)(
                spec.dim, spec.ffn, head=spec.dim // spec.heads, dtype=narrow or torch.bfloat16
            )
        ):
            return None, f"{instead} (no kernels for these widths)"
        log.info("%s: testing the Hopper kernels; compiling them takes half a minute", spec.name)
        with torch.cuda.device(placement.device):  # Triton launches on the current one
            check_products(hopper, placement.device, narrow=narrow, gated=gated)
    except Exception as error:  # noqa: BLE001  a compiler may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        warn(f"the products for Hopper do not work here ({reason}): slower ones take their place")
        return None, f"{instead} ({reason})"
    return hopper, "products fused"
