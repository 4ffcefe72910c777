"""Loops of an append over bases, for `store.io.compiled`: parse, cut, translate, lay out.

They take pointers, which look like arrays here. What they do is said once more in NumPy, where
each is used; what they are not made for they refuse by a negative number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from store.io.compiled import Loops

LOOPS = Loops("sequence", __file__)

REFUSED = -1
LANES = 64  # bytes of text looked at side by side
BLANK = 1  # in the table of letters: a blank; 0 is an illegal byte
OUTPUTS = 5  # numbers that `scan` gives: records, nucleotides, amino acids, ambiguous, dropped


@LOOPS.made("u8*", "i64", "u8*", "u8*", "i64", "i64*", "i64*", "i64", "i64*")
def fasta() -> Callable[..., int]:
    """Make the loop that cuts a block of FASTA at its headers."""
    bases = _bases()
    lanes = LANES

    def loop(
        text: Any, size: int, letters: Any, out: Any, end: int, heads: Any, cuts: Any, most: int,
        counts: Any,
    ) -> int:  # fmt: skip
        """Return the number of headers, or a negative one.

        ``letters`` maps a byte to its upper case, `BLANK` or 0. Letters go to ``out`` from ``end``
        on; ``heads`` gets begin and end of each id in the text, ``cuts`` where in ``out`` the
        letters after it begin. ``counts`` gets where the letters end, the letters U, the lines, and
        the letters other than A, C, G, T, N and the gap sign.
        A byte that is no letter, and a dash, which may be a separator, are refused; so are more
        than ``most`` headers.
        """
        headers = 0
        uracils = 0
        lines = 0
        others = 0
        at = 0
        while at < size:
            if at + lanes <= size:
                plain = bases(text, at, out, end)
                at += plain
                end += plain
                if plain == lanes:
                    continue
            byte = text[at]
            letter = letters[byte]
            at += 1
            if letter > 1:
                if byte == 45:  # -
                    return -1
                out[end] = letter
                end += 1
                if byte | 32 == 117:  # U
                    uracils += 1
                elif letter != 65 and letter != 67 and letter != 71 and letter != 84:
                    others += (letter != 78) & (letter != 46)  # N, .
            elif letter == 0:
                return -1
            elif byte == 10:
                lines += 1
                if at < size and text[at] == 62:  # >
                    if headers == most:
                        return -1
                    at += 1
                    heads[2 * headers] = at
                    blank = -1
                    while at < size and text[at] != 10:
                        if blank < 0 and (text[at] == 32 or text[at] == 9):
                            blank = at
                        at += 1
                    stop = at if blank < 0 else blank
                    while stop > heads[2 * headers] and text[stop - 1] == 13:
                        stop -= 1
                    heads[2 * headers + 1] = stop
                    cuts[headers] = end
                    headers += 1
                    # The line feed that ends the header begins the next one if that follows.
                    if at < size and not (at + 1 < size and text[at + 1] == 62):
                        at += 1
                        lines += 1
        counts[0] = end
        counts[1] = uracils
        counts[2] = lines
        counts[3] = others
        return headers

    return loop


def _bases() -> Any:
    """Copy `LANES` bytes in upper case; return how many of the first are A, C, G, T or N.

    As vectors of LLVM: a compiled loop looks at one byte after the other.
    """
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    byte, number = ir.IntType(8), ir.IntType(64)
    vector = ir.VectorType(byte, LANES)

    def generate(_context: Any, build: Any, _signature: Any, arguments: Any) -> Any:
        text, at, out, end = arguments
        source = build.bitcast(build.gep(text, [at]), vector.as_pointer())
        letters = build.load(source)
        letters.align = 1
        upper = build.and_(letters, ir.Constant(vector, [0xDF] * LANES))
        target = build.bitcast(build.gep(out, [end]), vector.as_pointer())
        build.store(upper, target).align = 1
        other = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [1] * LANES)
        for letter in b"ACGTN":
            differs = build.icmp_unsigned("!=", upper, ir.Constant(vector, [letter] * LANES))
            other = build.and_(other, differs)
        bits = build.bitcast(other, number)
        return build.cttz(bits, ir.Constant(ir.IntType(1), 0))  # `LANES` where none differs

    @intrinsic
    def bases(_context: Any, text: Any, at: Any, out: Any, end: Any) -> Any:
        return types.int64(text, at, out, end), generate

    return bases


@LOOPS.loop("u8*", "i64", "i64", "u8*", "u8*", "i64*", "i64*", "i64*")
def fastq(
    text: Any, size: int, most: int, letters: Any, out: Any, heads: Any, ends: Any, counts: Any
) -> int:
    """Read whole records of four plain lines; return how many there are before anything else.

    As `fasta`; ``ends`` gets where in ``out`` each sequence ends. ``counts`` gets the bytes of
    text read, the letters U, and whether something else than the end of the text follows.
    """
    records = 0
    end = 0
    at = 0
    uracils = 0
    odd = 0
    while records < most and at < size:
        if text[at] != 64:  # @
            odd = 1
            break
        start = at + 1
        line = start
        blank = -1
        strange = 0
        while line < size and text[line] != 10:
            byte = text[line]
            if byte < 33 or byte > 126:
                if byte != 32 and byte != 9:
                    strange = 1
                elif blank < 0:
                    blank = line
            line += 1
        if line >= size:
            break
        stop = line if blank < 0 else blank
        if strange or stop == start:
            odd = 1
            break
        header = line
        line += 1
        began = line
        place = end
        found = 0
        while line < size:
            letter = letters[text[line]]
            if letter < 2:
                break
            out[place] = letter
            place += 1
            if text[line] | 32 == 117:
                found += 1
            line += 1
        if line >= size:
            break
        if text[line] != 10:
            odd = 1
            break
        length = line - began
        line += 1
        if line + 1 >= size:
            break
        if text[line] != 43:  # +
            odd = 1
            break
        line += 1
        if text[line] != 10:  # the name may be there once more
            named = line
            while line < size and text[line] != 10 and line - named + start < header:
                if text[line] != text[line - named + start]:
                    strange = 1
                line += 1
            if line >= size:
                break
            if strange or text[line] != 10 or line - named != header - start:
                odd = 1
                break
        line += 1
        if line + length >= size:
            break
        for byte in range(length):
            quality = text[line + byte]
            if quality == 10 or quality == 13 or quality > 127:
                strange = 1
        line += length
        if strange or text[line] != 10:
            odd = 1
            break
        heads[2 * records] = start
        heads[2 * records + 1] = stop
        ends[records] = place
        end = place
        uracils += found
        records += 1
        at = line + 1
    counts[0] = at
    counts[1] = uracils
    counts[2] = odd
    return records


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
