"""Sample names, given and made from file names."""

import pytest

from store.errors import UsageError
from store.schema import check_sample_name
from vnp.sequence.samples import sample_name_of


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
