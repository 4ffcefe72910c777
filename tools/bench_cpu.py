"""Embed on the CPU with several programs in turns, and compare their speed.

``python tools/bench_cpu.py [--base PATH] [--transformers] [--models M ...] [--precisions P ...]
[--kinds K ...] [--layers N] [--tokens N] [--rounds N] [--threads N] [--json FILE]``

The programs are this checkout in each precision, the checkout ``--base`` likewise, and with
``--transformers`` its EsmModel in float32 (SDPA, records sorted and padded, by the batch size that
is fastest). Each has a process of its own with random weights of the published shapes, of the first
``--layers`` layers if that is given. For every model and kind of record they embed the same tokens
in turns. A ratio is another program's processor time over that of this checkout in the first
precision, so above 1 this checkout is faster: the median over the rounds, and the lowest and
highest. Processor time is compared, as other load disturbs it less than the clock on the wall.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TOKENS = {"esm2_8m": 4096, "esm2_150m": 768, "dnabert_s": 1024}  # of one run
_KINDS = ("frames", "reads", "proteins")
_BATCHES = (1, 2, 4, 8, 16, 32)  # records, of which transformers takes the fastest

_MODEL = """
import json, sys, time
from dataclasses import replace
from types import SimpleNamespace
import numpy as np, torch
from vnp.models import demo, files, registry, weights
from vnp.models.tokens import Tokens

name, precision, layers, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(threads)
if layers:
    registry.MODELS[name] = replace(registry.MODELS[name], layers=layers)
spec = registry.model(name)

def read(paths, naming, *, source):
    # Scaled as in tools/random_checkpoint.py.
    generator = torch.Generator().manual_seed(0)
    made = {}
    for name, shape in naming.shapes.items():
        tensor = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            tensor = 0.05 * tensor + float(name.endswith("weight"))
        elif "embed" not in name:
            tensor /= shape[1] ** 0.5
        made[name] = tensor
    return made
"""

_OURS = """
import importlib
for room in ("inference.load", "inference.encoder", "models.encoder"):
    try:
        load_encoder = importlib.import_module(f"vnp.{room}").load_encoder
        break
    except (ImportError, AttributeError):
        pass
files.locate = lambda spec, **_: SimpleNamespace(
    folder="random", tensors=(), origin="random", revision="random",
    tokenizer=demo.tokenizer_file() if spec.architecture == "mosaicbert" else None,
)
weights.read = read
weights.digest = lambda tensors: "random"
encoder = load_encoder(
    name, device="cpu", precision=precision, threads=threads, warn=lambda _: None
)
if hasattr(encoder, "measure"):  # int8, on records of its own
    lengths = np.full(12, 168)
    ids = np.random.default_rng(7).integers(4, 24, int(lengths.sum())).astype(np.int32)
    encoder.calibrate(encoder.measure(Tokens(ids, lengths)))

def embed(ids, lengths, size):
    return encoder.embed(Tokens(ids, lengths))
"""

_TRANSFORMERS = """
import transformers
from vnp.inference import esm2
config = transformers.EsmConfig(
    vocab_size=spec.vocab, hidden_size=spec.dim, num_hidden_layers=spec.layers,
    num_attention_heads=spec.heads, intermediate_size=spec.ffn, pad_token_id=1, mask_token_id=32,
    position_embedding_type="rotary", token_dropout=True, emb_layer_norm_before=False,
    layer_norm_eps=1e-5, attn_implementation="sdpa",
)
model = transformers.EsmModel(config, add_pooling_layer=False).eval()
missing, _ = model.load_state_dict(read((), esm2.naming(spec), source=""), strict=False)
assert all("inv_freq" in name or "contact_head" in name for name in missing), missing
model = model.to(getattr(torch, precision))

@torch.inference_mode()
def embed(ids, lengths, size):
    rows = np.empty((len(lengths), spec.dim), np.float32)
    starts, order = np.cumsum(lengths) - lengths, np.argsort(lengths, kind="stable")
    for at in range(0, len(order), size):
        chosen = order[at : at + size]
        padded = np.full((len(chosen), int(lengths[chosen].max())), 1)
        for row, record in enumerate(chosen):
            padded[row, : lengths[record]] = ids[starts[record] : starts[record] + lengths[record]]
        padded = torch.from_numpy(padded)
        states = model(input_ids=padded, attention_mask=(padded != 1).long()).last_hidden_state
        for row, record in enumerate(chosen):
            rows[record] = states[row, 1 : lengths[record] - 1].float().mean(dim=0).numpy()
    return rows
"""

_LOOP = """
for line in sys.stdin:
    lengths, size = json.loads(line)
    lengths = np.array(lengths, dtype=np.int64)
    ids = np.random.default_rng(1).integers(4, 24, int(lengths.sum())).astype(np.int32)
    began = time.process_time()
    rows = embed(ids, lengths, size)
    print(json.dumps([time.process_time() - began, rows.astype(float).tolist()]), flush=True)
