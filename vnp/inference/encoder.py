"""The interface between the workers and whatever computes embeddings.

A worker hands a block's sequences to ``tokenise``, possibly in a thread and one block ahead, and
the tokens to ``embed``, which gives one row per record in the order given. Everything between, the
cutting into batches, the device, the precision, is the encoder's own business; what of it decides
the numbers is told by ``provenance``.

Importing this module does not import torch; ``load_encoder`` does.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from store.io.ragged import Ragged
from store.store import Store
from vnp.models import registry
from vnp.models.registry import ModelSpec
from vnp.models.tokens import Tokens

Warn = Callable[[str], None]
Between = Callable[[int], None]
Precision = Literal["auto", "float32", "bfloat16", "float16", "fp8"]


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made the embeddings of a model."""

    # Must be equal for two workers that fill one store: model, weights, tokenizer, pooling,
    # precision. Values are short strings.
    identity: dict[str, str]
    # Worth knowing, free to differ: device, versions, attention, where the files came from.
    environment: dict[str, str] = field(default_factory=dict)

    def identity_hash(self) -> str:
        """Hash of the identity, as it stands in the certificate of every block: 16 hex digits."""
        text = json.dumps(self.identity, sort_keys=True).encode()
        return hashlib.sha256(text).hexdigest()[:16]

    def as_dict(self) -> dict[str, dict[str, str]]:
        """Return both parts, ready for JSON."""
        return {"identity": dict(self.identity), "environment": dict(self.environment)}


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

    def qualify(self, store: Store) -> None:
        """Check, in a precision that calls for it, that it does justice to a store's records.

        Raises
        ------
        QualityError
            If their embeddings differ from the usual precision's by more than a stated bound.
        """
        ...

    def submit(self, tokens: Tokens, *, between: Between | None = None) -> Run:
        """Start to embed; see ``Encoder.embed``. Errors may come here or with the result."""
        ...


def load_encoder(
    name: str,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    weights_dir: Path | None = None,
    token_budget: int | None = None,
    threads: int | None = None,
    warn: Warn | None = None,
    say: Warn | None = None,
) -> Encoder:
    """Load a model onto a device.

    Parameters
    ----------
    name : str
        A name of the registry.
    device : str
        ``auto`` (a CUDA device if there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.
    precision : {"auto", "float32", "bfloat16", "float16", "fp8"}
        Arithmetic of the layers. ``auto``: float32 on the CPU, bfloat16 on CUDA devices from
        compute capability 8.0, float16 on older ones. ``fp8``: matrix products of ESM-2 in fp8, on
        CUDA devices from compute capability 8.9. Pooling is always in float32.
    weights_dir : Path, optional
        Folder to look for the model's files in before the Hugging Face cache and hub.
    token_budget : int, optional
        Most tokens in a batch; by default what suits the device.
    threads : int, optional
        Threads of the CPU to use; by default as many as the process may run on.
    warn : callable, optional
        Told, in one sentence, whatever a user should know: fall-backs, memory running out. By
        default it is written to standard error.
    say : callable, optional
        Told what takes a while and is as it should be; by default nobody is.

    Raises
    ------
    UsageError
        If the name, the device, the precision or the folder is not there.
    WeightsNotFoundError, WeightsError
        If the files cannot be had or are not those of the model.
    """
    spec = registry.model(name)
    from vnp.inference import torch_encoder

    return torch_encoder.load(
        spec,
        device=device,
        precision=precision,
        weights_dir=weights_dir,
        token_budget=token_budget,
        threads=threads,
        warn=warn or _to_stderr,
        say=say or _to_nobody,
    )


def _to_nobody(_message: str) -> None:
    """Say nothing."""


def _to_stderr(message: str) -> None:
    print(f"vnp: {message}", file=sys.stderr, flush=True)
