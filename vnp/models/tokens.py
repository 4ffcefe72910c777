"""From sequences to packed token ids: a byte table for proteins, a BPE tokenizer for DNA.

Packed means end to end, with no padding; ``lengths`` says where one record ends::

    proteins   MK, A
    ids        0 20 15 2 | 0 5 2          <cls> M K <eos>, <cls> A <eos>
    lengths    4 3

Both tokenizers hold no state that a call changes and release the GIL for most of their work (DNA's
by compiled code, `vnp.models.bpe`), so a worker may tokenise its next block in a thread.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from store.errors import DataError
from store.io.ragged import Ragged, offsets_of
from vnp.models import bpe
from vnp.models.errors import WeightsError

log = logging.getLogger(__name__)

# The alphabet of ESM-2 in the order of its published vocab.txt.
ESM_ALPHABET = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO.-",
    *("<null_1>", "<mask>"),
)
ESM_BOS, ESM_EOS, ESM_UNKNOWN = 0, 2, 3


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of ``n`` records, end to end."""

    ids: NDArray[np.int32]  # (T,) ids of all records, special tokens included
    lengths: NDArray[np.int64]  # (n,) tokens of each record; they sum to T

    def __len__(self) -> int:
        return len(self.lengths)

    def collect(self, records: NDArray[np.int64]) -> NDArray[np.int32]:
        """Ids of some records, end to end in the order asked for."""
        offsets = offsets_of(self.lengths)
        lengths = self.lengths[records]
        # Position of each token: where its record starts in the source, less where it starts here.
        shift = offsets[records] - offsets_of(lengths)[:-1]
        where = np.arange(int(lengths.sum()), dtype=np.int64) + np.repeat(shift, lengths)
        return self.ids[where]


class Tokenise(Protocol):
    """Converts sequences into tokens."""

    identity: str  # hash of everything that decides which ids come out

    def __call__(self, sequences: Ragged) -> Tokens:
        """Tokenise a column of sequences."""
        ...


class ResidueTokenizer:
    """ESM-2's tokens: one per residue, between <cls> and <eos>.

    A letter that the alphabet lacks (J, *, lower case) becomes <unk>, as in the published
    tokenizer. The special tokens cannot be written with letters, so <mask> never arises.
    """

    def __init__(self) -> None:
        table = np.full(256, ESM_UNKNOWN, dtype=np.int32)
        for index, symbol in enumerate(ESM_ALPHABET):
            if len(symbol) == 1:
                table[ord(symbol)] = index
        self._table = table
        described = f"esm2 bos={ESM_BOS} eos={ESM_EOS} {table.tolist()}"
        self.identity = f"sha256:{hashlib.sha256(described.encode()).hexdigest()}"

    def __call__(self, sequences: Ragged) -> Tokens:
        """Tokenise proteins; `DataError` if one is empty: it has no residues to average over."""
        lengths = sequences.lengths + 2
        refuse_empty(sequences, "protein")
        ends = np.cumsum(lengths)
        ids = np.empty(int(lengths.sum()), dtype=np.int32)
        is_residue = np.ones(len(ids), dtype=bool)
        is_residue[ends - lengths] = False
        is_residue[ends - 1] = False
        ids[is_residue] = self._table[sequences.data]
        ids[ends - lengths] = ESM_BOS
        ids[ends - 1] = ESM_EOS
        return Tokens(ids, lengths)


class BpeTokenizer:
    """DNABERT's tokens: byte-pair encoding between [CLS] and [SEP], never truncated or padded."""

    def __init__(self, path: Path, *, vocab: int) -> None:
        """Read a tokenizer.json whose ids are below ``vocab``, the rows of the embedding table.

        Raises `WeightsError` if the file is not a tokenizer, or one for another vocabulary.
        """
        text = path.read_text(encoding="utf-8")
        try:
            self._tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # noqa: BLE001 - the library raises bare Exception
            raise WeightsError(f"{path} is not a tokenizer ({error}); download it again") from None
        # Published files may carry the truncation of their last training run.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        if max(vocabulary.values()) >= vocab:
            raise WeightsError(
                f"{path} has token ids up to {max(vocabulary.values())}, but the model has "
                f"embeddings for {vocab} tokens; take the model's own tokenizer.json"
            )
        if self._tokenizer.num_special_tokens_to_add(is_pair=False) != 2:
            raise WeightsError(f"{path} does not put [CLS] and [SEP] around a sequence")
        # The file less what was switched off, in one canonical spelling.
        described = json.loads(text)
        described.pop("truncation", None)
        described.pop("padding", None)
        canonical = json.dumps(described, sort_keys=True, separators=(",", ":"))
        self.identity = f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"
        self._merges = self._compiled(described)

    def _compiled(self, described: dict[str, Any]) -> bpe.Merges | None:
        """The same as compiled code, if that is all that the file describes."""
        merges = bpe.merges_of(described)
        if merges is None:
            return None
        if bpe.LOOPS.get(compiling=True) is None:
            log.warning(
                "DNA is tokenised several times slower: its loops cannot be compiled (is numba "
                "installed? --verbose tells more)"
            )
            return None
        encoded = self._tokenizer.encode_batch_fast(bpe.texts_of(merges))
        own = all(e.ids[1:-1] == [i] for e, i in zip(encoded, merges.ids.tolist(), strict=True))
        return merges if own else None

    def __call__(self, sequences: Ragged) -> Tokens:
        """Tokenise nucleotide sequences; `DataError` if one is empty."""
        refuse_empty(sequences, "nucleotide sequence")
        if self._merges is not None:
            found = self._merges(sequences.data, sequences.offsets)
            if found is not None:
                return Tokens(*found)
        text = sequences.data.tobytes().decode("ascii", errors="replace")
        texts = [text[start:stop] for start, stop in pairwise(sequences.offsets.tolist())]
        encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=True)
        parts = [encoding.ids for encoding in encoded]
        lengths = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
        ids = np.fromiter(chain.from_iterable(parts), dtype=np.int32, count=int(lengths.sum()))
        return Tokens(ids, lengths)


def refuse_empty(sequences: Ragged, what: str) -> None:
    """Raise a `DataError` if a sequence is empty."""
    empty = np.flatnonzero(sequences.lengths == 0)
    if len(empty):
        raise DataError(
            f"record {int(empty[0]) + 1} of {len(sequences)} has an empty {what}; "
            "append the sample again without it"
        )
