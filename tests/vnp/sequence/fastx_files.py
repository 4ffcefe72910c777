"""FASTA and FASTQ files of tests, and what is read of them."""

import bz2
import gzip
import hashlib

import pytest
import zstandard

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
