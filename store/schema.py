"""What a store is: its models, its samples and its geometry, as one small value.

The schema is the only mutable truth of a store. It lives as the attribute ``vnp`` of the root
``zarr.json`` and changes only when that file is renamed into place (the commit point).
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import google_crc32c

from store.errors import NotAStoreError, SampleExistsError, UsageError

FORMAT_VERSION = 1
DEFAULT_BLOCK_ROWS = 4096
_MOST_BLOCK_ROWS = 1 << 20  # limits of what a schema may claim
_MOST_NUMBERS = 1 << 20
_MOST_ROWS = 1 << 40
COLUMN_CHUNK_ROWS = 65536  # rows per chunk of the columns only the appender writes

_MODEL_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_SCORES_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")
_SAMPLE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")


@dataclass(frozen=True, slots=True)
class Model:
    """A named encoder with one row-aligned array ``obsm/X_<name>``."""

    name: str  # lower-case letters, digits and underscores
    dim: int  # numbers per row

    def __post_init__(self) -> None:
        if self.name == "append":
            raise UsageError("no model can be called 'append': that is the appender's lock")
        if not _MODEL_NAME.match(self.name):
            raise UsageError(
                f"model name {self.name!r}: use lower-case letters, digits and underscores, "
                "starting with a letter"
            )
        if not 1 <= self.dim <= _MOST_NUMBERS:
            raise UsageError(f"model {self.name}: dimension {self.dim} is not 1 to {_MOST_NUMBERS}")


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


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a classifier, kept as two obs columns."""

    name: str  # the columns are <name>_score1 and <name>_score2
    rows: int  # rows that they cover; later ones have no score
    digest: str  # hash of the classifier's weights
    made: str  # UTC time of the commit, ISO 8601

    def __post_init__(self) -> None:
        if not _SCORES_NAME.match(self.name):
            raise UsageError(
                f"scores name {self.name!r}: use 1 to 64 letters, digits or '_', a letter first"
            )


@dataclass(frozen=True, slots=True)
class Schema:
    """Geometry, models and samples of a store at one commit."""

    block_rows: int  # R: rows per block and per chunk of every worker-written column
    segment_length: int  # bases per window (published: 300, 500); 0: a contig is one window
    models: tuple[Model, ...] = ()
    samples: tuple[Sample, ...] = ()
    scores: tuple[Scores, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.block_rows <= _MOST_BLOCK_ROWS:
            raise UsageError(f"block_rows is {self.block_rows}: it must be 1 to {_MOST_BLOCK_ROWS}")
        if self.segment_length < 3 and self.segment_length != 0:
            raise UsageError(
                f"segment length {self.segment_length}: it must hold a codon (3), or be 0 for "
                "whole contigs"
            )
        names = [model.name for model in self.models]
        if len(set(names)) != len(names):
            raise UsageError(f"a model is named twice: {', '.join(names)}")

    @property
    def n_rows(self) -> int:
        """Committed rows, N."""
        return self.samples[-1].stop if self.samples else 0

    def model(self, name: str) -> Model:
        """Return the model of that name.

        Raises
        ------
        UsageError
            If the store has no such model.
        """
        for model in self.models:
            if model.name == name:
                return model
        known = ", ".join(model.name for model in self.models) or "none"
        raise UsageError(f"the store has no model {name!r} (it has: {known})")

    def sample(self, name: str) -> Sample | None:
        """Return the sample of that name, or None."""
        return next((sample for sample in self.samples if sample.name == name), None)

    def with_model(self, model: Model) -> Schema:
        """Return the schema with one model more."""
        if any(known.name == model.name for known in self.models):
            raise UsageError(f"the store has a model {model.name} already")
        return replace(self, models=(*self.models, model))

    def with_scores(self, scores: Scores) -> Schema:
        """Return the schema with scores under a new name, or in place of those of the name."""
        kept = tuple(known for known in self.scores if known.name != scores.name)
        return replace(self, scores=(*kept, scores))

    def without_scores(self, name: str) -> Schema:
        """Return the schema without the scores of a name."""
        return replace(self, scores=tuple(known for known in self.scores if known.name != name))

    def with_sample(self, sample: Sample) -> Schema:
        """Return the schema with one sample more, its rows following the committed ones."""
        check_sample_name(sample.name)
        if self.sample(sample.name) is not None:
            raise SampleExistsError(f"the store has a sample named {sample.name} already")
        if sample.start != self.n_rows or sample.stop < sample.start:
            raise AssertionError(f"rows {sample.start}..{sample.stop} do not follow {self.n_rows}")
        return replace(self, samples=(*self.samples, sample))


def check_sample_name(name: str) -> None:
    """Refuse a sample name that cannot be part of a file name or a table."""
    if not _SAMPLE_NAME.match(name):
        raise UsageError(
            f"sample name {name!r}: use 1 to 128 letters, digits, '.', '_' or '-', "
            "not starting with '.' or '-'"
        )


def to_attribute(schema: Schema) -> dict[str, Any]:
    """Return the schema as the JSON value of the root attribute ``vnp``, checksum included."""
    body: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "block_rows": schema.block_rows,
        "segment_length": schema.segment_length,
        "models": [asdict(model) for model in schema.models],
        "samples": [asdict(sample) for sample in schema.samples],
    }
    if schema.scores:  # absent otherwise, as in stores made before there were any
        body["scores"] = [asdict(scores) for scores in schema.scores]
    return {**body, "crc32c": _checksum(body)}


