"""Compiled loops give what NumPy gives, byte for byte, whatever the file and however it is cut."""

from __future__ import annotations

import gzip
import os
import random
from contextlib import contextmanager
from dataclasses import fields
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.io import compiled
from store.io.digests import digests_of
from store.io.ragged import Ragged, encode_vlen, from_items
from store.open import create_store, open_store
from tests.rows import MODELS
from vnp.sequence import fasta, fastq, fastx, records
from vnp.sequence.append import append_file
from vnp.sequence.compression import InputError
from vnp.sequence.contig_ids import UniqueIds
from vnp.sequence.fastx import SampleReader
from vnp.sequence.genetic_codes import CODES
from vnp.sequence.records import record_batches
from vnp.sequence.strided import joined, pairs, pieces, without_suffix

LETTERS = "ACGTRYSWKMBDHVN-.U"
MIXES = ["ACGT", "ACGT" * 12 + LETTERS, "acgtACGTN", LETTERS, "ACGTu"]


@pytest.fixture(scope="module", autouse=True)
def loops_in_use():
    """Each test here uses both by itself."""


@contextmanager
def loops(*, used: bool):
    with patch.object(compiled, "_allowed", 2 if used else 0):
        yield


def outcome(call):
    """What a call gives by NumPy and by loops: its result, or the words of its `InputError`."""
    results = []
    for used in (False, True):
        with loops(used=used):
            try:
                results.append(call())
            except InputError as error:
                results.append(f"{error} record {error.record} line {error.line}")
    return results


def plain(batch):
    """Columns of a batch as Python objects."""
    result = []
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Ragged):
            result.append((field.name, value.tolist()))
        elif isinstance(value, np.ndarray):
            result.append((field.name, value.dtype.str, value.tolist()))
        elif isinstance(value, int):
            result.append((field.name, value))
        else:
            result.append((field.name, plain(value)))
    return result


def everything(files, *, segment_length, code=1, skip=False):
    """All that an append takes from files."""
    with SampleReader(files, skip=skip) as reader, UniqueIds(source=reader.name) as unique:
        batches = record_batches(
            unique.batches(reader), segment_length=segment_length, genetic_code=code
        )
        rows = [plain(batch) for batch in batches]
        notes = [
            (each.notes.uracils, each.notes.count, each.notes.unusable) for each in reader.readers
        ]
        return rows, reader.contigs, reader.bases, reader.content_sha256(), notes


def sequences(rng, count, longest, mix):
    return ["".join(rng.choices(mix, k=rng.randint(0, longest))) for _ in range(count)]


def fasta_text(rng, parts):
    """FASTA in every legal dress, and now and then an illegal one."""
    end = rng.choice(["\n", "\n", "\r\n"])
    text = []
    for number, sequence in enumerate(parts):
        name = rng.choice(
            [f"c{number}", f"c{number} text > of it", f"c{number}\ttab", f"c{number} "]
        )
        text.append(f">{name}{end}")
        width = rng.choice([1, 7, 60, 10_000])
        text += [
            sequence[at : at + width] + rng.choice([end, end, " " + end, end + end])
            for at in range(0, len(sequence), width)
        ]
        if not sequence:
            text.append(rng.choice(["", end]))
    data = "".join(text)
    return data[: -len(end)] if rng.random() < 0.2 else data


def spoiled(rng, data):
    """The text with a byte changed, or a line put in, in one of three."""
    if rng.random() < 0.67 or not data:
        return data
    at = rng.randrange(len(data))
    return (
        data[:at] + rng.choice(["*", ">", "\n", "\n--\n", "\0", "E", "\x80", "@", "+"]) + data[at:]
    )


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    seed=st.integers(0, 2**32),
    block=st.sampled_from([1, 13, 300, 1 << 18]),
    length=st.sampled_from([300, 500, 3, 0]),
    code=st.sampled_from(CODES),
    skip=st.booleans(),
    carried=st.sampled_from([0, 200, 1 << 17]),
)
def test_fasta(tmp_path_factory, seed, block, length, code, skip, carried):
    rng = random.Random(seed)
    path = tmp_path_factory.mktemp("x") / "a.fa"
    parts = sequences(rng, rng.randint(1, 8), rng.choice([9, 700, 3000]), rng.choice(MIXES))
    path.write_bytes(spoiled(rng, fasta_text(rng, parts)).encode("latin-1"))
    with (
        patch.object(fasta, "_BLOCK", block),
        patch.object(fasta, "_CARRIED", carried),
        patch.object(records, "_RUN_BASES", 4096),
    ):
        by_numpy, by_loops = outcome(
            lambda: everything([path], segment_length=length, code=code, skip=skip)
        )
    assert by_loops == by_numpy


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    seed=st.integers(0, 2**32),
    block=st.sampled_from([40, 700, 1 << 20]),
    pair=st.booleans(),
    skip=st.booleans(),
)
def test_fastq(tmp_path_factory, seed, block, pair, skip):
    rng = random.Random(seed)
    folder = tmp_path_factory.mktemp("x")
    files = []
    count = rng.choice([1, 5, 127, 128, 400])
    for mate in range(1 + pair):
        end = rng.choice(["\n", "\n", "\n", "\r\n"])
        text = []
        for number, read in enumerate(sequences(rng, count, 160, rng.choice(MIXES))):
            name = f"r{number}" + rng.choice(["", f"/{mate + 1}", " 1:N:0", "\tx"])
            quality = "".join(rng.choices("!+@I~", k=len(read)))
            plus = rng.choice(["", "", "", name])
            text.append(f"@{name}{end}{read}{end}+{plus}{end}{quality}{end}")
        data = spoiled(rng, "".join(text))
        data = data[: -len(end)] if rng.random() < 0.2 else data
        packed = data.encode("latin-1")
        path = folder / (f"a{mate}.fq.gz" if rng.random() < 0.3 else f"a{mate}.fq")
        path.write_bytes(gzip.compress(packed) if path.suffix == ".gz" else packed)
        files.append(path)
    with patch.object(fastq, "_PARSED", block), patch.object(fastq, "_BLOCK", 512):
        by_numpy, by_loops = outcome(lambda: everything(files, segment_length=0, skip=skip))
    assert by_loops == by_numpy


