"""Models that run through transformers: sorted, padded batches, SDPA, pooling by mask.

Slower than the engines, which pad nothing; for any encoder that transformers contains.
"""

from __future__ import annotations

import hashlib
import json
import logging
from itertools import chain
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

import vnp
from store.errors import DataError
from store.io.ragged import Ragged
from store.io.words import count
from vnp.inference.device import place
from vnp.inference.encoder import Precision, Provenance, Warn
from vnp.inference.loop import BatchEncoder, Settings
from vnp.inference.pooling import pool_masked
from vnp.models import hub, weights
from vnp.models.errors import RecordTooLongError
from vnp.models.packing import Batch
from vnp.models.spec import ModelSpec
from vnp.models.text_forms import (
    has_plain_letters,
    special_ids,
    text_form,
    unknown_shares,
)
from vnp.models.tokens import Tokens, refuse_empty

log = logging.getLogger(__name__)

_MOST_UNKNOWN = 0.5  # of a record's tokens; a record of usual letters with more is refused
_MANY_UNKNOWN = 0.1  # of a block's tokens; more is said and recorded
_RARE = str.maketrans("UZOB", "XXXX")  # as the authors of ProtT5 do before they embed


class HubTokenizer:
    """A tokenizer of transformers, never truncating or padding.

    Sequences are written as its vocabulary wants them: see `vnp.models.text_forms`.
    """

    def __init__(self, found: Any, spec: ModelSpec, *, warn: Warn = log.warning) -> None:
        self._tokenizer = found
        self._name = spec.name
        self._input = spec.input
        self._what = "protein" if spec.input == "protein" else "nucleotide sequence"
        self._warn = warn
        self._rare = _RARE if spec.name.startswith("prot_t5") else {}
        self.form = text_form(found, spec.input, name=spec.name)
        self.unknown = 0.0  # largest share of unknown tokens in a block so far
        self.special = special_ids(found)
        self.pad = next((i for i in (found.pad_token_id, found.eos_token_id) if i is not None), 0)
        # Forms of other stores' rows stay what they were called.
        form = self.form.k if self.form.k > 1 else bool(self.form.k)
        described = [sorted(found.get_vocab().items()), self.special.tolist(), form]
        text = json.dumps([described, sorted(self._rare.items()), type(found).__name__])
        self.identity = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def __call__(self, sequences: Ragged) -> Tokens:
        """Tokenise a column of sequences.

        `DataError` if one is empty, or if most of one is unknown though its letters are usual.
        """
        refuse_empty(sequences, self._what)
        texts = [item.decode("ascii", errors="replace") for item in sequences.tolist()]
        if self._rare:
            texts = [text.translate(self._rare) for text in texts]
        # ``verbose``: no warning about lengths that the model is fine with.
        encoded = self._tokenizer(
            list(map(self.form, texts)), return_attention_mask=False, verbose=False
        )
        parts: list[list[int]] = encoded["input_ids"]
        lengths = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
        ids = np.fromiter(chain.from_iterable(parts), dtype=np.int32, count=int(lengths.sum()))
        self._check_known(texts, ids, lengths)
        return Tokens(ids, lengths)

    def _check_known(
        self, texts: list[str], ids: NDArray[np.int32], lengths: NDArray[np.int64]
    ) -> None:
        """Say how much of a block the tokenizer does not know; refuse what it should."""
        if not texts:
            return
        shares = unknown_shares(self._tokenizer, ids, lengths)
        for at in np.flatnonzero(shares > _MOST_UNKNOWN).tolist():
            if has_plain_letters(texts[at], self._input):
                raise DataError(
                    f"record {at + 1} of {len(texts)}, of {count(len(texts[at]), 'letter')}: the "
                    f"tokenizer of {self._name} knows {1 - shares[at]:.0%} of its tokens; its row "
                    "would mean nothing"
                )
        share = float(np.average(shares, weights=lengths))
        if share > _MANY_UNKNOWN >= self.unknown:
            self._warn(
                f"{self._name}: its tokenizer does not know {share:.0%} of the tokens of a block "
                "(ambiguous letters, perhaps); the rows of such records say little"
            )
        self.unknown = max(self.unknown, share)


