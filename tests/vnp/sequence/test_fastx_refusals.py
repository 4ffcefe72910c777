"""Reading FASTA and FASTQ: every kind of bad file, named by its record and line."""

import gzip
import random
import re

import pytest

from tests.vnp.sequence.fastx_files import COMPRESS, FASTA, FASTQ, error_of
from vnp.sequence import fasta
from vnp.sequence.compression import file_sha256
from vnp.sequence.fastx import ContigReader, InputError


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


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b">dna\nACGTN\n>x\n" + b"MKVHSDRWYT" * 5 + b"\n", "record 2.*is this protein"),
        (b">h " + b"A" * 1_500_000 + b"\nACGT\n", "record 1: a header of more than"),
        (b">ok\nACGT\n>" + b"x" * 2000 + b"\nACGT\n", "record 2.*2,000 characters"),
        (b"@r1\nACGT ACGT\n+\nIIIIIIIII\n", "record 1, line 2: 'r1': there is a blank"),
    ],
    ids=["protein", "endless header", "endless id", "blank"],
)
def test_refused_content(tmp_path, data, what):
    assert re.search(what, str(error_of(tmp_path, data)))


def test_a_protein_beside_dna_is_refused_wherever_a_block_ends(tmp_path, monkeypatch):
    path = tmp_path / "a.fa"
    path.write_text(f">a\n{'ACGT' * 50}\n>b\n{'MKWDVRYS' * 9}\n>c\n{'ACGT' * 20}\n")
    for block in (1, 64, 210, 230, 260, 1000):
        monkeypatch.setattr(fasta, "_BLOCK", block)
        with pytest.raises(InputError, match="is this protein"), ContigReader(path) as reader:
            list(reader)
