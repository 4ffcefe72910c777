"""Finding the rows with given digests without reading all digests: an index beside the store.

The index is a list of sorted runs (`store.digest_runs`) from the first half of a row's digest to
the row, for every row that repeats no earlier one. An append adds a run and merges it with runs
that are not much larger, so that there are few of them::

    rows     0 ............................ | ............ | ..... | . | new
    runs     [         first                ][   second    ][third ][4][5]

It is derived: what it says is compared with the digests of the store before it counts, and one
that is missing, damaged or of another store is made again. It covers rows up to some commit, and
is extended after each; killed in between, it is behind, and the next append extends it first.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.backend import Backend
from store.digest_runs import (
    Entries,
    Keys,
    Run,
    RunDamageError,
    RunReader,
    entries_of,
    merged,
    write_run,
)
from store.duplicates import NO_DUPLICATE, distinct
from store.errors import DamageError, StoreError
from store.io.digests import Digests
from store.io.files import WriteError, make_dir, names_in, publish_replace
from store.io.json import LONGEST, parse_json
from store.io.regular import read_regular
from store.ranges import column_range
from store.schema import Sample, Schema
from store.untrusted import checksum

log = logging.getLogger(__name__)

_MANIFEST = "index.json"
_RUN_NAME = re.compile(r"run-[0-9]{1,18}")
_VERSION = 1
_AT_ONCE = 1 << 22  # rows sorted at a time: about 200 MB
_ALWAYS_MERGED = 1 << 16  # entries: a run that is as small costs less to write than to keep
_LARGEST_MERGE = 1 << 24  # entries, or an eighth of all if that is more
_TOLD = 1 << 24  # rows that take long enough to index to say so


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the index covers, and by which runs."""

    rows: int = 0  # rows 0 .. rows are covered
    sample: str = ""  # hash of the sample that the last of them is of
    next_run: int = 0  # number for the name of the next file
    runs: tuple[Run, ...] = ()  # in the order of their rows


