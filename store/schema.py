"""What a store is: its models, its samples and its geometry, as one small value.

The schema is the only mutable truth of a store. It lives as the attribute ``vnp`` of the root
``zarr.json`` and changes only when that file is renamed into place (the commit point).
"""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

import google_crc32c

from store.errors import NotAStoreError, SampleExistsError, UsageError
from store.io.words import nearest

FORMAT_VERSION = 1
# Of a store of another genetic code: code that knows none would append records of the standard one.
CODED_VERSION = 2
STANDARD_CODE = 1  # NCBI's translation table of the standard genetic code
DEFAULT_BLOCK_ROWS = 4096
_MOST_BLOCK_ROWS = 1 << 20  # limits of what a schema may claim
_MOST_NUMBERS = 1 << 20
_MOST_ROWS = 1 << 36
_MOST_BLOCKS = 1 << 27
_MOST_BLOCK_BYTES = 1 << 32  # of embeddings
_MOST_CODE = 999  # NCBI's tables are numbered; which there are, vnp knows
_MOST_COUNTED = 1 << 62  # letters, contigs, ... of a sample
COLUMN_CHUNK_ROWS = 65536  # rows per chunk of the columns only the appender writes

_MODEL_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_SOURCE = re.compile(r"[!-~]{0,256}\Z")
_SCORES_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")
_SAMPLE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")


@dataclass(frozen=True, slots=True)
class Model:
    """A named encoder with one row-aligned array ``obsm/X_<name>``."""

    name: str  # lower-case letters, digits and underscores
    dim: int  # numbers per row
    source: str = ""  # what it was asked for by, where that is not its name: at most 256 letters

    def __post_init__(self) -> None:
        if self.name == "append":
            raise UsageError("no model can be called 'append': that is the appender's lock")
        if not _MODEL_NAME.match(self.name):
            raise UsageError(
                f"model name {_shown(self.name)}: use lower-case letters, digits and underscores, "
                "starting with a letter"
            )
        if not _SOURCE.match(self.source):
            raise UsageError(f"model {self.name}: source {_shown(self.source)} is not printable")
        if not _is_count(self.dim, _MOST_NUMBERS, least=1):
            raise UsageError(
                f"model {self.name}: dimension {_shown(self.dim)} is not 1 to {_MOST_NUMBERS}"
            )


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
                f"scores name {_shown(self.name)}: use 1 to 64 letters, digits or '_', a letter "
                "first"
            )


@dataclass(frozen=True, slots=True)
class Schema:
    """Geometry, models and samples of a store at one commit."""

    block_rows: int  # R: rows per block and per chunk of every worker-written column
    segment_length: int  # bases per window (published: 300, 500); 0: a contig is one window
    models: tuple[Model, ...] = ()
    samples: tuple[Sample, ...] = ()
    scores: tuple[Scores, ...] = ()
    mixed_precision: bool = False  # whether blocks of a model may be computed in unlike precisions
    genetic_code: int = STANDARD_CODE  # NCBI translation table that its records are made by

    def __post_init__(self) -> None:
        if not _is_count(self.block_rows, _MOST_BLOCK_ROWS, least=1):
            raise UsageError(
                f"block_rows is {_shown(self.block_rows)}: it must be 1 to {_MOST_BLOCK_ROWS}"
            )
        if self.segment_length in (1, 2) or not _is_count(self.segment_length, _MOST_ROWS):
            raise UsageError(
                f"segment length {_shown(self.segment_length)}: it must hold a codon (3), or be 0 "
                "for whole contigs"
            )
        if not _is_count(self.genetic_code, _MOST_CODE, least=1):
            raise UsageError(
                f"genetic code {_shown(self.genetic_code)} is not a number of NCBI's, 1 to "
                f"{_MOST_CODE}"
            )
        names = [model.name for model in self.models]
        if len(set(names)) != len(names):
            raise UsageError(f"a model is named twice: {', '.join(names)}")
        for model in self.models:
            size = self.block_rows * model.dim * 2
            if size > _MOST_BLOCK_BYTES:
                raise UsageError(
                    f"a block of {self.block_rows:,} rows of {model.name} would take {size:,} "
                    f"bytes, more than {_MOST_BLOCK_BYTES:,}: use fewer rows a block"
                )

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
        near = nearest(name, [model.name for model in self.models])
        raise UsageError(
            f"the store has no model {name!r} (it has: {known})" + (f"; {near}" if near else "")
        )

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
            f"sample name {_shown(name)}: use 1 to 128 letters, digits, '.', '_' or '-', "
            "not starting with '.' or '-'"
        )


