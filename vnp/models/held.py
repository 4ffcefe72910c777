"""The models of a store, by whichever name a user has for them."""

from __future__ import annotations

from collections.abc import Iterable

from store.errors import UsageError
from store.io.words import nearest, not_held
from store.schema import Schema
from vnp.models import registry
from vnp.models.errors import UnknownModelError
from vnp.models.spec import HUB


def held_model(schema: Schema, asked: str) -> str:
    """Name of the store's model that is meant.

    Parameters
    ----------
    schema
        Of the store.
    asked
        The store's own name of it, or what it was asked for by: ``esm2_3b@layer=24``,
        ``hf:ORG/NAME@REVISION``.

    Raises
    ------
    UsageError
        If the store has no such model, with the one nearest to it, or if an option behind the
        ``@`` is wrong.
    """
    held = {model.name: model.source for model in schema.models}
    if asked in held:
        return asked
    for name, source in held.items():
        if asked == source:
            return name
    name = asked
    if "@" in asked or asked.startswith(HUB):
        try:
            name = registry.name_in_store(asked)
        except UnknownModelError:  # of a plug-in that is not here, or of nothing
            name = asked
    if name in held and _fits(asked, held[name]):
        return name
    sources = [source for source in held.values() if source]
    near = nearest(name, held) or nearest(asked, sources)
    raise UsageError(not_held("model", asked, held, near=near))


def held_models(schema: Schema, asked: Iterable[str]) -> tuple[str, ...]:
    """Names of the store's models that are meant; see `held_model`."""
    return tuple(held_model(schema, each) for each in asked)


def _fits(asked: str, source: str) -> bool:
    """Whether a model that was made from ``source`` reads what is asked for: no name tells it."""
    _, _, options = asked.partition("@")
    wanted = [each for each in options.split(",") if each.startswith("input=")]
    return all(each in source.partition("@")[2].split(",") for each in wanted)