class HubEncoder(BatchEncoder):
    """See ``vnp.inference.encoder.Encoder``."""

    def __init__(
        self, model: Any, tokenizer: HubTokenizer, spec: ModelSpec, **settings: Unpack[Settings]
    ) -> None:
        super().__init__(spec, tokenizer, **settings)
        self._model = model
        self._special = tokenizer.special
        self._pad = tokenizer.pad
        self._longest = _longest(model)
        self._tokens = tokenizer

    def provenance(self) -> Provenance:
        """Say what makes the embeddings, as of now."""
        made = super().provenance()
        if self._tokens.unknown > _MANY_UNKNOWN:
            made.environment["unknown_tokens"] = f"up to {self._tokens.unknown:.1%} of a block"
        return made

    @torch.inference_mode()
    def states(self, batch: Batch, tokens: Tokens) -> list[NDArray[np.float32]]:
        """Hidden states of each record of a batch, (L, D), without special tokens."""
        states_nTD, ids_nT, mask_nT = self._states(batch, tokens)
        chosen = mask_nT & ~np.isin(ids_nT, self._special)
        found = states_nTD.cpu().numpy()
        return [row[keep] for row, keep in zip(found, chosen, strict=True)]

    @torch.inference_mode()
    def _rows(self, batch: Batch, tokens: Tokens) -> NDArray[np.float32]:
        states_nTD, ids_nT, mask_nT = self._states(batch, tokens)
        special = np.isin(ids_nT, self._special)
        chosen = torch.from_numpy(mask_nT & ~special).to(states_nTD.device)
        return pool_masked(states_nTD, chosen, self.spec.pooling).cpu().numpy()

    def _states(
        self, batch: Batch, tokens: Tokens
    ) -> tuple[torch.Tensor, NDArray[np.int64], NDArray[np.bool_]]:
        longest = int(batch.lengths[-1])
        if longest > self._longest:
            raise RecordTooLongError(
                f"record {int(batch.records[-1]) + 1} of {len(tokens)} has {longest} tokens, and "
                f"{self.spec.name} has positions for {self._longest}: cut sequences into shorter "
                "segments"
            )
        mask_nT = np.arange(longest) < batch.lengths[:, None]
        ids_nT = np.full(mask_nT.shape, self._pad, dtype=np.int64)
        ids_nT[mask_nT] = tokens.collect(batch.records)
        device = self._placement.device
        found = self._model(
            input_ids=torch.from_numpy(ids_nT).to(device),
            attention_mask=torch.from_numpy(mask_nT.astype(np.int64)).to(device),
            output_hidden_states=self.spec.layer is not None,
        )
        layer = self.spec.layer
        states = found.last_hidden_state if layer is None else found.hidden_states[layer]
        return states.float(), ids_nT, mask_nT


def load(
    spec: ModelSpec,
    *,
    device: str,
    precision: Precision,
    weights_dir: Path | None,
    token_budget: int | None,
    threads: int | None,
    warn: Warn,
) -> HubEncoder:
    """Load a model through transformers; see `vnp.inference.load.load_encoder`."""
    if precision == "fp8":
        warn(f"{spec.name} has no fp8 form: running it in the precision that suits the device")
        precision = "auto"
    placement = place(device, precision=precision, threads=threads, warn=warn)
    assert spec.repo is not None
    where = hub.folder_of(spec.repo, weights_dir, spec.base, spec.name) or spec.repo
    if weights_dir is not None and not isinstance(where, Path):
        warn(f"{spec.name} is not in {weights_dir}; looking in the Hugging Face cache and hub")
    config = hub.configuration(where, revision=spec.revision)
    hub.check_shape(spec, config)
    tokenizer = HubTokenizer(hub.tokenizer(where, revision=spec.revision), spec, warn=warn)
    if placement.device.type == "cpu":
        torch.set_num_threads(placement.threads)
    # In the numbers of the files first, so that their hash does not depend on the device.
    model = hub.model_of(where, config, revision=spec.revision, dtype="auto")
    state = {
        name: tensor for name, tensor in model.state_dict().items() if not hub.HEADS.match(name)
    }
    hashed = weights.digest(state)
    model = model.to(device=placement.device, dtype=placement.dtype)
    commit = getattr(model.config, "_commit_hash", None)
    return HubEncoder(
        model,
        tokenizer,
        spec,
        placement=placement,
        token_budget=token_budget or placement.token_budget,
        identity={
            "model": spec.name,
            "weights": hashed,
            "tokenizer": tokenizer.identity,
            "pooling": spec.pooling + (f" of layer {spec.layer}" if spec.layer else ""),
            "precision": placement.precision,
        },
        environment={
            "repository": spec.repo,
            "revision": str(commit or ("local" if isinstance(where, Path) else spec.revision)),
            "origin": "folder" if isinstance(where, Path) else "cache or hub",
            "engine": "transformers",
            "text": str(tokenizer.form),
            "attention": str(getattr(model.config, "_attn_implementation", "unknown")),
            "device": placement.device_name,
            "chosen": placement.chosen,
            "threads": str(placement.threads),
            "vnp": vnp.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        warn=warn,
    )


def _longest(model: Any) -> int:
    """Most tokens of a record that a model has positions for."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            kind = getattr(model.config, "position_embedding_type", "absolute")
            if kind == "absolute":
                offset = 0 if module.padding_idx is None else module.padding_idx + 1
                return module.num_embeddings - offset
    return 1 << 31
