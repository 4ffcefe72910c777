"""Six-frame translation against the slow rules, and against Biopython's translation."""

import random
from contextlib import contextmanager

import numpy as np
import pytest
from Bio.Seq import Seq
from hypothesis import given, settings
from hypothesis import strategies as st

from store.io.ragged import from_items
from tests.vnp.sequence import slow_rules
from vnp.sequence import strided
from vnp.sequence.frames import FRAMES, nucleotides, proteins, scan
from vnp.sequence.strided import by_length, collect, items, put_rows, take_rows

ALPHABETS = ["ACGT", "ACG", "CG", "ACGTN", "ACGTRYSWKMBDHVN-.U", "N", "ACGT" * 20 + "N", "GCTN"]


@contextmanager
def copying(*, padded):
    """Have rows copied length by length, or all padded."""
    before = strided._GROUP_COST, strided._WASTE
    strided._GROUP_COST, strided._WASTE = (10**9, 10**9) if padded else (0, 0)
    try:
        yield
    finally:
        strided._GROUP_COST, strided._WASTE = before


def translated(sequence, bounds):
    """{(window, frame name): (protein, nucleotide)} of the kept frames."""
    bases = np.frombuffer(sequence.encode(), np.uint8)
    start, end = np.array(bounds, np.int64).reshape(-1, 2).T
    found = scan(bases, start, end)
    window, frame = np.nonzero(found.kept)
    protein = proteins(found, start[window], end[window], frame)
    nucleotide = nucleotides(bases, start[window], end[window], frame, protein.lengths)
    assert found.stopped.tolist() == [has_stop(sequence[a:b]) for a, b in bounds]
    return {
        (w, FRAMES[f]): (protein[i].decode(), nucleotide[i].decode())
        for i, (w, f) in enumerate(zip(window.tolist(), frame.tolist(), strict=True))
    }


def has_stop(window):
    strands = (window, slow_rules.reverse_complement(window))
    return any("*" in slow_rules.translate(strand[f:]) for strand in strands for f in range(3))


def expected(sequence, bounds):
    result = {}
    for number, (start, end) in enumerate(bounds):
        window = sequence[start:end]
        if window:
            for record in slow_rules.records("c", window, len(window)):
                key = (number, record["id"].removeprefix("c_chunk_1"))
                result[key] = (record["protein"], record["nucleotide"])
    return result


@settings(deadline=None, derandomize=True, max_examples=400)
@given(seed=st.integers(0, 2**32))
def test_any_windows_of_any_sequence(seed):
    rng = random.Random(seed)
    size = rng.choice([0, 1, 2, 3, 4, 5, 6, 20, 200, 1200])
    sequence = "".join(rng.choices(rng.choice(ALPHABETS), k=size))
    bounds = [sorted(rng.choices(range(size + 1), k=2)) for _ in range(rng.randrange(1, 8))]
    for padded in (False, True):
        with copying(padded=padded):
            assert translated(sequence, bounds) == expected(sequence, bounds)


def test_every_codon_on_both_strands():
    letters = "ACGTN"
    for codon in (a + b + c for a in letters for b in letters for c in letters):
        assert translated(codon, [(0, 3)]) == expected(codon, [(0, 3)])


def test_long_open_frames():
    """Frames of hundreds of codons, one stop moved through them."""
    rng = random.Random(5)
    codons = [c for c, a in slow_rules.GENETIC_CODE.items() if a != "*"]
    for size in (127, 128, 129, 166, 255, 256, 257, 400):
        gene = rng.choices(codons, k=size)
        for stop in (None, 0, 1, size // 2, size - 2, size - 1):
            mutated = list(gene)
            if stop is not None:
                mutated[stop] = "TAA"
            text = "".join(mutated)
            got = translated(text, [(0, len(text))])
            assert got == expected(text, [(0, len(text))])
            assert ((0, "F1") in got) == (stop is None)


def test_biopython_agrees():
    rng = random.Random(6)
    for _ in range(200):
        sequence = "".join(rng.choices("ACGT", k=rng.randrange(3, 60)))
        for (_, frame), (protein, _) in translated(sequence, [(0, len(sequence))]).items():
            strand = Seq(sequence) if frame[0] == "F" else Seq(sequence).reverse_complement()
            text = strand[int(frame[1]) - 1 :]
            assert protein == str(text[: len(text) // 3 * 3].translate())


def test_dropped_codons_shorten_the_nucleotide_too():
    """The quirk: a dropped codon is not a residue, and the bases are counted by residues."""
    got = translated("ATGNNNGCA", [(0, 9)])
    assert got[0, "F1"] == ("MA", "ATGNNNG")


def test_other_letters_are_not_complemented():
    assert translated("RATG", [(0, 4)])[0, "R1"] == ("H", "CATR")


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("step", "reach"), [(1, 1), (3, 3), (-1, 1), (-3, 3)])
def test_collect_rows_at_any_stride(step, reach, padded):
    rng = np.random.default_rng(1)
    source = rng.integers(0, 256, 300, dtype=np.uint8)
    lengths = rng.integers(0, 20, 50)
    low, high = (0, 300 - 20 * reach) if step > 0 else (20 * reach, 300)
    start = rng.integers(low, high, 50)
    with copying(padded=padded):
        column = collect(source, start, lengths, step=step)
    assert column.tolist() == [
        bytes(int(source[a + step * j]) for j in range(n))
        for a, n in zip(start, lengths, strict=True)
    ]


def test_rows_reach_the_very_ends_of_the_source():
    source = np.arange(9, dtype=np.uint8)
    assert take_rows(source, np.array([0]), 9).tolist() == [list(range(9))]
    assert take_rows(source, np.array([8]), 9, step=-1).tolist() == [list(range(8, -1, -1))]
    assert take_rows(source, np.array([2]), 3, step=3).tolist() == [[2, 5, 8]]
    assert take_rows(source, np.array([6]), 3, step=-3).tolist() == [[6, 3, 0]]
    put_rows(source, np.array([0, 7]), np.array([[90, 91], [92, 93]], np.uint8))
    assert source.tolist() == [90, 91, 2, 3, 4, 5, 6, 92, 93]


def test_groups_of_equal_length():
    lengths = np.array([3, 0, 5, 3, 5])
    assert {n: np.arange(5)[group].tolist() for n, group in by_length(lengths)} == {
        3: [0, 3],
        5: [2, 4],
    }
    assert [n for n, _ in by_length(np.array([4, 4]))] == [4]
    assert list(by_length(np.array([0, 0]))) == []
    assert list(by_length(np.array([], np.int64))) == []


def test_items_of_a_column():
    column = from_items([b"a", b"", b"ccc", b"dd"])
    assert items(column, np.array([2, 0, 2, 1])).tolist() == [b"ccc", b"a", b"ccc", b""]
    assert items(column, np.array([], np.int64)).tolist() == []
