"""How hidden states of a record become one row: an open vocabulary of names.

A pooling is one name or several joined by ``+``, whose numbers come side by side::

    mean                 over the tokens of the sequence, special tokens left out
    max, std             likewise; the deviation is that of the population
    cls                  the first token, as it is
    mean_all_tokens      special tokens too: VirNucPro's for DNABERT
    mean_residues_1024   over the first 1,024 residues: VirNucPro's for ESM-2 (Brief Bioinform 2025,
                         bbaf224)
    mean+std             twice the numbers
"""

from __future__ import annotations

from store.errors import UsageError

POOLINGS = ("mean", "max", "std", "cls", "mean_all_tokens", "mean_residues_1024")
MEANS = ("mean", "mean_all_tokens", "mean_residues_1024")


def parts_of(pooling: str) -> tuple[str, ...]:
    """Split a pooling into its names; a `UsageError` lists those there are."""
    parts = tuple(pooling.split("+"))
    for part in parts:
        if part not in POOLINGS:
            raise UsageError(
                f"unknown pooling {part!r}; poolings are {', '.join(POOLINGS)}, or several of "
                "them joined by '+'"
            )
    if len(set(parts)) < len(parts):
        raise UsageError(f"the pooling {pooling} has a part twice")
    return parts
