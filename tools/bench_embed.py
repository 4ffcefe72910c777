"""Measure `vnp embed` end to end: a store on local disk, random weights of the published shapes.

``python tools/bench_embed.py FOLDER [--records 210000] [--run MODEL[,MODEL...] ...] [--gpus N..]``

Writes checkpoints and a FASTA of 150-bp coding reads to FOLDER. Each run makes a store with its
models, measures each engine's own rate on tokens of that store held in memory, which compiles its
kernels, has one `vnp embed` process fill the store, all models in one worker, and measures the
engines again, as a chip gets warmer and slower. Printed:

- records and tokens per second from the first block submitted to the last result; the time when
  nothing was computed because the second model was being loaded is left out, and told;
- the share of that time in which the GPU computed, by its own clock;
- the share of the engine's own rate: the time that the tokens of every model would take at its
  engine's own rate, over the time that they took; at its rate before and at its rate after;
- how fast and hot the GPU ran.

With ``--gpus 1 2`` nothing is measured alone: copies of the store are filled by so many GPUs, with
a worker each, one number after the other. Printed: tokens per second over the longest time that a
worker took from its first block to its last result, and over the whole command.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from gpu_heat import Heat  # noqa: E402
from gpu_tokens import whole_batches  # noqa: E402
from random_checkpoint import write  # noqa: E402

from store.open import open_store  # noqa: E402
from vnp.inference.encoder import PipelinedEncoder  # noqa: E402
from vnp.inference.load import load_encoder  # noqa: E402
from vnp.models import registry  # noqa: E402
from vnp.models.tokens import Tokens  # noqa: E402

_CODONS = 50
_FRAMES_PER_READ = 1.5  # stop-free frames in a coding read: its own and chance ones
_OWN_SECONDS = 3.0  # of the engine alone, and as many before
_OWN_BLOCKS = 4  # whose tokens it is given


def write_reads(path: Path, count: int) -> None:
    """Write reads of 50 codons without a stop."""
    generator = np.random.default_rng(0)
    codons = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"]
    table = np.array([codon.encode() for codon in codons if codon not in ("TAA", "TAG", "TGA")])
    reads = table[generator.integers(0, len(table), (count, _CODONS))]
    with path.open("wb") as file:
        for number, read in enumerate(reads):
            file.write(b">r%d\n%s\n" % (number, read.tobytes()))


def vnp(*arguments: str, **environment: str) -> dict[str, Any]:
    """Run a command and return its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "vnp", *arguments, "--json"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, (arguments, done.stdout)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def store_of(folder: Path, name: str, *, records: int, models: list[str]) -> Path:
    """Make and fill a store with reads."""
    reads, store = folder / "reads.fasta", folder / f"{name}.zarr"
    write_reads(reads, int(records / _FRAMES_PER_READ))
    vnp("init", str(store), *(part for model in models for part in ("--model", model)))
    vnp("append", str(store), str(reads))
    return store


def own_rate(path: Path, model: str, *, weights: Path, device: str) -> tuple[float, int, str]:
    """Tokens a second of the engine alone, those of the whole store, and how hot it ran."""
    store = open_store(path)
    encoder = load_encoder(model, device=device, weights_dir=weights)
    assert isinstance(encoder, PipelinedEncoder)
    blocks = [encoder.tokenise(*store.sequences(block)) for block in range(store.n_blocks)]
    some = Tokens(
        np.concatenate([tokens.ids for tokens in blocks[:_OWN_BLOCKS]]),
        np.concatenate([tokens.lengths for tokens in blocks[:_OWN_BLOCKS]]),
    )
    began = time.perf_counter()
    some = whole_batches(some, encoder.token_budget)
    run = encoder.submit(some)
    while time.perf_counter() - began < _OWN_SECONDS:  # compiles, and warms the chip
        run, before = encoder.submit(some), run
        before.result()
    runs = 0
    with Heat() as heat:
        began = time.perf_counter()
        while time.perf_counter() - began < _OWN_SECONDS:  # never waiting for an empty device
            run, before = encoder.submit(some), run
            before.result()
            runs += 1
        rate = runs * len(some.ids) / (time.perf_counter() - began)
    del encoder
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return rate, sum(len(tokens.ids) for tokens in blocks), str(heat)


