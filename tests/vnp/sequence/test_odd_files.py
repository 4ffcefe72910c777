"""Files as people have them: wrapped, trimmed, RNA, with lines that do not belong there."""

import gzip
import tracemalloc

import pytest

from tests.vnp.sequence.fastx_files import error_of, read
from vnp.sequence import fasta, fastq
from vnp.sequence.fastx import ContigReader, InputError


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_read_trimmed_to_nothing_is_a_contig_without_bases(tmp_path, end):
    text = b"@a\nAC\n+\nII\n@b\n\n+\n\n@c\nGG\n+\nII\n".replace(b"\n", end)
    (tmp_path / "x").write_bytes(text)
    contigs, reader = read(tmp_path / "x")
    assert contigs == [(b"a", b"AC"), (b"b", b""), (b"c", b"GG")]
    assert (reader.contigs, reader.bases) == (3, 4)


READS = [(b"r0", b"ACGTACGTAC"), (b"r1", b"GGTTN"), (b"r2", b"")]


def wrapped(width: int, *, plus: bytes = b"+", quality: bytes = b"@") -> bytes:
    text = b""
    for name, sequence in READS:
        text += b"@" + name + b" more\n"
        for at in range(0, len(sequence), width) or [0]:
            text += sequence[at : at + width] + b"\n"
        text += plus + b"\n"
        for at in range(0, len(sequence), width) or [0]:
            text += quality * len(sequence[at : at + width]) + b"\n"
    return text


@pytest.mark.parametrize("width", [1, 4, 100])
@pytest.mark.parametrize("plus", [b"+", b"+r0 more", b"+SRR99.0 another name"])
@pytest.mark.parametrize("quality", [b"@", b"+", b"I"])
def test_fastq_in_lines_of_any_length_and_with_any_plus_line(tmp_path, width, plus, quality):
    text = wrapped(width, plus=plus, quality=quality)
    (tmp_path / "x").write_bytes(text)
    contigs, _ = read(tmp_path / "x")
    assert contigs == READS


@pytest.mark.parametrize(
    ("text", "record", "line", "what"),
    [
        (wrapped(4).partition(b"@\n@r2")[0], 2, 14, "has 5 bases and 4 qualities"),
        (wrapped(4) + b"--\n", 4, 19, "expected '@', found '--'; take the lines that grep"),
        (b"@a\nAC\nGT\n+\nIIIII\n", 1, 5, "has 4 bases and 5 qualities"),
        (b"@a\nAC\nGT\n", 1, 4, "ends before its '+' line"),
    ],
)
def test_wrapped_fastq_that_is_broken_is_named(tmp_path, text, record, line, what):
    error = error_of(tmp_path, text)
    assert (error.record, error.line) == (record, line)
    assert what in str(error)


@pytest.mark.parametrize("block", [1, 2, 3, 5, 1 << 18])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_that_grep_adds_are_refused_where_they_are(tmp_path, monkeypatch, block, end):
    monkeypatch.setattr(fasta, "_BLOCK", block)
    text = b">a\nACGT\n--\n>b\nAC--GT\n--AC\n".replace(b"\n", end)
    error = error_of(tmp_path, text)
    assert (error.record, error.line) == (1, 3)
    assert "--no-group-separator" in str(error)
    (tmp_path / "y").write_bytes(text.replace(end + b"--" + end, end))
    contigs, _ = read(tmp_path / "y")
    assert contigs == [(b"a", b"ACGT"), (b"b", b"AC--GT--AC")]


@pytest.mark.parametrize("text", [b">a\nacgu\nUUN\n", b"@a\nacguUUN\n+\nIIIIIII\n"])
def test_u_is_read_as_t_and_counted(tmp_path, text):
    (tmp_path / "x").write_bytes(text)
    contigs, reader = read(tmp_path / "x")
    assert contigs == [(b"a", b"ACGTTTN")]
    assert reader.notes.uracils == 3


@pytest.mark.parametrize("batch_bases", [1, 1000])
@pytest.mark.parametrize("block", [1, 7, 1 << 18])
@pytest.mark.parametrize("fastq", [False, True])
def test_records_that_cannot_be_used_are_skipped_and_named(
    tmp_path, monkeypatch, batch_bases, block, fastq
):
    monkeypatch.setattr(fasta, "_BLOCK", block)
    records = [
        ("a", "ACGT"),
        ("b", "AC*T"),
        ("c", "GGGG"),
        ("d\u00e9", "AC"),
        ("e", "E!"),
        ("f", "T"),
    ]
    form = "@{0}\n{1}\n+\n{1}\n" if fastq else ">{0}\n{1}\n"
    text = "".join(form.format(*record) for record in records[:5]).encode("latin-1")
    if not fastq:
        text += b">x\n>\nAC\n"
    else:
        text = text.replace(b"\xe9", b"")
    text += form.format(*records[5]).encode()
    (tmp_path / "x").write_bytes(text)
    with ContigReader(tmp_path / "x", batch_bases=batch_bases, skip=True) as reader:
        got = [
            (batch.first + at, name, batch.sequence[at])
            for batch in reader
            for at, name in enumerate(batch.ids)
        ]
    last = 6 if fastq else 8
    used = [(1, b"a", b"ACGT"), (3, b"c", b"GGGG"), (last, b"f", b"T")]
    if fastq:
        used.insert(2, (4, b"d", b"AC"))
    assert got == used
    assert reader.contigs == len(used)
    named = [(each.record, each.id) for each in reader.notes.unusable]
    assert named[:1] == [(2, "b")]
    assert sorted(named) == (
        [(2, "b"), (5, "e")] if fastq else [(2, "b"), (4, "d\\xe9"), (5, "e"), (6, "x"), (7, "")]
    )
    assert reader.notes.count == len(named)


@pytest.mark.parametrize(
    "text",
    [b"@" + b"x" * 5000, b"@a\nACGT\n+\nIIII\n@" + b"x" * 5000, b"@a\nAC\nGT\n+\n" + b"I" * 5000],
)
def test_a_line_without_end_is_refused_before_it_is_held(tmp_path, monkeypatch, text):
    monkeypatch.setattr(fastq, "LONGEST_LINE", 1000)
    monkeypatch.setattr(fastq, "_BLOCK", 100)
    assert "a line of more than 1,000 bytes" in str(error_of(tmp_path, text))


def test_a_header_of_hundreds_of_megabytes_takes_little_memory(tmp_path):
    path = tmp_path / "x.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b">a\nACGT\n>")
        for _ in range(600):
            file.write(b"x" * (1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="a header of more than"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
