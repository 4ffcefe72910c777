"""The models and recipes that ``vnp`` knows: names, shapes, sources and pooling rules.

Importing this module costs a few milliseconds: it needs neither torch nor the model files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from vnp.models.errors import UnknownModelError

Architecture = Literal["esm2", "mosaicbert"]
Input = Literal["protein", "nucleotide"]
Pooling = Literal["mean_residues_1024", "mean_all_tokens"]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One named encoder, as published.

    The shapes are the ones that the published checkpoint has; a checkpoint with others is refused.
    """

    name: str  # name of the model on the command line and of its array, X_<name>
    architecture: Architecture  # which module runs it
    input: Input  # which sequence of a record it reads
    dim: int  # width of the hidden states and of the embedding
    layers: int  # number of transformer layers
    heads: int  # attention heads; dim / heads is the head dimension
    ffn: int  # inner width of the feed-forward blocks
    vocab: int  # rows of the token embedding table
    pooling: Pooling  # how hidden states become one row; see vnp.inference.batch_layout
    repo: str | None  # Hugging Face repository; None: made by vnp.models.demo
    revision: str  # revision asked of the hub; the commit it resolves to is recorded at load
    about: str  # one line for `vnp models`

    @property
    def demo(self) -> bool:
        """Whether the weights are seeded noise that ships with the package."""
        return self.repo is None

    @property
    def parameters(self) -> int:
        """Parameters that the encoder uses (heads and poolers of the checkpoint left out)."""
        attention = 4 * (self.dim * self.dim + self.dim)
        if self.architecture == "esm2":
            feed_forward = 2 * self.dim * self.ffn + self.ffn + self.dim
            outside = (self.vocab + 2) * self.dim  # with the last norm
        else:
            feed_forward = 3 * self.dim * self.ffn + self.dim
            outside = (self.vocab + 4) * self.dim  # with two rows of token types, and a norm
        return outside + self.layers * (attention + feed_forward + 4 * self.dim)


def _esm2(size: str, *, layers: int, dim: int, heads: int) -> ModelSpec:
    """Describe ESM-2 of one published size (Lin et al. 2023, Science, ade2574, table S1)."""
    return ModelSpec(
        name=f"esm2_{size.lower()}",
        architecture="esm2",
        input="protein",
        dim=dim,
        layers=layers,
        heads=heads,
        ffn=4 * dim,
        vocab=33,
        pooling="mean_residues_1024",
        repo=f"facebook/esm2_t{layers}_{size}_UR50D",
        revision="main",
        about=f"ESM-2, {size} parameters, mean over residues",
    )


def _dnabert(name: str, *, repo: str | None, about: str) -> ModelSpec:
    """Describe a DNABERT-2 shaped checkpoint (Zhou et al. 2023, arXiv:2306.15006)."""
    return ModelSpec(
        name=name,
        architecture="mosaicbert",
        input="nucleotide",
        dim=768,
        layers=12,
        heads=12,
        ffn=3072,
        vocab=4096,
        pooling="mean_all_tokens",
        repo=repo,
        revision="main",
        about=about,
    )


_SPECS = (
    _dnabert(
        "dnabert_s",
        repo="zhihan1996/DNABERT-S",
        about="DNABERT-S, species-aware DNABERT-2, mean over all tokens",
    ),
    _dnabert(
        "dnabert2",
        repo="zhihan1996/DNABERT-2-117M",
        about="DNABERT-2, multi-species, mean over all tokens",
    ),
    _esm2("8M", layers=6, dim=320, heads=20),
    _esm2("35M", layers=12, dim=480, heads=20),
    _esm2("150M", layers=30, dim=640, heads=20),
    _esm2("650M", layers=33, dim=1280, heads=20),
    _esm2("3B", layers=36, dim=2560, heads=40),
    _esm2("15B", layers=48, dim=5120, heads=40),
    replace(
        _dnabert(
            "demo_dnabert_s",
            repo=None,
            about="small random DNABERT-S lookalike, for trying the pipeline",
        ),
        dim=96,
        layers=2,
        heads=6,  # not a power of two, like DNABERT's 12, so that the demo takes the same path
        ffn=384,
        vocab=512,
        revision="1",
    ),
    replace(
        _esm2("demo", layers=2, dim=128, heads=8),
        name="demo_esm2",
        repo=None,
        revision="1",
        about="small random ESM-2 lookalike, for trying the pipeline",
    ),
)

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _SPECS}

RECIPES: dict[str, tuple[str, ...]] = {
    # The order is that of VirNucPro's merged feature: nucleotide first, then protein.
    "virnucpro": ("dnabert_s", "esm2_3b"),
    "demo": ("demo_dnabert_s", "demo_esm2"),
}


def model(name: str) -> ModelSpec:
    """Look a model up by name; an `UnknownModelError` lists those there are."""
    if name not in MODELS:
        raise UnknownModelError(f"there is no model {name!r}; the models are {', '.join(MODELS)}")
    return MODELS[name]


def recipe(name: str) -> tuple[ModelSpec, ...]:
    """Look a recipe up by name: its models in the order of the merged feature's bands.

    An `UnknownModelError` lists the recipes there are.
    """
    if name not in RECIPES:
        raise UnknownModelError(
            f"there is no recipe {name!r}; the recipes are {', '.join(RECIPES)}"
        )
    return tuple(MODELS[each] for each in RECIPES[name])


def demo_warning(names: Iterable[str]) -> str:
    """One sentence on the demo models among some models; empty if there are none."""
    demo = [name for name in names if name in MODELS and MODELS[name].demo]
    if not demo:
        return ""
    what = "are demo models" if len(demo) > 1 else "is a demo model"
    return (
        f"{' and '.join(demo)} {what} with random weights, for trying the pipeline: their "
        "embeddings, and every score and call made from them, mean nothing"
    )
