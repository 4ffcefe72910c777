"""From a checkpoint's tensors to the engine that runs them, or why it cannot run here."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType

import torch
from torch import Tensor

from vnp.inference.device import Placement
from vnp.inference.encoder import Warn
from vnp.inference.esm2 import Esm2Engine
from vnp.inference.mosaicbert import MosaicBertEngine
from vnp.inference.pipeline import Engine, EngineEncoder
from vnp.inference.plain_esm2 import Esm2Config
from vnp.inference.plain_mosaicbert import MosaicBertConfig
from vnp.inference.selftest import try_products
from vnp.models.registry import ModelSpec
from vnp.models.tokens import Tokenise

_LEAST_CAPABILITY = (8, 0)  # what Triton's matrix instructions are tested on

_FUSED_CAPABILITY = 9  # Hopper, whose instructions `hopper` is written for

# Tokens in a batch: enough to fill the chip's products, small enough to leave room. On an H100 the
# tiles of 256 times 132 rows fill its 132 multiprocessors a whole number of times.
TOKEN_BUDGETS = {"esm2": 33_792, "mosaicbert": 67_584}


def obstacle(placement: Placement) -> str | None:
    """Why the engine cannot run on a device, or None if it can."""
    if placement.device.type != "cuda":
        return "no CUDA device"
    if placement.precision == "float32":
        return "float32 asks for plain arithmetic"
    major, minor = torch.cuda.get_device_capability(placement.device)
    if (major, minor) < _LEAST_CAPABILITY:
        return (
            f"compute capability {major}.{minor} is below {'.'.join(map(str, _LEAST_CAPABILITY))}"
        )
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    return None


def kernels() -> ModuleType:
    """The fused operations in Triton; imported only where it is there."""
    return importlib.import_module("vnp.inference.ops.triton")


def fused_products(
    spec: ModelSpec, placement: Placement, *, warn: Warn, say: Warn
) -> tuple[ModuleType | None, str]:
    """Products that do what follows them, or None; and either way a word on it.

    They are for ESM-2 on Hopper. The language that they are written in is young, so they are tried
    before they are used.
    """
    major, minor = torch.cuda.get_device_capability(placement.device)
    if spec.architecture != "esm2" or placement.dtype != torch.bfloat16:
        return None, "products by cuBLAS"
    if major != _FUSED_CAPABILITY:
        return None, f"products by cuBLAS (no kernels for compute capability {major}.{minor})"
    fp8 = placement.precision == "fp8"
    try:
        hopper = importlib.import_module("vnp.inference.ops.hopper")
        dtype = torch.float8_e4m3fn if fp8 else torch.bfloat16
        if not hopper.fits(spec.dim, spec.ffn, head=spec.dim // spec.heads, dtype=dtype):
            return None, "products by cuBLAS (no kernels for these widths)"
        say(f"{spec.name}: trying the products for Hopper; compiled anew they take half a minute")
        with torch.cuda.device(placement.device):  # Triton launches on the current one
            try_products(hopper, placement.device, fp8=fp8)
    except Exception as error:  # noqa: BLE001  whatever a compiler may raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        warn(f"the products for Hopper do not work here ({reason}): slower ones take their place")
        return None, f"products by cuBLAS ({reason})"
    return hopper, "products fused"


def engine_of(
    spec: ModelSpec,
    tensors: Mapping[str, Tensor],
    *,
    placement: Placement,
    ops: ModuleType,
    fused: ModuleType | None = None,
) -> Engine:
    """Build the engine of a model on its device."""
    device, dtype = placement.device, placement.dtype
    if spec.architecture == "esm2":
        return Esm2Engine(
            Esm2Config.of(spec),
            tensors,
            device=device,
            dtype=dtype,
            fp8=placement.precision == "fp8",
            ops=ops,
            fused=fused,
        )
    return MosaicBertEngine(MosaicBertConfig.of(spec), tensors, device=device, dtype=dtype, ops=ops)


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
    say: Warn,
) -> EngineEncoder:
    """Build the encoder around the engine of a model; in fp8 it can check itself."""
    ops = kernels()

    def at(placement: Placement) -> EngineEncoder:
        fused, word = fused_products(spec, placement, warn=warn, say=say)
        return EngineEncoder(
            spec,
            engine_of(spec, tensors, placement=placement, ops=ops, fused=fused),
            tokenizer,
            placement=placement,
            token_budget=token_budget or TOKEN_BUDGETS[spec.architecture],
            identity=identity,
            environment=environment | {"engine": f"fused, {ops.name} {ops.version}, {word}"},
            warn=warn,
        )

    encoder = at(placement)
    if placement.precision == "fp8":
        encoder.reference = lambda: at(replace(placement, precision="bfloat16"))
    return encoder
