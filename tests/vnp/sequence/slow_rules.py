"""VirNucPro's rules, one string at a time: slow, obvious, and written from their description.

Nothing of ``vnp`` or ``store`` is used here. Tests hold the fast code to this.
"""

BASES = "TCAG"
AMINO_ACIDS = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"
GENETIC_CODE = dict(
    zip((a + b + c for a in BASES for b in BASES for c in BASES), AMINO_ACIDS, strict=True)
)
COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A"}


def windows(sequence, segment_length):
    """(start, end) of every window of a contig."""
    n = len(sequence)
    k = n // segment_length
    if k * segment_length < n:
        k += 1
    excess = k * segment_length - n
    low = excess // k
    high = low + 1
    need = excess - low * (k - 1)
    steps = [high] * need + [low] * (k - 1 - need) + [0]
    result = []
    for i in range(k):
        start = i * segment_length - sum(steps[:i])
        result.append((start, min(start + segment_length, n)))
    return result


def reverse_complement(text):
    return "".join(COMPLEMENT.get(letter, letter) for letter in reversed(text))


def translate(text):
    """Protein of a strand from its first base; codons with other letters than ACGT add nothing."""
    protein = ""
    for i in range(0, len(text) - 2, 3):
        protein += GENETIC_CODE.get(text[i : i + 3], "")
    return protein


def records(contig_id, sequence, segment_length):
    """Every record of a contig as a dict, in rule order."""
    result = []
    for i, (start, end) in enumerate(windows(sequence, segment_length)):
        window = sequence[start:end].upper()
        for name, strand in (("F", window), ("R", reverse_complement(window))):
            for offset in (0, 1, 2):
                protein = translate(strand[offset:])
                if protein and "*" not in protein:
                    result.append(
                        {
                            "id": f"{contig_id}_chunk_{i + 1}{name}{offset + 1}",
                            "contig": contig_id,
                            "contig_length": len(sequence),
                            "segment": i + 1,
                            "start": start,
                            "end": end,
                            "strand": 1 if name == "F" else -1,
                            "frame": offset + 1,
                            "nucleotide": strand[offset : offset + 1 + 3 * len(protein)],
                            "protein": protein,
                        }
                    )
    return result


def why_none(sequence, segment_length):
    """Why a contig gives no record: "short", "stop" or "ambiguous"; "" if it gives one."""
    if records("x", sequence, segment_length):
        return ""
    if len(sequence) < 3:
        return "short"
    for start, end in windows(sequence, segment_length):
        window = sequence[start:end].upper()
        for strand in (window, reverse_complement(window)):
            if any("*" in translate(strand[offset:]) for offset in (0, 1, 2)):
                return "stop"
    return "ambiguous"
