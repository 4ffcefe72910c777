"""What a faster precision would change: cosines, speed, and the calls of a classifier.

The records are those that ``--precision auto`` checks. The feature rows of the classifier are made
of all its models in the precision compared with, then again with one band in the faster precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from store.errors import DataError
from store.store import Store
from vnp.classify.features import choose_models
from vnp.classify.files import Classifier
from vnp.embed.config import WorkerConfig
from vnp.embed.fill import require_rows
from vnp.embed.imported import models_made_here
from vnp.embed.progress import Progress
from vnp.embed.trial import Trial, try_precision
from vnp.inference.encoder import Encoder, Precision
from vnp.inference.kernels import left_out
from vnp.inference.load import compared_precisions, load_encoder
from vnp.inference.quality import LEAST_OF_AUTO, compare, sample


@dataclass(frozen=True, slots=True)
class FasterPrecision:
    """One model in a faster precision."""

    precision: str
    lowest: float  # cosine with the precision compared with, of the worst record
    median: float
    passes: bool  # whether ``--precision auto`` would take it
    records_per_second: float  # of the sample, the second time
    calls_changed: int | None  # records called otherwise; None: no classifier, or not its model
    calls_changed_share: float | None  # of the records compared


@dataclass(frozen=True, slots=True)
class ModelPrecisions:
    """One model on this machine's device."""

    model: str
    # The precision compared with, and the same of it; None if nothing faster runs here.
    precision: str | None
    device: str | None
    records_per_second: float | None
    faster: tuple[FasterPrecision, ...]  # the fastest first
    left_out: dict[str, str]  # precisions in eight bits that cannot be compared here, and why


@dataclass(frozen=True, slots=True)
class PrecisionsReport:
    """What each faster precision would change."""

    store: str
    records: int  # compared, of each model
    bound: float  # least cosine of the worst record that ``--precision auto`` takes
    models: tuple[ModelPrecisions, ...]
    classifier: str | None  # its file
    features: tuple[str, ...]  # its models, left to right
    viral: int | None  # records that it calls viral in the precisions compared with

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return asdict(self)


def compare_precisions(
    store: Store,
    *,
    models: Sequence[str] = (),
    classifier: Classifier | None = None,
    config: WorkerConfig | None = None,
    load: Callable[..., Encoder] = load_encoder,
) -> PrecisionsReport:
    """Embed a sample of a store's records in each faster precision; the store stays as it is.

    Parameters
    ----------
    store
        A store with rows; none need be embedded.
    models
        Models to compare, as `vnp.models.held.held_model` takes them; none: all of the store but
        imported ones.
    classifier
        Whose calls are compared too. A record is viral if its score2 is at least its score1.
    config
        Device, weights and token budget.

    Raises
    ------
    UsageError
        If the store has no rows or no such model, or the classifier does not fit it.
    DataError
        If a model's weights are not the store's, or a model of the classifier was imported.
    """
    require_rows(store)
    settings = config or WorkerConfig()
    features: tuple[str, ...] = ()
    if classifier is not None:
        advice = "give a classifier that was trained on models of this store"
        features = choose_models(store, classifier.card, advice=advice)
    chosen = models_made_here(store, models)
    plans = {model: _plan(store, model, settings) for model in (*chosen, *features)}
    sequences = sample(store)
    compared = [model for model in chosen if plans[model][1]]
    called = features if set(features) & set(compared) else ()
    needed = dict.fromkeys((*compared, *called))
    steps = len(needed) + sum(len(plans[model][1]) for model in compared)
    with Progress("precisions", total=steps, unit="runs") as progress:
        done = 0

        def tried(model: str, precision: Precision) -> Trial:
            nonlocal done
            trial = try_precision(
                store, model, sequences, precision=precision, config=settings, load=load
            )
            done += 1
            progress.update(done)
            return trial

        usual = {model: tried(model, plans[model][0]) for model in needed}
        calls = None
        if classifier is not None and called:
            calls = _Calls(classifier, {model: usual[model] for model in called})
        faster = {
            model: tuple(
                _faster(model, usual[model], tried(model, precision), calls)
                for precision in plans[model][1]
            )
            for model in compared
        }
    return PrecisionsReport(
        store=str(store.path),
        records=len(sequences[0]),
        bound=LEAST_OF_AUTO,
        models=tuple(
            _of_model(model, usual, faster, _left_out(store, model, settings)) for model in chosen
        ),
        classifier=None if classifier is None else str(classifier.path),
        features=features,
        viral=None if calls is None else int(calls.viral.sum()),
    )


class _Calls:
    """Calls of a classifier, with all its models in the precisions compared with."""

    def __init__(self, classifier: Classifier, usual: Mapping[str, Trial]) -> None:
        self._module = classifier.module
        self._bands = {model: _kept(trial) for model, trial in usual.items()}
        for model, band in self._bands.items():
            if not np.isfinite(band).all():
                raise DataError(
                    f"{model} in {usual[model].precision} gives NaN, or numbers that a store's "
                    "float16 cannot hold, for records of this store"
                )
        self.viral = self._viral(self._bands)

    def changed(self, model: str, trial: Trial) -> int | None:
        """How many records are called otherwise, or could not be kept; None of other models."""
        if model not in self._bands:
            return None
        band = _kept(trial)
        lost = ~np.isfinite(band).all(axis=1)
        band[lost] = 0
        return int((lost | (self._viral(self._bands | {model: band}) != self.viral)).sum())

    def _viral(self, bands: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_]:
        features = np.concatenate(list(bands.values()), axis=1)
        scores = self._module.probabilities(torch.from_numpy(features)).numpy()
        viral: NDArray[np.bool_] = scores[:, 1] >= scores[:, 0]
        return viral


def _kept(trial: Trial) -> NDArray[np.float32]:
    """Rows as a store keeps them, as a classifier reads them."""
    with np.errstate(over="ignore"):
        return trial.rows.astype(np.float16).astype(np.float32)


def _plan(
    store: Store, model: str, config: WorkerConfig
) -> tuple[Precision, tuple[Precision, ...]]:
    source = store.schema.model(model).source or model
    usual, faster = compared_precisions(source, device=config.device)
    if store.schema.mixed_precision:
        faster = tuple(precision for precision in faster if precision != "int8")
    return usual, faster


def _left_out(store: Store, model: str, config: WorkerConfig) -> dict[str, str]:
    source = store.schema.model(model).source or model
    found = left_out(source, device=config.device)
    if store.schema.mixed_precision:
        found.setdefault("int8", "a store of mixed precision has no place for its scales")
    return found


def _faster(model: str, usual: Trial, trial: Trial, calls: _Calls | None) -> FasterPrecision:
    found = compare(trial.rows, usual.rows, precision=trial.precision)
    changed = None if calls is None else calls.changed(model, trial)
    return FasterPrecision(
        precision=trial.precision,
        lowest=found.lowest,
        median=found.median,
        passes=found.lowest >= LEAST_OF_AUTO,
        records_per_second=trial.records_per_second,
        calls_changed=changed,
        calls_changed_share=None if changed is None else changed / found.records,
    )


def _of_model(
    model: str,
    usual: Mapping[str, Trial],
    faster: Mapping[str, tuple[FasterPrecision, ...]],
    reasons: dict[str, str],
) -> ModelPrecisions:
    if model not in faster:
        return ModelPrecisions(model, None, None, None, (), reasons)
    trial = usual[model]
    return ModelPrecisions(
        model, trial.precision, trial.device, trial.records_per_second, faster[model], reasons
    )
