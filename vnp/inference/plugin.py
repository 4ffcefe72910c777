"""A plug-in's model as an encoder: it gets sequences as text, batch after batch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

import vnp
from store.io.ragged import Ragged
from vnp.inference.device import place
from vnp.inference.encoder import Precision, Warn
from vnp.inference.loop import BatchEncoder, Settings
from vnp.models import plugins
from vnp.models.packing import Batch
from vnp.models.plugins import PluginError
from vnp.models.spec import ModelSpec
from vnp.models.tokens import Tokens, refuse_empty

_LETTERS = 65_536  # in a batch, unless the user says otherwise
_BETWEEN = 0  # stands between the two sequences of a record


class Letters:
    """A tokenizer whose ids are the letters themselves, special tokens there are none."""

    identity = "letters"

    def __call__(self, sequences: Ragged) -> Tokens:
        """Convert sequences, a letter a token."""
        refuse_empty(sequences, "sequence")
        return Tokens(sequences.data.astype(np.int32), sequences.lengths.astype(np.int64))


class PluginEncoder(BatchEncoder):
    """See ``vnp.inference.encoder.Encoder``."""

    def __init__(
        self, embed: Callable[[list[Any]], Any], spec: ModelSpec, **settings: Unpack[Settings]
    ) -> None:
        super().__init__(spec, Letters(), **settings)
        self._embed = embed

    def tokenise(self, nucleotide: Ragged, protein: Ragged) -> Tokens:
        """Keep the letters of the sequence that the model reads, or of both."""
        if self.spec.input != "both":
            return super().tokenise(nucleotide, protein)
        parts = [self._tokenizer(column) for column in (nucleotide, protein)]
        lengths = parts[0].lengths + 1 + parts[1].lengths
        ids = np.full(int(lengths.sum()), _BETWEEN, dtype=np.int32)
        starts = np.cumsum(lengths) - lengths
        for part, first in zip(parts, (starts, starts + parts[0].lengths + 1), strict=True):
            own = np.cumsum(part.lengths) - part.lengths
            ids[np.arange(len(part.ids)) + np.repeat(first - own, part.lengths)] = part.ids
        return Tokens(ids, lengths)

    def _rows(self, batch: Batch, tokens: Tokens) -> NDArray[np.float32]:
        text = tokens.collect(batch.records).astype(np.uint8).tobytes().decode("latin-1")
        ends = np.cumsum(batch.lengths).tolist()
        sequences: list[Any] = [text[start:stop] for start, stop in pairwise([0, *ends])]
        if self.spec.input == "both":
            sequences = [tuple(each.split(chr(_BETWEEN), 1)) for each in sequences]
        made = self._embed(sequences)
        if hasattr(made, "detach"):  # a tensor, on any device
            made = made.detach().float().cpu()
        if np.iscomplexobj(made):  # NumPy would drop a part of each
            raise PluginError(f"the plug-in {self.spec.name} gave complex numbers")
        try:
            rows = np.asarray(made, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise PluginError(f"the plug-in {self.spec.name} gave no array: {error}") from None
        if rows.shape != (len(sequences), self.dim):
            raise PluginError(
                f"the plug-in {self.spec.name} gave an array of shape {rows.shape} for "
                f"{len(sequences)} sequences and dimension {self.dim}"
            )
        return rows


def load(
    spec: ModelSpec,
    *,
    device: str,
    precision: Precision,
    weights_dir: Path | None,
    token_budget: int | None,
    threads: int | None,
    warn: Warn,
) -> PluginEncoder:
    """Call a plug-in's loader; see `vnp.inference.load.load_encoder`.

    Raises
    ------
    PluginError
        If it fails.
    """
    if precision == "fp8":
        warn(f"{spec.name} has no fp8 form: running it in the precision that suits the device")
        precision = "auto"
    placement = place(device, precision=precision, threads=threads, warn=warn)
    assert spec.loader is not None
    try:
        embed = spec.loader(
            device=str(placement.device), precision=placement.precision, weights_dir=weights_dir
        )
    except Exception as error:
        raise PluginError(
            f"the plug-in {spec.name} cannot load its model: {type(error).__name__}: {error}"
        ) from error
    return PluginEncoder(
        embed,
        spec,
        placement=placement,
        token_budget=token_budget or _LETTERS,
        identity={
            "model": spec.name,
            "weights": str(getattr(embed, "identity", "unknown")),
            "plugin": plugins.digest(spec),
            "precision": placement.precision,
        },
        environment={
            "plugin": spec.script.name if spec.script is not None else spec.package or "registered",
            "pooling": spec.pooling,
            "device": placement.device_name,
            "chosen": placement.chosen,
            "threads": str(placement.threads),
            "vnp": vnp.__version__,
        },
        warn=warn,
    )
