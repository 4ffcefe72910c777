"""Appending several files, a sample each, to a store that may have to be made first."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.location import Location
from store.open import discard_empty, is_there, open_store
from store.schema import STANDARD_CODE
from store.store import Store
from vnp.sequence.append import AppendReport, Existing, Invalid, append_file
from vnp.sequence.contig_ids import Duplicates
from vnp.sequence.create import DEFAULT_SEGMENT, StoreOptions
from vnp.sequence.samples import SampleFiles, check_files

if TYPE_CHECKING:
    from vnp.sequence.check import CheckReport

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AppendReports:
    """What became of several files."""

    samples: tuple[AppendReport, ...]  # in the order given

    def to_json(self) -> dict[str, Any]:
        """Return the reports as a JSON object."""
        return {"samples": [report.to_json() for report in self.samples]}


def opened(path: Location, wanted: StoreOptions) -> Store:
    """Open a store, which must be what is asked for."""
    store = open_store(path)
    wanted.check(store)
    return store


def append_files(
    path: Location,
    samples: Sequence[SampleFiles],
    *,
    wanted: StoreOptions | None = None,
    make: bool = False,
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
    wanted
        What the store must be as far as it is said; None: anything.
    make
        Make the store if it is missing; one that is there must be as it would be made, defaults
        included. If a file is refused and the store made for it holds no sample, it is removed
        again.
    duplicates, existing, invalid, allow_same_content, report
        As `vnp.sequence.append.append_file` takes them.

    Raises
    ------
    UsageError
        If the store is not what is wanted.
    UsageError, DataError
        What `vnp.sequence.append.append_file` raises for a sample; those before it stay.
    """
    check_files(samples)
    wanted = wanted or StoreOptions()
    made = False
    if make:
        made = wanted.make(path, if_missing=True).made
    store = opened(path, StoreOptions() if make else wanted)
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


def check_append(
    path: Location,
    samples: Sequence[SampleFiles],
    *,
    wanted: StoreOptions | None = None,
    make: bool = False,
    duplicates: Duplicates = Duplicates.REFUSE,
) -> CheckReport:
    """Tell what `append_files` would meet, with its parameters; nothing is written.

    Raises
    ------
    UsageError
        If the store is not what is wanted.
    """
    from vnp.sequence.check import check_samples  # an append checks nothing beforehand

    wanted = wanted or StoreOptions()
    missing = make and not is_there(path)
    length, code = wanted.segment_length, wanted.genetic_code
    return check_samples(
        None if missing else opened(path, wanted),
        samples,
        segment_length=DEFAULT_SEGMENT if length is None else length,
        genetic_code=STANDARD_CODE if code is None else code,
        duplicates=duplicates,
    )