"""


class Program:
    """A process that embeds."""

    def __init__(
        self, label: str, path: Path, code: str, options: argparse.Namespace, *, model: str,
        precision: str,
    ) -> None:  # fmt: skip
        self.label = f"{label} {precision}"
        self.sizes: tuple[int, ...] = _BATCHES if code is _TRANSFORMERS else (0,)
        self.size = self.sizes[0]
        threads = str(options.threads)
        environment = os.environ | {"PYTHONPATH": str(path), "OMP_NUM_THREADS": threads}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _MODEL + code + _LOOP, model, precision, str(options.layers),
             threads],
            cwd=path, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def embed(self, lengths: NDArray[np.int64]) -> tuple[float, NDArray[np.float64]]:
        """Embed records of such lengths: processor seconds, and the rows."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([lengths.tolist(), self.size]), file=self._process.stdin, flush=True)
        seconds, rows = json.loads(self._process.stdout.readline())
        return seconds, np.array(rows)

    def warm_up(self, lengths: NDArray[np.int64]) -> NDArray[np.float64]:
        """Embed once and settle on a batch size; returns the rows."""
        _, rows = self.embed(lengths)
        took = {}
        for size in self.sizes if len(self.sizes) > 1 else ():
            self.size = size
            took[size] = self.embed(lengths)[0]
        self.size = min(took, key=lambda size: took[size], default=0)
        return rows

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def lengths_of(kind: str, model: str, tokens: int) -> NDArray[np.int64]:
    """Tokens of records: frames of 500 bp, reads of 150 bp, or whole proteins.

    Residues of frames differ by one or two, but for frames at ends; byte pairs of DNA spread.
    """
    generator = np.random.default_rng(0)
    if kind == "proteins":
        drawn = 300 * np.exp(0.5 * generator.standard_normal(tokens))
    else:
        usual = {"frames": 168, "reads": 52}[kind]
        spread = 0.5 if model.startswith("esm2") else usual / 16
        drawn = usual + spread * generator.standard_normal(tokens)
        ends = generator.random(tokens) < 0.1
        drawn[ends] *= generator.random(int(ends.sum()))
    lengths = drawn.clip(5, 1500).astype(np.int64)
    return lengths[: max(1, int(np.searchsorted(lengths.cumsum(), tokens)))]


def lowest_cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Of pairs of rows."""
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def compare(
    programs: list[Program], lengths: NDArray[np.int64], *, rounds: int
) -> list[dict[str, Any]]:
    """Let programs embed in turns; one result each, beside the first."""
    rows = [program.warm_up(lengths) for program in programs]
    seconds: list[list[float]] = [[] for _ in programs]
    for number in range(rounds):
        turn = list(enumerate(programs))
        for at, program in turn if number % 2 else turn[::-1]:
            seconds[at].append(program.embed(lengths)[0])
    results = []
    for at, program in enumerate(programs):
        ratios = sorted(b / a for a, b in zip(seconds[0], seconds[at], strict=True))
        results.append(
            {
                "program": program.label,
                "batch": program.size,
                "tokens_a_cpu_second": round(lengths.sum() / statistics.median(seconds[at])),
                "ratio": round(statistics.median(ratios), 3),
                "range": [round(ratios[0], 3), round(ratios[-1], 3)],
                "lowest_cosine": round(lowest_cosine(rows[0], rows[at]), 7),
            }
        )
    return results


def main() -> None:
    """Run every case and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--base", type=Path, help="a checkout to compare with")
    parser.add_argument("--transformers", action="store_true", help="its EsmModel in float32 too")
    parser.add_argument("--models", nargs="+", default=list(_TOKENS))
    parser.add_argument("--kinds", nargs="+", default=_KINDS, choices=_KINDS)
    parser.add_argument("--precisions", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--layers", type=int, default=0, help="of each model (default: all)")
    parser.add_argument("--tokens", type=int, help="of one run")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    here = Path(__file__).resolve().parents[1]
    results: list[dict[str, Any]] = []
    for model in options.models:
        entries = [("ours", here, _OURS, precision) for precision in options.precisions]
        if options.base:
            base = options.base.resolve()
            entries += [("base", base, _OURS, precision) for precision in options.precisions]
        if options.transformers and model.startswith("esm2"):
            entries.append(("transformers", here, _TRANSFORMERS, "float32"))
        programs = [
            Program(label, path, code, options, model=model, precision=precision)
            for label, path, code, precision in entries
        ]
        for kind in options.kinds:
            lengths = lengths_of(kind, model, options.tokens or _TOKENS.get(model, 8192))
            case = {"model": model, "records": kind, "count": len(lengths)}
            for result in compare(programs, lengths, rounds=options.rounds):
                results.append(case | {"tokens": int(lengths.sum())} | result)
                print(json.dumps(results[-1]), flush=True)
        for program in programs:
            program.close()
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
