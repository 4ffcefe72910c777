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
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from store.errors import DataError, StoreError, UsageError
from store.io.regular import read_regular
from vnp.models.spec import Loader, ModelSpec

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_GROUP, _RECIPES = "vnp.models", "vnp.recipes"
_MARK = "_vnp_model"
_MOST_BYTES = 1 << 24
_INPUTS = ("nucleotide", "protein", "both")

L = TypeVar("L", bound=Loader)

_registered: dict[str, ModelSpec] = {}  # of scripts
_marked: list[str] = []  # names in the order in which they were described
_ran: dict[Path, str] = {}  # SHA-256 of each script, as it was when it was run
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

    The function is called once, as ``load(device=..., precision=..., weights_dir=...)``: a name
    such as ``cuda:0``; ``float32``, ``bfloat16`` or ``float16``; a `Path` or None. It returns
    ``embed``, which turns n sequences, sorted by length, into n rows: an array, tensor or nested
    list (n, dim) of finite numbers. If the returned object has an attribute ``identity``, a text
    that says which weights these are, workers with another one are refused.

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
            pooling=pooling,
            repo=None,
            revision="",
            about=about or f"a plug-in's, {input}",
            loader=loader,
        )
        setattr(loader, _MARK, spec)
        _registered[name] = spec
        _marked.append(name)
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
    for each in _entry_points(_RECIPES):
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
        place = path.resolve()
        if path.suffix != ".py":
            raise PluginError(f"the plug-in {path} is not a Python file (.py)")
        try:
            raw = read_regular(path, most=_MOST_BYTES)
        except (OSError, StoreError) as error:
            raise PluginError(f"the plug-in {path} cannot be read: {error}") from error
        sha256 = hashlib.sha256(raw).hexdigest()
        if _ran.get(place) == sha256:
            continue
        models_before, recipes_before = dict(_registered), dict(_registered_recipes)
        # One that was changed since, as in a notebook, takes the place of what it was.
        old = [each for each, spec in _registered.items() if spec.script == place]
        for each in old:
            del _registered[each]
        try:
            _run(place, raw, shown=path, sha256=sha256, taken=names)
        except BaseException:
            _registered.clear()
            _registered.update(models_before)
            _registered_recipes.clear()
            _registered_recipes.update(recipes_before)
            raise
        _ran[place] = sha256


def _run(place: Path, raw: bytes, *, shown: Path, sha256: str, taken: set[str]) -> None:
    """Run a script, from the bytes whose hash is recorded."""
    before, recipes_before = dict(_registered), dict(_registered_recipes)
    name = f"vnp_plugin_{hashlib.sha256(str(place).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    first = len(_marked)
    try:
        exec(compile(raw, str(place), "exec"), module.__dict__)  # noqa: S102 - the user named it
    except (Exception, SystemExit) as error:  # one that exits would end the command, as if done
        del sys.modules[name]
        raise PluginError(
            f"the plug-in {shown} cannot be run: {type(error).__name__}: {error}"
        ) from error
    new = [each for each in _registered if _registered[each] is not before.get(each)]
    if not new and _registered_recipes == recipes_before:
        raise PluginError(f"the plug-in {shown} describes no model: decorate its loader")
    here = _marked[first:]
    for each in new:
        if here.count(each) > 1:
            raise PluginError(f"the plug-in {shown} describes two models called {each}")
        if each in taken or each in before:
            raise PluginError(f"the plug-in {shown}: the model name {each} is taken")
        _registered[each] = replace(_registered[each], script=place, digest=f"sha256:{sha256}")


def digest(spec: ModelSpec) -> str:
    """Hash of a script as it was run, or the package: part of the identity of a model's rows."""
    return spec.digest or spec.package.partition(" ")[0] or "unknown"


@cache
def _of_packages() -> dict[str, ModelSpec]:
    found = {}
    for each in _entry_points(_GROUP):
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


def _entry_points(group: str) -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points  # takes 20 ms, and many a command asks for none

    return entry_points(group=group)


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
