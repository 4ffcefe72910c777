"""The demo models' weights: seeded noise in the published layout.

They let the whole pipeline run in seconds with nothing downloaded. Their embeddings tell records
apart, as any random projection of sequence composition does, and mean nothing beyond that.

The numbers come from the raw 64-bit output of PCG64, which NumPy promises never to change, and
from exact float32 arithmetic, so every machine makes the same weights and the same hash.
"""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vnp.models.spec import ModelSpec
from vnp.models.weights import Naming

_SEEDS = {"demo_dnabert_s": 20250226, "demo_esm2": 20231103}

# Standard deviation of a weight matrix, times the square root of its inputs. Above 1, so that
# attention singles tokens out and records differ by more than their composition.
_GAIN = 1.5
_BIAS_STD = 0.1


def tensors_of(spec: ModelSpec, naming: Naming) -> dict[str, Tensor]:
    """Make a demo model's checkpoint, under the published names with their prefix."""
    generator = np.random.PCG64(_SEEDS[spec.base])
    return {
        f"{naming.prefix}{name}": torch.from_numpy(_tensor(generator, name, shape))
        for name, shape in naming.shapes.items()
    }


def tokenizer_file() -> Path:
    """Locate the demo DNABERT's tokenizer.json, trained on the phage lambda's genome."""
    return Path(str(files("vnp.models") / "data" / "demo_tokenizer.json"))


def _tensor(
    generator: np.random.PCG64, name: str, shape: tuple[int, ...]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Draw one tensor; norms scale by about 1, tables have rows of length about sqrt(D)."""
    raw = generator.random_raw(math.prod(shape))
    # 24 bits fill a float32's significand, so the division is exact; uniform on [-1/2, 1/2).
    uniform = (raw >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24) - np.float32(0.5)
    if len(shape) == 1:
        std, mean = _BIAS_STD, float(name.endswith("weight"))
    else:
        std = 1.0 if "embeddings" in name else _GAIN / math.sqrt(shape[1])
        mean = 0.0
    scale = np.float32(std * math.sqrt(12.0))
    return (uniform * scale + np.float32(mean)).reshape(shape)
