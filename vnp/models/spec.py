"""What is known of a model before it is loaded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vnp.models.pooling import parts_of

# A plug-in's loader: see `vnp.models.plugins.model`.
Loader = Callable[..., Callable[[list[Any]], Any]]

HUB = "hf:"  # before the name of a Hugging Face repository
_LONGEST = 64  # letters of a name in a store


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One named encoder.

    Of a published model the shapes are those of its checkpoint; one with others is refused.
    """

    name: str  # of the model in a store, and of its array, X_<name>
    architecture: str  # what runs it: see `vnp.inference.load`
    input: str  # which sequence of a record it reads: nucleotide, protein or both
    dim: int  # width of the hidden states
    pooling: str  # how hidden states become one row; see `vnp.models.pooling`
    repo: str | None  # Hugging Face repository; None: the weights are made, or are a plug-in's
    revision: str  # revision asked of the hub; the commit it resolves to is recorded at load
    about: str  # one line for `vnp models`
    layers: int = 0  # number of transformer layers; 0 where the checkpoint says it
    heads: int = 0  # attention heads; dim / heads is the head dimension
    ffn: int = 0  # inner width of the feed-forward blocks
    vocab: int = 0  # rows of the token embedding table
    layer: int | None = None  # after which layer the hidden states are taken; None: the last
    source: str = ""  # what the registry resolves to this model, if its name does not
    loader: Loader | None = None  # of a plug-in
    script: Path | None = None  # of a plug-in that is a script
    digest: str = ""  # of the bytes of that script, as they were run
    package: str = ""  # of a plug-in that is installed: name and version

    @property
    def demo(self) -> bool:
        """Whether the weights are seeded noise that ships with the package."""
        return self.repo is None and self.loader is None

    @property
    def base(self) -> str:
        """Name of the model that this is a variant of, or its own."""
        return (self.source or self.name).partition("@")[0]

    @property
    def embedding_dim(self) -> int:
        """Numbers in an embedding."""
        if self.loader is not None:  # a plug-in says it, and its pooling in words of its own
            return self.dim
        return self.dim * len(parts_of(self.pooling))

    @property
    def parameters(self) -> int | None:
        """Parameters that the encoder uses, without heads and poolers; None if not known."""
        attention = 4 * self.dim * self.dim
        if self.architecture == "esm2":
            feed_forward = 2 * self.dim * self.ffn + self.ffn + self.dim
            outside = (self.vocab + 2) * self.dim  # with the last norm
        elif self.architecture == "mosaicbert":
            feed_forward = 3 * self.dim * self.ffn + self.dim
            outside = (self.vocab + 4) * self.dim  # with two rows of token types, and a norm
        elif self.architecture == "esmc":
            feed_forward = 3 * self.dim * self.ffn
            # Norms before attention and feed-forward, and of queries and keys; no biases.
            return (self.vocab + 1) * self.dim + self.layers * (
                attention + feed_forward + 6 * self.dim
            )
        else:
            return None
        return outside + self.layers * (attention + 4 * self.dim + feed_forward + 4 * self.dim)


def store_name(text: str) -> str:
    """Make a name that a store takes: lower-case letters, digits and underscores, at most 64."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    if not name[:1].isalpha():
        name = f"m_{name}"
    if len(name) > _LONGEST:  # the beginning says what it is, the hash keeps it apart
        name = f"{name[: _LONGEST - 9]}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return name
