"""Duplicate contig ids against a plain model."""

import random
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.io.ragged import from_items
from vnp.sequence import contig_ids
from vnp.sequence.compression import InputError
from vnp.sequence.contig_ids import Duplicates, UniqueIds
from vnp.sequence.fastx import ContigBatch


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
@given(seed=st.integers(0, 2**32), recent=st.sampled_from([0, 20, 10_000]))
def test_numbering_follows_the_model(seed, recent):
    """Whatever the batches, and whatever has gone to the database."""
    rng = random.Random(seed)
    pool = [b"a", b"b", b"a_2", b"a_2_2", b"a_3", *(b"x%d" % i for i in range(rng.randrange(300)))]
    ids = rng.choices(pool, k=rng.randrange(1, 300))
    got = []
    with (
        patch.object(contig_ids, "_RECENT", recent),
        UniqueIds(Duplicates.NUMBER) as unique,
    ):
        while len(got) < len(ids):
            got += unique.admit(from_items(ids[len(got) :][: rng.randint(1, 60)])).tolist()
        unique.finish()
    assert got == Model().admit(ids)
    assert len(set(got)) == len(got)
    assert unique.renamed == sum(a != b for a, b in zip(ids, got, strict=True))


@settings(deadline=None, derandomize=True, max_examples=100)
@given(seed=st.integers(0, 2**32), part=st.sampled_from([15, 60, 10_000]))
def test_the_first_duplicate_is_named(seed, part):
    """By its record number, wherever the two are: in one batch or far apart."""
    rng = random.Random(seed)
    ids = [b"read/%d" % number for number in range(rng.randrange(1, 400))]
    rng.shuffle(ids)
    for _ in range(rng.choice([1, 1, 5])):
        at = rng.randrange(len(ids))
        ids.insert(rng.randint(at + 1, len(ids)), ids[at])
    second = next(at for at, name in enumerate(ids, 1) if name in ids[: at - 1])
    first = ids.index(ids[second - 1]) + 1
    name = ids[second - 1].decode()

    def admit_all():
        with UniqueIds(source="reads.fq", part=part) as unique:
            for begin in range(0, len(ids), 37):
                some = ids[begin : begin + 37]
                assert unique.admit(from_items(some)).tolist() == some
                assert second > begin + 37 or first <= begin  # else at once
            unique.finish()

    with pytest.raises(InputError) as caught:
        admit_all()
    assert caught.value.record == second
    assert str(caught.value).startswith(
        f"reads.fq, record {second}: the id '{name}' occurred before in this sample, "
        f"in record {first}; "
    )


@settings(deadline=None, derandomize=True, max_examples=30)
@given(seed=st.integers(0, 2**32), part=st.sampled_from([7, 50, 10_000]))
def test_ids_without_a_duplicate_pass(seed, part):
    rng = random.Random(seed)
    ids = [b"read/%d" % number for number in range(rng.randrange(200))]
    rng.shuffle(ids)
    with UniqueIds(part=part) as unique:
        parts = [from_items(ids[at : at + 13]) for at in range(0, len(ids), 13)]
        got = [name for part in parts for name in unique.admit(part).tolist()]
        unique.finish()
    assert got == ids
    assert unique.renamed == 0


def test_interleaved_pairs():
    ids = [b"pair%d" % (number // 2) for number in range(20_001)]
    with UniqueIds(Duplicates.NUMBER) as unique:
        parts = [from_items(ids[at : at + 999]) for at in range(0, 20_001, 999)]
        got = [name for part in parts for name in unique.admit(part).tolist()]
    assert got[:4] == [b"pair0", b"pair0_2", b"pair1", b"pair1_2"]
    assert len(set(got)) == 20_001
    assert unique.renamed == 10_000


def test_batches_pass_through():
    def batch(first, ids):
        return ContigBatch(first, from_items(ids), from_items([b"ACGT"] * len(ids)))

    with UniqueIds(Duplicates.NUMBER) as unique:
        out = list(unique.batches([batch(1, [b"a", b"b"]), batch(3, [b"a"])]))
    assert [b.ids for b in out] == [[b"a", b"b"], [b"a_2"]]
    assert [b.first for b in out] == [1, 3]
    with UniqueIds() as unique, pytest.raises(InputError) as caught:
        list(unique.batches([batch(1, [b"a", b"b"]), batch(3, [b"c"]), batch(4, [b"a"])]))
    assert caught.value.record == 4
