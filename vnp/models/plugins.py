"""Models and recipes of others: installed packages (entry points), and scripts given by name.

A plug-in is a function that loads a model, with a decorator that describes it::

    from vnp.models.plugins import model

    @model("composition", input="nucleotide", dim=4, about="share of each base")
    def load(*, device, precision, weights_dir):
        def embed(sequences):                        # list of str
            return [[s.count(base) / len(s) for base in "ACGT"] for s in sequences]
        return embed

`vnp embed --plugin FILE.py` runs a script; a package names the function under the entry point group
``vnp.models``, and tuples of model names under ``vnp.recipes``. Both run code of their own, so a
store never names one: who starts a worker does.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TypeVar

from store.errors import DataError, UsageError
from store.io.regular import read_regular
from vnp.models.spec import Loader, ModelSpec

_GROUP, _RECIPES = "vnp.models", "vnp.recipes"
_MARK = "_vnp_model"
_MOST_BYTES = 1 << 24
_INPUTS = ("nucleotide", "protein", "both")

L = TypeVar("L", bound=Loader)

_registered: dict[str, ModelSpec] = {}  # of scripts
_registered_recipes: dict[str, tuple[str, ...]] = {}


class PluginError(DataError):
    """A plug-in cannot be imported, or does not do what it says: mend it, or leave it out."""


def model(
    name: str,
    *,
    input: str,  # noqa: A002 - the field's word
    dim: int,
    about: str = "",
    pooling: str = "",
) -> Callable[[L], L]:
    """Describe a model that the decorated function loads.

    Parameters
    ----------
    name
        Of the model in a store: lower-case letters, digits and underscores.
    input
        What ``embed`` gets: ``nucleotide`` or ``protein``, a list of str; ``both``, a list of
        (nucleotide, protein).
    dim
        Numbers of an embedding.
    about
        One line for ``vnp models``.
    pooling
        How the rows are made, in words of your own; it is recorded.

    The function is called once, as ``load(device=..., precision=..., weights_dir=...)``: a name
    such as ``cuda:0``; ``float32``, ``bfloat16`` or ``float16``; a `Path` or None. It returns
    ``embed``, which turns n sequences, sorted by length, into n rows: an array, tensor or nested
    list (n, dim) of finite numbers. If the returned object has an attribute ``identity``, a text
    that says which weights these are, workers with another one are refused.

    Raises
    ------
    UsageError
        If the description makes no sense.
    """
    from store.schema import Model

    Model(name, dim)
    if input not in _INPUTS:
        raise UsageError(f"plug-in {name}: input is {input!r}, not {', '.join(_INPUTS)}")

    def mark(loader: L) -> L:
        spec = ModelSpec(
            name=name,
            architecture="plugin",
            input=input,
            dim=dim,
            pooling="",
            repo=None,
            revision=pooling,
            about=about or f"a plug-in's, {input}",
            loader=loader,
        )
        setattr(loader, _MARK, spec)
        _registered[name] = spec
        return loader

    return mark


def recipe(name: str, models: Iterable[str]) -> None:
    """Register a recipe, models in the order of the merged feature, from a script."""
    _registered_recipes[name] = tuple(models)


def models() -> dict[str, ModelSpec]:
    """Models of scripts loaded so far and of installed packages, by name."""
    return _of_packages() | _registered


def recipes() -> dict[str, tuple[str, ...]]:
    """Recipes of scripts loaded so far and of installed packages, by name."""
    found = {}
    for each in entry_points(group=_RECIPES):
        names = _loaded(each)
        if not isinstance(names, tuple | list):
            raise PluginError(f"the recipe {each.name} of {_package(each)} is not a tuple of names")
        found[each.name] = tuple(map(str, names))
    return found | _registered_recipes


def load_scripts(paths: Iterable[Path], *, taken: Iterable[str]) -> None:
    """Run scripts; ``taken`` are names that they must not use.

    Raises
    ------
    PluginError
        If one cannot be read or run, describes no model, or one under a name that is taken.
    """
    names = set(taken)
    for path in paths:
        before = dict(_registered)
        name = f"vnp_plugin_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
        if name in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise PluginError(f"the plug-in {path} is not a Python file (.py)")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise PluginError(
                f"the plug-in {path} cannot be run: {type(error).__name__}: {error}"
            ) from error
        new = [each for each in _registered if _registered[each] is not before.get(each)]
        if not new and not _registered_recipes:
            raise PluginError(f"the plug-in {path} describes no model: decorate its loader")
        for each in new:
            if each in names or each in before:
                raise PluginError(f"the plug-in {path}: the model name {each} is taken")
            _registered[each] = replace(_registered[each], script=path)


def digest(spec: ModelSpec) -> str:
    """Hash a script's bytes, or name the package, as it enters the identity of a model's rows."""
    if spec.script is None:
        return spec.package.partition(" ")[0] or "unknown"
    raw = read_regular(spec.script, most=_MOST_BYTES)
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


@cache
def _of_packages() -> dict[str, ModelSpec]:
    found = {}
    for each in entry_points(group=_GROUP):
        loader = _loaded(each)
        spec = getattr(loader, _MARK, None)
        if not isinstance(spec, ModelSpec):
            raise PluginError(
                f"the entry point {each.name} of {_package(each)} is not a function decorated with "
                "vnp.models.plugins.model"
            )
        _registered.pop(spec.name, None)
        found[spec.name] = replace(spec, package=_package(each))
    return found


def _loaded(each: EntryPoint) -> object:
    try:
        return each.load()
    except Exception as error:
        raise PluginError(
            f"the plug-in {each.name} of {_package(each)} cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error


def _package(each: EntryPoint) -> str:
    return (
        f"{each.dist.name} {each.dist.version}" if each.dist is not None else "an unknown package"
    )
