"""From a model's name to an encoder: which operations, in which precision, on which device.

Every fallback is reported through ``warn`` and recorded in the provenance's environment.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import tokenizers
import torch
from torch import Tensor

import vnp
from store.errors import UsageError
from store.io.optional import why_not
from vnp.inference import esm2, esmc, mosaicbert, remembered
from vnp.inference.device import Placement, place
from vnp.inference.encoder import Encoder, Precision, Warn
from vnp.inference.loop import Engine, LoopEncoder
from vnp.inference.ops import torch as plain
from vnp.inference.pipeline import EngineEncoder
from vnp.inference.selftest import check_products
from vnp.inference.upload import Upload
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
    precision : {"auto", "float32", "bfloat16", "float16", "fp8"}
        Arithmetic of the layers. ``auto``: float32 on the CPU, bfloat16 on CUDA devices from
        compute capability 8.0, float16 on older ones. ``fp8``: matrix products of ESM-2 in fp8, on
        CUDA devices from compute capability 8.9. Pooling is always in float32.
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
    if precision == "fp8" and spec.architecture != "esm2":
        warn(f"{spec.name} has no fp8 form: running it in the precision that suits the device")
        precision = "auto"
    # A demo model is meant for any machine: no word about the CPU.
    placement = place(
        device, precision=precision, threads=threads, warn=log.debug if spec.demo else warn
    )
    stage = _Stages(spec.name)
    naming = naming_of(spec)
    if spec.demo:
        source = f"the demo model {spec.name}"
        tensors = weights.select(demo.tensors_of(spec, naming), naming, source=source)
        tokenizer_path = demo.tokenizer_file() if spec.architecture == "mosaicbert" else None
        origin, revision = "vnp", spec.revision
    else:
        found = files.locate(spec, weights_dir=weights_dir, warn=warn)
        stage("finding the files")
        tensors = weights.read(found.tensors, naming, source=str(found.folder))
        tokenizer_path, origin, revision = found.tokenizer, found.origin, found.revision
    stage("opening the weights")
    if placement.device.type == "cpu":
        torch.set_num_threads(placement.threads)
    tokenizer = tokenizer_of(spec, tokenizer_path)
    stage("the tokenizer")
    identity = {
        "model": spec.name,
        "tokenizer": tokenizer.identity,
        "pooling": spec.pooling + (f" of layer {spec.layer}" if spec.layer else ""),
        "precision": placement.precision,
    }
    with ThreadPoolExecutor(1) as pool:
        digest = pool.submit(weights.digest, tensors)  # while they are on their way to the device
        made = encoder_of(
            spec,
            tensors,
            tokenizer,
            placement=placement,
            token_budget=token_budget,
            identity=identity,
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
        stage("testing the kernels, weights to the device")
        made.identify_by(weights=digest.result())
    stage("the rest of hashing the weights")
    return made


class _Stages:
    """Says, with ``--verbose``, how long each stage of loading a model took."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._since = time.monotonic()

    def __call__(self, what: str) -> None:
        """Say that a stage ended."""
        now = time.monotonic()
        log.debug("%s: %s took %.2f s", self._name, what, now - self._since)
        self._since = now


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
        if placement.precision == "fp8":
            raise DeviceError(f"fp8 runs in the fused engine alone, and {reason}")
        if placement.device.type == "cuda":
            warn(
                f"{placement.device_name}: {reason}, so {spec.name} runs in plain torch, several "
                "times slower than the fused engine"
            )
        kind = LoopEncoder if placement.device.type == "cpu" else EngineEncoder
        return kind(
            spec,
            engine_of(spec, tensors, placement=placement, ops=plain),
            tokenizer,
            placement=placement,
            token_budget=token_budget or placement.token_budget,
            identity=identity,
            environment=environment
            | {
                "engine": f"plain torch ({reason})",
                "attention": "sdpa, groups of equal length",
            },
            warn=warn,
        )
    ops = importlib.import_module("vnp.inference.ops.triton")

    def at(placement: Placement) -> EngineEncoder:
        fused, word = fused_products(spec, placement, warn=warn)
        return EngineEncoder(
            spec,
            engine_of(spec, tensors, placement=placement, ops=ops, fused=fused),
            tokenizer,
            placement=placement,
            token_budget=token_budget or TOKEN_BUDGETS[spec.architecture],
            spans=True,
            identity=identity,
            environment=environment | {"engine": f"fused, {ops.name} {ops.version}, {word}"},
            warn=warn,
        )

    encoder = at(placement)
    if placement.precision == "fp8":
        encoder.reference = lambda: at(replace(placement, precision="bfloat16"))
    return encoder


