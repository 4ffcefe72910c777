"""Records of whole contigs against the slow rules: every column, the order, the outcomes."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.io.ragged import Ragged, from_items
from tests.vnp.sequence import slow_rules
from vnp.sequence import records
from vnp.sequence.fastx import ContigBatch, ContigReader
from vnp.sequence.records import NoRecord, record_batches
from vnp.sequence.rows import record_ids

ALPHABETS = ["ACGT", "ACG", "ACGTN", "ACGTRYSWKMBDHVN-.U", "NRY", "ACGT" * 30 + "N"]
REASONS = {"short": NoRecord.SHORT, "stop": NoRecord.STOP, "ambiguous": NoRecord.AMBIGUOUS}


def random_sequence(rng, size):
    """Bases of any kind: random, ambiguous, or open frames on either strand."""
    if rng.random() < 0.4:
        codons = [c for c, a in slow_rules.GENETIC_CODE.items() if a != "*"]
        text = "".join(rng.choices(codons, k=size // 3)) + "A" * (size % 3)
        return text if rng.random() < 0.5 else slow_rules.reverse_complement(text)
    return "".join(rng.choices(rng.choice(ALPHABETS), k=size))


def batches_of(contigs, sizes):
    """Contig batches of the given sizes, the last ones of size 1."""
    at = 0
    sizes = iter(sizes)
    while at < len(contigs):
        part = contigs[at : at + next(sizes, 1)]
        yield ContigBatch(
            at + 1,
            from_items([name.encode() for name, _ in part]),
            from_items([sequence.encode() for _, sequence in part]),
        )
        at += len(part)


def fast(contigs, segment_length, *, sizes=(10**9,), **options):
    """(records as dicts, {record number: reason}, segments) by the code under test."""
    rows, lost, windows = [], {}, 0
    for batch in record_batches(
        batches_of(contigs, sizes), segment_length=segment_length, **options
    ):
        rows += dicts(batch.rows)
        windows += batch.segments
        without = batch.without_records
        for number, name, bases, reason in zip(
            without.record.tolist(),
            without.id.decode(),
            without.bases.tolist(),
            without.reason,
            strict=True,
        ):
            assert contigs[number - 1][0] == name
            assert len(contigs[number - 1][1]) == bases
            assert number not in lost
            lost[number] = NoRecord(reason)
    return rows, lost, windows


def dicts(rows):
    columns = {}
    for name in slow_rules.records("x", "ATG", 3)[0]:
        column = getattr(rows, name)
        columns[name] = column.decode() if isinstance(column, Ragged) else column.tolist()
        assert len(columns[name]) == len(rows)
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def slow(contigs, segment_length):
    rows = [row for contig in contigs for row in slow_rules.records(*contig, segment_length)]
    lost = {
        number: REASONS[reason]
        for number, (_, sequence) in enumerate(contigs, 1)
        if (reason := slow_rules.why_none(sequence, segment_length))
    }
    segments = sum(len(slow_rules.windows(sequence, segment_length)) for _, sequence in contigs)
    return rows, lost, segments


@settings(deadline=None, derandomize=True, max_examples=150)
@given(seed=st.integers(0, 2**32), segment_length=st.sampled_from([300, 500, 3, 8, 50]))
def test_many_contigs(seed, segment_length):
    rng = random.Random(seed)
    contigs = [
        (f"c{'x' * rng.randrange(9)}{number}", random_sequence(rng, size))
        for number, size in enumerate(
            rng.choice([rng.randint(1, 6), rng.randint(1, 60), rng.randint(1, 1500)])
            for _ in range(rng.randrange(1, 12))
        )
    ]
    assert fast(contigs, segment_length) == slow(contigs, segment_length)


@pytest.mark.parametrize("segment_length", [300, 500])
def test_lengths_to_10000(segment_length):
    """Lengths near the multiples of the segment length, where the rule turns, and others."""
    rng = random.Random(segment_length)
    near = {segment_length * k + d for k in range(1, 10_000 // segment_length) for d in (-1, 0, 1)}
    lengths = sorted({*range(1, 8), *near, *rng.sample(range(8, 10_001), 40), 10_000})
    contigs = [(f"n{n}", random_sequence(rng, n)) for n in lengths]
    assert fast(contigs, segment_length) == slow(contigs, segment_length)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(seed=st.integers(0, 2**32))
def test_batches_and_runs_change_nothing(seed):
    """Contigs in several batches, runs that cut contigs, and small batches of records."""
    rng = random.Random(seed)
    contigs = [
        (f"c{number}", random_sequence(rng, rng.randint(1, 400)))
        for number in range(rng.randrange(1, 15))
    ]
    whole = fast(contigs, 30)
    bases, windows = records._RUN_BASES, records._RUN_WINDOWS
    records._RUN_BASES, records._RUN_WINDOWS = rng.randint(1, 500), rng.randint(1, 20)
    try:
        sizes = [rng.randint(1, 5) for _ in range(5)]
        options = {"batch_records": rng.randint(1, 50), "batch_bytes": rng.choice([1, 500, 10**6])}
        assert fast(contigs, 30, sizes=sizes, **options) == whole
        cut = record_batches(batches_of(contigs, sizes), segment_length=30)
        vague = sum(base not in "ACGT" for _, text in contigs for base in text)
        assert sum(batch.ambiguous for batch in cut) == vague, "where runs overlap too"
    finally:
        records._RUN_BASES, records._RUN_WINDOWS = bases, windows


def test_batches_are_bounded():
    rng = random.Random(8)
    contigs = [(f"c{number}", random_sequence(rng, 200)) for number in range(600)]
    original = records._RUN_WINDOWS
    records._RUN_WINDOWS = 4
    try:
        sizes = [
            len(batch.rows)
            for batch in record_batches(
                batches_of(contigs, []), segment_length=50, batch_records=100
            )
        ]
    finally:
        records._RUN_WINDOWS = original
    assert max(sizes) <= 100
    assert len([size for size in sizes if size <= 100 - 4 * 6]) <= 1


def test_lower_case_files_give_upper_case_records(tmp_path):
    rng = random.Random(9)
    sequence = random_sequence(rng, 2000)
    path = tmp_path / "lower.fa"
    path.write_text(f">c1 x\n{sequence.lower()}\n")
    with ContigReader(path) as reader:
        rows = [row for b in record_batches(reader, segment_length=500) for row in dicts(b.rows)]
    assert rows == slow_rules.records("c1", sequence.lower(), 500)


def test_no_contigs():
    assert list(record_batches([], segment_length=500)) == []


def test_a_file_without_any_record_is_accounted_for():
    contigs = [("a", "AC"), ("b", "NNNNNN"), ("c", "TAATTAGTTAACTAA")]
    rows, lost, windows = fast(contigs, 500)
    assert (rows, lost, windows) == slow(contigs, 500)
    assert rows == []
    assert lost == {1: NoRecord.SHORT, 2: NoRecord.AMBIGUOUS, 3: NoRecord.STOP}
    (batch,) = record_batches(batches_of(contigs, [9]), segment_length=500)
    assert batch.without_records.tsv() == (
        "1\ta\t2\tshorter than a codon\n"
        "2\tb\t6\tonly codons with ambiguous letters\n"
        "3\tc\t15\tno stop-free reading frame\n"
    )


def test_ids_of_windows_with_many_digits():
    number = np.array([1, 9, 10, 99, 100, 12345, 2**31 - 1], np.int32)
    names = from_items([b"a", b"bb", b"a", b"", b"ccc", b"a", b"long name"])
    got = record_ids(names, number, np.array([0, 1, 2, 3, 4, 5, 0])).decode()
    frames = ["F1", "F2", "F3", "R1", "R2", "R3", "F1"]
    assert got == [
        f"{name}_chunk_{n}{frame}"
        for name, n, frame in zip(names.decode(), number, frames, strict=True)
    ]
