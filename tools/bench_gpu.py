"""Measure the engine on one GPU, beside the chip's limit and beside transformers.

``python tools/bench_gpu.py [--quick] [--json FILE]``

Random weights of the published shapes (``random_checkpoint``), made on the device. In one run:

- ceiling: the four matrix products of every layer alone, all layers' weights in turn, by cuBLAS;
- transformers: EsmModel in bfloat16 with SDPA, records sorted and padded, forward pass alone, best
  of several batch sizes;
- ours: ``EngineEncoder.embed`` from token ids on the host to pooled rows on the host.

Everything runs for a second before it is timed, as a chip at its power limit slows down.
A rate counts the tokens of records, special tokens included and padding not. The first call of ours
compiles its kernels; that time is told apart.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import transformers
import triton
from numpy.typing import NDArray
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from random_checkpoint import random_tensors  # noqa: E402

from vnp.engine import build  # noqa: E402
from vnp.engine.pipeline import EngineEncoder  # noqa: E402
from vnp.engine.products import FP8  # noqa: E402
from vnp.engine.quality import compare  # noqa: E402
from vnp.models import registry  # noqa: E402
from vnp.models.device import place  # noqa: E402
from vnp.models.registry import ModelSpec  # noqa: E402
from vnp.models.tokens import ResidueTokenizer, Tokens  # noqa: E402

WARM_UP, TIMED = 1.0, 2.0  # seconds
DEVICE = torch.device("cuda")


@dataclass(frozen=True, slots=True)
class Workload:
    """Records of one kind."""

    name: str
    lengths: NDArray[np.int64]  # tokens of each record


@dataclass(frozen=True, slots=True)
class Rate:
    """One line of the table."""

    model: str
    workload: str
    what: str  # who computed, in which precision
    tokens: float  # a second
    records: float  # a second
    tflops: float  # of the layers' matrix products
    of_ceiling: float  # share of the ceiling of that precision
    of_transformers: float  # times transformers' rate
    memory: float  # GiB, the most that tensors took
    compiled: float  # seconds before the first result beyond what it takes after
    detail: str


def workloads(tokens: int) -> tuple[Workload, ...]:
    """500-bp frames, 150-bp reads and proteins with a median of 300 residues."""
    generator = np.random.default_rng(1)
    proteins = np.clip(generator.lognormal(math.log(300), 0.6, tokens // 350), 30, 1022) + 2
    return (
        Workload("frames (166 aa)", np.full(tokens // 168, 168)),
        Workload("reads (50 aa)", np.full(tokens // 52, 52)),
        Workload("proteins (median 300 aa)", proteins.astype(np.int64)),
    )


def tokens_of(lengths: NDArray[np.int64], *, low: int, high: int) -> Tokens:
    """Random records of given lengths."""
    ids = np.random.default_rng(0).integers(low, high, int(lengths.sum())).astype(np.int32)
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


def product_flops(spec: ModelSpec) -> int:
    """Operations of the layers' matrix products for one token."""
    up = 2 if spec.architecture == "mosaicbert" else 1
    return 2 * spec.layers * (4 * spec.dim**2 + (up + 1) * spec.dim * spec.ffn)


def ceiling(spec: ModelSpec, *, fp8: bool) -> tuple[float, int]:
    """Tokens a second if a layer were its matrix products, and the rows at which it is best."""
    dim, ffn = spec.dim, spec.ffn
    up = 2 * ffn if spec.architecture == "mosaicbert" else ffn
    shapes = [(3 * dim, dim), (dim, dim), (up, dim), (dim, ffn)]
    weights = [
        [(torch.randn(o, i, device=DEVICE) / i**0.5).bfloat16() for o, i in shapes]
        for _ in range(spec.layers)
    ]
    if fp8:
        weights = [[(w * 400 / w.abs().max()).to(FP8) for w in layer] for layer in weights]
    best = (0.0, 0)
    for rows in (16_384, 32_768, 33_792, 65_536, 67_584):
        inputs = {i: torch.randn(rows, i, device=DEVICE).bfloat16() for i in {dim, ffn}}
        if fp8:
            inputs = {i: (x * 8).to(FP8) for i, x in inputs.items()}
        outputs = {o: torch.empty(rows, o, device=DEVICE, dtype=torch.bfloat16) for o, _ in shapes}
        ones = torch.ones(rows, 1, device=DEVICE)
        scales = {o: torch.full((1, o), 1e-4, device=DEVICE) for o, _ in shapes}

        def product(weight: Tensor) -> None:
            out, a = outputs[weight.shape[0]], inputs[weight.shape[1]]  # noqa: B023
            if not fp8:
                torch.mm(a, weight.t(), out=out)
                return
            torch._scaled_mm(
                a,
                weight.t(),
                scale_a=ones,  # noqa: B023
                scale_b=scales[weight.shape[0]],  # noqa: B023
                out_dtype=torch.bfloat16,
                use_fast_accum=True,
                out=out,
            )

        def all_layers() -> None:
            for layer in weights:
                for weight in layer:
                    product(weight)

        best = max(best, (rows / timed(all_layers), rows))
    return best


