"""Sample names, and duplicate contig ids against a plain model."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.errors import UsageError
from store.io.ragged import from_items
from vnp.sequence.compression import InputError
from vnp.sequence.contig_ids import (
    Duplicates,
    UniqueIds,
    _Filter,
    _Run,
    check_sample_name,
    sample_name_of,
)
from vnp.sequence.fastx import ContigBatch


@pytest.mark.parametrize("name", ["a", "S1", "_x", "9-lives", "a.b-c_d", "x" * 128])
def test_legal_names(name):
    check_sample_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "-a", "a b", "a/b", "a:b", "ä", "a\n", "a\0", "x" * 129]
)
def test_illegal_names(name):
    with pytest.raises(UsageError):
        check_sample_name(name)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("sample.fa.gz", "sample"),
        ("/data/run 7/S1_R1.fastq.zst", "S1_R1"),
        ("x.FASTA", "x"),
        ("x.fna.bz2", "x"),
        ("x.fq", "x"),
        ("GCF_000840245.1_ViralProj14204_genomic.fna.gz", "GCF_000840245.1_ViralProj14204_genomic"),
        ("x.gz", "x"),
        ("x.fa.fa", "x.fa"),
        ("x.txt", "x.txt"),
        ("my sample (1).fa", "my_sample_1_"),
        ("größe.fa", "gr_e"),
        ("-odd.fa", "odd"),
        (".hidden.fa", "hidden"),
        ("y" * 200 + ".fa", "y" * 128),
    ],
)
def test_names_of_files(path, name):
    assert sample_name_of(path) == name


@pytest.mark.parametrize("path", ["-", ".fa", "ä.fa", "/", "--.fa.gz"])
def test_files_without_a_usable_name(path):
    with pytest.raises(UsageError, match="name"):
        sample_name_of(path)


class Model:
    """The rule for numbering, one id at a time."""

    def __init__(self):
        self.taken = set()

    def admit(self, ids):
        result = []
        for contig_id in ids:
            candidate, number = contig_id, 2
            while candidate in self.taken:
                candidate = b"%b_%d" % (contig_id, number)
                number += 1
            self.taken.add(candidate)
            result.append(candidate)
        return result


@settings(deadline=None, derandomize=True, max_examples=200)
@given(seed=st.integers(0, 2**32), recent=st.sampled_from([1, 2, 5, 50, 10_000]))
def test_numbering_follows_the_model(seed, recent):
    """Whatever the batches, and wherever the ids are kept: in the set or in the runs."""
    rng = random.Random(seed)
    pool = [b"a", b"b", b"a_2", b"a_2_2", b"a_3", *(b"x%d" % i for i in range(rng.randrange(300)))]
    ids = rng.choices(pool, k=rng.randrange(1, 300))
    unique = UniqueIds(Duplicates.NUMBER, recent=recent)
    got = []
    while len(got) < len(ids):
        got += unique.admit(ids[len(got) :][: rng.randint(1, 60)], first=len(got) + 1)
    assert got == Model().admit(ids)
    assert len(set(got)) == len(got)
    assert unique.renamed == sum(a != b for a, b in zip(ids, got, strict=True))


@settings(deadline=None, derandomize=True, max_examples=100)
@given(seed=st.integers(0, 2**32), recent=st.sampled_from([1, 3, 20, 10_000]))
def test_the_first_duplicate_is_named(seed, recent):
    rng = random.Random(seed)
    ids = [b"read/%d" % number for number in range(rng.randrange(1, 400))]
    rng.shuffle(ids)
    at = rng.randrange(len(ids))
    ids.insert(rng.randint(at + 1, len(ids)), ids[at])
    second = max(i for i, name in enumerate(ids) if name == ids[at]) + 1
    unique = UniqueIds(source="reads.fq", recent=recent)
    failing = (second - 1) // 37 * 37
    for begin in range(0, failing, 37):
        assert unique.admit(ids[begin : begin + 37], first=begin + 1) == ids[begin : begin + 37]
    with pytest.raises(InputError) as caught:
        unique.admit(ids[failing : failing + 37], first=failing + 1)
    assert caught.value.record == second
    assert str(caught.value).startswith(f"reads.fq, record {second}: the id '{ids[at].decode()}'")


def test_interleaved_pairs_over_many_runs():
    unique = UniqueIds(Duplicates.NUMBER, recent=1000)
    ids = [b"pair%d" % (number // 2) for number in range(20_001)]
    got = [
        name for at in range(0, 20_001, 999) for name in unique.admit(ids[at : at + 999], first=1)
    ]
    assert got[:4] == [b"pair0", b"pair0_2", b"pair1", b"pair1_2"]
    assert len(set(got)) == 20_001
    assert unique.renamed == 10_000


def test_hashes_that_share_their_high_half():
    """Exact to the last of 128 bits, though runs are ordered by the first 64."""
    high = np.array([3, 3, 3, 9], np.uint64)
    run = _Run(high, np.array([7, 1, 5, 2], np.uint64))
    asked = np.array([1, 2, 5, 7, 8], np.uint64)
    assert run.contains(np.full(5, 3, np.uint64), asked).tolist() == [
        True,
        False,
        True,
        True,
        False,
    ]
    assert not run.contains(np.array([0, 4, 10], np.uint64), np.array([7, 7, 2], np.uint64)).any()
    both = run.merged(_Run(np.array([1, 3], np.uint64), np.array([4, 8], np.uint64)))
    assert both.high.tolist() == [1, 3, 3, 3, 3, 9]
    assert both.contains(np.full(5, 3, np.uint64), asked).tolist() == [
        True,
        False,
        True,
        True,
        True,
    ]


def test_the_filter_never_loses_a_hash():
    rng = np.random.default_rng(1)
    high = rng.integers(0, 2**64, 5000, dtype=np.uint64)
    held = _Filter(5000)
    held.add(high)
    assert held.may_hold(high).all()
    others = rng.integers(0, 2**64, 5000, dtype=np.uint64)
    assert held.may_hold(others).mean() < 0.1


def test_batches_pass_through():
    def batch(first, ids):
        return ContigBatch(first, ids, from_items([b"ACGT"] * len(ids)))

    with UniqueIds(Duplicates.NUMBER) as unique:
        out = list(unique.batches([batch(1, [b"a", b"b"]), batch(3, [b"a"])]))
    assert [b.ids for b in out] == [[b"a", b"b"], [b"a_2"]]
    assert [b.first for b in out] == [1, 3]
    with UniqueIds() as unique, pytest.raises(InputError) as caught:
        unique.check(batch(5, [b"a", b"b", b"a"]))
    assert caught.value.record == 7
