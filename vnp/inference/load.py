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
from typing import Unpack

import tokenizers
import torch
from torch import Tensor

import vnp
from store.errors import DataError, UsageError
from vnp.inference import esm2, esmc, kernels, mosaicbert
from vnp.inference.calibrate import calibrate
from vnp.inference.calibrated import Int8Encoder
from vnp.inference.calibration import Calibration
from vnp.inference.device import Placement, bfloat16_instructions, place
from vnp.inference.encoder import Encoder, Precision, Warn
from vnp.inference.loop import Engine, LoopEncoder, Settings
from vnp.inference.ops import torch as plain
from vnp.inference.pipeline import EngineEncoder
from vnp.inference.upload import Upload
from vnp.models import demo, files, registry, weights
from vnp.models.errors import DeviceError
from vnp.models.spec import ModelSpec
from vnp.models.tokens import BpeTokenizer, ResidueTokenizer, Tokenise

log = logging.getLogger(__name__)

_SDPA = "sdpa, groups of equal length"

# Tokens in a batch: enough to fill the chip's products, small enough to leave room. On an H100
# tiles of 256 times 132 rows fill its multiprocessors with nothing left over.
_TOKENS = {"esm2": 67_584, "mosaicbert": 135_168, "esmc": 67_584}
_TOKENS_OF_WIDE_ESM2, _WIDE = 33_792, 2048  # a batch of 3B takes 0.3 s on an H200

_OTHERS = {"transformers": "vnp.inference.hub", "plugin": "vnp.inference.plugin"}


def usual_tokens(spec: ModelSpec) -> int:
    """Tokens in a batch on a GPU, where nobody says."""
    if spec.architecture == "esm2" and spec.dim >= _WIDE:
        return _TOKENS_OF_WIDE_ESM2
    return _TOKENS[spec.architecture]


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


def compared_precisions(name: str, *, device: str) -> tuple[Precision, tuple[Precision, ...]]:
    """Precision that a model's faster ones are held against on a device, and these, fastest first.

    On a GPU that is the usual precision. On a CPU that multiplies bfloat16 it is float32, and
    bfloat16, the usual one there, is what is compared. Without faster ones it is ``auto``.

    Parameters
    ----------
    name, device
        See ``load_encoder``.
    """
    faster = kernels.faster_precisions(name, device=device)
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
    if placement.device.type == "cpu":
        return _on_cpu(
            spec, tensors, tokenizer, placement=placement,
            token_budget=token_budget or placement.token_budget, identity=identity,
            environment=environment, warn=warn,
        )  # fmt: skip
    reason = kernels.obstacle(placement)
    if reason is not None:
        if placement.precision in ("fp8", "int8"):
            raise DeviceError(f"{placement.precision} runs in the fused engine alone, and {reason}")
        warn(
            f"{placement.device_name}: {reason}, so {spec.name} runs in plain torch, several "
            "times slower than the fused engine"
        )
        return EngineEncoder(
            spec,
            engine_of(spec, tensors, placement=placement, ops=plain),
            tokenizer,
            placement=placement,
            token_budget=token_budget or placement.token_budget,
            identity=identity,
            environment=environment
            | {
                "engine": f"plain torch ({reason})",
                "attention": _SDPA,
            },
            warn=warn,
        )
    ops = importlib.import_module("vnp.inference.ops.triton")
    kernels.hash_compiler()
    token_budget = token_budget or usual_tokens(spec)

    def at(placement: Placement) -> EngineEncoder:
        fused, word = kernels.hopper_kernels(spec, placement, warn=warn)
        settings: Settings = {
            "placement": placement,
            "token_budget": token_budget,
            "identity": dict(identity),
            "environment": environment | {"engine": f"fused, {ops.name} {ops.version}, {word}"},
            "warn": warn,
        }
        if placement.precision != "int8":
            engine = engine_of(spec, tensors, placement=placement, ops=ops, fused=fused)
            return EngineEncoder(spec, engine, tokenizer, spans=True, **settings)
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


def _on_cpu(
    spec: ModelSpec,
    tensors: Mapping[str, Tensor],
    tokenizer: Tokenise,
    **settings: Unpack[Settings],
) -> LoopEncoder:
    """Build the encoder of a CPU; in int8 it can check itself."""
    placement = settings["placement"]
    ops, word = kernels.cpu_operations(placement)
    if placement.precision != "int8":
        settings["environment"] = settings["environment"] | {"engine": word, "attention": _SDPA}
        engine = engine_of(spec, tensors, placement=placement, ops=ops)
        return LoopEncoder(spec, engine, tokenizer, **settings)
    integers, trouble = kernels.cpu_int8(ops)
    if integers is None:
        raise DeviceError(
            f"{placement.device_name} cannot compute int8: {trouble}. A store that "
            "was begun in int8 needs it; for another ask for bfloat16 or float32"
        )
    settings["environment"] = settings["environment"] | {
        "engine": f"{word}, integers by VNNI", "attention": _SDPA
    }  # fmt: skip
    reference = settings | {"placement": replace(placement, precision="bfloat16")}
    settings["identity"] = dict(settings["identity"])
    encoder = Int8Encoder(
        spec,
        tokenizer,
        build=lambda found: engine_of(
            spec, tensors, placement=placement, ops=ops, fused=integers, calibration=found
        ),
        measure=lambda tokens: calibrate(
            spec, tensors, tokens, placement=placement, ops=plain,
            token_budget=settings["token_budget"],
        ),
        **settings,
    )  # fmt: skip
    encoder.reference = lambda: _on_cpu(spec, tensors, tokenizer, **reference)
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
    if placement.device.type == "cuda":
        with Upload(tensors, placement.device) as placed:
            return _built(spec, placed, placement, ops, fused, calibration)
    return _built(spec, tensors, placement, ops, fused, calibration)


def _built(
    spec: ModelSpec,
    tensors: Mapping[str, Tensor],
    placement: Placement,
    ops: ModuleType,
    fused: ModuleType | None,
    calibration: Calibration | None,
) -> Engine:
    device, dtype = placement.device, placement.dtype
    if spec.architecture == "esm2":
        fp8 = placement.precision == "fp8"
        return esm2.Esm2Engine(
            spec, tensors, device=device, dtype=dtype, fp8=fp8, ops=ops, fused=fused,
            calibration=calibration,
        )  # fmt: skip
    engine = esmc.EsmcEngine if spec.architecture == "esmc" else mosaicbert.MosaicBertEngine
    return engine(spec, tensors, device=device, dtype=dtype, ops=ops, fused=fused)