def to_attribute(schema: Schema) -> dict[str, Any]:
    """Return the schema as the JSON value of the root attribute ``vnp``, checksum included."""
    body: dict[str, Any] = {
        "format": _format_of(schema.genetic_code),
        "block_rows": schema.block_rows,
        "segment_length": schema.segment_length,
        "models": [_said(model) for model in schema.models],
        "samples": [_said(sample) for sample in schema.samples],
    }
    if schema.scores:  # absent otherwise, as in stores made before there were any
        body["scores"] = [asdict(scores) for scores in schema.scores]
    if schema.mixed_precision:
        body["mixed_precision"] = True
    if schema.genetic_code != STANDARD_CODE:
        body["genetic_code"] = schema.genetic_code
    return {**body, "crc32c": _checksum(body)}


def _format_of(genetic_code: int) -> int:
    return FORMAT_VERSION if genetic_code == STANDARD_CODE else CODED_VERSION


def _said(part: Model | Sample) -> dict[str, Any]:
    """Return a part as JSON; a field that older stores lack is absent where it says nothing."""
    unsaid = {field.name for field in fields(part) if getattr(part, field.name) == field.default}
    return {name: value for name, value in asdict(part).items() if name not in unsaid}


def from_attribute(value: object, *, where: str) -> Schema:
    """Read the schema back from the root attribute; NotAStoreError if that is impossible."""
    if not isinstance(value, dict) or "format" not in value:
        raise NotAStoreError(f"{where} is not a vnp store: its root has no attribute 'vnp'")
    version = value["format"]
    if type(version) is not int or version not in (FORMAT_VERSION, CODED_VERSION):
        raise NotAStoreError(
            f"{where} has store format {_shown(version)}; this vnp reads formats "
            f"{FORMAT_VERSION} and {CODED_VERSION}: use the vnp that made it, or a newer one"
        )
    body = {key: item for key, item in value.items() if key != "crc32c"}
    if value.get("crc32c") != _checksum(body):
        raise NotAStoreError(f"{where}: the attribute 'vnp' does not match its checksum (damaged)")
    try:
        schema = Schema(
            block_rows=_int(body["block_rows"]),
            segment_length=_int(body["segment_length"]),
            models=tuple(_build(Model, item) for item in _list(body["models"])),
            samples=tuple(_build(Sample, item) for item in _list(body["samples"])),
            scores=tuple(_build(Scores, item) for item in _list(body.get("scores", []))),
            mixed_precision=_bool(body.get("mixed_precision", False)),
            genetic_code=_int(body.get("genetic_code", STANDARD_CODE)),
        )
        if version != _format_of(schema.genetic_code):
            raise ValueError(f"format {version} with genetic code {schema.genetic_code}")  # noqa: TRY301
        _check_rows(schema)
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise NotAStoreError(f"{where}: the attribute 'vnp' has the wrong form: {error}") from None
    return schema


def _int(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"{_shown(value)} is not a whole number")
    return value


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{_shown(value)} is not true or false")  # noqa: TRY004 - of the file
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{_shown(value)} is not a list")  # noqa: TRY004 - of the file, not the call
    return value


def _is_count(value: int, most: int, *, least: int = 0) -> bool:
    return type(value) is int and least <= value <= most


def _shown(value: object) -> str:
    """Write a value of an untrusted file, not at any length."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _check_rows(schema: Schema) -> None:
    """Refuse samples whose rows do not follow one another, names that are twice, absurd counts."""
    row = 0
    for sample in schema.samples:
        check_sample_name(sample.name)
        if sample.start != row or not row <= sample.stop <= _MOST_ROWS:
            rows = _shown(sample.start), _shown(sample.stop)
            raise ValueError(f"rows of sample {sample.name} are {rows[0]} to {rows[1]}")
        row = sample.stop
        for name, found in asdict(sample).items():
            if isinstance(found, int) and not _is_count(found, _MOST_COUNTED):
                raise ValueError(f"{name} of sample {sample.name} is {_shown(found)}")
    if row > _MOST_BLOCKS * schema.block_rows:
        raise ValueError(f"{row:,} rows are more than {_MOST_BLOCKS:,} blocks hold")
    for scores in schema.scores:
        if not 0 <= scores.rows <= row:
            raise ValueError(f"scores {scores.name} cover {_shown(scores.rows)} of {row} rows")
    for what, named in (("samples", schema.samples), ("scores", schema.scores)):
        if len({each.name for each in named}) != len(named):
            raise ValueError(f"two {what} have one name")


def _build(kind: type[Any], item: dict[str, Any]) -> Any:
    """Build a dataclass from its JSON object, refusing wrong types: the file is untrusted."""
    values = {}
    for field in fields(kind):
        value = (
            item[field.name] if field.default is MISSING else item.get(field.name, field.default)
        )
        if type(value).__name__ != field.type:
            raise ValueError(f"{kind.__name__}.{field.name} is {_shown(value)}, not {field.type}")
        values[field.name] = value
    return kind(**values)


def _checksum(body: dict[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return f"{google_crc32c.value(canonical):08x}"
