"""Reading FASTA and FASTQ: every compression, every shape of a good file."""

import bz2
import gzip
import hashlib
import io
import os
import random
import subprocess
import sys
import threading

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vnp.sequence.fastx_files import (
    COMPRESS,
    CONTIGS,
    FASTA,
    FASTQ,
    content,
    read,
    read_bytes,
)
from vnp.sequence import fasta, fastq
from vnp.sequence.compression import file_sha256
from vnp.sequence.fastx import ContigReader


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("text", [FASTA, FASTQ], ids=["fasta", "fastq"])
@pytest.mark.parametrize("suffix", ["", ".fa", ".gz", ".zst", ".fastq.bz2"])
def test_every_compression_is_told_by_its_bytes(tmp_path, kind, text, suffix):
    path = tmp_path / f"sample{suffix}"
    path.write_bytes(COMPRESS[kind](text))
    contigs, reader = read(path)
    assert contigs == CONTIGS
    assert reader.content_sha256() == content(CONTIGS)
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["gz", "bz2", "zst"])
def test_files_of_several_members(tmp_path, kind):
    half = FASTA.index(b"ACGTN")  # in the middle of a contig
    data = COMPRESS[kind](FASTA[:half]) + COMPRESS[kind](b"") + COMPRESS[kind](FASTA[half:])
    assert read_bytes(tmp_path, data)[0] == CONTIGS


def test_zero_padding_after_gzip(tmp_path):
    assert read_bytes(tmp_path, gzip.compress(FASTA) + bytes(512))[0] == CONTIGS


def test_zstd_with_a_long_window_and_without_a_size(tmp_path):
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=28, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    sequence = b"ACGT" * 500_000
    data = compressor.compress(b">long\n" + sequence) + compressor.flush()
    assert read_bytes(tmp_path, data)[0] == [(b"long", sequence)]


@pytest.mark.parametrize(
    "text",
    [
        FASTA.replace(b"\n", b"\r\n"),
        b"\n\r\n  \n" + FASTA,
        FASTA + b"\n\n\r\n",
        FASTA.replace(b"\n", b"\n\n\n"),
        FASTA.replace(b"\n>", b"\r\n\r\n>"),
        FASTA.replace(b"ACGTACGT\n", b"ACGT ACGT \t\n"),
        FASTA.removesuffix(b"\n"),
        b"\xef\xbb\xbf" + FASTA,
        FASTA.swapcase().replace(b"C1", b"c1").replace(b"C2", b"c2"),
        FASTA.replace(b"first contig", "größer".encode()),
        FASTA.replace(b"first contig", b"gr\xf6\xdfer > 3"),
        FASTQ.replace(b"\n", b"\r\n"),
        b"\n\n" + FASTQ,
        FASTQ + b"\n\n\n",
        FASTQ.replace(b"\n", b"\r\n") + b"\r\n\r\n",
        FASTQ.replace(b"IIII\n@c2", b"IIII\n\n\n@c2"),
        FASTQ.replace(b"\n", b"\r\n").replace(b"IIII\r\n@c2", b"IIII\r\n\r\n\r\n@c2"),
        FASTQ.removesuffix(b"\n"),
    ],
)
def test_layouts_that_mean_the_same(tmp_path, text):
    contigs, reader = read_bytes(tmp_path, text)
    assert contigs == CONTIGS
    assert reader.content_sha256() == content(CONTIGS)


def test_standard_input_in_dribs_and_drabs(monkeypatch):
    """A pipe that hands over one byte at a time, and stays open after the reader is closed."""
    read_end, write_end = os.pipe()

    def write():
        with os.fdopen(write_end, "wb", buffering=0) as pipe:
            for byte in gzip.compress(FASTA):
                pipe.write(bytes([byte]))

    with os.fdopen(read_end, "rb") as binary, io.TextIOWrapper(binary) as text:
        monkeypatch.setattr(sys, "stdin", text)
        writer = threading.Thread(target=write)
        writer.start()
        contigs, reader = read("-")
        writer.join()
        assert not binary.closed
    assert contigs == CONTIGS
    assert reader.name == "standard input"


