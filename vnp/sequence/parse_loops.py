"""Loops that parse FASTA and FASTQ, for `store.io.compiled`; `vnp.sequence.loops` has the others.

What they are not made for they refuse by a negative number; `vnp.sequence.fasta` and `fastq` then
do it by other means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from store.io.compiled import Loops

LOOPS = Loops("parse", __file__)

REFUSED = -1
LANES = 64  # bytes of text looked at side by side
BLANK = 1  # in the table of letters: a blank; 0 is an illegal byte


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
        A byte that is not a letter, and a dash, which may be a separator, are refused; so are more
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
