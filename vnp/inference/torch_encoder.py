"""The plain encoder: one batch after the other, on any device that torch has.

It is exact and simple, and the measure of any faster one behind the same interface.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray
from torch import Tensor

import vnp
from store.errors import UsageError
from store.io.ragged import Ragged
from vnp.inference import build
from vnp.inference import plain_esm2 as esm2
from vnp.inference import plain_mosaicbert as mosaicbert
from vnp.inference.device import Placement, is_out_of_memory, place
from vnp.inference.encoder import Between, Encoder, Precision, Provenance, Warn
from vnp.inference.plain_attention import Layout, layout_of
from vnp.inference.pooling import pool
from vnp.models import demo, files, weights
from vnp.models.errors import DeviceError, RecordTooLongError
from vnp.models.packing import Batch, plan
from vnp.models.registry import ModelSpec
from vnp.models.tokens import BpeTokenizer, ResidueTokenizer, Tokenise, Tokens


class Forward(Protocol):
    """A module that encodes packed tokens."""

    def __call__(self, ids_T: Tensor, layout: Layout) -> Tensor:
        """Return hidden states x_TD."""
        ...


class _BatchTooLargeError(Exception):
    """A batch ran out of memory."""

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.batch = batch


class TorchEncoder:
    """An encoder (see ``vnp.inference.encoder.Encoder``) that runs a torch module."""

    def __init__(
        self,
        spec: ModelSpec,
        module: Forward,
        tokenizer: Tokenise,
        *,
        placement: Placement,
        token_budget: int,
        identity: dict[str, str],
        environment: dict[str, str],
        warn: Warn,
    ) -> None:
        self.spec = spec
        self.token_budget = token_budget
        self._module = module
        self._tokenizer = tokenizer
        self._placement = placement
        self._identity = identity
        self._environment = environment
        self._warn = warn

    @property
    def dim(self) -> int:
        """Numbers in an embedding."""
        return self.spec.dim

    def provenance(self) -> Provenance:
        """Say what makes the embeddings, as of now."""
        return Provenance(
            identity=dict(self._identity),
            environment=self._environment | {"token_budget": str(self.token_budget)},
        )

    def tokenise(self, nucleotide: Ragged, protein: Ragged) -> Tokens:
        """Tokenise the column that the model reads."""
        return self._tokenizer(protein if self.spec.input == "protein" else nucleotide)

    def embed(self, tokens: Tokens, *, between: Between | None = None) -> NDArray[np.float32]:
        """Embed records; see ``vnp.inference.encoder.Encoder.embed``."""
        while True:
            try:
                return self._embed(tokens, between)
            except _BatchTooLargeError as error:
                batch = error.batch
            # Out of the except clause, where the failed attempt's tensors are gone.
            if len(batch.records) == 1:
                raise RecordTooLongError(
                    f"record {int(batch.records[0]) + 1} of {len(tokens)} has {batch.tokens} "
                    f"tokens, and {self.spec.name} in {self._placement.precision} needs more "
                    f"memory for it than {self._placement.device_name} has free; run it on a "
                    "device with more memory or on the CPU"
                )
            # The whole call starts again, so that its rows depend on one budget and not on how far
            # the first attempt came.
            self.token_budget = max(1, min(self.token_budget, batch.tokens) // 2)
            self._warn(
                f"{self._placement.device_name} ran out of memory on a batch of {batch.tokens} "
                f"tokens: {self.spec.name} goes on with {self.token_budget} tokens a batch"
            )
            if self._placement.device.type == "cuda":
                torch.cuda.empty_cache()

    @torch.inference_mode()
    def _embed(self, tokens: Tokens, between: Between | None) -> NDArray[np.float32]:
        device = self._placement.device
        out = torch.empty((len(tokens), self.dim), dtype=torch.float32, device=device)
        done = 0
        for batch in plan(tokens.lengths, token_budget=self.token_budget):
            ids = torch.from_numpy(tokens.gather(batch.records))
            try:
                layout = layout_of(batch, device=device)
                x_TD = self._module(ids.to(device), layout)
                rows = pool(x_TD, layout, self.spec.pooling)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                raise _BatchTooLargeError(batch) from None
            out[torch.from_numpy(batch.records).to(device)] = rows
            done += len(batch.records)
            if between is not None:
                between(done)
        return out.cpu().numpy()


def load(
    spec: ModelSpec,
    *,
    device: str,
    precision: Precision,
    weights_dir: Path | None,
    token_budget: int | None,
    threads: int | None,
    warn: Warn,
    say: Warn,
) -> Encoder:
    """Load a model; see ``vnp.inference.encoder.load_encoder``."""
    if token_budget is not None and token_budget < 1:
        raise UsageError(f"a token budget of {token_budget} holds no token")
    if precision == "fp8" and spec.architecture != "esm2":
        warn(f"{spec.name} has no fp8 form: running it in the precision that suits the device")
        precision = "auto"
    # A demo model is meant for any machine: no word about the CPU.
    placement = place(
        device, precision=precision, threads=threads, warn=_silent if spec.demo else warn
    )
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
    identity = {
        "model": spec.name,
        "weights": weights.digest(tensors),
        "tokenizer": tokenizer.identity,
        "pooling": spec.pooling,
        "precision": placement.precision,
    }
    environment = {
        "repository": spec.repo or "none",
        "revision": revision,
        "origin": origin,
        "device": placement.device_name,
        "chosen": placement.chosen,
        "threads": str(placement.threads),
        "vnp": vnp.__version__,
        "torch": torch.__version__,
        "tokenizers": tokenizers.__version__,
    }
    obstacle = build.obstacle(placement)
    if obstacle is None:
        return build.encoder_of(
            spec,
            tensors,
            tokenizer,
            placement=placement,
            token_budget=token_budget,
            identity=identity,
            environment=environment,
            warn=warn,
            say=say,
        )
    if placement.precision == "fp8":
        raise DeviceError(f"fp8 runs in the fused engine alone, and {obstacle}")
    if placement.device.type == "cuda":
        warn(
            f"{placement.device_name}: {obstacle}, so {spec.name} runs in plain torch, several "
            "times slower than the fused engine"
        )
    module = module_of(spec, tensors, placement=placement)
    return TorchEncoder(
        spec,
        module,
        tokenizer,
        placement=placement,
        token_budget=placement.token_budget if token_budget is None else token_budget,
        identity=identity,
        environment=environment
        | {
            "engine": f"plain torch ({obstacle})",
            "attention": str(getattr(module.attention, "name", "custom")),
        },
        warn=warn,
    )


def naming_of(spec: ModelSpec) -> weights.Naming:
    """Name the tensors that a model's checkpoint must have."""
    if spec.architecture == "esm2":
        return esm2.naming(esm2.Esm2Config.of(spec))
    return mosaicbert.naming(mosaicbert.MosaicBertConfig.of(spec))


def module_of(
    spec: ModelSpec, tensors: dict[str, Tensor], *, placement: Placement
) -> esm2.Esm2 | mosaicbert.MosaicBert:
    """Build a model's module on its device."""
    device, dtype = placement.device, placement.dtype
    if spec.architecture == "esm2":
        shapes = esm2.Esm2Config.of(spec)
        return esm2.Esm2.load(shapes, tensors, device=device, dtype=dtype)
    return mosaicbert.MosaicBert.load(
        mosaicbert.MosaicBertConfig.of(spec), tensors, device=device, dtype=dtype
    )


def tokenizer_of(spec: ModelSpec, path: Path | None) -> Tokenise:
    """Make a model's tokenizer; without a file it is ESM-2's fixed alphabet."""
    return ResidueTokenizer() if path is None else BpeTokenizer(path, vocab=spec.vocab)


def _silent(_message: str) -> None:
    """Say nothing."""