def test_standard_input_of_a_process():
    code = (
        "from vnp.sequence.fastx import ContigReader as R; print(sum(len(b.ids) for b in R('-')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=bz2.compress(FASTQ), capture_output=True, check=True
    )
    assert done.stdout == b"2\n"


def test_gzip_reader_can_be_left_early(tmp_path):
    path = tmp_path / "big.fa.gz"
    path.write_bytes(gzip.compress(b">a\n" + b"ACGT" * 2_000_000 + b"\n>b\nAC\n", compresslevel=1))
    threads = threading.active_count()
    with ContigReader(path):
        pass
    with ContigReader(path) as reader:
        next(iter(reader))
    assert threading.active_count() == threads


@settings(deadline=None, derandomize=True, max_examples=150)
@given(seed=st.integers(0, 2**32), block=st.sampled_from([1, 2, 3, 7, 64, 1000]))
def test_blocks_and_batches_change_nothing(tmp_path_factory, seed, block):
    """However a file falls into blocks and batches, the contigs and their hash are the same."""
    rng = random.Random(seed)
    contigs = []
    text = b""
    for number in range(rng.randrange(1, 12)):
        sequence = bytes(rng.choices(b"ACGTNacgtn.", k=rng.choice([1, 2, 5, 60, 300])))
        contigs.append((b"c%d" % number, sequence.upper()))
        end = rng.choice([b"\n", b"\r\n"])
        width = rng.choice([1, 7, 60, 1000])
        text += b">c%d" % number + rng.choice([b"", b" x>y", b"\t> z"]) + end
        for at in range(0, len(sequence), width):
            text += sequence[at : at + width] + end * rng.choice([1, 1, 1, 2])
    path = tmp_path_factory.mktemp("blocks") / "x"
    path.write_bytes(text if rng.random() < 0.5 else text.rstrip(b"\r\n"))
    original = fasta._BLOCK
    fasta._BLOCK = block
    try:
        got, reader = read(path, batch_bases=rng.choice([1, 10, 200, 10_000]))
    finally:
        fasta._BLOCK = original
    assert got == contigs
    assert reader.content_sha256() == content(contigs)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(seed=st.integers(0, 2**32), block=st.sampled_from([1, 7, 1000, 1 << 18]))
def test_fastq_blocks_and_batches_change_nothing(tmp_path_factory, seed, block):
    rng = random.Random(seed)
    contigs = []
    text = b""
    end = rng.choice([b"\n", b"\r\n"])
    for number in range(rng.randrange(1, 700 if block > 7 else 20)):
        sequence = bytes(rng.choices(b"ACGTNacgt", k=rng.choice([1, 2, 30, 70])))
        contigs.append((b"r%d" % number, sequence.upper()))
        blank = end * rng.choice([0, 0, 0, 1, 30])
        quality = bytes(rng.choices(b"@+I#", k=len(sequence)))
        name = b"r%d 1:N:0" % number
        plus = rng.choice([b"+", b"+", b"+" + name])
        text += end.join([b"@" + name, sequence, plus, quality, blank])
    path = tmp_path_factory.mktemp("fastq") / "x"
    path.write_bytes(text if rng.random() < 0.5 else text.rstrip(b"\r\n"))
    original = fastq._BLOCK
    fastq._BLOCK = block
    try:
        got, reader = read(path, batch_bases=rng.choice([1, 200, 100_000]))
    finally:
        fastq._BLOCK = original
    assert got == contigs
    assert reader.content_sha256() == content(contigs)


def test_long_contigs_are_batches_of_their_own(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b">a\nAC\n>b\nGT\n>long\n" + b"ACGT\n" * 300_000 + b">c\nAC\n")
    with ContigReader(path) as reader:
        assert [batch.ids for batch in reader] == [[b"a", b"b"], [b"long"], [b"c"]]
