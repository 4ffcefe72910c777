"""Scales of channels that int8 needs: measured once, pinned in a store, the same for every worker.

A quantised row has 255 steps, and one channel ten times as large as the rest takes all but 25 of
them from the others. So what is quantised is divided by a scale for each channel, and the weights
that it meets are multiplied by it. A scale is a power of two to the quarter, kept as its exponent:
multiplying by it gives the same bits on every device, and a byte holds it.

D hidden width, F inner width.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.errors import DamageError

PRODUCTS = ("qkv", "out", "up", "down")
STEPS = 4  # of an exponent: to the doubling

Exponents = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class LayerScales:
    """Exponents of a layer, and which of its products stay in bfloat16."""

    qkv: Exponents  # (D,), of the standardised stream before queries, keys and values
    out: Exponents  # (D,), of contexts
    up: Exponents  # (D,), of the standardised stream before the inner layer
    down: Exponents  # (F,), of a step of what GELU gives
    kept: frozenset[str] = frozenset()  # of ``PRODUCTS``


@dataclass(frozen=True, slots=True)
class Calibration:
    """The scales of a model."""

    layers: tuple[LayerScales, ...]

    @property
    def kept(self) -> list[str]:
        """Products that stay in bfloat16, as ``layer.product``, from layer 0."""
        return [f"{n}.{name}" for n, each in enumerate(self.layers) for name in sorted(each.kept)]

    def digest(self) -> str:
        """16 hex digits that stand for it in a model's identity."""
        return hashlib.sha256(json.dumps(self.as_dict()).encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; ``from_dict`` reads it."""
        exponents = [getattr(layer, name) for layer in self.layers for name in PRODUCTS]
        packed = zlib.compress(np.concatenate(exponents).tobytes(), 9)
        return {"exponents": base64.b64encode(packed).decode(), "bfloat16": self.kept}

    @classmethod
    def from_dict(
        cls, content: Mapping[str, Any], *, layers: range, dim: int, ffn: int
    ) -> Calibration:
        """Read what ``as_dict`` made for a model of that shape and a number of layers in a range.

        Raises
        ------
        DamageError
            If it is not that.
        """
        sizes = [dim, dim, dim, ffn]
        try:
            kept = {str(name) for name in content["bfloat16"]}
            unpack = zlib.decompressobj()
            raw = unpack.decompress(
                base64.b64decode(content["exponents"], validate=True), layers[-1] * sum(sizes) + 1
            )
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise DamageError(f"a calibration for int8 cannot be read: {error}") from None
        count, rest = divmod(len(raw), sum(sizes))
        names = [f"{n}.{name}" for n in range(count) for name in PRODUCTS]
        if rest or count not in layers or kept - set(names):
            raise DamageError("a calibration for int8 is that of another model")
        parts = np.split(np.frombuffer(raw, np.int8), np.cumsum(sizes * count)[:-1])
        of_name = dict(zip(names, parts, strict=True))
        return cls(
            tuple(
                LayerScales(
                    qkv=of_name[f"{n}.qkv"],
                    out=of_name[f"{n}.out"],
                    up=of_name[f"{n}.up"],
                    down=of_name[f"{n}.down"],
                    kept=frozenset(name for name in PRODUCTS if f"{n}.{name}" in kept),
                )
                for n in range(count)
            )
        )
