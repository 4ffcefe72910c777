"""The encoders of one worker: loaded when first needed, held to what the store was begun with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import cast

import numpy as np

from store.errors import DataError
from store.store import Store
from vnp.embed.config import WorkerConfig
from vnp.inference.encoder import Encoder, PipelinedEncoder, Precision, Provenance, load_encoder


class ModelMismatchError(DataError):
    """The model at hand is not the one that the store's embeddings were made with."""


class Encoders:
    """Loads each model once and checks it against the store's provenance.

    Parameters
    ----------
    store
        The store to be filled.
    config
        Device, precision and where the weights are.
    say
        Told about fall-backs.
    load
        Loads an encoder; tests put their own here.
    """

    def __init__(
        self,
        store: Store,
        *,
        config: WorkerConfig,
        say: Callable[[str], None],
        load: Callable[..., Encoder] | None = None,
    ) -> None:
        self._store = store
        self._config = config
        self._say = say
        self._load = load or load_encoder
        self._loaded: dict[str, Encoder] = {}
        self._fallbacks: list[str] = []
        self._loads: list[tuple[float, float]] = []
        self._lock = threading.Lock()

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """What loading and running had to do differently, in the order it happened."""
        return tuple(self._fallbacks)

    @property
    def loads(self) -> tuple[tuple[float, float], ...]:
        """When each model was loaded and checked: begin and end, by `time.monotonic`."""
        return tuple(self._loads)

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

        Raises
        ------
        ModelMismatchError
            If weights, tokenizer, pooling or precision differ from the store's.
        """
        with self._lock:
            if model not in self._loaded:
                began = time.monotonic()
                self._loaded[model] = self._load_checked(model)
                self._loads.append((began, time.monotonic()))
            return self._loaded[model]

    def _load_checked(self, model: str) -> Encoder:
        standing = self._store.provenance(model)
        precision = self._config.precision
        if precision == "auto" and standing is not None:
            precision = cast("Precision", _identity(standing).get("precision", "auto"))
        encoder = self._load(
            model,
            device=self._config.device,
            precision=precision,
            weights_dir=self._config.weights_dir,
            token_budget=self._config.token_budget,
            threads=self._config.threads,
            warn=self._warn,
            say=self._say,
        )
        dim = self._store.schema.model(model).dim
        if encoder.dim != dim:
            raise ModelMismatchError(
                f"{model} gives {encoder.dim} numbers a record, the store holds {dim}"
            )
        if isinstance(encoder, PipelinedEncoder):
            encoder.qualify(self._store)  # fp8 has to prove itself on this store's own records
        mine = encoder.provenance()
        if standing is None:
            self._check_certificates(model, mine)
        standing = self._store.pin_provenance(model, mine.as_dict())
        theirs = _identity(standing)
        if not theirs and _was_imported(standing):
            self._warn(
                f"{model}: some embeddings of this store were imported; with which weights they "
                "were made is not recorded, so nobody can tell whether these are the same"
            )
            return encoder
        differences = [
            f"{key} is {mine.identity.get(key)} here and {theirs.get(key)} in the store"
            for key in sorted(mine.identity.keys() | theirs.keys())
            if mine.identity.get(key) != theirs.get(key)
        ]
        if differences:
            raise ModelMismatchError(
                f"{model} is not the model this store was begun with: {'; '.join(differences)}. "
                "Use the same weights and precision, or a new store"
            )
        return encoder

    def _check_certificates(self, model: str, mine: Provenance) -> None:
        """Refuse to begin a model anew whose blocks, without provenance, are another's."""
        for block in np.flatnonzero(self._store.rows_filled(model))[:1].tolist():
            certificate = self._store.certificate(model, block)
            made_by = certificate.details.get("identity") if certificate is not None else None
            if made_by != mine.identity_hash():
                raise ModelMismatchError(
                    f"{model} has filled blocks but its provenance is lost, and they were made "
                    "with other weights, tokenizer or precision than those at hand"
                )

    def _warn(self, message: str) -> None:
        if message not in self._fallbacks:
            self._fallbacks.append(message)
        self._say(message)


def _was_imported(provenance: dict[str, object]) -> bool:
    environment = provenance.get("environment")
    return isinstance(environment, dict) and isinstance(environment.get("imported"), str)


def _identity(provenance: dict[str, object]) -> dict[str, str]:
    identity = provenance.get("identity")
    if not isinstance(identity, dict):
        return {}
    return {str(key): str(value) for key, value in identity.items()}
