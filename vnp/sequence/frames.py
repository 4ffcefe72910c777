"""Six-frame translation of windows by VirNucPro's rules, many windows at once.

Frames 1 to 3 read a window from offset 0, 1, 2, frames 4 to 6 its reverse complement. A codon that
holds any letter but ACGT adds nothing to the protein. A frame is kept if its protein has no stop
and is not empty. Which codons are stops, the genetic code says (`vnp.sequence.genetic_codes`).

Windows overlap and most frames end at a stop, so nothing is translated per frame. Every position of
the sequence gets one byte of flags that says what its codon is on either strand, and whether a
frame holds a stop is the OR of every third flag over the frame. ORs over 1, 2, 4, 8 ... codons are
made for all positions in turn; two of them that overlap cover any frame::

    frame of 6 codons from p      0   1   2   3   4   5
    OR over 4 codons from p       `-----------'
    OR over 4 codons from p + 6           `-----------'

Both strands are covered by the forward positions: the codons of a reverse frame lie at the window's
end less the frame's offset less 3, 6, 9 ... Only frames that are kept are translated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.io.ragged import Ragged, offsets_of
from store.schema import STANDARD_CODE
from vnp.sequence.genetic_codes import (
    BASES,
    COMPLEMENT,
    OTHER,
    STOP_FORWARD,
    STOP_REVERSE,
    TRANSLATED,
    CodonTable,
    codon_table,
)
from vnp.sequence.strided import Bytes, Ints, collect, mapped

FRAMES = ("F1", "F2", "F3", "R1", "R2", "R3")  # in the order of records

_STOP = np.repeat(np.array([STOP_FORWARD, STOP_REVERSE], np.uint8), 3)  # by frame
_DIGIT = bytes(BASES.find(chr(byte)) % 5 for byte in range(256))  # of a codon's number
COMPLEMENTS = np.frombuffer(COMPLEMENT, np.uint8)  # for `vnp.sequence.loops`


@dataclass(frozen=True, slots=True)
class Scan:
    """What the frames of n windows of one sequence hold."""

    table: CodonTable  # by which it was scanned
    codon: Bytes  # number of the codon at each position of the sequence, shape (bases - 2,)
    kept: NDArray[np.bool_]  # whether a frame is a record, shape (n, 6)
    stopped: NDArray[np.bool_]  # whether any frame of a window has a stop, shape (n,)
    ambiguous: int  # letters of the sequence other than ACGT
    dropped: int  # codons of the sequence that hold one, of all three frames of a strand


def scan(sequence: Bytes, start: Ints, end: Ints, *, genetic_code: int = STANDARD_CODE) -> Scan:
    """Look for stops in the six frames of every window, ``start`` to ``end``, shape (n,).

    ``sequence`` holds upper-case bases. Several contigs may lie end to end: no codon across a
    window's bounds is looked at. ``genetic_code`` is a number of NCBI's (UsageError for another).
    """
    table = codon_table(genetic_code)
    digit = mapped(sequence, _DIGIT)
    codon = digit[:-2] * np.uint8(5)
    codon += digit[1:-1]
    codon *= np.uint8(5)
    codon += digit[2:]
    offset = np.arange(3)
    codons = np.maximum((end - start)[:, None] - offset, 0) // 3
    lowest = np.concatenate([start[:, None] + offset, end[:, None] - offset - 3 * codons], axis=1)
    flags = mapped(codon, table.flags)
    found = _any_over(flags, lowest, np.tile(codons, 2))
    has_stop = (found & _STOP) > 0
    kept = ~has_stop & ((found & TRANSLATED) > 0)
    stopped: NDArray[np.bool_] = np.logical_or.reduce(has_stop, axis=1)
    ambiguous = int(np.count_nonzero(digit == OTHER))
    dropped = int(np.count_nonzero(flags == 0)) if ambiguous else 0
    return Scan(table, codon, kept, stopped, ambiguous, dropped)


def ambiguous_letters(sequence: Bytes) -> int:
    """Count the letters other than ACGT."""
    return int(np.count_nonzero(mapped(sequence, _DIGIT) == OTHER))


def _any_over(flags: Bytes, lowest: Ints, codons: Ints) -> Bytes:
    """OR of ``flags`` at ``lowest``, ``lowest + 3``, ... over ``codons`` codons; 0 over none."""
    found = np.zeros(codons.shape, np.uint8)
    level = np.frexp(codons.astype(np.float64))[1] - 1  # of the largest power of 2 in it
    for power in range(int(level.max(initial=-1)) + 1):
        if power:
            reach = 3 << (power - 1)
            flags = flags[:-reach] | flags[reach:]
        here = level == power
        first = lowest[here]
        found[here] = flags[first] | flags[first + 3 * (codons[here] - (1 << power))]
    return found


def proteins(found: Scan, start: Ints, end: Ints, frame: Ints) -> Ragged:
    """Proteins of kept frames, without the codons that are dropped.

    For each record, the bounds of its window on the scanned sequence and its frame from 0 (F1) to
    5 (R3).
    """
    offset = frame % 3
    column = collect(
        found.codon,
        np.where(frame < 3, start + offset, end - offset - 3),
        (end - start - offset) // 3,
        reverse=frame >= 3,
        step=3,
        tables=(found.table.forward, found.table.reverse),
    )
    kept = column.data > 0
    if kept.all():
        return column
    lengths = np.add.reduceat(kept, column.offsets[:-1], dtype=np.int64)
    return Ragged(column.data[kept], offsets_of(lengths))


def nucleotides(sequence: Bytes, start: Ints, end: Ints, frame: Ints, amino_acids: Ints) -> Ragged:
    """Bases of kept frames: ``strand[offset : offset + 1 + 3 * amino_acids]``.

    So one base more than the codons where the strand has it, and less than all codons where some
    were dropped.
    """
    offset = frame % 3
    return collect(
        sequence,
        np.where(frame < 3, start + offset, end - offset - 1),
        np.minimum(3 * amino_acids + 1, end - start - offset),
        reverse=frame >= 3,
        step=1,
        tables=(None, COMPLEMENT),
    )
