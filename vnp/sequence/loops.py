"""Loops of an append over bases, for `store.io.compiled`: join, cut, translate, lay out.

They take pointers, which look like arrays here. What they do is said once more in NumPy, where
each is used. `vnp.sequence.parse_loops` has those that parse.
"""

from __future__ import annotations

from typing import Any

from store.io.compiled import Loops

LOOPS = Loops("sequence", __file__)

ABSENT = -1  # in the place of a byte that `joined` writes
OUTPUTS = 5  # numbers that `scan` gives: records, nucleotides, amino acids, ambiguous, dropped


@LOOPS.loop("u8*", "i64*", "u8*", "i64*", "i64", "i64", "i64", "i64", "u8*")
def joined(
    a: Any, a_offsets: Any, b: Any, b_offsets: Any, n: int, first: int, middle: int, last: int,
    out: Any,
) -> int:  # fmt: skip
    """Write ``first a[i] middle b[i] last`` for all i; without ``first`` where it is negative.

    Where ``middle`` is negative there is neither that nor ``b``. Returns the bytes written.
    """
    at = 0
    for item in range(n):
        if first >= 0:
            out[at] = first
            at += 1
        start = a_offsets[item]
        size = a_offsets[item + 1] - start
        for byte in range(size):
            out[at + byte] = a[start + byte]
        at += size
        if middle >= 0:
            out[at] = middle
            at += 1
            start = b_offsets[item]
            size = b_offsets[item + 1] - start
            for byte in range(size):
                out[at + byte] = b[start + byte]
            at += size
        out[at] = last
        at += 1
    return at


@LOOPS.loop("u8*", "i64*", "i64", "u8*")
def pieces(text: Any, bounds: Any, n: int, out: Any) -> int:
    """Write the pieces of a text, begin and end of each in ``bounds``; return the bytes written."""
    at = 0
    for item in range(n):
        start = bounds[2 * item]
        size = bounds[2 * item + 1] - start
        for byte in range(size):
            out[at + byte] = text[start + byte]
        at += size
    return at


@LOOPS.loop("u8*", "i64")
def coded(letters: Any, n: int) -> int:
    """How many upper-case letters are other than A, C, G, T, N and the gap signs."""
    others = 0
    for at in range(n):
        letter = letters[at]
        plain = (
            (letter == 65) | (letter == 67) | (letter == 71) | (letter == 84) | (letter == 78)
            | (letter == 45) | (letter == 46)
        )  # fmt: skip
        others += 1 - plain
    return others


@LOOPS.loop("u8*", "i64", "u8*", "i64*", "i64*", "i64", "u8*", "u8*", "u8*", "i32*", "i64*")
def scan(
    sequence: Any, size: int, flags: Any, begin: Any, stop: Any, windows: int,
    codon: Any, kept: Any, stopped: Any, lengths: Any, totals: Any,
) -> int:  # fmt: skip
    """Find the frames of windows that are records, as `vnp.sequence.frames.scan` does.

    ``codon`` (size) gets the number of the codon at each position, ``kept`` and ``lengths``
    (windows, 6) whether a frame is a record and of how many amino acids, ``stopped`` (windows)
    whether a frame has a stop, and ``totals`` what `OUTPUTS` lists.
    """
    ambiguous = 0
    for at in range(size):
        base = sequence[at]
        # A, C, G, T, others: in no table, which vectors cannot look up.
        digit = 4 - 4 * (base == 65) - 3 * (base == 67) - 2 * (base == 71) - (base == 84)
        codon[at] = digit
        ambiguous += digit == 4
    for at in range(size - 2):
        codon[at] = codon[at] * 25 + codon[at + 1] * 5 + codon[at + 2]
    dropped = 0
    if ambiguous > 0:
        for at in range(size - 2):
            dropped += flags[codon[at]] == 0
    records = 0
    nucleotides = 0
    amino_acids = 0
    for window in range(windows):
        first = begin[window]
        last = stop[window] - 2  # one past the last codon's first base
        zero = 0
        one = 0
        two = 0
        at = first
        while at + 2 < last:
            zero |= flags[codon[at]]
            one |= flags[codon[at + 1]]
            two |= flags[codon[at + 2]]
            at += 3
        if at < last:
            zero |= flags[codon[at]]
        if at + 1 < last:
            one |= flags[codon[at + 1]]
        stopped[window] = ((zero | one | two) & 3) > 0
        bases = stop[window] - first
        for frame in range(6):
            offset = frame % 3
            # Codons of a reverse frame lie where the window ends, less its offset, less 3, 6, 9...
            phase = offset if frame < 3 else (bases - offset) % 3
            found = zero if phase == 0 else (one if phase == 1 else two)
            has_stop = found & (1 if frame < 3 else 2)
            is_kept = bases - offset >= 3 and has_stop == 0 and (found & 4) > 0
            kept[6 * window + frame] = is_kept
            lengths[6 * window + frame] = 0
            if not is_kept:
                continue
            codons = (bases - offset) // 3
            length = codons
            if ambiguous > 0:
                length = 0
                place = first + phase
                for _ in range(codons):
                    length += flags[codon[place]] > 0
                    place += 3
            lengths[6 * window + frame] = length
            records += 1
            amino_acids += length
            wanted = 3 * length + 1
            nucleotides += wanted if wanted < bases - offset else bases - offset
    totals[0] = records
    totals[1] = nucleotides
    totals[2] = amino_acids
    totals[3] = ambiguous
    totals[4] = dropped
    return records


