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
from store.io.ragged import Ragged
from vnp.inference.device import place
from vnp.inference.encoder import Precision, Warn
from vnp.inference.loop import BatchEncoder, Settings
from vnp.inference.pooling import pool_masked
from vnp.models import hub, weights
from vnp.models.errors import RecordTooLongError
from vnp.models.packing import Batch
from vnp.models.spec import ModelSpec
from vnp.models.tokens import Tokens, refuse_empty

log = logging.getLogger(__name__)

_PROBE = "MKVLAAGICQW"
_RARE = str.maketrans("UZOB", "XXXX")  # as the authors of ProtT5 do before they embed


class HubTokenizer:
    """A tokenizer of transformers, never truncating or padding.

    Residues are set apart by blanks for vocabularies that need it, as those of ProtT5 and ProtBert.
    """

    def __init__(self, found: Any, spec: ModelSpec) -> None:
        self._tokenizer = found
        self._what = "protein" if spec.input == "protein" else "nucleotide sequence"
        self._spaced = spec.input == "protein" and self._needs_blanks()
        self._rare = _RARE if spec.name.startswith("prot_t5") else {}
        special = ("pad", "cls", "sep", "bos", "eos", "mask")
        ids = {getattr(found, f"{name}_token_id", None) for name in special}
        self.special = np.array(sorted(each for each in ids if each is not None), dtype=np.int32)
        self.pad = next((i for i in (found.pad_token_id, found.eos_token_id) if i is not None), 0)
        described = [sorted(found.get_vocab().items()), self.special.tolist(), self._spaced]
        text = json.dumps([described, sorted(self._rare.items()), type(found).__name__])
        self.identity = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def __call__(self, sequences: Ragged) -> Tokens:
        """Tokenise a column of sequences; `DataError` if one is empty."""
        refuse_empty(sequences, self._what)
        texts = [item.decode("ascii", errors="replace") for item in sequences.tolist()]
        if self._rare:
            texts = [text.translate(self._rare) for text in texts]
        if self._spaced:
            texts = [" ".join(text) for text in texts]
        parts = self._ids(texts)
        lengths = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
        ids = np.fromiter(chain.from_iterable(parts), dtype=np.int32, count=int(lengths.sum()))
        return Tokens(ids, lengths)

    def _ids(self, texts: list[str]) -> list[list[int]]:
        # ``verbose``: no warning about lengths that the model is fine with.
        encoded = self._tokenizer(texts, return_attention_mask=False, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def _needs_blanks(self) -> bool:
        plain, bare = self._ids([_PROBE, ""])
        unknown = self._tokenizer.unk_token_id
        return len(plain) - len(bare) != len(_PROBE) or unknown in plain


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
    tokenizer = HubTokenizer(hub.tokenizer(where, revision=spec.revision), spec)
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
