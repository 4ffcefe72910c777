"""Reading FASTA and FASTQ: every compression, every shape of a good file, every kind of bad one."""

import bz2
import gzip
import hashlib
import io
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from vnp.sequence import fasta, fastq
from vnp.sequence.compression import file_sha256
from vnp.sequence.fastx import ContigReader, InputError

FASTA = b">c1 first contig\nACGTACGT\nACGTN\n>c2\tsecond\nacgtryswkmbdhvn-.u\n"
CONTIGS = [(b"c1", b"ACGTACGTACGTN"), (b"c2", b"ACGTRYSWKMBDHVN-.T")]
FASTQ = b"@c1 first contig\nACGTACGTACGTN\n+\nIIIIIIIIIIIII\n@c2\nacgtryswkmbdhvn-.u\n+c2\n" + (
    b"@" * 18 + b"\n"
)
COMPRESS = {
    "plain": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "zst": zstandard.compress,
}


def read(path, **options):
    """(contigs, reader) of a file."""
    with ContigReader(path, **options) as reader:
        contigs = []
        for batch in reader:
            assert batch.first == len(contigs) + 1
            contigs += zip(batch.ids, batch.sequence.tolist(), strict=True)
        assert reader.contigs == len(contigs)
        assert reader.bases == sum(len(sequence) for _, sequence in contigs)
        return contigs, reader


def read_bytes(tmp_path, data, **options):
    path = tmp_path / "input"
    path.write_bytes(data)
    return read(path, **options)


def content(contigs):
    return hashlib.sha256(b"".join(b">%b\n%b\n" % contig for contig in contigs)).hexdigest()


def error_of(tmp_path, data, name="input"):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    return caught.value


# ---------------------------------------------------------------------- good files


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


# ---------------------------------------------------------------------- bad files


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("text", [b"", b"\n", b" \r\n\n"])
def test_empty(tmp_path, kind, text):
    assert "is empty" in str(error_of(tmp_path, COMPRESS[kind](text)))


def test_no_header(tmp_path):
    error = error_of(tmp_path, b"\n\nACGT\n>c1\nAC\n")
    assert (error.record, error.line) == (1, 3)
    assert "no header" in str(error)
    assert "'ACGT'" in str(error)