@LOOPS.loop(
    "u8*", "u8*", "i64*", "i64*", "i64", "u8*", "i32*", "u8*", "u8*", "u8*", "i64*", "i8*",
    "u8*", "i64*", "u8*", "i64*",
)  # fmt: skip
def emit(
    sequence: Any, codon: Any, begin: Any, stop: Any, windows: int, kept: Any, lengths: Any,
    complement: Any, forward: Any, reverse: Any, window_of: Any, frame_of: Any,
    nucleotide: Any, nucleotide_offsets: Any, protein: Any, protein_offsets: Any,
) -> int:  # fmt: skip
    """Write the records that `scan` found; return their number."""
    record = 0
    base = 0
    acid = 0
    nucleotide_offsets[0] = 0
    protein_offsets[0] = 0
    for window in range(windows):
        bases = stop[window] - begin[window]
        for frame in range(6):
            if kept[6 * window + frame] == 0:
                continue
            offset = frame % 3
            codons = (bases - offset) // 3
            wanted = 3 * lengths[6 * window + frame] + 1
            if wanted > bases - offset:
                wanted = bases - offset
            if frame < 3:
                at = begin[window] + offset
                for byte in range(wanted):
                    nucleotide[base + byte] = sequence[at + byte]
                for _ in range(codons):
                    letter = forward[codon[at]]
                    protein[acid] = letter
                    acid += letter > 0
                    at += 3
            else:
                at = stop[window] - offset - 1
                for byte in range(wanted):
                    nucleotide[base + byte] = complement[sequence[at - byte]]
                at -= 2
                for _ in range(codons):
                    letter = reverse[codon[at]]
                    protein[acid] = letter
                    acid += letter > 0
                    at -= 3
            base += wanted
            window_of[record] = window
            frame_of[record] = frame
            record += 1
            nucleotide_offsets[record] = base
            protein_offsets[record] = acid
    return record


@LOOPS.loop(
    "u8*", "i64*", "i64*", "i32*", "u8*", "i64", "i64*", "i8*", "i64", "u8*", "i64*", "u8*", "i64*",
)  # fmt: skip
def names(
    ids: Any, id_offsets: Any, contig_of: Any, number: Any, middle: Any, middle_size: int,
    window_of: Any, frame_of: Any, n: int, out: Any, offsets: Any, contigs: Any,
    contig_offsets: Any,
) -> int:  # fmt: skip
    """Write ids ``<contig><middle><number><frame>`` of records, and the ids of their contigs."""
    at = 0
    end = 0
    offsets[0] = 0
    contig_offsets[0] = 0
    for record in range(n):
        window = window_of[record]
        contig = contig_of[window]
        start = id_offsets[contig]
        size = id_offsets[contig + 1] - start
        for byte in range(size):
            letter = ids[start + byte]
            out[at + byte] = letter
            contigs[end + byte] = letter
        at += size
        end += size
        for byte in range(middle_size):
            out[at + byte] = middle[byte]
        at += middle_size
        value = number[window]
        power = 1
        while power <= value // 10:
            power *= 10
        while power > 0:
            out[at] = 48 + value // power % 10
            at += 1
            power //= 10
        frame = frame_of[record]
        out[at] = 70 if frame < 3 else 82  # F, R
        out[at + 1] = 49 + frame % 3
        at += 2
        offsets[record + 1] = at
        contig_offsets[record + 1] = end
    return at
