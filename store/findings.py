"""What verifying can find, and what repair does about it: the same in every backend."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.StrEnum):
    """What is wrong with a file."""

    MISSING = "missing"  # a file that must be there is not
    DAMAGED = "damaged"  # truncated, zeroed, bits flipped, wrong length: the detail says which
    NOT_FINITE = "not-finite"  # a filled row holds NaN or infinity
    UNCERTIFIED = "uncertified"  # a file of a block whose rows are not (all) filled
    CHANGED = "changed"  # by another program, and nothing of the store's is wrong
    ORPHAN = "orphan"  # a file that nothing in the metadata accounts for
    FOREIGN = "foreign"  # not vnp's: a name or content that vnp does not write; never touched
    INTERRUPTED = "interrupted"  # of a change that was not committed; what counts is whole
    STALE_CLAIM = "stale-claim"  # an unfinished block is claimed by a worker that is gone


class Remedy(enum.StrEnum):
    """What ``--repair`` does about a finding."""

    REOPEN = "reopen"  # the block is made open again and embedded by the next run
    REPIN = "repin"  # the provenance is recorded again by a worker with the certified model
    REWRITE = "rewrite"  # the metadata is written again from what vnp knows
    REMOVE = "remove"  # the file is removed
    NOTHING = "nothing"  # nothing needs to be done
    NONE = "none"  # it cannot be repaired: append the sample to a new store


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be."""

    kind: Kind
    path: str  # inside the store, or of the directory beside it
    detail: str  # one sentence
    remedy: Remedy
    model: str | None = None
    block: int | None = None

    @property
    def is_damage(self) -> bool:
        """Whether data or metadata is wrong, as opposed to something left lying about."""
        return self.kind in (Kind.MISSING, Kind.DAMAGED, Kind.NOT_FINITE)