def engine_of(
    spec: ModelSpec,
    tensors: Mapping[str, Tensor],
    *,
    placement: Placement,
    ops: ModuleType,
    fused: ModuleType | None = None,
) -> Engine:
    """Build a model on its device."""
    if placement.device.type == "cuda":
        with Upload(tensors, placement.device) as placed:
            return _built(spec, placed, placement=placement, ops=ops, fused=fused)
    return _built(spec, tensors, placement=placement, ops=ops, fused=fused)


def _built(
    spec: ModelSpec,
    tensors: Mapping[str, Tensor],
    *,
    placement: Placement,
    ops: ModuleType,
    fused: ModuleType | None,
) -> Engine:
    device, dtype = placement.device, placement.dtype
    if spec.architecture == "esm2":
        fp8 = placement.precision == "fp8"
        return esm2.Esm2Engine(
            spec, tensors, device=device, dtype=dtype, fp8=fp8, ops=ops, fused=fused
        )
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


def fused_products(
    spec: ModelSpec, placement: Placement, *, warn: Warn
) -> tuple[ModuleType | None, str]:
    """Matrix products fused with the operations that follow them, or None; and why, in words.

    They are for ESM-2 and ESM-C on Hopper. The language that they are written in is young, so they
    are tested before they are used.
    """
    major, minor = torch.cuda.get_device_capability(placement.device)
    gated = spec.architecture == "esmc"
    if spec.architecture not in ("esm2", "esmc") or placement.dtype != torch.bfloat16:
        return None, "products by cuBLAS"
    if major != _FUSED_CAPABILITY:
        return None, f"products by cuBLAS (no kernels for compute capability {major}.{minor})"
    fp8 = placement.precision == "fp8"
    try:
        hopper = importlib.import_module("vnp.inference.ops.hopper")
        dtype = torch.float8_e4m3fn if fp8 else torch.bfloat16
        if not (
            (hopper.fits_gated if gated else hopper.fits)(
                spec.dim, spec.ffn, head=spec.dim // spec.heads, dtype=dtype
            )
        ):
            return None, "products by cuBLAS (no kernels for these widths)"
        facts = _facts(placement.device_name, fp8=fp8, gated=gated)
        if remembered.was_passed(facts):
            log.debug("%s: the Hopper kernels were tested on such a machine before", spec.name)
            return hopper, "products fused"
        log.info("%s: testing the Hopper kernels; compiling them takes half a minute", spec.name)
        with torch.cuda.device(placement.device):  # Triton launches on the current one
            check_products(hopper, placement.device, fp8=fp8, gated=gated)
        remembered.note_passed(facts)
    except Exception as error:  # noqa: BLE001  a compiler may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        warn(f"the products for Hopper do not work here ({reason}): slower ones take their place")
        return None, f"products by cuBLAS ({reason})"
    return hopper, "products fused"


def retest(device: torch.device) -> bool:
    """Test the kernels of a device, whether or not that was done before; False if it has none.

    A test that fails raises what `fused_products` would have warned of.
    """
    if torch.cuda.get_device_capability(device)[0] != _FUSED_CAPABILITY or why_not("triton"):
        return False
    hopper = importlib.import_module("vnp.inference.ops.hopper")
    for fp8, gated in ((False, False), (False, True), (True, False)):
        with torch.cuda.device(device):
            check_products(hopper, device, fp8=fp8, gated=gated)
        name = torch.cuda.get_device_name(device)
        remembered.note_passed(_facts(name, fp8=fp8, gated=gated))
    return True


def _facts(gpu: str, *, fp8: bool, gated: bool) -> remembered.Facts:
    what = f"products in {'fp8' if fp8 else 'bfloat16'}{', gated' if gated else ''}"
    return remembered.facts_of(gpu, what=what)
