"""The models and recipes that ``vnp`` knows: names, shapes, sources and pooling rules.

A model is asked for by name, with what is to differ from the published recipe behind an ``@``::

    esm2_3b                                 as published, mean over residues
    esm2_3b@layer=24                        hidden states after layer 24
    esm2_650m@pooling=mean+max              two poolings side by side
    hf:ORG/NAME@main,input=protein          any encoder that transformers contains

Importing this module costs a few milliseconds: it needs neither torch nor the model files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from store.errors import UsageError
from store.io.words import nearest
from vnp.models import plugins
from vnp.models.errors import UnknownModelError
from vnp.models.pooling import parts_of
from vnp.models.spec import HUB, ModelSpec, store_name

INPUTS = ("nucleotide", "protein")  # of a model of the hub


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


_SPECS: tuple[ModelSpec, ...] = (
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


def _transformer(
    name: str, *, repo: str, about: str, architecture: str = "transformers", input: str = "protein",  # noqa: A002
    dim: int, layers: int, heads: int = 0, ffn: int = 0, vocab: int = 0,
) -> ModelSpec:  # fmt: skip
    """Describe a model that pools the tokens of its sequence."""
    return ModelSpec(
        name=name,
        architecture=architecture,
        input=input,
        dim=dim,
        layers=layers,
        heads=heads,
        ffn=ffn,
        vocab=vocab,
        pooling="mean",
        repo=repo,
        revision="main",
        about=about,
    )


_SPECS += (
    # ESM Cambrian; shapes as in the published configurations of transformers' `esmc`.
    *(
        _transformer(
            f"esmc_{size.lower()}",
            architecture="esmc",
            repo=f"biohub/ESMC-{size}-hf",
            dim=dim,
            layers=layers,
            heads=heads,
            ffn=ffn,
            vocab=64,
            about=f"ESM Cambrian, {size} parameters, mean over residues",
        )
        for size, dim, layers, heads, ffn in (
            ("300M", 960, 30, 15, 2560),
            ("600M", 1152, 36, 18, 3072),
            ("6B", 2560, 80, 40, 6912),
        )
    ),
    _transformer(
        "prot_t5_xl_u50",
        repo="Rostlab/prot_t5_xl_half_uniref50-enc",
        dim=1024,
        layers=24,
        about="ProtT5-XL-U50, encoder, mean over residues",
    ),
    _transformer(
        "ankh_base",
        repo="ElnaggarLab/ankh-base",
        dim=768,
        layers=48,
        about="Ankh base, encoder, mean over residues",
    ),
    _transformer(
        "ankh_large",
        repo="ElnaggarLab/ankh-large",
        dim=1536,
        layers=48,
        about="Ankh large, encoder, mean over residues",
    ),
    _transformer(
        "nt_500m_1000g",
        repo="InstaDeepAI/nucleotide-transformer-500m-1000g",
        input="nucleotide",
        dim=1280,
        layers=24,
        about="Nucleotide Transformer, 500M, 1000 genomes, mean over 6-mers",
    ),
    _transformer(
        "nt_2b5_multi_species",
        repo="InstaDeepAI/nucleotide-transformer-2.5b-multi-species",
        input="nucleotide",
        dim=2560,
        layers=32,
        about="Nucleotide Transformer, 2.5B, multi-species, mean over 6-mers",
    ),
)

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _SPECS}

RECIPES: dict[str, tuple[str, ...]] = {
    # The order is that of VirNucPro's merged feature: nucleotide first, then protein.
    "virnucpro": ("dnabert_s", "esm2_3b"),
    "demo": ("demo_dnabert_s", "demo_esm2"),
}


def model(source: str, *, weights_dir: Path | None = None) -> ModelSpec:
    """Resolve a model: a name, a plug-in's, or ``hf:ORG/NAME``, with options behind ``@``.

    Files of a model of the hub are looked for in ``weights_dir`` first; those of others are not
    needed here. What is wrong with the options is told before the hub is asked.

    Raises
    ------
    UnknownModelError
        If there is none of that name; it lists those there are.
    UsageError
        If an option is not one, or does not fit the model.
    WeightsNotFoundError, WeightsError
        If the configuration of a model of the Hugging Face hub cannot be had.
    """
    name, options, revision = _parsed(source)
    if name.startswith(HUB):
        from vnp.models.hub import spec_of

        spec = spec_of(
            name.removeprefix(HUB),
            revision=revision,
            input=options.get("input"),
            weights_dir=weights_dir,
        )
    else:
        spec = _named(name)
    if not options.keys() & {"layer", "pooling"}:
        return spec
    return _varied(spec, options, source=source if not spec.source else spec.source)


def name_in_store(source: str) -> str:
    """Name that a store has for a model, told without its files.

    UsageError and UnknownModelError as of `model`.
    """
    name, options, revision = _parsed(source)
    if name.startswith(HUB):
        from vnp.models.hub import name_of

        return _variant(name_of(name.removeprefix(HUB), revision), options)
    if not options:
        return _named(name).name
    return _varied(_named(name), options, source=source).name


def check_names(sources: Iterable[str]) -> None:
    """Refuse names and options that are wrong, or name a model twice, before a hub is asked."""
    names = [name_in_store(source) for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"a model is named twice: {name}")


def recipe(name: str, *, weights_dir: Path | None = None) -> tuple[ModelSpec, ...]:
    """Look a recipe up by name: its models in the order of the merged feature's bands.

    An `UnknownModelError` lists the recipes there are.
    """
    return tuple(model(each, weights_dir=weights_dir) for each in sources_of(name))


def sources_of(name: str) -> tuple[str, ...]:
    """What a recipe calls its models; see `recipe`."""
    recipes = RECIPES if name in RECIPES else RECIPES | plugins.recipes()
    if name not in recipes:
        raise UnknownModelError(f"unknown recipe {name!r}; the recipes are {', '.join(recipes)}")
    return recipes[name]


def load_plugins(scripts: Iterable[Path]) -> None:
    """Run scripts that describe models; see `vnp.models.plugins.load_scripts`."""
    plugins.load_scripts(scripts, taken=MODELS)


def known() -> list[ModelSpec]:
    """All models with a name: those of vnp, then those of plug-ins."""
    return [*MODELS.values(), *plugins.models().values()]


def _named(name: str) -> ModelSpec:
    if name in MODELS:
        return MODELS[name]
    others = plugins.models()
    if name not in others:
        names = [*MODELS, *others]
        near = f" ({near})" if (near := nearest(name, names)) else ""
        raise UnknownModelError(
            f"unknown model {name!r}{near}; the models are {', '.join(names)}, and "
            f"{HUB}ORG/NAME for those of the Hugging Face hub. One of a script needs its --plugin, "
            "one of a package that package"
        )
    return others[name]


def _parsed(source: str) -> tuple[str, dict[str, str], str]:
    """Read ``NAME[@[revision,]key=value,...]``: the name, the options and the revision.

    UsageError if an option is wrong whatever the model is.
    """
    name, _, text = source.partition("@")
    hub = name.startswith(HUB)
    options: dict[str, str] = {}
    revision = ""
    for item in filter(None, text.split(",")):
        key, sign, value = item.partition("=")
        if not sign and not options and not revision:
            revision = item
        elif key not in ("layer", "pooling", "input") or not value or key in options:
            raise UsageError(
                f"{source}: {item!r} is not an option of a model; there are layer=N, "
                f"pooling=NAME[+NAME], and for {HUB} models input={'|'.join(INPUTS)}"
            )
        else:
            options[key] = value
    if not hub and (revision or "input" in options):
        raise UsageError(f"{source}: only models of the hub ({HUB}) have a revision or input")
    if options.get("input", INPUTS[0]) not in INPUTS:
        raise UsageError(f"{source}: input is {' or '.join(INPUTS)}, not {options['input']}")
    if "pooling" in options:
        parts_of(options["pooling"])
    layer = options.get("layer", "1")
    if not (layer.isascii() and layer.isdecimal() and int(layer)):
        raise UsageError(f"{source}: a layer is a number from 1, not {layer}")
    return name, options, revision


def _varied(spec: ModelSpec, options: dict[str, str], *, source: str) -> ModelSpec:
    """A model with another layer or pooling than usual, under a name of its own."""
    if spec.loader is not None:
        raise UsageError(f"{spec.name} is a plug-in's model, which decides on layer and pooling")
    layer, pooling = spec.layer, options.get("pooling", spec.pooling)
    if "layer" in options:
        layer = int(options["layer"])
        if spec.layers and layer > spec.layers:
            raise UsageError(f"{source}: {spec.name} has layers 1 to {spec.layers}")
        if layer == spec.layers:
            layer = None
    name = _variant(spec.name, options)
    options = {key: options[key] for key in ("layer", "pooling") if key in options}
    base = spec.source or spec.name
    text = ",".join(f"{key}={value}" for key, value in options.items())
    source = f"{base}{',' if '@' in base else '@'}{text}"
    return replace(spec, name=name, layer=layer, pooling=pooling, source=source)


def _variant(name: str, options: dict[str, str]) -> str:
    """Name of a model with another layer or pooling than usual."""
    if "layer" in options:
        name += f"_layer{int(options['layer'])}"
    if "pooling" in options:
        name += "_" + options["pooling"].replace("+", "_")
    return store_name(name)


def demo_warning(names: Iterable[str]) -> str:
    """One sentence on the demo models among some models; empty if there are none."""
    known = tuple(name for name, spec in MODELS.items() if spec.demo)
    demo = [
        each for each in names if each in known or each.startswith(tuple(f"{k}_" for k in known))
    ]
    if not demo:
        return ""
    what = "are demo models" if len(demo) > 1 else "is a demo model"
    return (
        f"{' and '.join(demo)} {what} with random weights, for trying the pipeline: their "
        "embeddings, and every score and call made from them, mean nothing"
    )
