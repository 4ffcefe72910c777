"""Samples of a store: what is kept of each, and the list of them where it is an array of the tree.

In formats 1 and 2, and in HDF5, the root lists all samples. Where they are an array (Zarr, from
format 3 on) it keeps their number and a chain of hashes, and each sample is one JSON text of the
array ``obs/vnp_samples``; so what is read at opening and written by a commit does not grow with the
number of samples.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, overload

from store.errors import DamageError, UsageError
from store.io.json import parse_json
from store.io.ragged import Ragged, from_items
from store.untrusted import from_object, is_count, shown, to_object

MOST_COUNTED = 1 << 62  # letters, contigs, ... of a sample
SAMPLES_CHUNK = 1024  # samples a chunk
_CHUNKS_KEPT = 32  # in memory: about 50 MB
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")

ReadChunk = Callable[[int], Ragged]  # texts of a chunk, at least those of the commit


@dataclass(frozen=True, slots=True)
class Sample:
    """One appended input file and the rows it holds."""

    name: str  # unique within the store
    start: int  # first row
    stop: int  # one past the last row
    contigs: int  # sequences in the file
    contigs_without_records: int  # of these, how many gave no record (named in the report)
    segments: int  # windows the contigs were cut into
    bases: int  # letters in the file
    repeats: int  # of its rows, how many have the sequences of an earlier row
    content: str  # sha-256 over ids and upper-cased sequences
    file_sha256: str  # sha-256 of the file's bytes; empty for a stream
    source: str  # the file's base name; "-" for a stream
    appended: str  # UTC time of the commit, ISO 8601
    ambiguous: int = 0  # letters of the segments other than ACGT (0 in older stores)
    uracils: int = 0  # letters U of the file, which were read as T (0 in older stores)

    def to_text(self) -> bytes:
        """Return the sample as the tree keeps it."""
        return json.dumps(to_object(self), separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class _Chunk:
    texts: Ragged
    samples: dict[int, Sample] = field(default_factory=dict)  # by number: those asked for


class StoredSamples(Sequence[Sample]):
    """Samples of one commit, read from the tree a chunk at a time, as they are asked for.

    ``len``, `with_sample` and comparing two such lists read nothing. Items are checked when they
    are read; DamageError if they are not those of the commit.

    Parameters
    ----------
    count, rows, repeats
        Samples of the commit, their rows, and how many of these repeat earlier ones.
    chain
        Names the whole list: see `chained`.
    added
        The last ones, if the tree does not have them yet.
    read
        Reads a chunk of the tree.
    """

    def __init__(
        self,
        *,
        count: int = 0,
        rows: int = 0,
        repeats: int = 0,
        chain: str = "",
        added: tuple[Sample, ...] = (),
        read: ReadChunk | None = None,
    ) -> None:
        self.rows = rows
        self.repeats = repeats
        self.chain = chain
        self._count = count
        self._added = added
        self._read = read
        self._chunks: OrderedDict[int, _Chunk] = OrderedDict()

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<{self._count} samples, {self.rows} rows, {self.chain}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StoredSamples):
            return (self._count, self.rows, self.chain) == (other._count, other.rows, other.chain)
        return tuple(self) == other if isinstance(other, tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_chunks": OrderedDict()}

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Sample, ...]: ...
    def __getitem__(self, index: int | slice) -> Sample | tuple[Sample, ...]:
        numbers = range(self._count)[index]
        if isinstance(numbers, range):
            return tuple(self._sample(number) for number in numbers)
        return self._sample(numbers)

    def __iter__(self) -> Iterator[Sample]:
        return map(self._sample, range(self._count))

    def with_sample(self, sample: Sample) -> StoredSamples:
        """Return the list with one sample more."""
        return StoredSamples(
            count=self._count + 1,
            rows=sample.stop,
            repeats=self.repeats + sample.repeats,
            chain=chained(self.chain, sample.to_text()),
            added=(*self._added, sample),
            read=self._read,
        )

    def find(self, name: str, value: str) -> Sample | None:
        """Return the first sample with a text in a field, or None; parses no others."""
        text = f'"{name}":{json.dumps(value)}'.encode()
        for first in range(0, self._held, SAMPLES_CHUNK):
            texts = self._chunk(first // SAMPLES_CHUNK).texts
            if text not in texts.data.tobytes():
                continue
            for at, item in enumerate(texts.tolist()):
                if text in item and getattr(sample := self._sample(first + at), name) == value:
                    return sample
        return next((each for each in self._added if getattr(each, name) == value), None)

    def texts(self, chunk: int) -> Ragged:
        """Return the texts of a chunk as the tree has to have them at this commit."""
        first, held = chunk * SAMPLES_CHUNK, self._held
        old = self._chunk(chunk).texts.tolist() if first < held else []
        new = self._added[max(first - held, 0) : max(first + SAMPLES_CHUNK - held, 0)]
        return from_items([*old, *(sample.to_text() for sample in new)])

    def check(self) -> None:
        """Read all of them; DamageError if they are not those of the commit."""
        chain, row, names = "", 0, set()
        for number in range(self._count):
            sample = self._sample(number)
            names.add(sample.name)
            if sample.start != row:
                raise DamageError(
                    f"rows of sample {sample.name} begin at {sample.start}, not {row}"
                )
            chain, row = chained(chain, self._text(number)), sample.stop
        if (chain, row) != (self.chain, self.rows):
            raise DamageError("samples are not those of the last commit")
        if len(names) != self._count:
            raise DamageError("two samples have one name")

    @property
    def _held(self) -> int:
        """Samples that the tree has."""
        return self._count - len(self._added)

    def _sample(self, number: int) -> Sample:
        if number >= self._held:
            return self._added[number - self._held]
        chunk = self._chunk(number // SAMPLES_CHUNK)
        if number not in chunk.samples:
            chunk.samples[number] = self._parsed(self._text(number), number)
        return chunk.samples[number]

    def _text(self, number: int) -> bytes:
        if number >= self._held:
            return self._added[number - self._held].to_text()
        chunk, at = divmod(number, SAMPLES_CHUNK)
        return self._chunk(chunk).texts[at]

    def _parsed(self, text: bytes, number: int) -> Sample:
        try:
            sample: Sample = from_object(Sample, parse_json(text))
            check_sample(sample)
            if sample.stop > self.rows:
                raise ValueError(f"its rows end at {sample.stop} of {self.rows}")  # noqa: TRY301
        except (ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
            raise DamageError(f"sample {number} is unreadable: {error}; run 'vnp verify'") from None
        return sample

    def _chunk(self, number: int) -> _Chunk:
        known = self._chunks.get(number)
        if known is None:
            if self._read is None:
                raise AssertionError("samples of no store")
            left = self._held - number * SAMPLES_CHUNK
            texts = self._read(number).slice(0, left)
            if len(texts) < min(left, SAMPLES_CHUNK):
                raise DamageError(f"chunk {number} of the samples is short; run 'vnp verify'")
            known = self._chunks[number] = _Chunk(texts)
            if len(self._chunks) > _CHUNKS_KEPT:
                self._chunks.popitem(last=False)
        return known


_COUNTS = [each.name for each in fields(Sample) if each.type == "int"]


def chained(chain: str, text: bytes) -> str:
    """Return what names a list of samples with one more, from what names the list without it."""
    return hashlib.sha256(chain.encode() + text).hexdigest()[:32]


def check_sample_name(name: str) -> None:
    """Refuse a sample name that cannot be part of a file name or a table."""
    if not _NAME.match(name):
        raise UsageError(
            f"sample name {shown(name)}: use 1 to 128 letters, digits, '.', '_' or '-', "
            "not starting with '.' or '-'"
        )


def check_sample(sample: Sample) -> None:
    """Refuse a name that none can have (UsageError), and absurd counts (ValueError)."""
    check_sample_name(sample.name)
    if sample.stop < sample.start:
        rows = shown(sample.start), shown(sample.stop)
        raise ValueError(f"rows of sample {sample.name} are {rows[0]} to {rows[1]}")
    for name in _COUNTS:
        if not is_count(found := getattr(sample, name), MOST_COUNTED):
            raise ValueError(f"{name} of sample {sample.name} is {shown(found)}")
