"""The genetic codes of NCBI, by the numbers of its translation tables, as Biopython has them.

A store has one, by default 1, the standard code, by which VirNucPro's classifiers were trained. It
says which codons end a frame and which amino acid the others add:

- 11 (bacteria, archaea, their phages) differs from 1 in its start codons only. Nothing here looks
  for a start, so both give the same records.
- 4 reads TGA as W, 15 reads TAG as Q: codes of phages whose genes look torn to pieces by 1.
- In 27, 28 and 31 some codons are both a stop and an amino acid, by where on a gene they are. They
  are translated, as Biopython does, so no frame ends there.

Source: https://www.ncbi.nlm.nih.gov/Taxonomy/Utils/wprintgc.cgi
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

from store.errors import UsageError
from store.schema import STANDARD_CODE

# Flags of a codon.
STOP_FORWARD, STOP_REVERSE, TRANSLATED = 1, 2, 4

# A codon is a number to base 5: A, C, G, T are 0 to 3 and any other letter is 4.
BASES = "ACGT"
OTHER = 4
COMPLEMENT = bytes.maketrans(b"ACGT", b"TGCA")

# Amino acids of the codons in NCBI's order, TTT, TTC, TTA, TTG, TCT ... GGG. Biopython has the same
# tables, and takes as long to import as a small append; tests compare.
_AMINO_ACIDS = {
    1: "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    2: "FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIMMTTTTNNKKSS**VVVVAAAADDEEGGGG",
    3: "FFLLSSSSYY**CCWWTTTTPPPPHHQQRRRRIIMMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    4: "FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    5: "FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIMMTTTTNNKKSSSSVVVVAAAADDEEGGGG",
    6: "FFLLSSSSYYQQCC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    9: "FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIIMTTTTNNNKSSSSVVVVAAAADDEEGGGG",
    10: "FFLLSSSSYY**CCCWLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    11: "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    12: "FFLLSSSSYY**CC*WLLLSPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    13: "FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIMMTTTTNNKKSSGGVVVVAAAADDEEGGGG",
    14: "FFLLSSSSYYY*CCWWLLLLPPPPHHQQRRRRIIIMTTTTNNNKSSSSVVVVAAAADDEEGGGG",
    15: "FFLLSSSSYY*QCC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    16: "FFLLSSSSYY*LCC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    21: "FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIMMTTTTNNNKSSSSVVVVAAAADDEEGGGG",
    22: "FFLLSS*SYY*LCC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    23: "FF*LSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    24: "FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSSKVVVVAAAADDEEGGGG",
    25: "FFLLSSSSYY**CCGWLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    26: "FFLLSSSSYY**CC*WLLLAPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    27: "FFLLSSSSYYQQCCWWLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    28: "FFLLSSSSYYQQCCWWLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    29: "FFLLSSSSYYYYCC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    30: "FFLLSSSSYYEECC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    31: "FFLLSSSSYYEECCWWLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    32: "FFLLSSSSYY*WCC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    33: "FFLLSSSSYYY*CCWWLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSSKVVVVAAAADDEEGGGG",
}
_ORDER = "TCAG"

CODES = tuple(_AMINO_ACIDS)  # the numbers there are


@dataclass(frozen=True, slots=True)
class CodonTable:
    """What every codon means on either strand; each table has 256 bytes, over codon numbers."""

    number: int  # of NCBI's translation table
    flags: bytes  # `STOP_FORWARD`, `STOP_REVERSE`, `TRANSLATED`; 0 for a codon that is dropped
    forward: bytes  # amino acid, ``*`` for a stop, 0 for a codon that is dropped
    reverse: bytes  # the same of the reverse complement

    @property
    def stops(self) -> tuple[str, ...]:
        """Codons that end a frame, in the order of A, C, G, T; none in the codes 27, 28 and 31."""
        codons = map("".join, product(BASES + "N", repeat=3))
        return tuple(
            codon for codon, letter in zip(codons, self.forward, strict=False) if letter == ord("*")
        )


@cache
def codon_table(number: int) -> CodonTable:
    """Return the table of a genetic code.

    Parameters
    ----------
    number
        NCBI's number of the translation table, one of `CODES`.

    Raises
    ------
    UsageError
        If the table does not exist.
    """
    if number not in _AMINO_ACIDS:
        raise UsageError(
            f"unknown genetic code {number}; NCBI's translation tables are "
            f"{', '.join(map(str, CODES))}"
        )
    codons = map("".join, product(_ORDER, repeat=3))
    amino_acid = dict(zip(codons, _AMINO_ACIDS[number], strict=True))
    flags, forward, reverse = (bytearray(256) for _ in range(3))
    for index, letters in enumerate(product(BASES + "N", repeat=3)):
        codon = "".join(letters)
        if "N" in codon:
            continue  # dropped: no flag
        opposite = codon.encode().translate(COMPLEMENT)[::-1].decode()
        forward[index] = ord(amino_acid[codon])
        reverse[index] = ord(amino_acid[opposite])
        flags[index] = (
            TRANSLATED
            | STOP_FORWARD * (amino_acid[codon] == "*")
            | STOP_REVERSE * (amino_acid[opposite] == "*")
        )
    return CodonTable(number, bytes(flags), bytes(forward), bytes(reverse))


def translate_alike(one: int, other: int) -> bool:
    """Whether two codes give the same records, as 1 and 11 do; unknown numbers only to themselves.

    Needed where the numbers come from files.
    """
    if one == other:
        return True
    if one not in CODES or other not in CODES:
        return False
    return codon_table(one).forward == codon_table(other).forward


def remark(number: int) -> str:
    """What a user who chose a code should know of it; empty if it is the standard one.

    UsageError if the code does not exist.
    """
    table = codon_table(number)
    if number == STANDARD_CODE:
        return ""
    if translate_alike(number, STANDARD_CODE):
        return (
            f"genetic code {number} has the stops and the translation of the standard one, and "
            "differs in its start codons only: the records are the same"
        )
    if not table.stops:
        return (
            f"in genetic code {number} every stop codon is an amino acid too: every frame that "
            "has a codon becomes a record"
        )
    return ""