@pytest.mark.parametrize("kind", ["gz", "bz2", "zst"])
@pytest.mark.parametrize("text", [FASTA, FASTQ], ids=["fasta", "fastq"])
def test_truncated(tmp_path, kind, text):
    rng = random.Random(1)
    noise = bytes(rng.choices(b"ACGT", k=400_000))
    more = b"\n".join(b">x%d\n%b" % (i, noise) for i in range(2))
    if text is FASTQ:
        more = b"@x\n%b\n+\n%b\n" % (noise, noise)
    data = COMPRESS[kind](text + more)
    for size in (6, 20, len(data) // 2, len(data) - 1):
        error = error_of(tmp_path, data[:size])
        assert "truncated" in str(error)
        assert error.record in (1, 2, 3, 4)


@pytest.mark.parametrize("kind", ["gz", "bz2", "zst"])
def test_damaged(tmp_path, kind):
    data = bytearray(COMPRESS[kind](FASTA * 50))
    data[len(data) // 2] ^= 0xFF
    data[len(data) // 2 + 1] ^= 0xFF
    message = str(error_of(tmp_path, bytes(data)))
    assert (
        "damaged" in message
        or "truncated" in message
        or "not a nucleotide" in message
        or ("binary" in message)
    )


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\xfd7zXZ\x00rest", "xz"),
        (b"PK\x03\x04rest", "zip"),
        (b"BAM\x01rest", "BAM"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (gzip.compress(b"BAM\x01" + bytes(40), mtime=0), "BAM"),
        (b"\x00\x01\x02\x03" * 10, "binary"),
        (random.Random(3).randbytes(3000), "binary"),
    ],
)
def test_binary_files(tmp_path, data, what):
    assert what in str(error_of(tmp_path, data))


def test_binary_content_later_on(tmp_path):
    error = error_of(tmp_path, b">a\nACGT\n>b\nACGT\nAC\x00\x01GT\n")
    assert (error.record, error.line) == (2, 5)
    assert "byte 0x00" in str(error)


@pytest.mark.parametrize("letter", "EFILPQZXJO*0123456789efilpq>@!?")
def test_letters_that_are_no_nucleotides(tmp_path, letter):
    error = error_of(tmp_path, b">a\nACGT\n>b some\nACGT\r\n\r\nAC" + letter.encode() + b"T\n")
    assert (error.record, error.line) == (2, 6)
    assert repr(letter) in str(error)
    assert "'b'" in str(error)


def test_protein_in_fastq(tmp_path):
    error = error_of(tmp_path, FASTQ + b"@p\nMKL\n+\nIII\n")
    assert error.record == 3
    assert "'L'" in str(error)


def test_bad_letter_in_a_later_block(tmp_path, monkeypatch):
    monkeypatch.setattr(fasta, "_BLOCK", 16)
    error = error_of(tmp_path, b">a\nACGT\n>b\n" + b"ACGTACG\n" * 20 + b"ACGLT\n")
    assert (error.record, error.line) == (2, 24)


@pytest.mark.parametrize(
    ("data", "record"),
    [
        (b">a\n>b\nAC\n", 1),
        (b">a\nAC\n>b\n\n>c\nAC\n", 2),
        (b">a\nAC\n>b", 2),
        (b">a\nAC\n>b\n", 2),
    ],
)
def test_empty_sequence(tmp_path, data, record):
    error = error_of(tmp_path, data)
    assert error.record == record
    assert "no sequence" in str(error)


@pytest.mark.parametrize("data", [b">a\nAC\n>\nAC\n", b">a\nAC\n> b\nAC\n", b">a\nAC\n>\tb\nAC\n"])
def test_empty_id(tmp_path, data):
    error = error_of(tmp_path, data)
    assert error.record == 2
    assert "no id" in str(error)


def test_empty_id_in_fastq(tmp_path):
    assert error_of(tmp_path, b"@a\nAC\n+\nII\n@ b\nAC\n+\nII\n").record == 2


@pytest.mark.parametrize("name", [b"a\x01", b"a\x7f", b"\x1b[31m", "ä".encode(), b"\xff"])
def test_ids_that_are_not_printable_ascii(tmp_path, name):
    error = error_of(tmp_path, b">ok\nAC\n>" + name + b" x\nAC\n")
    assert error.record == 2
    assert "printable ASCII" in str(error)


@pytest.mark.parametrize(
    ("data", "record", "line"),
    [
        (FASTQ + b"@x\nACGT\n+\nIII\n", 3, 12),
        (FASTQ + b"@x\nACGT\n", 3, 11),
        (FASTQ + b"x\nACGT\n+\nIIII\n", 3, 9),
        (b"@x\nACGT\nIIII\n@y\nAC\n", 1, 3),
        (b"\n\n@x\nACGT\nIIII\n@y\nAC\n", 1, 5),
    ],
)
def test_malformed_fastq(tmp_path, data, record, line):
    error = error_of(tmp_path, data)
    assert error.record == record
    if line is not None:
        assert error.line == line
        assert f"record {record}, line {line}:" in str(error)


@pytest.mark.parametrize(
    ("lines", "at_line", "what"),
    [
        ([b"@r\xc3\xa9 x", b"ACGT", b"+", b"IIII"], 0, "the header '@r\\xc3\\xa9 x' holds"),
        ([b"@x caf\xe9", b"ACGT", b"+", b"IIII"], 0, "rename the sequence"),
        ([b"@x", b"AC\xff\xff", b"+", b"IIII"], 1, "the sequence 'AC\\xff\\xff' holds"),
        ([b"@x", b"ACGT", b"+", b"I" * 50 + b"\xff"], 3, "the quality 'IIIIIIIIIIIIIIIIIIII\\xff'"),
    ],
)
@pytest.mark.parametrize("before", [1, 90_000])
@pytest.mark.parametrize("blank", [b"", b"\n\r\n"])
def test_what_is_not_ascii_is_named_by_its_own_record(
    tmp_path, lines, at_line, what, before, blank
):
    good = b"@r\nACGT\n+\nIIII\n"
    text = good * (before // 2) + blank + good * (before - before // 2)
    error = error_of(tmp_path, text + b"\n".join(lines) + b"\n" + good * 3)
    assert error.record == before + 1
    assert error.line == 4 * before + at_line + 1 + blank.count(b"\n")
    assert what in str(error)


def test_a_fault_before_what_is_not_ascii_is_named_first(tmp_path):
    text = b"@a\nACGT\n+\nIII\n@\xff\nACGT\n+\nIIII\n"
    error = error_of(tmp_path, text)
    assert (error.record, error.line) == (1, 4)


@pytest.mark.parametrize("before", [1, 90_000])
def test_fasta_ids_that_are_not_ascii_are_named_by_their_own_record(tmp_path, before):
    error = error_of(tmp_path, b">r\nACGT\n" * before + b">r\xc3\xa9 x\nACGT\n>z\nA\n")
    assert error.record == before + 1
    assert "'r\\xc3\\xa9'" in str(error)


def test_many_reads_before_a_malformed_one(tmp_path):
    good = b"".join(b"@r%d\nACGT\n+\nIIII\n" % i for i in range(1000))
    assert error_of(tmp_path, good + b"@x\nACGT\n+\nIII\n").record == 1001


def test_files_that_cannot_be_opened(tmp_path):
    for path in (tmp_path, tmp_path / "missing.fa"):
        with pytest.raises(InputError, match="cannot be read"):
            ContigReader(path)
        with pytest.raises(InputError, match="cannot be read"):
            file_sha256(path)


def test_protein_of_nucleotide_letters_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "protein.fa"
    path.write_text(f">dna\n{'ACGTN' * 20}\n>protein\n{'MKVHSDRWYT' * 5}\n")
    with pytest.raises(InputError, match="record 2.*is this protein"):
        list(ContigReader(path))


def test_a_header_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "header.fa"
    path.write_text(">h " + "A" * 1_500_000 + "\n" + "ACGT" * 60 + "\n")
    with pytest.raises(InputError, match="record 1: a header of more than"):
        list(ContigReader(path))


def test_an_endless_id_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "id.fa"
    path.write_text(f">ok\nACGT\n>{'x' * 2000}\nACGT\n")
    with pytest.raises(InputError, match="record 2.*2,000 characters"):
        list(ContigReader(path))


def test_a_blank_in_a_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "blank.fq"
    path.write_text("@r1\nACGT ACGT\n+\nIIIIIIIII\n")
    with pytest.raises(InputError, match="record 1, line 2: 'r1': there is a blank"):
        list(ContigReader(path))


def test_a_protein_beside_dna_is_refused_wherever_a_block_ends(tmp_path, monkeypatch):
    path = tmp_path / "a.fa"
    path.write_text(f">a\n{'ACGT' * 50}\n>b\n{'MKWDVRYS' * 9}\n>c\n{'ACGT' * 20}\n")
    for block in (1, 64, 210, 230, 260, 1000):
        monkeypatch.setattr(fasta, "_BLOCK", block)
        with pytest.raises(InputError, match="is this protein"), ContigReader(path) as reader:
            list(reader)