def from_attribute(value: object, *, where: str) -> Schema:
    """Read the schema back from the root attribute; NotAStoreError if that is impossible."""
    if not isinstance(value, dict) or "format" not in value:
        raise NotAStoreError(f"{where} is not a vnp store: its root has no attribute 'vnp'")
    if value["format"] != FORMAT_VERSION:
        raise NotAStoreError(
            f"{where} has store format {value['format']!r}; this vnp reads format "
            f"{FORMAT_VERSION}: use the vnp that made it, or a newer one"
        )
    body = {key: item for key, item in value.items() if key != "crc32c"}
    if value.get("crc32c") != _checksum(body):
        raise NotAStoreError(f"{where}: the attribute 'vnp' does not match its checksum (damaged)")
    try:
        schema = Schema(
            block_rows=_int(body["block_rows"]),
            segment_length=_int(body["segment_length"]),
            models=tuple(_build(Model, item) for item in body["models"]),
            samples=tuple(_build(Sample, item) for item in body["samples"]),
            scores=tuple(_build(Scores, item) for item in body.get("scores", ())),
        )
        _check_samples(schema.samples)
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise NotAStoreError(f"{where}: the attribute 'vnp' has the wrong form: {error}") from None
    return schema


def _int(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _check_samples(samples: tuple[Sample, ...]) -> None:
    """Refuse samples whose rows do not follow one another, or that share a name."""
    row = 0
    for sample in samples:
        check_sample_name(sample.name)
        if sample.start != row or not row <= sample.stop <= _MOST_ROWS:
            raise ValueError(f"rows of sample {sample.name} are {sample.start} to {sample.stop}")
        row = sample.stop
    if len({sample.name for sample in samples}) != len(samples):
        raise ValueError("two samples have one name")


def _build(kind: type[Any], item: dict[str, Any]) -> Any:
    """Build a dataclass from its JSON object, refusing wrong types: the file is untrusted."""
    values = {}
    for field in fields(kind):
        value = item[field.name]
        if type(value).__name__ != field.type:
            raise ValueError(f"{kind.__name__}.{field.name} is {value!r}, not {field.type}")
        values[field.name] = value
    return kind(**values)


def _checksum(body: dict[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return f"{google_crc32c.value(canonical):08x}"
