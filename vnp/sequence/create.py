"""Making an empty store for the models of a recipe, or finding the one that is there."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from store.errors import UsageError
from store.location import Location
from store.open import create_store, is_there, open_store
from store.schema import DEFAULT_BLOCK_ROWS, STANDARD_CODE, Model
from store.store import Store
from vnp.models import registry
from vnp.sequence.genetic_codes import remark
from vnp.sequence.segments import described

log = logging.getLogger(__name__)

DEFAULT_RECIPE = "virnucpro"


@dataclass(frozen=True, slots=True)
class InitReport:
    """The store that was made or found."""

    store: str  # its path
    made: bool  # False: it was there already
    segment_length: int  # bases of a window; 0: a contig is one window
    block_rows: int  # rows of a block
    models: dict[str, int]  # numbers a row, by model
    genetic_code: int = STANDARD_CODE  # NCBI's number of the translation table

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return asdict(self)


def create(
    path: Location,
    *,
    recipe: str | None = None,
    models: Sequence[str] = (),
    segment_length: int = 500,
    block_rows: int = DEFAULT_BLOCK_ROWS,
    mixed_precision: bool = False,
    genetic_code: int = STANDARD_CODE,
    if_missing: bool = False,
) -> InitReport:
    """Make an empty store.

    Parameters
    ----------
    path
        Where; the suffix says which kind (`store.open`).
    recipe, models
        Name of a recipe (`DEFAULT_RECIPE` if neither is given), or the names of models.
    segment_length
        Bases of the windows that contigs are cut into; 0: each contig is one window.
    block_rows
        Rows of a block.
    mixed_precision
        Whether workers of unlike precisions may fill the store; each block's is in its certificate.
    genetic_code
        NCBI's number of the translation table by which records are made.
    if_missing
        Accept a store that exists with these models, this segment length and this code.

    Raises
    ------
    UsageError
        If the path is taken, the store there is another one than asked for, or a name is unknown.
    """
    if models and recipe:
        raise UsageError("give either --recipe or --model, not both")
    if models:
        specs = tuple(registry.model(name) for name in models)
    else:
        specs = registry.recipe(recipe or DEFAULT_RECIPE)
    about_code = remark(genetic_code)
    wanted = tuple(Model(spec.name, spec.embedding_dim, spec.source) for spec in specs)
    made = True
    try:
        store = create_store(
            path,
            models=wanted,
            segment_length=segment_length,
            block_rows=block_rows,
            mixed_precision=mixed_precision,
            genetic_code=genetic_code,
        )
    except UsageError:
        if not if_missing or not is_there(path):
            raise
        made = False
        store = open_store(path)
        _check_same(store, wanted, segment_length, genetic_code, mixed_precision=mixed_precision)
    if made and about_code:
        log.info(about_code)
    if any(spec.demo for spec in specs):
        log.info(
            "the demo models are small models with random weights, for trying the pipeline; "
            "their embeddings mean nothing"
        )
    return InitReport(
        store=str(store.path),
        made=made,
        segment_length=store.schema.segment_length,
        block_rows=store.schema.block_rows,
        models={model.name: model.dim for model in store.schema.models},
        genetic_code=store.schema.genetic_code,
    )


def _check_same(
    store: Store,
    models: tuple[Model, ...],
    segment_length: int,
    genetic_code: int,
    *,
    mixed_precision: bool,
) -> None:
    """Refuse to go on with a store that is another one than was asked for."""
    missing = [model.name for model in models if model not in store.schema.models]
    if missing:
        has = ", ".join(model.name for model in store.schema.models)
        raise UsageError(
            f"{store.path} holds {has}, not {', '.join(missing)}: choose another store, the "
            "recipe it was made with, or add the model with 'vnp models --add'"
        )
    if store.schema.segment_length != segment_length:
        raise UsageError(
            f"{store.path} holds {described(store.schema.segment_length)}, not "
            f"{described(segment_length)}: choose another store"
        )
    if store.schema.genetic_code != genetic_code:
        raise UsageError(
            f"{store.path} was made for genetic code {store.schema.genetic_code}, not "
            f"{genetic_code}: give --code {store.schema.genetic_code}, or choose another store"
        )
    if mixed_precision and not store.schema.mixed_precision:
        raise UsageError(
            f"{store.path} was made without --mixed-precision: choose another store, or leave it "
            "out"
        )
