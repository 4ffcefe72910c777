"""How a tokenizer of the hub wants its text, found by trying: no configuration says it.

Letter models of BERT's kind want residues or bases set apart by blanks, DNABERT-1 overlapping
k-mers, others the sequence as it is. Text of the wrong form becomes unknown tokens, and every row
the same; so a tokenizer that knows no form of a sequence is refused.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vnp.models.errors import WeightsError

_LETTERS = {"nucleotide": "ACGT", "protein": "ACDEFGHIKLMNPQRSTVWY"}
_LONG, _SHORT = 500, 20  # letters tried: a segment's, and few enough for any limit on words
_ENOUGH = 0.95  # of the tokens must be known
_PIECES = 20  # longer words of a protein vocabulary that is not one of single residues
_SPECIAL = ("pad", "cls", "sep", "bos", "eos", "mask")


@dataclass(frozen=True, slots=True)
class TextForm:
    """How a sequence is written for a tokenizer."""

    k: int = 0  # 0: as it is; 1: letters apart; more: overlapping words of so many letters, apart

    def __call__(self, sequence: str) -> str:
        """Write a sequence; one shorter than a word is a word."""
        if not self.k:
            return sequence
        last = max(1, len(sequence) - self.k + 1)
        return " ".join(sequence[at : at + self.k] for at in range(last))

    def __str__(self) -> str:
        if not self.k:
            return "as it is"
        return "letters apart" if self.k == 1 else f"overlapping {self.k}-mers"


def special_ids(found: Any) -> NDArray[np.int32]:
    """Ids of a tokenizer's special tokens, sorted, without that of unknown words."""
    ids = {getattr(found, f"{name}_token_id", None) for name in _SPECIAL}
    return np.array(sorted(each for each in ids if each is not None), dtype=np.int32)


def has_plain_letters(sequence: str, kind: str) -> bool:
    """Whether a sequence has only letters that any model of its kind, an ``input``, knows."""
    return set(sequence) <= set(_LETTERS[kind])


def text_form(found: Any, kind: str, *, name: str) -> TextForm:
    """Find how a tokenizer wants sequences.

    Parameters
    ----------
    found
        A tokenizer of transformers.
    kind
        ``nucleotide`` or ``protein``.
    name
        Of the model, for the error.

    Raises
    ------
    WeightsError
        If it knows too few of the tokens of a random sequence, in whatever form.
    """
    letters = random.Random(_LONG).choices(_LETTERS[kind], k=_LONG)  # noqa: S311 - no secret
    long = "".join(letters)
    single = kind == "protein" and not _has_pieces(found)
    best = 0.0
    for form in _forms(found, kind):
        known, tokens = _known(found, form(long))
        share = known / max(tokens, 1)
        if share >= _ENOUGH and (not single or tokens == _LONG):
            return form
        known, tokens = _known(found, long[:_SHORT])
        if not form.k and not single and known >= _ENOUGH * tokens > 0:
            raise WeightsError(
                f"{name}: its tokenizer knows short sequences, and makes unknown tokens of one of "
                f"{_LONG} letters, so vnp cannot tell what it wants; a plug-in can tokenise for it"
            )
        best = max(best, share)
    lower = getattr(found, "do_lower_case", False)
    raise WeightsError(
        f"{name}: its tokenizer knows {best:.0%} of the tokens of a {kind} sequence at best, so "
        f"its rows would be alike (tried: {', '.join(map(str, _forms(found, kind)))}); "
        + (
            "it lower-cases its text, and the words of its vocabulary are in upper case: in a "
            'folder with its files set "do_lower_case": false in tokenizer_config.json'
            if lower
            else "if its tokenizer files are whole, a plug-in can tokenise for it"
        )
    )


def _forms(found: Any, kind: str) -> Iterator[TextForm]:
    yield TextForm()
    yield TextForm(1)
    if kind == "nucleotide" and (k := _dnabert_1(found)):
        yield TextForm(k)


def _dnabert_1(found: Any) -> int:
    """Length of the words of DNABERT-1's vocabulary, told by their order; 0 if it is not one.

    Other vocabularies of k-mers may be for words that do not overlap, such as codons.
    """
    special = set(found.all_special_tokens)
    ranked = sorted(found.get_vocab().items(), key=lambda each: each[1])
    words = [word for word, _ in ranked if word not in special]
    k = len(words[0]) if words else 0
    if not 3 <= k <= 6 or len(words) != 4**k:
        return 0
    return k if words == ["".join(word) for word in product("ATCG", repeat=k)] else 0


def _has_pieces(found: Any) -> bool:
    """Whether a vocabulary has words of several residues."""
    words = (re.fullmatch(r"[▁Ġ#]*[A-Z]{2,}", word) for word in found.get_vocab())
    return sum(word is not None for word in words) >= _PIECES


def _known(found: Any, text: str) -> tuple[int, int]:
    """How many tokens of a text are known, and how many there are, without special ones."""
    ids = np.array(found(text, verbose=False)["input_ids"], dtype=np.int32)
    ids = ids[~np.isin(ids, special_ids(found))]
    return int(np.count_nonzero(ids != _unknown(found))), len(ids)


def _unknown(found: Any) -> int:
    return -1 if found.unk_token_id is None else int(found.unk_token_id)


def unknown_shares(
    found: Any, ids: NDArray[np.int32], lengths: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Share of unknown tokens in each of n records, (n,), special ones apart; 1 if it has none."""
    own = ~np.isin(ids, special_ids(found))
    starts = np.cumsum(lengths) - lengths
    empty = lengths == 0  # such a start would count the next record's first token
    counts = [
        np.where(empty, 0, np.add.reduceat(np.append(each, False).astype(np.int64), starts))
        for each in (own, own & (ids == _unknown(found)))
    ]
    return np.divide(counts[1], counts[0], out=np.ones(len(lengths)), where=counts[0] > 0)
