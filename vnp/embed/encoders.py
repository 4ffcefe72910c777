"""The encoders of one worker: loaded when first needed, checked against the provenance."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np

from store.errors import DataError, NoRoomError, UsageError
from store.store import Store
from vnp.embed.config import WorkerConfig
from vnp.embed.imported import refuse_imported
from vnp.embed.precisions import UNKNOWN, begun_in
from vnp.inference.encoder import (
    MIXED,
    Encoder,
    PipelinedEncoder,
    Precision,
    Provenance,
)
from vnp.inference.quality import QualityError
from vnp.models.errors import UnknownModelError

log = logging.getLogger(__name__)

_OF_STORE = ("default", "auto")  # these take the precision that a store was begun in

_OTHER_WEIGHTS = (
    "Weights count as other ones if a single number differs, and if a file holds them in another "
    "type, as float16 in place of float32"
)


class ModelMismatchError(DataError):
    """The model at hand is not the one that the store's embeddings were made with."""


class AbsentPluginError(DataError):
    """A worker knows no model of that name, as it has not the plug-in; it costs that model."""


class ChangedPluginError(DataError):
    """A plug-in's code is not the one that the store's rows were made with; it costs its model."""


class Encoders:
    """Loads each model once and checks it against the provenance of the store to be filled."""

    def __init__(
        self,
        store: Store,
        *,
        config: WorkerConfig,
        load: Callable[..., Encoder],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._config = config
        self._load = load
        self._clock = clock
        self.fallbacks: list[str] = []  # what loading and running had to do differently
        self.loads: list[tuple[float, float]] = []  # when each model was loaded and checked
        self.measuring_seconds = 0.0  # of these, measuring and checking eight bits
        self._loaded: dict[str, Encoder] = {}
        self._auto: dict[str, str] = {}  # what was found of models whose precision was chosen
        self._lock = threading.Lock()

    @property
    def busy_seconds(self) -> float:
        """Seconds that the device has computed for these encoders, where it keeps a clock."""
        return sum(
            encoder.busy_seconds
            for encoder in self._loaded.values()
            if isinstance(encoder, PipelinedEncoder)
        )

    def get(self, model: str) -> Encoder:
        """Return the encoder of a model, loading it at the first call.

        Weights, tokenizer, pooling or precision unlike the store's are a ModelMismatchError, a
        plug-in's changed code is a ChangedPluginError, and embeddings that came from files of
        others are an ImportedModelError.
        """
        with self._lock:
            if model not in self._loaded:
                began = self._clock()
                self._loaded[model] = self._load_checked(model)
                self.loads.append((began, self._clock()))
            return self._loaded[model]

    def _load_checked(self, model: str) -> Encoder:
        refuse_imported(self._store, model)
        encoder = self._load_for(model)
        try:
            mine, recorded = self._pin(model, encoder)
        except NoRoomError as error:
            if self._config.precision != "auto":
                raise
            self._warn(str(error))
            self._auto[model] += "; the file has no room for the scales of int8"
            encoder = self._load_in(model, replace(self._config, precision="default"))
            mine, recorded = self._pin(model, encoder)
        precision = mine.identity.get("precision")
        theirs = _identity(recorded).get("precision", precision)
        if self._config.precision in _OF_STORE and theirs != precision:
            # Another worker was first, on a device that suggests another precision.
            encoder = self._load_for(model)
            mine, recorded = self._pin(model, encoder)
        elif (
            isinstance(encoder, PipelinedEncoder)
            and theirs == precision
            and mine.identity.get("calibration") != _identity(recorded).get("calibration")
        ):  # two workers measured scales at once, and the other's are recorded
            self._qualify(encoder, model)
            mine = encoder.provenance()
        self._compare(model, mine, recorded)
        return encoder

    def _load_for(self, model: str) -> Encoder:
        """Load a model in the precision asked for; with ``auto`` in the fastest that passes."""
        config = self._config
        if config.precision not in _OF_STORE or begun_in(self._store, model) != UNKNOWN:
            return self._load_in(model, config)
        faster = self._faster(model)
        if config.precision == "default":
            if faster:
                log.info(
                    "%s: --precision auto would try %s on records of this store first: up to 1.8 "
                    "times as fast", model, " and ".join(faster),
                )  # fmt: skip
            return self._load_in(model, config)
        found = []
        for precision in faster:
            try:
                encoder = self._load_in(model, replace(config, precision=precision))
            except QualityError as error:
                found.append(f"{precision} {error.lowest:.5f}")
                continue
            lowest = float(encoder.provenance().environment[f"{precision}_cosine_lowest"])
            found.append(f"{precision} {lowest:.5f}")
            if lowest >= config.precision_bound:
                return self._chosen(model, encoder, found)
            del encoder  # its memory is wanted
        return self._chosen(model, self._load_in(model, config), found)

    def _faster(self, model: str) -> tuple[Precision, ...]:
        if self._store.schema.mixed_precision or not self._store.n_rows:
            return ()
        from vnp.inference.kernels import faster_precisions

        return faster_precisions(
            self._store.schema.model(model).source or model, device=self._config.device
        )

    def _chosen(self, model: str, encoder: Encoder, found: list[str]) -> Encoder:
        """Say and keep what ``auto`` found."""
        precision = encoder.provenance().identity.get("precision", UNKNOWN)
        checked = ", ".join(found) or "nothing faster runs here"
        self._auto[model] = f"{checked}; at least {self._config.precision_bound:g} was asked for"
        log.info(
            "%s: precision auto takes %s (lowest cosine: %s)", model, precision, self._auto[model]
        )
        return encoder

    def _load_in(self, model: str, config: WorkerConfig) -> Encoder:
        try:
            encoder = load_for(self._store, model, config=config, load=self._load, warn=self._warn)
        except UnknownModelError as error:  # a plug-in that is not here costs its model alone
            raise AbsentPluginError(str(error)) from None
        if isinstance(encoder, PipelinedEncoder):
            if self._store.schema.mixed_precision and encoder.provenance().calibrated:
                raise UsageError(
                    f"{model} in int8 has scales that all workers of a store share, and a store of "
                    "mixed precision has no place for them; use --precision bfloat16"
                )
            self._qualify(encoder, model)
        return encoder

    def _qualify(self, encoder: PipelinedEncoder, model: str) -> None:
        """Have eight bits prove themselves on this store's own records."""
        began = self._clock()
        try:
            encoder.qualify(self._store, model)
        finally:
            self.measuring_seconds += self._clock() - began

    def _pin(self, model: str, encoder: Encoder) -> tuple[Provenance, dict[str, Any]]:
        """Record a model's provenance unless the store has one: this one, and the recorded one."""
        mixed = self._store.schema.mixed_precision
        mine = encoder.provenance().for_store(mixed_precision=mixed)
        if model in self._auto:
            mine = replace(mine, environment=mine.environment | {"auto": self._auto[model]})
        if self._store.provenance(model) is None:
            self._check_certificates(model, mine)
        return mine, self._store.pin_provenance(model, mine.as_dict())

    def _compare(self, model: str, mine: Provenance, recorded: dict[str, Any]) -> None:
        """Refuse a model that is not the one recorded."""
        theirs = _identity(recorded)
        if not theirs and _was_imported(recorded):
            self._warn(
                f"{model}: some embeddings of this store were imported; which weights they were "
                "made with is not recorded, so whether these are the same is unknown"
            )
            return
        differences = [
            f"{key} is {mine.identity.get(key)} here and {theirs.get(key)} in the store"
            for key in sorted(mine.identity.keys() | theirs.keys())
            if mine.identity.get(key) != theirs.get(key)
        ]
        scripts = [each.get("plugin") for each in (mine.identity, theirs)]
        if None not in scripts and scripts[0] != scripts[1]:
            raise ChangedPluginError(
                f"the plug-in of {model} is not the one that its rows here were made with: "
                f"{scripts[0]} now, {scripts[1]} recorded. Changed code is another model: bring "
                "the old code back, or give the model in the plug-in a new name and add it with "
                "'vnp models --add NAME STORE'"
            )
        only_precision = len(differences) == 1 and differences[0].startswith("precision ")
        same_weights = mine.identity.get("weights") == theirs.get("weights")
        if differences:
            raise ModelMismatchError(
                f"{model} is not the model this store was begun with: {'; '.join(differences)}. "
                "Use the same weights and precision"
                + (f" (--precision {theirs['precision']})" if only_precision else "")
                + ", or a new store"
                + (", made with 'vnp init --mixed-precision'" if only_precision else "")
                + ("" if same_weights else f". {_OTHER_WEIGHTS}")
            )

    def _check_certificates(self, model: str, mine: Provenance) -> None:
        """Without provenance, continue a model only if its first filled block has this identity."""
        for block in np.flatnonzero(self._store.rows_filled(model))[:1].tolist():
            certificate = self._store.certificate(model, block)
            made_by = certificate.details.get("identity") if certificate is not None else None
            if made_by != mine.identity_hash():
                raise ModelMismatchError(
                    f"{model} has filled blocks but its provenance is lost, and they were made "
                    "with other weights, tokenizer or precision than those at hand"
                )

    def _warn(self, message: str) -> None:
        if message not in self.fallbacks:  # once, though each model is loaded on the same device
            self.fallbacks.append(message)
            log.warning(message)


def load_for(
    store: Store,
    model: str,
    *,
    config: WorkerConfig,
    load: Callable[..., Encoder],
    warn: Callable[[str], None],
) -> Encoder:
    """Load a model for a store: in the store's precision, unless another is asked for."""
    precision = config.precision
    if precision in _OF_STORE:
        found = begun_in(store, model)
        precision = cast("Precision", "auto" if found in (MIXED, UNKNOWN) else found)
    return load_in(store, model, precision=precision, config=config, load=load, warn=warn)


def load_in(
    store: Store,
    model: str,
    *,
    precision: Precision,
    config: WorkerConfig,
    load: Callable[..., Encoder],
    warn: Callable[[str], None],
) -> Encoder:
    """Load a store's model in a precision, whatever the store and the configuration say of it.

    A model of another width than the store's is a ModelMismatchError.
    """
    encoder = load(
        store.schema.model(model).source or model,
        device=config.device,
        precision=precision,
        weights_dir=config.weights_dir,
        token_budget=config.token_budget,
        threads=config.threads,
        warn=warn,
    )
    dim = store.schema.model(model).dim
    if encoder.dim != dim:
        raise ModelMismatchError(
            f"{model} gives {encoder.dim} numbers per record, the store holds {dim}"
        )
    return encoder


def check_weights(store: Store, model: str, encoder: Encoder) -> None:
    """Refuse, as a ModelMismatchError, weights that are not those recorded of a store's rows."""
    recorded = _identity(store.provenance(model) or {}).get("weights")
    if recorded not in (None, encoder.provenance().identity.get("weights")):
        raise ModelMismatchError(
            f"{model}: the weights at hand are not those that the store was made with"
        )


def _was_imported(provenance: dict[str, Any]) -> bool:
    environment = provenance.get("environment")
    return isinstance(environment, dict) and isinstance(environment.get("imported"), str)


def _identity(provenance: dict[str, Any]) -> dict[str, str]:
    identity = provenance.get("identity")
    if not isinstance(identity, dict):
        return {}
    return {str(key): str(value) for key, value in identity.items()}
