"""The interface between the workers and what computes embeddings.

A worker hands a block's sequences to ``tokenise``, possibly in a thread and one block ahead, and
the tokens to ``embed``, which gives one row per record in the order given. Everything between, the
cutting into batches, the device, the precision, is the encoder's own business; what of it decides
the numbers is told by ``provenance``.

Importing this module does not import torch; ``vnp.inference.load``, which makes encoders, does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from store.io.ragged import Ragged
from store.store import Store
from vnp.models.spec import ModelSpec
from vnp.models.tokens import Tokens

Warn = Callable[[str], None]
Between = Callable[[int], None]
MIXED = "mixed"  # in place of the precision in the identity of a store that allows any
Precision = Literal["default", "auto", "float32", "bfloat16", "float16", "fp8", "int8"]


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made the embeddings of a model."""

    # Must be equal for two workers that fill one store: model, weights, tokenizer, pooling,
    # precision. Values are short strings.
    identity: dict[str, str]
    # Worth knowing, free to differ: device, versions, attention, where the files came from.
    environment: dict[str, str] = field(default_factory=dict)
    # In int8 the scales that the identity names by their digest, ready for JSON.
    calibration: dict[str, Any] | None = None

    @property
    def calibrated(self) -> bool:
        """Whether the precision is one that has scales."""
        return self.identity.get("precision") == "int8"

    def identity_hash(self) -> str:
        """Hash of the identity, as in the certificate of every block: 16 hex digits."""
        text = json.dumps(self.identity, sort_keys=True).encode()
        return hashlib.sha256(text).hexdigest()[:16]

    def for_store(self, *, mixed_precision: bool) -> Provenance:
        """What a store holds workers to: of one of mixed precision not the precision."""
        if not mixed_precision:
            return self
        return Provenance(self.identity | {"precision": MIXED}, self.environment)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return its parts, ready for JSON."""
        parts: dict[str, dict[str, Any]] = {
            "identity": dict(self.identity), "environment": dict(self.environment)
        }  # fmt: skip
        return parts if self.calibration is None else parts | {"calibration": self.calibration}


class Encoder(Protocol):
    """One model on one device."""

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        ...

    @property
    def dim(self) -> int:
        """Numbers in an embedding."""
        ...

    @property
    def token_budget(self) -> int:
        """Most tokens in a batch now; halved when the device runs out of memory."""
        ...

    def provenance(self) -> Provenance:
        """Say what makes the embeddings, as of now."""
        ...

    def tokenise(self, nucleotide: Ragged, protein: Ragged) -> Tokens:
        """Tokenise records, reading the one of the two columns that the model takes.

        May be called from any thread, also while ``embed`` runs.

        Raises
        ------
        DataError
            If a sequence is empty.
        """
        ...

    def embed(self, tokens: Tokens, *, between: Between | None = None) -> NDArray[np.float32]:
        """Embed records.

        The rows depend on the tokens and the encoder's configuration alone: the same call gives
        the same bits. They may hold NaN or infinity; the caller looks.

        Parameters
        ----------
        tokens : Tokens
            Packed ids of n records.
        between : callable, optional
            Called after every batch with the number of records done so far; what it raises ends
            the call.

        Returns
        -------
        float32 array, shape (n, dim)
            In the order of the records.

        Raises
        ------
        RecordTooLongError
            If a single record exceeds the device's memory.
        """
        ...


class Run(Protocol):
    """Records on their way through a device."""

    @property
    def in_last_batch(self) -> bool:
        """Whether some are in the last batch on its way, or wait to share one with the next.

        Whoever waits for them leaves the device with nothing to do. Those that wait go on their way
        with the next ``submit``, or when ``result`` is called, or when the device has nothing else
        to do by the time ``ready`` is called: no record waits longer than that.
        """
        ...

    def ready(self) -> bool:
        """Whether ``result`` has nothing to wait for; what ``between`` raises passes here too."""
        ...

    def result(self) -> NDArray[np.float32]:
        """Wait for the rows; what ``between`` raises passes here too."""
        ...


@runtime_checkable
class PipelinedEncoder(Encoder, Protocol):
    """An encoder that takes the next records while the device is busy with the last.

    ``embed(tokens)`` is ``submit(tokens).result()``. A caller that submits the next block before it
    asks for the result of this one keeps the device from running dry. Call it from one thread.
    """

    @property
    def busy_seconds(self) -> float:
        """Seconds that the device has computed so far, by its own clock."""
        ...

    def qualify(self, store: Store, model: str) -> None:
        """Measure and check, in eight bits, that these do justice to a store's records.

        ``model`` is its name in the store.

        Raises
        ------
        QualityError
            If their embeddings differ from the usual precision's by more than a stated bound.
        """
        ...

    def submit(self, tokens: Tokens, *, between: Between | None = None) -> Run:
        """Start to embed; see ``Encoder.embed``. Errors may come here or with the result.

        Records of one call may share a batch with those of the next; rows are the same as alone.
        """
        ...
