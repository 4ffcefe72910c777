"""Ids of contigs, end to end in one array of letters: searched for a text, and compared.

A text is looked for in all letters of a part at once; one bit a letter says where it begins, and
the bits of each id are then read as one number, however often it begins there::

    letters   k 1 4 1 _ 7 k 1 4 1 _ 7 7     of two ids
    "7"       . . . . . 1 . . . . . 1 1
    ids       [        1] [          3]     not 0: found
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vnp.view.order import Ints, Mask

TOGETHER = 1 << 15  # contigs that are looked at at a time: their ids stay in the cache
WORD = 8  # letters that are compared at a time
_BITS = 64  # that are looked at at a time
_PIECE = 96 << 10  # letters that are searched at a time: a whole number of bytes of bits
_FEW = 64  # below one place in so many letters, places are looked at one by one


@dataclass(frozen=True)
class Ids:
    """Ids of n contigs as bytes."""

    letters: NDArray[np.uint8]  # end to end
    ends: Ints  # where each ends, (n,)

    def __len__(self) -> int:
        return len(self.ends)

    def starts(self, found: Ints) -> Ints:
        """Where the ids of some contigs begin."""
        return np.where(found > 0, self.ends[found - 1], 0)

    def lengths(self, found: Ints) -> Ints:
        """Letters of each of some contigs' ids."""
        return self.ends[found] - self.starts(found)

    @cached_property
    def longest(self) -> int:
        """Letters of the longest."""
        firsts = range(0, len(self), TOGETHER)
        edges = (self._edges(first, min(first + TOGETHER, len(self))) for first in firsts)
        return max((int(np.diff(each).max()) for each in edges), default=0)

    def texts(self, found: Ints) -> list[str]:
        """Ids of some contigs."""
        spans = zip(self.starts(found).tolist(), self.ends[found].tolist(), strict=True)
        return [self.letters[a:b].tobytes().decode(errors="replace") for a, b in spans]

    def word(self, number: int, found: Ints) -> NDArray[np.uint64]:
        """Letters ``8 number .. 8 number + 8`` of some ids as a number that sorts as they do.

        What follows an id counts as 0.
        """
        letters = self.letters if len(self.letters) >= WORD else np.pad(self.letters, (0, WORD))
        begin = self.starts(found) + WORD * number
        left = np.clip(self.ends[found] - begin, 0, WORD)
        at = np.minimum(begin, len(letters) - WORD)  # at the very end no 8 letters follow
        past = (8 * np.minimum(begin - at, WORD - 1)).astype(np.uint64)
        words = _numbers(letters)[at].astype(np.uint64) << past
        # In two steps, as a number cannot be shifted by all of its 64 bits.
        half = (4 * (WORD - left)).astype(np.uint64)
        kept: NDArray[np.uint64] = words >> half >> half << half << half
        return kept

    def holding(self, text: str, low: int, high: int) -> Mask:
        """Which of the contigs ``low .. high`` have a text in their id, A to Z in either case."""
        wanted = text.encode(errors="replace")
        letters = self.letters[self._begin(low) : self._begin(high)]
        bits = np.zeros(8 * (len(letters) // 64 + 2), np.uint8)  # where the text begins
        for first in range(0, len(letters) - len(wanted) + 1, _PIECE):
            begins = _begins(letters[first : first + _PIECE + len(wanted) - 1], wanted)
            packed = np.packbits(begins, bitorder="little")
            bits[first // 8 : first // 8 + len(packed)] = packed
        if not bits.any():
            return np.zeros(high - low, dtype=bool)
        edges = self._edges(low, high)
        return _any(bits, edges[:-1] - edges[0], np.diff(edges) - len(wanted) + 1)

    def equal(self, contig: str, low: int, high: int) -> Ints:
        """Numbers of the contigs ``low .. high`` that have an id, ascending."""
        wanted = contig.encode(errors="replace")
        edges = self._edges(low, high)
        at = np.flatnonzero(np.diff(edges) == len(wanted))
        for offset in reversed(range(len(wanted))):  # ids differ at their ends
            at = at[self.letters[edges[at] + offset] == wanted[offset]]
        return at + low

    def _edges(self, low: int, high: int) -> Ints:
        """Where the ids of the contigs ``low .. high`` begin, and the last of them ends."""
        return np.concatenate([[self._begin(low)], self.ends[low:high]])

    def _begin(self, contig: int) -> int:
        """Where the id of a contig begins, or would after the last."""
        return int(self.ends[contig - 1]) if contig else 0


def _numbers(letters: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Eight bytes from each byte on, as a number: a view of all but the last seven."""
    return np.ndarray((len(letters) - 7,), ">u8", buffer=letters.data, strides=(1,))


def _begins(letters: NDArray[np.uint8], wanted: bytes) -> Mask:
    """Where a text begins in letters, of which the last have no room for it and are left out."""
    room = len(letters) - len(wanted) + 1
    begins = _is(letters[:room], wanted[0])
    if len(wanted) > 1:
        begins &= _is(letters[len(wanted) - 1 :], wanted[-1])
    if len(wanted) > 2 and _FEW * np.count_nonzero(begins) < room:
        at = np.flatnonzero(begins)
        for offset, letter in enumerate(wanted[1:-1], start=1):
            at = at[_is(letters[at + offset], letter)]
        begins[:] = False
        begins[at] = True
        return begins
    for offset, letter in enumerate(wanted[1:-1], start=1):
        begins &= _is(letters[offset : offset + room], letter)
    return begins


def _any(bits: NDArray[np.uint8], starts: Ints, room: Ints) -> Mask:
    """Whether any of the ``room`` bits from ``starts`` on is set; none where room is less.

    The last eight bytes are beyond all of them.
    """
    words = bits.view("<u8")

    def marked(starts: Ints, room: Ints) -> Mask:
        begin = starts.view(np.uint64)
        word, skipped = begin >> 6, begin & 63
        here = words.take(word) >> skipped
        word += 1
        here |= words.take(word) << 1 << (63 - skipped)  # a number cannot be shifted by 64
        inside = np.clip(room, 1, _BITS).view(np.uint64)
        some: Mask = here << (_BITS - inside) != 0
        return some & (room > 0)

    found = marked(starts, room)
    longer = np.flatnonzero((room > _BITS) & ~found)
    done = _BITS
    while len(longer):
        found[longer] = marked(starts[longer] + done, room[longer] - done)
        done += _BITS
        longer = longer[(room[longer] > done) & ~found[longer]]
    return found


def _is(letters: NDArray[np.uint8], letter: int) -> Mask:
    """Which letters are one, A to Z in either case."""
    same: Mask = letters == letter
    if letter < 128 and (other := ord(chr(letter).swapcase())) != letter:
        same |= letters == other
    return same