def alone(store: Path, models: list[str], *, weights: Path, device: str) -> float:
    """Print each engine's own rate; return the seconds in which they would fill the store."""
    seconds = 0.0
    for model in models:
        rate, tokens, heat = own_rate(store, model, weights=weights, device=device)
        seconds += tokens / rate
        print(f"{model} alone: {rate:,.0f} tok/s for {tokens:,} tokens; {heat}", flush=True)
    return seconds


def measure(folder: Path, models: list[str], *, records: int, device: str) -> None:
    """Fill one store with some models and print how it went."""
    weights = folder / "weights"
    store = store_of(folder, "-".join(models), records=records, models=models)
    before = alone(store, models, weights=weights, device=device)
    began = time.perf_counter()
    with Heat() as heat:
        report = vnp("embed", str(store), "--weights", str(weights), "--device", device)
    seconds = time.perf_counter() - began
    after = alone(store, models[::-1], weights=weights, device=device)
    (worker,) = report["workers"]
    span, busy = worker["span_seconds"], worker["busy_seconds"]
    print(
        f"{' + '.join(models)}: {worker['records']:,} rows, {worker['copied']:,} copied, "
        f"{worker['tokens']:,} tokens in {span:.1f} s; {worker['records'] / span:,.0f} rows/s, "
        f"{worker['tokens'] / span:,.0f} tok/s; GPU busy {busy / span:.1%}; {before / span:.1%} "
        f"of the engine's own rate before, {after / span:.1%} of it after; loading left out "
        f"{worker['loading_seconds']:.1f} s, whole command {seconds:.1f} s; "
        f"complete {report['complete']}; fallbacks {worker['fallbacks']}; {heat}",
        flush=True,
    )


def measure_gpus(folder: Path, models: list[str], *, records: int, gpus: list[int]) -> None:
    """Fill copies of one store with some GPUs each, and print how long each took."""
    store = store_of(folder, "-".join(models), records=records, models=models)
    first = 0.0
    for count in gpus:
        copied = Path(shutil.copytree(store, folder / "copy.zarr"))
        began = time.perf_counter()
        report = vnp(
            "embed", str(copied), "--weights", str(folder / "weights"),
            CUDA_VISIBLE_DEVICES=",".join(map(str, range(count))),
        )  # fmt: skip
        seconds = time.perf_counter() - began
        workers = report["workers"]
        tokens = sum(worker["tokens"] for worker in workers)
        spans = [worker["span_seconds"] for worker in workers]
        rate = tokens / max(spans)
        first = first or rate
        print(
            f"{' + '.join(models)}, {len(workers)} of {count} GPUs: {tokens:,} tokens, "
            f"{rate:,.0f} tok/s, {rate / first:.3f} times the first; spans "
            f"{', '.join(f'{span:.1f}' for span in spans)} s; whole command {seconds:.1f} s, "
            f"{tokens / seconds:,.0f} tok/s; complete {report['complete']}",
            flush=True,
        )
        shutil.rmtree(copied)
        shutil.rmtree(f"{copied}.vnp", ignore_errors=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=int, default=210_000)
    parser.add_argument("--run", action="append", help="models of one store, with commas between")
    parser.add_argument("--gpus", type=int, nargs="+", help="numbers of GPUs to compare")
    parser.add_argument("--device", default="cuda:0")
    options = parser.parse_args()
    runs = [run.split(",") for run in options.run or ["dnabert_s,esm2_3b", "dnabert_s,esm2_650m"]]
    options.folder.mkdir(parents=True, exist_ok=True)
    for model in sorted({model for run in runs for model in run}):
        write(registry.model(model), options.folder / "weights", device=options.device)
    for models in runs:
        if options.gpus:
            measure_gpus(options.folder, models, records=options.records, gpus=options.gpus)
            continue
        measure(options.folder, models, records=options.records, device=options.device)


if __name__ == "__main__":
    main()
