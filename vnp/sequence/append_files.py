"""Appending several files, a sample each, to a store that may have to be made first."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.errors import UsageError
from store.location import Location
from store.open import discard_empty, open_store
from store.schema import STANDARD_CODE
from store.store import Store
from vnp.sequence.append import AppendReport, Existing, Invalid, append_file
from vnp.sequence.contig_ids import Duplicates
from vnp.sequence.create import create
from vnp.sequence.samples import SampleFiles, check_files

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AppendReports:
    """What became of several files."""

    samples: tuple[AppendReport, ...]  # in the order given

    def to_json(self) -> dict[str, Any]:
        """Return the reports as a JSON object."""
        return {"samples": [report.to_json() for report in self.samples]}


@dataclass(frozen=True, slots=True)
class NewStore:
    """How to make the store if it is missing."""

    recipe: str | None = None  # None: that of `vnp.sequence.create`
    segment_length: int = 500  # bases; 0: each contig is one window


def opened(path: Location, *, genetic_code: int | None) -> Store:
    """Open a store, which must be of the genetic code that is asked for, if one is."""
    store = open_store(path)
    if genetic_code not in (None, store.schema.genetic_code):
        raise UsageError(
            f"{store.path} was made for genetic code {store.schema.genetic_code}, not "
            f"{genetic_code}: leave --code out, or choose another store"
        )
    return store


def append_files(
    path: Location,
    samples: Sequence[SampleFiles],
    *,
    new: NewStore | None = None,
    genetic_code: int | None = None,
    duplicates: Duplicates = Duplicates.REFUSE,
    existing: Existing = "refuse",
    invalid: Invalid = "refuse",
    allow_same_content: bool = False,
    report: Path | None = None,
) -> AppendReports:
    """Append one sample after the other; each is in the store once it is appended.

    Parameters
    ----------
    path
        The store.
    samples
        Names and files; all must exist before the first is appended.
    new
        How to make the store if it is missing; one that is there must be such a store. If a file
        is refused and the store made for it holds no sample, it is removed again. None: it must
        exist.
    genetic_code
        That of the store, new or not; None: the standard one of a new store, else any.
    duplicates, existing, invalid, allow_same_content, report
        As `vnp.sequence.append.append_file` takes them.

    Raises
    ------
    UsageError, DataError
        What `vnp.sequence.append.append_file` raises for a sample; those before it stay.
    """
    check_files(samples)
    made = False
    if new is not None:
        made = create(
            path,
            recipe=new.recipe,
            segment_length=new.segment_length,
            genetic_code=genetic_code or STANDARD_CODE,
            if_missing=True,
        ).made
    store = opened(path, genetic_code=genetic_code)
    done: list[AppendReport] = []
    try:
        for sample in samples:
            found = append_file(
                store,
                sample.files[0],
                mates=sample.files[1] if len(sample.files) > 1 else None,
                sample=sample.name,
                duplicates=duplicates,
                existing=existing,
                invalid=invalid,
                allow_same_content=allow_same_content,
                report=report,
            )
            done.append(found)
    except BaseException:
        if len(samples) > 1:
            held = {known.name for known in store.snapshot().schema.samples}
            names = [each.name for each in samples]
            there = [name for name in names if name in held]
            log.warning(
                f"in the store: {', '.join(there) or 'none'}; not appended: "
                f"{', '.join(name for name in names if name not in held) or 'none'}; "
                "mend the input and run the same command with --existing skip"
            )
        if made and not store.snapshot().schema.samples:
            discard_empty(store)
            log.info(f"{store.path}, made for this, was removed again")
        raise
    return AppendReports(tuple(done))
