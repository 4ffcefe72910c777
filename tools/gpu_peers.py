"""What the GPU benchmarks share: records of three kinds, transformers' model, ours, and a clock."""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vnp.inference import load
from vnp.inference.calibrated import Int8Encoder
from vnp.inference.device import place
from vnp.inference.pipeline import EngineEncoder
from vnp.models.spec import ModelSpec
from vnp.models.tokens import ResidueTokenizer, Tokens

WARM_UP, TIMED = 0.8, 1.5  # seconds
DEVICE = torch.device("cuda")


@dataclass(frozen=True, slots=True)
class Workload:
    """Records of one kind."""

    name: str
    lengths: NDArray[np.int64]  # tokens of each record


def workloads(tokens: int) -> tuple[Workload, ...]:
    """500-bp frames, 150-bp reads and proteins with a median of 300 residues."""
    generator = np.random.default_rng(1)
    proteins = np.clip(generator.lognormal(math.log(300), 0.6, tokens // 350), 30, 1022) + 2
    return (
        Workload("frames (166 aa)", np.full(tokens // 168, 168)),
        Workload("reads (50 aa)", np.full(tokens // 52, 52)),
        Workload("proteins (median 300 aa)", proteins.astype(np.int64)),
    )


def tokens_of(lengths: NDArray[np.int64], *, low: int, high: int, seed: int = 0) -> Tokens:
    """Random records of given lengths."""
    ids = np.random.default_rng(seed).integers(low, high, int(lengths.sum())).astype(np.int32)
    ends = np.cumsum(lengths)
    ids[ends - lengths], ids[ends - 1] = 0, 2
    return Tokens(ids, lengths)


def timed(call: Callable[[], object], *, warm_up: float = WARM_UP, least: float = TIMED) -> float:
    """Seconds of one call, over as many as fill the time."""
    began = time.perf_counter()
    while time.perf_counter() - began < warm_up:
        call()
        torch.cuda.synchronize()
    calls = 0
    began = time.perf_counter()
    while time.perf_counter() - began < least:
        call()
        torch.cuda.synchronize()
        calls += 1
    return (time.perf_counter() - began) / calls


class Peer:
    """transformers' EsmModel, or EsmcModel, on the same weights."""

    def __init__(self, spec: ModelSpec, tensors: dict[str, Tensor], *, dtype: torch.dtype) -> None:
        if spec.architecture == "esmc":
            self._make_esmc(spec, tensors, dtype=dtype)
            return
        config = transformers.EsmConfig(
            vocab_size=spec.vocab,
            mask_token_id=32,
            pad_token_id=1,
            hidden_size=spec.dim,
            num_hidden_layers=spec.layers,
            num_attention_heads=spec.heads,
            intermediate_size=spec.ffn,
            position_embedding_type="rotary",
            token_dropout=True,
            emb_layer_norm_before=False,
            layer_norm_eps=1e-5,
            attn_implementation="sdpa",
        )
        default = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        with DEVICE:
            self.model = transformers.EsmModel(config, add_pooling_layer=False).eval()
        torch.set_default_dtype(default)
        missing, unexpected = self.model.load_state_dict(tensors, strict=False)
        assert not unexpected, unexpected
        assert all("inv_freq" in name or "contact_head" in name for name in missing), missing

    def _make_esmc(
        self, spec: ModelSpec, tensors: dict[str, Tensor], *, dtype: torch.dtype
    ) -> None:
        config = transformers.EsmcConfig(
            vocab_size=spec.vocab,
            hidden_size=spec.dim,
            intermediate_size=spec.ffn,
            num_hidden_layers=spec.layers,
            num_attention_heads=spec.heads,
            attn_implementation="sdpa",
        )
        default = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        with DEVICE:
            self.model = transformers.EsmcModel(config).eval()
        torch.set_default_dtype(default)
        missing, unexpected = self.model.load_state_dict(tensors, strict=False)
        assert not unexpected, unexpected
        assert not missing, missing

    def batches(
        self, tokens: Tokens, size: int
    ) -> Iterator[tuple[Tensor, Tensor | None, list[int]]]:
        """Records in order of length, padded: ids, mask (None if all are equal), numbers."""
        order = np.argsort(tokens.lengths, kind="stable")
        for start in range(0, len(order), size):
            records = order[start : start + size]
            lengths = tokens.lengths[records]
            longest = int(lengths.max())
            inside = np.arange(longest) < lengths[:, None]
            ids = np.ones((len(records), longest), dtype=np.int64)
            ids[inside] = tokens.collect(records)
            mask = None if inside.all() else torch.from_numpy(inside).to(DEVICE).long()
            yield torch.from_numpy(ids).to(DEVICE), mask, records.tolist()

    @torch.inference_mode()
    def rate(self, tokens: Tokens, size: int) -> float:
        """Tokens a second of the forward pass."""
        batches = list(self.batches(tokens, size))

        def call() -> None:
            for ids, mask, _ in batches:
                self.model(input_ids=ids, attention_mask=mask)

        return float(tokens.lengths.sum()) / timed(call)

    @torch.inference_mode()
    def rows(self, tokens: Tokens, size: int = 16) -> NDArray[np.float32]:
        """Mean over residues of each record."""
        out = np.empty((len(tokens), self.model.config.hidden_size), dtype=np.float32)
        for ids, mask, records in self.batches(tokens, size):
            states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            for state, record in zip(states, records, strict=True):
                out[record] = state[1 : tokens.lengths[record] - 1].float().mean(0).cpu().numpy()
        return out


def ours(spec: ModelSpec, tensors: dict[str, Tensor], precision: str) -> EngineEncoder:
    """Our encoder on the same weights; in int8 calibrated on records of the same kinds."""
    placement = place("cuda", precision=precision, threads=None, warn=print)  # type: ignore[arg-type]
    encoder = load.encoder_of(
        spec,
        tensors,
        ResidueTokenizer(),
        placement=placement,
        token_budget=None,
        identity={},
        environment={},
        warn=print,
    )
    if isinstance(encoder, Int8Encoder):
        lengths = np.concatenate([load.lengths[:128] for load in workloads(100_000)])
        encoder.calibrate(encoder.measure(tokens_of(lengths, low=4, high=24, seed=1)))
    return encoder


def clear() -> None:
    """Free what is no longer used and reset the count of peak memory."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def peak() -> float:
    """Most memory of tensors since ``clear``, in GiB."""
    return torch.cuda.max_memory_allocated() / 2**30