class Peer:
    """transformers' EsmModel on the same weights."""

    def __init__(self, spec: ModelSpec, tensors: dict[str, Tensor], *, dtype: torch.dtype) -> None:
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
            ids[inside] = tokens.gather(records)
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
    """Our encoder on the same weights."""
    placement = place("cuda", precision=precision, threads=None, warn=print)  # type: ignore[arg-type]
    return build.encoder_of(
        spec,
        tensors,
        ResidueTokenizer(),
        placement=placement,
        token_budget=None,
        identity={},
        environment={},
        warn=print,
    )


def clear() -> None:
    """Free what is no longer used and count peak memory anew."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def peak() -> float:
    """Most memory of tensors since ``clear``, in GiB."""
    return torch.cuda.max_memory_allocated() / 2**30


class Report:
    """Lines as they are measured, and the table at the end."""

    def __init__(self) -> None:
        self.rates: list[Rate] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep and print a line."""
        self.notes.append(text)
        print(text, flush=True)

    def add(self, rate: Rate) -> None:
        """Keep and print a rate."""
        self.rates.append(rate)
        print(
            f"  {rate.model} {rate.workload} {rate.what}: {rate.tokens:,.0f} tok/s {rate.detail}",
            flush=True,
        )

    def table(self) -> list[str]:
        """The rates as a Markdown table."""
        lines = [
            "| model | records | what | tok/s | records/s | TFLOP/s | of ceiling | x transformers "
            "| GiB | compile s |",
            "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for r in self.rates:
            share = f"{r.of_ceiling:.3f}" if r.of_ceiling else ""
            times = f"{r.of_transformers:.2f}" if r.of_transformers else ""
            lines.append(
                f"| {r.model} | {r.workload} | {r.what} | {r.tokens:,.0f} | {r.records:,.0f} "
                f"| {r.tflops:.0f} | {share} | {times} | {r.memory:.1f} | {r.compiled:.1f} |"
            )
        return lines


def measure_encoder(
    report: Report,
    spec: ModelSpec,
    encoder: EngineEncoder,
    loads: tuple[tuple[Workload, Tokens], ...],
    what: str,
    *,
    limit: float,
    peers: dict[str, float],
) -> None:
    """Time our encoder on several workloads."""
    for load, tokens in loads:
        torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        encoder.embed(tokens)
        first = time.perf_counter() - began
        busy = encoder.busy_seconds
        runs = 0

        def call() -> None:
            nonlocal runs
            encoder.embed(tokens)  # noqa: B023
            runs += 1

        seconds = timed(call)
        share = (encoder.busy_seconds - busy) / runs / seconds
        total = float(tokens.lengths.sum())
        rate = total / seconds
        peer = peers.get(load.name, 0.0)
        report.add(
            Rate(
                spec.name, load.name, what, rate, len(tokens) / seconds,
                rate * product_flops(spec) / 1e12, rate / limit if limit else 0.0,
                rate / peer if peer else 0.0, peak(), max(0.0, first - seconds),
                f"(GPU busy {share:.1%}, budget {encoder.token_budget})",
            )
        )  # fmt: skip


def bench_esm(report: Report, name: str, *, precisions: tuple[str, ...], tokens: int) -> None:
    """Ceiling, transformers and ours for one ESM-2."""
    spec = registry.model(name)
    flops = product_flops(spec)
    limits = {}
    for precision in precisions:
        clear()
        limit, rows = ceiling(spec, fp8=precision == "fp8")
        limits[precision] = limit
        report.add(
            Rate(spec.name, "any", f"ceiling {precision}", limit, 0, limit * flops / 1e12, 1.0, 0,
                 peak(), 0, f"({rows} rows)")
        )  # fmt: skip
    clear()
    # In float32, as ESM-2 is published: whoever computes in less has to round the weights too.
    tensors = random_tensors(spec, device="cuda", dtype=torch.float32)
    loads = tuple((load, tokens_of(load.lengths, low=4, high=24)) for load in workloads(tokens))
    clear()
    peer = Peer(spec, tensors, dtype=torch.bfloat16)
    peers: dict[str, float] = {}
    for load, records in loads:
        median = float(np.median(load.lengths))
        part = Tokens(  # a part is enough: its rate does not depend on how many there are
            records.ids[: int(records.lengths[: len(records) // 3].sum())],
            records.lengths[: len(records) // 3],
        )
        rates = {}
        for budget in (4_096, 8_192, 16_384):
            size = max(1, int(budget / median))
            rates[size] = peer.rate(part, size)
        size = max(rates, key=lambda size: rates[size])
        peers[load.name] = rates[size]
        report.add(
            Rate(spec.name, load.name, "transformers bfloat16", rates[size],
                 rates[size] * len(part) / float(part.lengths.sum()), rates[size] * flops / 1e12,
                 rates[size] / limits["bfloat16"], 1.0, peak(), 0, f"(batch {size})")
        )  # fmt: skip
    accuracy(report, spec, tensors, peer, precisions)
    del peer
    for precision in precisions:
        clear()
        encoder = ours(spec, tensors, precision)
        measure_encoder(
            report, spec, encoder, loads, f"ours {precision}", limit=limits[precision], peers=peers
        )
        del encoder


def accuracy(
    report: Report,
    spec: ModelSpec,
    tensors: dict[str, Tensor],
    peer: Peer,
    precisions: tuple[str, ...],
) -> None:
    """Errors against float32: transformers' in bfloat16 and ours."""
    errors = accuracy_sample()
    theirs = peer.rows(errors)
    exact = Peer(spec, tensors, dtype=torch.float32)
    reference = exact.rows(errors)
    del exact
    their_error = error_of(theirs, reference)
    report.note(f"{spec.name} accuracy against float32, {len(errors)} records:")
    described(report, "transformers bfloat16", theirs, reference, their_error)
    for precision in precisions:
        clear()
        encoder = ours(spec, tensors, precision)
        rows = encoder.embed(errors)
        described(report, f"ours {precision}", rows, reference, their_error)
        del encoder


def accuracy_sample() -> Tokens:
    """Records of all three kinds, 128 in all."""
    lengths = np.concatenate([load.lengths[:count] for load, count in zip(
        workloads(100_000), (48, 48, 32), strict=True
    )])  # fmt: skip
    return tokens_of(lengths, low=4, high=24)


def error_of(rows: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float64]:
    """Relative error of each record."""
    difference = np.linalg.norm(rows.astype(np.float64) - reference, axis=1)
    return difference / np.linalg.norm(reference.astype(np.float64), axis=1)


def described(
    report: Report,
    what: str,
    rows: NDArray[np.float32],
    reference: NDArray[np.float32],
    their_error: NDArray[np.float64],
) -> None:
    """Note the errors of one way of computing."""
    error, quality = error_of(rows, reference), compare(rows, reference)
    ratio = error / their_error
    report.note(
        f"  {what}: relative error median {np.median(error):.2e}, worst {error.max():.2e}; of "
        f"transformers' on the same record median {np.median(ratio):.2f}, worst {ratio.max():.2f}; "
        f"cosine median {quality.median:.6f}, lowest {quality.lowest:.6f}"
    )


def bench_dnabert(report: Report, *, tokens: int) -> None:
    """Ceiling and ours for DNABERT-S."""
    clear()
    spec = registry.model("dnabert_s")
    limit, rows = ceiling(spec, fp8=False)
    report.add(
        Rate(spec.name, "any", "ceiling bfloat16", limit, 0, limit * product_flops(spec) / 1e12,
             1.0, 0, peak(), 0, f"({rows} rows)")
    )  # fmt: skip
    clear()
    tensors = random_tensors(spec, device="cuda", dtype=torch.bfloat16)
    load = Workload("500 bp (102 tokens)", np.full(tokens // 102, 102))
    encoder = ours(spec, tensors, "bfloat16")
    measure_encoder(
        report, spec, encoder, ((load, tokens_of(load.lengths, low=5, high=4096)),),
        "ours bfloat16", limit=limit, peers={},
    )  # fmt: skip


def main() -> None:
    """Measure everything and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="ESM-2 650M instead of 3B")
    parser.add_argument("--accuracy", action="store_true", help="only the errors, of ESM-2 3B")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    report = Report()
    properties = torch.cuda.get_device_properties(0)
    report.note(
        f"{properties.name}, {properties.multi_processor_count} multiprocessors, torch "
        f"{torch.__version__}, Triton {triton.__version__}, transformers "
        f"{transformers.__version__}, CUDA {torch.version.cuda}, Python "
        f"{platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}"
    )
    hopper = (properties.major, properties.minor) >= (8, 9)
    precisions = ("bfloat16", "fp8") if hopper else ("bfloat16",)
    if options.accuracy:
        spec = registry.model("esm2_3b")
        tensors = random_tensors(spec, device="cuda", dtype=torch.float32)
        accuracy(report, spec, tensors, Peer(spec, tensors, dtype=torch.bfloat16), precisions)
        return
    bench_dnabert(report, tokens=2_000_000)
    bench_esm(report, "esm2_650m", precisions=("bfloat16",), tokens=688_128)
    if not options.quick:
        bench_esm(report, "esm2_3b", precisions=precisions, tokens=262_144)
    print("\n".join(["", *report.table(), "", *report.notes]))
    if options.json is not None:
        content = {"notes": report.notes, "rates": [asdict(rate) for rate in report.rates]}
        options.json.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