class DigestIndex:
    """The index in a folder, for the holder of the appender's lock.

    Parameters
    ----------
    folder
        Where it is kept; made if need be.
    tmp_dir
        For files being written, on the same file system.
    guard
        Raises if the lock is lost.
    """

    def __init__(self, folder: Path, *, tmp_dir: Path, guard: Callable[[], None]) -> None:
        self._folder = folder
        self._tmp_dir = tmp_dir
        self._guard = guard
        self._manifest: Manifest | None = None

    def digests(self, backend: Backend, keys: Keys) -> Iterator[tuple[NDArray[np.int64], Digests]]:
        """Yield rows of the store, ascending, and their digests: all whose first half is a key.

        ``keys`` are ascending, each once. Others may be among them: compare.

        Raises
        ------
        DamageError
            If digests of the store are damaged.
        """
        rows = self._rows_of(backend, keys)
        size = backend.column_rows("digest")
        begins = np.flatnonzero(np.diff(rows // size, prepend=-1))  # of the rows of each chunk
        for here in np.split(rows, begins[1:]) if len(rows) else ():
            start, stop = int(here[0]), int(here[-1]) + 1
            parts = [
                np.asarray(column_range(backend, name, start, stop))[here - start]
                for name in ("digest", "digest_low")
            ]
            yield here, np.stack(parts, axis=1)

    def extend(self, schema: Schema, keys: Keys, duplicates: NDArray[np.int64]) -> None:
        """Add the rows of a commit that was just made, the last of ``schema``.

        ``keys`` (n,) are first halves of their digests. If that fails it is for the next append.
        """
        manifest = self._manifest
        first = schema.n_rows - len(keys)
        if manifest is None or manifest.rows != first:
            return

        def parts() -> Iterator[tuple[int, Entries]]:
            for start in range(0, len(keys), _AT_ONCE):
                fresh = np.flatnonzero(duplicates[start : start + _AT_ONCE] == NO_DUPLICATE)
                part = np.asarray(keys[start : start + _AT_ONCE])
                stop = first + start + len(part)
                yield stop, entries_of(part[fresh], fresh + first + start)

        try:
            self._add(manifest, schema, parts())
        except (OSError, StoreError) as error:
            log.warning(
                "%s could not be extended; the next append does it: %s", self._folder, error
            )

    def _rows_of(self, backend: Backend, keys: Keys) -> NDArray[np.int64]:
        """Rows of the store that the index has for the keys, ascending."""
        try:
            try:
                rows = self._look_up(backend, keys)
            except RunDamageError as error:
                log.warning("%s; the index of digests is made again", error)
                self._manifest = Manifest()
                rows = self._look_up(backend, keys)
        except (OSError, WriteError) as error:
            log.warning(
                "%s: %s; without an index all digests are read",
                self._folder,
                error,
            )
            self._manifest = None
            rows = self._scan(backend, keys)
        return rows[(rows >= 0) & (rows < backend.schema.n_rows)]

    def _look_up(self, backend: Backend, keys: Keys) -> NDArray[np.int64]:
        found = [np.empty(0, dtype=np.int64)]
        for run in self._caught_up(backend).runs:
            with RunReader(self._folder / run.file, run) as reader:
                found.append(reader.rows_of(keys))
        return distinct(np.sort(np.concatenate(found)))

    def _scan(self, backend: Backend, keys: Keys) -> NDArray[np.int64]:
        """Rows of the store with these keys, by reading all of them."""
        found = [np.empty(0, dtype=np.int64)]
        for start in range(0, backend.schema.n_rows, _AT_ONCE):
            stop = min(start + _AT_ONCE, backend.schema.n_rows)
            here = np.asarray(column_range(backend, "digest", start, stop))
            found.append(np.flatnonzero(np.isin(here, keys)) + start)
        return np.concatenate(found)

    def _caught_up(self, backend: Backend) -> Manifest:
        """Return the manifest of an index that covers every committed row."""
        schema = backend.schema
        manifest = self._manifest if self._manifest is not None else self._read(schema)
        left = schema.n_rows - manifest.rows
        if left > _TOLD:
            log.warning("the digests of %s rows are indexed, once", f"{left:,}")

        def parts() -> Iterator[tuple[int, Entries]]:
            for start in range(manifest.rows, schema.n_rows, _AT_ONCE):
                stop = min(start + _AT_ONCE, schema.n_rows)
                fresh = np.asarray(column_range(backend, "twin", start, stop)) == NO_DUPLICATE
                keys = np.asarray(column_range(backend, "digest", start, stop))
                yield stop, entries_of(keys[fresh], np.flatnonzero(fresh) + start)

        self._manifest = self._add(manifest, schema, parts()) if left else manifest
        return self._manifest

    def _add(
        self, manifest: Manifest, schema: Schema, parts: Iterable[tuple[int, Entries]]
    ) -> Manifest:
        """Add runs, each up to a row, and merge them with those before; each is a step to keep."""
        make_dir(self._folder)
        for stop, entries in parts:
            runs, number = list(manifest.runs), manifest.next_run
            if len(entries):
                run = write_run(self._path(number), [entries], tmp_dir=self._tmp_dir)
                runs, number = [*runs, run], number + 1
            count = runs_to_merge([run.entries for run in runs])
            if count > 1:
                old = [(self._folder / run.file, run) for run in runs[-count:]]
                run = write_run(self._path(number), merged(old), tmp_dir=self._tmp_dir)
                runs, number = [*runs[:-count], run], number + 1
            manifest = Manifest(stop, _name(_sample_of(schema, stop)), number, tuple(runs))
            self._write(manifest)
        return manifest

    def _path(self, number: int) -> Path:
        return self._folder / f"run-{number}"

    def _read(self, schema: Schema) -> Manifest:
        """Read the manifest; an empty one if there is none that is of this store."""
        try:
            value = parse_json(read_regular(self._folder / _MANIFEST, most=LONGEST))
            body = {key: item for key, item in value.items() if key != "crc32c"}
            if value["crc32c"] != checksum(body) or body["version"] != _VERSION:
                raise ValueError("it is damaged, or of another version")  # noqa: TRY301
            runs = tuple(Run(**run) for run in body["runs"])
            manifest = Manifest(body["rows"], body["sample"], body["next_run"], runs)
            if manifest.rows > schema.n_rows or (
                manifest.rows and _name(_sample_of(schema, manifest.rows)) != manifest.sample
            ):
                raise ValueError("it is of other rows")  # noqa: TRY301
        except FileNotFoundError:
            return Manifest()
        except (DamageError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s: %s; the index of digests is made again", self._folder, error)
            return Manifest()
        return manifest

    def _write(self, manifest: Manifest) -> None:
        """Replace the manifest, then remove the files that it does not name."""
        body: dict[str, Any] = {"version": _VERSION, **asdict(manifest)}
        body["runs"] = list(body["runs"])
        text = json.dumps({**body, "crc32c": checksum(body)})
        self._guard()
        publish_replace(self._tmp_dir, self._folder / _MANIFEST, [text.encode()])
        self._manifest = manifest
        known = {run.file for run in manifest.runs}
        for name in names_in(self._folder):
            if _RUN_NAME.fullmatch(name) and name not in known:
                with suppress(OSError):
                    (self._folder / name).unlink()


def runs_to_merge(sizes: Sequence[int]) -> int:
    """Say how many of the last runs become one, given the entries of each.

    Runs at most twice as large as what follows them are merged, so sizes fall by more than half
    from run to run, as long as a merge has no more than an eighth of all entries: no append waits
    until all are written again.
    """
    if not sizes:
        return 0
    most = max(_LARGEST_MERGE, sum(sizes) // 8)
    count, size = 1, sizes[-1]
    for before in reversed(sizes[:-1]):
        small = before + size <= _ALWAYS_MERGED
        if before + size > most or not (small or before <= 2 * size):
            break
        count, size = count + 1, size + before
    return count


def _sample_of(schema: Schema, stop: int) -> Sample:
    """Return the sample whose rows a row is the last of, or lies among: row ``stop`` - 1."""
    samples = schema.samples
    if samples[-1].start < stop:
        return samples[-1]
    return samples[bisect_left(range(len(samples)), stop, key=lambda at: samples[at].stop)]


def _name(sample: Sample) -> str:
    return hashlib.sha256(sample.to_text()).hexdigest()
