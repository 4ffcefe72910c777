"""Byte-pair encoding as compiled code: the ids of the library `tokenizers`, in flat arrays.

The library gives a Python object and a list for each record, which takes as long as the encoding
and holds the GIL. Here a column goes in and two arrays come out, without the GIL.

How it works: a sequence of tokens is what byte-pair encoding makes of a text if and only if that
holds for each two neighbours (van Antwerpen and Neubeck, "So many tokens, so little time", GitHub,
2024). So a text is encoded from left to right, by the longest token that goes with the one before
it; where none does, the last token is taken back and a shorter one tried. Whether two tokens go
with each other follows from the merges they were made by: in the order of merges, no merge across
the border between them may come before the merges beside it.

Tokens have a second number here, their order: letters first, then merged ones by rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.io.compiled import Loops

LOOPS = Loops("bpe", __file__)

_NONE = -1
_OTHER_KEYS = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # spreads pairs over the table (Knuth 6.4)


@dataclass(frozen=True, slots=True)
class Merges:
    """A byte-pair encoding of letters and digits, as arrays over tokens in their order."""

    ids: NDArray[np.int32]  # the vocabulary's id of each token
    lengths: NDArray[np.int32]  # letters
    parts: NDArray[np.int32]  # (V, 2): what each was merged from; a letter is made from itself
    shorter: NDArray[np.int32]  # the longest token that it begins with, or -1
    trie: NDArray[np.int32]  # (nodes, letters + 1): next nodes, and the token that ends here
    letter: NDArray[np.int32]  # (256,): the number of each byte's letter, or -1
    pairs: NDArray[np.int64]  # open addressing: first * V + second, or -1
    merged: NDArray[np.int32]  # what each pair makes
    special: NDArray[np.int32]  # [CLS], [SEP] and [UNK]
    fused: bool  # whether neighbouring unknown letters are one token
    plain: NDArray[np.bool_]  # (256,): bytes that the library's split into words keeps together

    def __call__(
        self, data: NDArray[np.uint8], offsets: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]] | None:
        """Encode texts that lie end to end.

        Returns
        -------
        Ids (T,) and the number of them for each text, special tokens included; None if there is
        something but letters, digits and underscores, which the library may cut at, or where
        compiled loops cannot be had.
        """
        loops = LOOPS.get(compiling=True)
        if loops is None or not self.plain[data].all():
            return None
        records = len(offsets) - 1
        out = np.empty(len(data) + 2 * records, dtype=np.int32)  # a letter is a token at most
        counts = np.empty(records, dtype=np.int64)
        dead = np.zeros(len(data) + 1, dtype=np.uint8)  # places from which no token goes on
        end = loops.encode(
            np.ascontiguousarray(data), np.ascontiguousarray(offsets, dtype=np.int64), records,
            self.ids, self.lengths, self.parts, len(self.parts), self.shorter, self.trie,
            self.trie.shape[1], self.letter, self.pairs, self.merged, len(self.pairs),
            self.special, self.fused, out, counts, dead,
        )  # fmt: skip
        return out[:end].copy(), counts


def merges_of(tokenizer: dict[str, Any]) -> Merges | None:
    """Read the merges of a tokenizer.json, or None if it does more than they and [CLS] A [SEP].

    Whether each token is what its own text is encoded as is for the caller to check
    (`texts_of`): what is compiled here relies on it.
    """
    model = tokenizer.get("model") or {}
    added = [str(each["content"]) for each in tokenizer.get("added_tokens") or []]
    special = _template(tokenizer.get("post_processor") or {})
    if (
        model.get("type", "BPE") != "BPE"
        or any(model.get(key) for key in _OTHER_KEYS)
        or tokenizer.get("normalizer") is not None
        or (tokenizer.get("pre_tokenizer") or {}).get("type") != "Whitespace"
        or special is None
        or model.get("unk_token") is None  # letters beside one that is left out would be merged
        or any(text.replace("_", "a").isalnum() for text in added)
    ):
        return None
    vocabulary: dict[str, int] = model["vocab"]
    split = [each.split(" ") if isinstance(each, str) else each for each in model["merges"]]
    texts = [text for text in vocabulary if len(text) == 1 and _is_plain(ord(text))]
    order = {text: number for number, text in enumerate(texts)}
    parts = [(number, number) for number in range(len(texts))]
    for first, second in split:
        if first + second in order or first not in order or second not in order:
            return None  # two ways to make a token, or a part that nothing makes
        parts.append((order[first], order[second]))
        order[first + second] = len(texts)
        texts.append(first + second)
    return _arrays(
        texts,
        np.array(parts, dtype=np.int32).reshape(-1, 2),
        ids=np.array([vocabulary[text] for text in texts], dtype=np.int32),
        special=np.array([*special, vocabulary[model["unk_token"]]], dtype=np.int32),
        fused=bool(model.get("fuse_unk")),
    )


def texts_of(merges: Merges) -> list[str]:
    """Text of each token, in order."""
    letters = {number: chr(byte) for byte, number in enumerate(merges.letter) if number >= 0}
    texts: list[str] = []
    for number, (first, second) in enumerate(merges.parts.tolist()):
        texts.append(letters[number] if first == number else texts[first] + texts[second])
    return texts


def _template(processor: dict[str, Any]) -> tuple[int, int] | None:
    """Ids around a sequence, if a processor puts one token before it and one after."""
    if processor.get("type") != "TemplateProcessing":
        return None
    single = processor["single"]
    if [next(iter(piece)) for piece in single] != ["SpecialToken", "Sequence", "SpecialToken"]:
        return None
    names = (single[0]["SpecialToken"]["id"], single[2]["SpecialToken"]["id"])
    first, last = (processor["special_tokens"][name]["ids"] for name in names)
    return (first[0], last[0]) if len(first) == len(last) == 1 else None


def _is_plain(byte: int) -> bool:
    return byte < 128 and (chr(byte).isalnum() or chr(byte) == "_")


def _arrays(
    texts: list[str],
    parts: NDArray[np.int32],
    *,
    ids: NDArray[np.int32],
    special: NDArray[np.int32],
    fused: bool,
) -> Merges:
    letters = [text for text in texts if len(text) == 1]
    letter = np.full(256, _NONE, dtype=np.int32)
    letter[[ord(text) for text in letters]] = np.arange(len(letters))
    nodes = [[_NONE] * (len(letters) + 1)]
    shorter = np.full(len(texts), _NONE, dtype=np.int32)
    for number in sorted(range(len(texts)), key=lambda number: len(texts[number])):
        at = 0
        for byte in texts[number]:
            shorter[number] = nodes[at][-1] if nodes[at][-1] >= 0 else shorter[number]
            step = int(letter[ord(byte)])
            if nodes[at][step] < 0:
                nodes[at][step] = len(nodes)
                nodes.append([_NONE] * (len(letters) + 1))
            at = nodes[at][step]
        nodes[at][-1] = number
    size = 1 << (4 * len(texts) - 1).bit_length() if texts else 1
    pairs, merged = np.full(size, _NONE, np.int64), np.full(size, _NONE, np.int32)
    for number, (first, second) in enumerate(parts.tolist()):
        if first == number:  # a letter
            continue
        key = first * len(texts) + second
        slot = int(np.uint64(key * int(_MULTIPLIER) & (1 << 64) - 1) >> np.uint64(32)) & (size - 1)
        while pairs[slot] >= 0:
            slot = (slot + 1) & (size - 1)
        pairs[slot], merged[slot] = key, number
    return Merges(
        ids=ids,
        lengths=np.array([len(text) for text in texts], dtype=np.int32),
        parts=parts,
        shorter=shorter,
        trie=np.array(nodes, dtype=np.int32),
        letter=letter,
        pairs=pairs,
        merged=merged,
        special=special,
        fused=fused,
        plain=np.array([_is_plain(byte) for byte in range(256)]),
    )


# What follows is compiled: pointers look like arrays here.


@LOOPS.made(
    "u8*", "i64*", "i64", "i32*", "i32*", "i32*", "i64", "i32*", "i32*",
    "i64", "i32*", "i64*", "i32*", "i64",
    "i32*", "i64", "i32*", "i64*", "u8*",
)  # fmt: skip
def encode() -> Callable[..., int]:
    """Make the loop that encodes texts; its helpers become part of it."""
    import numba

    helper = numba.njit(error_model="numpy")
    longest, go_together = helper(_longest), _go_together(helper(_merged))

    def loop(
        data: Any, offsets: Any, records: int, ids: Any, lengths: Any, parts: Any, count: int,
        shorter: Any, trie: Any, width: int, letter: Any, pairs: Any, merged: Any, slots: int,
        special: Any, fused: int, out: Any, counts: Any, dead: Any,
    ) -> int:  # fmt: skip
        """Write ids to ``out`` and their numbers to ``counts``; return how many there are.

        ``out`` holds a number for each letter and two more for each text; ``dead`` is zeros, one
        more than letters.
        """
        end = 0
        for record in range(records):
            began = end
            out[end] = special[0]
            end += 1
            at = offsets[record]
            stop = offsets[record + 1]
            while at < stop:
                if letter[data[at]] < 0:
                    at += 1
                    while fused and at < stop and letter[data[at]] < 0:
                        at += 1
                    out[end] = special[2]
                    end += 1
                    continue
                # A stretch of known letters; ``out`` holds orders until it is done.
                first = end
                token = longest(data, at, stop, trie, width, letter)
                while token >= 0:
                    ahead = at + lengths[token]
                    if not dead[ahead] and (
                        end == first
                        or go_together(out[end - 1], token, parts, pairs, merged, slots, count)
                    ):
                        out[end] = token
                        end += 1
                        at = ahead
                        token = _NONE
                        if at < stop:
                            token = longest(data, at, stop, trie, width, letter)
                    elif shorter[token] >= 0:
                        token = shorter[token]
                    else:
                        dead[at] = 1
                        end -= 1
                        token = out[end]
                        at -= lengths[token]
                for place in range(first, end):
                    out[place] = ids[out[place]]
            out[end] = special[1]
            end += 1
            counts[record] = end - began
        return end

    return loop


def _longest(data: Any, at: int, stop: int, trie: Any, width: int, letter: Any) -> int:
    """Longest token that a text begins with; its first letter is known."""
    node = 0
    found = _NONE
    while at < stop:
        step = letter[data[at]]
        node = trie[node * width + step] if step >= 0 else _NONE
        if node < 0:
            break
        if trie[node * width + width - 1] >= 0:
            found = trie[node * width + width - 1]
        at += 1
    return found


def _merged(first: int, second: int, pairs: Any, merged: Any, slots: int, count: int) -> int:
    """Token that a pair is merged into, or -1."""
    key = first * count + second
    slot = int(np.uint64(key) * _MULTIPLIER >> np.uint64(32)) & (slots - 1)
    while pairs[slot] >= 0:
        if pairs[slot] == key:
            return int(merged[slot])
        slot = (slot + 1) & (slots - 1)
    return _NONE


def _go_together(merged_into: Callable[..., int]) -> Any:
    """Make the function that says whether two tokens stand side by side in what encodes their text.

    The last merges on both sides are undone, the later one first. A merge across the border that
    comes before the one just undone would have taken its place. Of one rank the left one comes
    first.
    """
    import numba

    @numba.njit(error_model="numpy")
    def go_together(
        left: int, right: int, parts: Any, pairs: Any, merged: Any, slots: int, count: int
    ) -> bool:
        first, second = int(left), int(right)
        before = count  # only merges of a lower order could have come first
        while True:
            across = merged_into(first, second, pairs, merged, slots, count)
            if 0 <= across < before:
                return False
            if first > second:
                before = first
                if parts[2 * first + 1] != first:
                    first = int(parts[2 * first + 1])
                    continue
                before = second + 1
                if parts[2 * second] == second:
                    return True
                second = int(parts[2 * second])
            else:
                before = second + 1
                if parts[2 * second] != second:
                    second = int(parts[2 * second])
                    continue
                before = first
                if parts[2 * first + 1] == first:
                    return True
                first = int(parts[2 * first + 1])

    return go_together
