"""Loops over columns of byte strings, for `store.io.compiled`: digests, and the layout on disk."""
# Loops take pointers, which look like arrays here.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from store.io.compiled import Loops

LOOPS = Loops("store", __file__)
LANES = 16  # messages hashed side by side
STATE, WORDS = 8 * LANES, 16 * LANES  # words of scratch that `sha256` takes

_PRIMES = (
    2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
    101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167, 173, 179, 181, 191, 193,
    197, 199, 211, 223, 227, 229, 233, 239, 241, 251, 257, 263, 269, 271, 277, 281, 283, 293, 307,
    311,
)  # fmt: skip


def _root_bits(number: int, root: int) -> int:
    """First 32 bits of the fraction of a square or cube root, as FIPS 180-4 derives constants."""
    shifted = number << (32 * root)
    low, high = 0, 1 << 40
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**root <= shifted else (low, middle - 1)
    return low & 0xFFFFFFFF


INITIAL = tuple(_root_bits(prime, 2) for prime in _PRIMES[:8])
_ROUND = tuple(_root_bits(prime, 3) for prime in _PRIMES)


@LOOPS.loop("u8*", "i64*", "i64", "u8*")
def vlen(data: Any, offsets: Any, n: int, out: Any) -> int:
    """Write length (4 bytes) and bytes of each item; return the bytes written."""
    at = 0
    for item in range(n):
        start = offsets[item]
        length = offsets[item + 1] - start
        out[at] = length & 255
        out[at + 1] = length >> 8 & 255
        out[at + 2] = length >> 16 & 255
        out[at + 3] = length >> 24 & 255
        at += 4
        for byte in range(length):
            out[at + byte] = data[start + byte]
        at += length
    return at


@LOOPS.made(
    "u8*", "i64*", "u8*", "i64*", "i64", "i64", "u8*", "i64", "i64*", "u32*", "u32*", "u32*", "u64*"
)
def sha256() -> Callable[..., int]:
    """Make the loop that hashes pairs of strings, `LANES` of them side by side."""
    rounds = _rounds()
    lanes = LANES

    def loop(
        a: Any, a_offsets: Any, b: Any, b_offsets: Any, n: int, separator: int,
        scratch: Any, room: int, lane: Any, state: Any, words: Any, initial: Any, out: Any,
    ) -> int:  # fmt: skip
        """Hash ``a[i] + separator + b[i]``, or ``a[i]`` alone if the separator is negative.

        ``scratch`` is ``room`` bytes a lane, ``lane`` three numbers a lane; ``out`` (n, 2) gets the
        first 128 bits.
        """
        for each in range(lanes):
            lane[each] = -1  # its message
            lane[lanes + each] = 0  # blocks left
            lane[2 * lanes + each] = 0  # where the next one is
        following = 0
        while True:
            active = 0
            for each in range(lanes):
                if lane[lanes + each] == 0:
                    done = lane[each]
                    if done >= 0:
                        for half in range(2):
                            out[2 * done + half] = (
                                state[2 * half * lanes + each] << 32
                                | state[(2 * half + 1) * lanes + each]
                            )
                        lane[each] = -1
                    if following < n:
                        base = each * room
                        start = a_offsets[following]
                        size = a_offsets[following + 1] - start
                        for byte in range(size):
                            scratch[base + byte] = a[start + byte]
                        if separator >= 0:
                            scratch[base + size] = separator
                            size += 1
                            start = b_offsets[following]
                            more = b_offsets[following + 1] - start
                            for byte in range(more):
                                scratch[base + size + byte] = b[start + byte]
                            size += more
                        blocks = (size + 9 + 63) // 64
                        scratch[base + size] = 0x80
                        for byte in range(size + 1, blocks * 64 - 8):
                            scratch[base + byte] = 0
                        for byte in range(8):
                            shift = 8 * (7 - byte)
                            scratch[base + blocks * 64 - 8 + byte] = (8 * size) >> shift & 255
                        for word in range(8):
                            state[word * lanes + each] = initial[word]
                        lane[each] = following
                        lane[lanes + each] = blocks
                        lane[2 * lanes + each] = base
                        following += 1
                if lane[lanes + each] > 0:
                    at = lane[2 * lanes + each]
                    for word in range(16):
                        words[word * lanes + each] = (
                            scratch[at] << 24
                            | scratch[at + 1] << 16
                            | scratch[at + 2] << 8
                            | scratch[at + 3]
                        )
                        at += 4
                    lane[2 * lanes + each] = at
                    lane[lanes + each] -= 1
                    active += 1
            if active == 0:
                return following
            rounds(state, words)

    return loop


def _rounds() -> Any:
    """Compression function of SHA-256 (FIPS 180-4, 6.2.2) over vectors of `LANES` words.

    As vectors of LLVM, because no compiler makes them of a loop over lanes around 64 rounds.
    """
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    vector = ir.VectorType(ir.IntType(32), LANES)

    def constant(value: int) -> Any:
        return ir.Constant(vector, [value] * LANES)

    def generate(_context: Any, build: Any, _signature: Any, arguments: Any) -> Any:
        pointers = [build.bitcast(each, vector.as_pointer()) for each in arguments]

        def place(pointer: Any, index: int) -> Any:
            return build.gep(pointer, [ir.Constant(ir.IntType(32), index)])

        def load(pointer: Any, index: int) -> Any:
            value = build.load(place(pointer, index))
            value.align = 4
            return value

        def add(first: Any, *others: Any) -> Any:
            for other in others:
                first = build.add(first, other)
            return first

        def mixed(word: Any, *turns: int, shift: int = 0) -> Any:
            parts = [
                build.or_(build.lshr(word, constant(turn)), build.shl(word, constant(32 - turn)))
                for turn in turns
            ]
            parts += [build.lshr(word, constant(shift))] if shift else []
            return build.xor(build.xor(parts[0], parts[1]), parts[2])

        before = [load(pointers[0], index) for index in range(8)]
        word = [load(pointers[1], index) for index in range(16)]
        a, b, c, d, e, f, g, h = before
        for number in range(64):
            if number >= 16:
                late, early = word[(number + 14) % 16], word[(number + 1) % 16]
                word[number % 16] = add(
                    word[number % 16],
                    mixed(early, 7, 18, shift=3),
                    word[(number + 9) % 16],
                    mixed(late, 17, 19, shift=10),
                )
            choice = build.xor(g, build.and_(e, build.xor(f, g)))
            first = add(h, mixed(e, 6, 11, 25), choice, constant(_ROUND[number]), word[number % 16])
            majority = build.or_(build.and_(a, b), build.and_(c, build.or_(a, b)))
            second = add(mixed(a, 2, 13, 22), majority)
            a, b, c, d, e, f, g, h = add(first, second), a, b, c, add(d, first), e, f, g
        for index, (old, new) in enumerate(zip(before, (a, b, c, d, e, f, g, h), strict=True)):
            build.store(add(old, new), place(pointers[0], index)).align = 4
        return ir.Constant(ir.IntType(64), 0)

    @intrinsic
    def rounds(_context: Any, state: Any, words: Any) -> Any:
        return types.int64(state, words), generate

    return rounds
