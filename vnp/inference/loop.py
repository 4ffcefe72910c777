"""A model as an encoder, one batch after the other: all that a CPU needs.

Batches hold neighbours in order of length, about evenly filled and without padding.
"""

from __future__ import annotations

import abc
from typing import Any, Protocol, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from store.io.ragged import Ragged
from vnp.inference.batch_layout import BatchLayout, plan_layout, pooled_span
from vnp.inference.device import Placement, is_out_of_memory
from vnp.inference.encoder import Between, Provenance, Warn
from vnp.models.errors import RecordTooLongError
from vnp.models.packing import Batch, padded_rows, plan
from vnp.models.pooling import parts_of
from vnp.models.spec import ModelSpec
from vnp.models.tokens import Tokenise, Tokens


class Workspace(Protocol):
    """Buffers of a model."""

    rows: int  # the most that a batch may have


class Engine(Protocol):
    """A model on the operations of ``vnp.inference.ops``."""

    padding_id: int  # token id of padding

    def workspace(self, rows: int) -> Workspace:
        """Make buffers for batches of up to ``rows`` rows."""
        ...

    def __call__(self, layout: BatchLayout, work: Any, out_nD: Tensor) -> None:
        """Encode a batch in a workspace of its own kind; write the row of each record, float32."""
        ...

    def states(self, layout: BatchLayout, work: Any) -> Tensor:
        """Encode a batch; return the hidden states of the chosen layer, float32 (T, D)."""
        ...


class Settings(TypedDict):
    """What every encoder is made with, beside its model and tokenizer."""

    placement: Placement
    token_budget: int  # most tokens in a batch
    identity: dict[str, str]  # see `vnp.inference.encoder.Provenance`
    environment: dict[str, str]
    warn: Warn  # called with one sentence for each fallback


class BatchEncoder(abc.ABC):
    """An encoder (see ``vnp.inference.encoder.Encoder``) that embeds batch after batch."""

    def __init__(
        self,
        spec: ModelSpec,
        tokenizer: Tokenise,
        **settings: Unpack[Settings],
    ) -> None:
        self.spec = spec
        self.token_budget = settings["token_budget"]
        self.environment = settings["environment"]
        self._tokenizer = tokenizer
        self._placement = settings["placement"]
        self._identity = settings["identity"]
        self._warn = settings["warn"]

    @property
    def dim(self) -> int:
        """Numbers in an embedding."""
        return self.spec.embedding_dim

    def identify_by(self, **more: str) -> None:
        """Add to what identifies this encoder, before it is first asked for its provenance."""
        self._identity = {**self._identity, **more}

    def provenance(self) -> Provenance:
        """Say what makes the embeddings, as of now."""
        return Provenance(
            identity=dict(self._identity),
            environment=self.environment | {"token_budget": str(self.token_budget)},
        )

    def tokenise(self, nucleotide: Ragged, protein: Ragged) -> Tokens:
        """Tokenise the column that the model reads."""
        return self._tokenizer(protein if self.spec.input == "protein" else nucleotide)

    def embed(self, tokens: Tokens, *, between: Between | None = None) -> NDArray[np.float32]:
        """Embed records; see ``vnp.inference.encoder.Encoder.embed``."""
        while True:
            # The whole call starts again with a smaller budget, so that its rows depend on one
            # budget and not on how far the first attempt came.
            out = np.empty((len(tokens), self.dim), dtype=np.float32)
            done = 0
            for batch in plan(tokens.lengths, token_budget=self.token_budget):
                try:
                    out[batch.records] = self._rows(batch, tokens)
                except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
                    break
                done += len(batch.records)
                if between is not None:
                    between(done)
            else:
                return out
            # Out of the except clause, where the failed attempt's tensors are gone.
            self.reduce_budget(batch, len(tokens))

    def reduce_budget(self, batch: Batch, records: int) -> None:
        """Halve the token budget because memory ran out on a batch of so many ``records``.

        Raises
        ------
        RecordTooLongError
            If the batch is a single record.
        """
        name = self._placement.device_name
        if len(batch.records) == 1:
            raise RecordTooLongError(
                f"record {int(batch.records[0]) + 1} of {records} has {batch.tokens} tokens, "
                f"and {self.spec.name} in {self._placement.precision} needs more memory for it "
                f"than {name} has free; run it on a device with more memory or on the CPU"
            )
        self.token_budget = max(1, min(self.token_budget, batch.tokens) // 2)
        self._warn(
            f"{name} ran out of memory on a batch of {batch.tokens} tokens: {self.spec.name} goes "
            f"on with {self.token_budget} tokens a batch"
        )

    @abc.abstractmethod
    def _rows(self, batch: Batch, tokens: Tokens) -> NDArray[np.float32]:
        """Embed one batch: a row for each of its records, in their order."""


class LoopEncoder(BatchEncoder):
    """An engine, batch after batch."""

    def __init__(
        self,
        spec: ModelSpec,
        engine: Engine,
        tokenizer: Tokenise,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(spec, tokenizer, **settings)
        self._engine = engine
        self._work: Workspace | None = None

    def reduce_budget(self, batch: Batch, records: int) -> None:
        """Halve the token budget, and give the buffers back."""
        self._work = None
        super().reduce_budget(batch, records)

    @torch.inference_mode()
    def states(self, batch: Batch, tokens: Tokens) -> list[NDArray[np.float32]]:
        """Hidden states of each record of a batch, (L, D): the tokens that enter its mean.

        Of ``mean_residues_1024`` all residues, also those beyond the first 1024.
        """
        layout = self._layout(batch, tokens)
        assert self._work is not None
        states = self._engine.states(layout, self._work)[: batch.tokens].cpu()
        part = parts_of(self.spec.pooling)[0]
        part = "mean" if part == "mean_residues_1024" else part
        records = torch.split(states, batch.lengths.tolist())
        return [each[slice(*pooled_span(part, len(each)))].numpy() for each in records]

    @torch.inference_mode()
    def _rows(self, batch: Batch, tokens: Tokens) -> NDArray[np.float32]:
        layout = self._layout(batch, tokens)
        out_nD = torch.empty((len(batch.records), self.dim), dtype=torch.float32)
        self._engine(layout, self._work, out_nD)
        return out_nD.numpy()

    def _layout(self, batch: Batch, tokens: Tokens) -> BatchLayout:
        """Lay a batch out in buffers that hold it."""
        rows = batch.tokens
        if self._placement.device.type != "cpu":  # kernels take a fixed number of rows at a time
            rows = padded_rows(rows, token_budget=self.token_budget)
        ids = tokens.collect(batch.records)
        planned = plan_layout(batch, ids, rows=rows, pooling=self.spec.pooling)
        if self._work is None or self._work.rows < planned.rows:
            self._work = None  # freed before more is asked for
            self._work = self._engine.workspace(planned.rows)
        buffer = torch.empty(planned.size, dtype=torch.int32)
        planned.write(buffer.numpy(), padding=self._engine.padding_id)
        return planned.on(buffer.to(self._placement.device))
