"""How far our engine and transformers are from float32, on one GPU.

``python tools/bench_accuracy.py [--model esm2_3b] [--planted]``

Random weights of the published shapes in float32, as ESM-2 is published: whoever computes in less
has to round the weights too. Pooled rows of 128 records against transformers' in float32. Trained
weights have channels far larger than others, random ones have none: ``--planted`` makes two
channels of every norm a hundred times as large, and what follows divides by it; and ten of GELU's
ten times.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from gpu_peers import Peer, clear, ours, tokens_of, workloads  # noqa: E402
from random_checkpoint import random_tensors  # noqa: E402

from vnp.inference.quality import compare  # noqa: E402
from vnp.models import registry  # noqa: E402
from vnp.models.spec import ModelSpec  # noqa: E402
from vnp.models.tokens import Tokens  # noqa: E402


def accuracy(
    spec: ModelSpec,
    tensors: dict[str, Tensor],
    precisions: tuple[str, ...],
) -> None:
    """Errors against float32: transformers' in bfloat16 and ours."""
    errors = accuracy_sample()
    theirs = Peer(spec, tensors, dtype=torch.bfloat16).rows(errors)
    clear()
    exact = Peer(spec, tensors, dtype=torch.float32)
    reference = exact.rows(errors)
    del exact
    their_error = error_of(theirs, reference)
    print(f"{spec.name} accuracy against float32, {len(errors)} records:")
    described("transformers bfloat16", theirs, reference, their_error)
    for precision in precisions:
        clear()
        encoder = ours(spec, tensors, precision)
        rows = encoder.embed(errors)
        described(f"ours {precision}", rows, reference, their_error)
        if precision == "int8":
            print("  kept in bfloat16:", encoder.environment["int8_kept_in_bfloat16"])
        del encoder


def plant(spec: ModelSpec, tensors: dict[str, Tensor]) -> None:
    """Make some channels much larger than the others, in place; see above."""
    generator = torch.Generator().manual_seed(5)
    norm = torch.randperm(spec.dim, generator=generator)[: spec.dim // 1000 or 1].cuda()
    inner = torch.randperm(spec.ffn, generator=generator)[: spec.ffn // 1000 or 1].cuda()
    for name, tensor in tensors.items():
        if ".layer." not in name:
            continue
        if "LayerNorm" in name:
            tensor[norm] *= 100
        elif any(
            f"{part}.weight" in name for part in ("query", "key", "value", "intermediate.dense")
        ):
            tensor[:, norm] /= 100
        if "intermediate" in name:
            tensor[inner] *= 10
        elif name.endswith("output.dense.weight") and "attention" not in name:
            tensor[:, inner] /= 10


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
    what: str,
    rows: NDArray[np.float32],
    reference: NDArray[np.float32],
    their_error: NDArray[np.float64],
) -> None:
    """Note the errors of one way of computing."""
    error, quality = error_of(rows, reference), compare(rows, reference, precision="any")
    ratio = error / their_error
    print(
        f"  {what}: relative error median {np.median(error):.2e}, worst {error.max():.2e}; of "
        f"transformers' on the same record median {np.median(ratio):.2f}, worst {ratio.max():.2f}; "
        f"cosine median {quality.median:.6f}, lowest {quality.lowest:.6f}"
    )


def main() -> None:
    """Measure the errors of one ESM-2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="esm2_3b")
    parser.add_argument("--planted", action="store_true")
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    spec = registry.model(options.model)
    has_fp8 = torch.cuda.get_device_capability() >= (8, 9)
    tensors = random_tensors(spec, device="cuda", dtype=torch.float32)
    if options.planted:
        plant(spec, tensors)
    accuracy(spec, tensors, ("bfloat16", "int8", *(("fp8",) if has_fp8 else ())))


if __name__ == "__main__":
    main()