@pytest.mark.parametrize("code", CODES)
def test_every_codon_of_every_code(tmp_path, code):
    rng = random.Random(code)
    path = tmp_path / "a.fa"
    parts = ["".join(rng.choices("ACGT" * 20 + "Nn", k=n)) for n in [*range(3, 80), 4000]]
    path.write_text("".join(f">c{n}\n{part}\n" for n, part in enumerate(parts)))
    for length in (300, 500, 30):
        by_numpy, by_loops = outcome(lambda: everything([path], segment_length=length, code=code))  # noqa: B023
        assert by_loops == by_numpy


@pytest.mark.parametrize("cores", [1, 2, 16])
def test_the_number_of_threads_changes_nothing(tmp_path, monkeypatch, cores):
    path = tmp_path / "a.fa"
    rng = random.Random(1)
    parts = ["".join(rng.choices("ACGT", k=rng.randint(1, 9000))) for _ in range(60)]
    path.write_text("".join(f">c{n}\n{part}\n" for n, part in enumerate(parts)))
    monkeypatch.setattr(records, "_RUN_BASES", 2048)
    with loops(used=False):
        alone = everything([path], segment_length=300)
    for module in (records, fastx):
        monkeypatch.setattr(module, "LONG", 1 << 15)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores))
    with loops(used=True):
        assert everything([path], segment_length=300) == alone


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    items=st.lists(st.tuples(st.binary(max_size=200), st.binary(max_size=130)), max_size=60),
    length=st.sampled_from([0, 55, 56, 63, 64, 119, 120]),
)
def test_columns(items, length):
    """Digests, layout on disk and joined texts; the lengths are those where SHA-256 pads anew."""
    items = [*items, (b"x" * length, b""), (b"", b"y" * length)]
    first, second = (from_items(part) for part in zip(*items, strict=True))

    def made():
        bounds = np.stack([first.offsets[:-1], first.offsets[1:]], axis=1)[::-2]
        return (
            digests_of(first).tolist(),
            digests_of(first, second, separator=b"\0").tolist(),
            encode_vlen([first, second.slice(1, len(second))], count=200).tobytes(),
            joined(first).tobytes(),
            joined(first, second, before=b">").tobytes(),
            pairs(first, second).tolist(),
            pieces(first.data, bounds).tolist(),
            without_suffix(from_items([b"a/1", b"/1", b"1", b"", b"a/2/1"]), b"/1").tolist(),
        )

    by_numpy, by_loops = outcome(made)
    assert by_loops == by_numpy


def test_a_store_is_the_same(tmp_path):
    """Every file of its rows."""
    rng = random.Random(5)
    path = tmp_path / "a.fa"
    parts = ["".join(rng.choices("GCT", k=3000)) for _ in range(40)]
    path.write_text("".join(f">c{n}\n{part}\n" for n, part in enumerate(parts)))
    found = []
    for used in (False, True):
        with loops(used=used):
            where = tmp_path / f"{used}.zarr"
            store = create_store(where, models=MODELS, segment_length=500, block_rows=64)
            append_file(store, str(path))
            store = open_store(where)
            assert list(store.verify()) == []
            files = (where / "obs").rglob("c.*")
            rows = {str(file.relative_to(where)): file.read_bytes() for file in files}
            found.append({name: raw for name, raw in rows.items() if "vnp_samples" not in name})
    assert found[0] == found[1]
    assert len(found[0]) > 50
