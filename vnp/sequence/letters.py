"""The letters that a nucleotide sequence may hold, and what messages say of others.

Nucleotide codes of IUPAC-IUB 1984 and the gap signs ``-`` and ``.``. Gaps are letters like N here:
a codon that holds one is not translated, and none of them is changed. U, of RNA, is read as T.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vnp.sequence.loops import LOOPS
from vnp.sequence.parse_loops import BLANK

BLANKS = b"\r\n \t"
PRINTABLE = bytes(range(0x21, 0x7F))  # without the blank

_PLAIN = b"ACGTN-."  # letters that DNA is mostly made of
PROBE = 1 << 18  # the first bases of a chromosome are enough to tell it from a protein


def _upper_table(*, also: bytes = b"") -> bytes:
    table = bytearray(256)
    for letter in b"ACGTRYSWKMBDHVN":
        table[letter] = table[letter | 0x20] = letter
    table[ord("U")] = table[ord("u")] = ord("T")
    for sign in b"-." + also:
        table[sign] = sign
    return bytes(table)


UPPER = _upper_table()  # upper case of a legal letter, T for U, 0 for any other byte
UPPER_LINES = _upper_table(also=b"\n")  # the same for sequences joined by line feeds
_UPPER_TEXT = _upper_table(also=BLANKS)
LETTERS = np.frombuffer(UPPER, np.uint8).copy()  # the same for `vnp.sequence.parse_loops`
LETTERS[list(BLANKS)] = BLANK


def uracils(text: bytes) -> int:
    """How many letters of a sequence are U."""
    # Looking for a letter that is not there is many times faster than counting it.
    return sum(text.count(letter) for letter in (b"U", b"u") if letter in text)


def shown(text: bytes) -> str:
    """Text of the input as messages show it: quoted, escaped and not too long."""
    quoted = repr(text[:60])[1:]
    return quoted if len(text) <= 60 else quoted + "..."


def illegal_letter(text: bytes, *, blanks_allowed: bool) -> tuple[int, str]:
    """Position of the first illegal byte of a sequence that has one, and what is wrong with it."""
    at = text.translate(_UPPER_TEXT if blanks_allowed else UPPER).find(0)
    letter = chr(text[at])
    if letter.isspace():
        return at, "there is a blank in the sequence"
    if letter.isascii() and letter.isprintable():
        hint = "; is this protein?" if letter.isalpha() else ""
        return at, f"{letter!r} is not a nucleotide code{hint}"
    return at, f"byte 0x{text[at]:02x} in the sequence: binary content?"


def could_be_dna(sequences: NDArray[np.uint8]) -> bool:
    """Whether ambiguous letters are so rare in joined sequences that none needs a closer look."""
    loops = LOOPS.get()
    coded = (
        len(sequences.tobytes().translate(None, _PLAIN))
        if loops is None
        else loops.coded(sequences, len(sequences))
    )
    return 10 * coded < len(sequences)


def protein_evidence(probe: bytes) -> str:
    """Say why a sequence of legal letters must be protein; empty if it need not be.

    ``probe`` is its beginning, up to `PROBE` letters. In no DNA are most letters codes for several
    bases.
    """
    coded = len(probe.translate(None, _PLAIN))
    if len(probe) < 20 or 2 * coded <= len(probe):
        return ""
    return f"{coded:,} of {len(probe):,} letters are IUPAC codes for several bases"
