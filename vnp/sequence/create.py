"""Making an empty store for the models of a recipe, or finding the one that is there."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from store.errors import UsageError
from store.location import Location
from store.open import check_new, create_store, is_there, open_store
from store.schema import DEFAULT_BLOCK_ROWS, STANDARD_CODE, Model
from store.store import Store
from vnp.models import registry
from vnp.sequence.genetic_codes import remark, translate_alike
from vnp.sequence.segments import PUBLISHED, WHOLE, described

log = logging.getLogger(__name__)

DEFAULT_RECIPE = "virnucpro"
DEFAULT_SEGMENT = 500


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What a store is made as, or must have been made as; None: the default, or any."""

    recipe: str | None = None
    segment_length: int | None = None  # bases; 0: each contig is one window
    genetic_code: int | None = None

    def make(self, path: Location, *, if_missing: bool = False) -> InitReport:
        """Make such a store; see `create`."""
        length, code = self.segment_length, self.genetic_code
        return create(
            path,
            recipe=self.recipe,
            segment_length=DEFAULT_SEGMENT if length is None else length,
            genetic_code=STANDARD_CODE if code is None else code,
            if_missing=if_missing,
        )

    def check(self, store: Store) -> None:
        """Refuse a store that is not what was asked for: a `UsageError` names both."""
        if self.recipe is not None:
            held = {model.name for model in store.schema.models}
            names = map(registry.name_in_store, registry.sources_of(self.recipe))
            _refuse_missing(store, [name for name in names if name not in held])
        _check_same(store, self.segment_length, self.genetic_code, advice="leave --code out")


@dataclass(frozen=True, slots=True)
class InitReport:
    """The store that was made or found."""

    store: str  # its path
    made: bool  # False: it was there already
    segment_length: int  # bases of a window; 0: a contig is one window
    block_rows: int  # rows of a block
    models: dict[str, int]  # numbers a row, by model
    genetic_code: int = STANDARD_CODE  # NCBI's number of the translation table

    @classmethod
    def of(cls, store: Store, *, made: bool) -> InitReport:
        """Describe a store that was made or found."""
        schema = store.schema
        return cls(
            store=str(store.path),
            made=made,
            segment_length=schema.segment_length,
            block_rows=schema.block_rows,
            models={model.name: model.dim for model in schema.models},
            genetic_code=schema.genetic_code,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return asdict(self)


def create(
    path: Location,
    *,
    recipe: str | None = None,
    models: Sequence[str] = (),
    segment_length: int = DEFAULT_SEGMENT,
    block_rows: int = DEFAULT_BLOCK_ROWS,
    mixed_precision: bool = False,
    genetic_code: int = STANDARD_CODE,
    if_missing: bool = False,
    weights_dir: Path | None = None,
) -> InitReport:
    """Make an empty store; whatever can be refused is refused before the hub is asked.

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
    weights_dir
        Folder in which files of models of the Hugging Face hub are looked for first.

    Raises
    ------
    UsageError
        If the path is taken, the store there is another one than asked for, or a name is unknown.
    """
    if models and recipe:
        raise UsageError("give either --recipe or --model, not both")
    sources = tuple(models) or registry.sources_of(recipe or DEFAULT_RECIPE)
    registry.check_names(sources)
    about_code = remark(genetic_code)
    if not (if_missing and is_there(path)):
        check_new(path, block_rows=block_rows, segment_length=segment_length)
    specs = [registry.model(source, weights_dir=weights_dir) for source in sources]
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
        lacking = [model.name for model in wanted if model not in store.schema.models]
        _refuse_missing(store, lacking)
        advice = f"give --code {store.schema.genetic_code}"
        _check_same(store, segment_length, genetic_code, advice=advice)
        _check_mixed(store, asked=mixed_precision)
    if made and about_code:
        log.info(about_code)
    if made and segment_length not in (WHOLE, *PUBLISHED):
        log.info(
            f"{described(segment_length)}: published classifiers are for segments of "
            f"{' and '.join(map(str, PUBLISHED))} bp; for these one has to be trained ('vnp train')"
        )
    if any(spec.demo for spec in specs):
        log.info(
            "the demo models are small models with random weights, for trying the pipeline; "
            "their embeddings mean nothing"
        )
    return InitReport.of(store, made=made)


def _refuse_missing(store: Store, missing: Sequence[str]) -> None:
    """Refuse a store that lacks models which were asked for."""
    if missing:
        has = ", ".join(model.name for model in store.schema.models)
        raise UsageError(
            f"{store.path} holds {has}, not {', '.join(missing)}: choose another store, the "
            "recipe it was made with, or add the model with 'vnp models --add'"
        )


def _check_same(
    store: Store, segment_length: int | None, genetic_code: int | None, *, advice: str
) -> None:
    """Refuse a store that is another one than was asked for; None: anything goes."""
    if segment_length not in (None, store.schema.segment_length):
        assert segment_length is not None
        raise UsageError(
            f"{store.path} holds {described(store.schema.segment_length)}, not "
            f"{described(segment_length)}: choose another store"
        )
    if genetic_code not in (None, store.schema.genetic_code):
        raise UsageError(
            f"{store.path} was made for genetic code {store.schema.genetic_code}, not "
            f"{genetic_code}: {advice}, or choose another store"
            + (
                f" ({genetic_code} has its stops and translation, so the records are the same)"
                if genetic_code is not None
                and translate_alike(genetic_code, store.schema.genetic_code)
                else ""
            )
        )


def _check_mixed(store: Store, *, asked: bool) -> None:
    if asked and not store.schema.mixed_precision:
        raise UsageError(
            f"{store.path} was made without --mixed-precision: choose another store, or leave it "
            "out"
        )
