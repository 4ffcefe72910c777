"""What a store is: its models, its samples and its geometry, as one small value.

The schema is the only mutable truth of a store. It lives as the attribute ``vnp`` of the root
``zarr.json`` and changes only when that file is renamed into place (the commit point).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from store.errors import NotAStoreError, SampleExistsError, UsageError
from store.io.words import not_held
from store.samples import (
    ReadChunk,
    Sample,
    StoredSamples,
    check_sample,
    check_sample_name,
)
from store.untrusted import checksum as _checksum
from store.untrusted import from_object, is_count, shown, to_object

__all__ = ["Model", "Sample", "Schema", "Scores", "check_sample_name"]

FORMAT_VERSION = 1
# Of a store of another genetic code: code that knows none would append records of the standard one.
CODED_VERSION = 2
# Samples are an array of the tree, see `store.samples`: code that looks for them here finds none.
SPLIT_VERSION = 3
# Rows have the length of their contig; samples are in the root or in an array, with any code.
LENGTHS_VERSION = 4
STANDARD_CODE = 1  # NCBI's translation table of the standard genetic code
DEFAULT_BLOCK_ROWS = 4096
_MOST_BLOCK_ROWS = 1 << 20  # limits of what a schema may claim
_MOST_NUMBERS = 1 << 20
_MOST_ROWS = 1 << 36
_MOST_BLOCKS = 1 << 27
_MOST_BLOCK_BYTES = 1 << 32  # of embeddings
_MOST_CODE = 999  # NCBI's tables are numbered; which there are, vnp knows
COLUMN_CHUNK_ROWS = 65536  # rows per chunk of the columns only the appender writes

_MODEL_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_SOURCE = re.compile(r"[!-~]{0,256}\Z")
_SCORES_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")
_CHAIN = re.compile(r"(?:[0-9a-f]{32})?\Z")


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
                f"model name {shown(self.name)}: use lower-case letters, digits and underscores, "
                "starting with a letter"
            )
        if not _SOURCE.match(self.source):
            raise UsageError(f"model {self.name}: source {shown(self.source)} is not printable")
        if not is_count(self.dim, _MOST_NUMBERS, least=1):
            raise UsageError(
                f"model {self.name}: dimension {shown(self.dim)} is not 1 to {_MOST_NUMBERS}"
            )


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
                f"scores name {shown(self.name)}: use 1 to 64 letters, digits or '_', a letter "
                "first"
            )


@dataclass(frozen=True, slots=True)
class Schema:
    """Geometry, models and samples of a store at one commit."""

    block_rows: int  # R: rows per block and per chunk of every worker-written column
    segment_length: int  # bases per window (published: 300, 500); 0: a contig is one window
    models: tuple[Model, ...] = ()
    samples: Sequence[Sample] = ()  # a tuple, or what reads an array of them: `StoredSamples`
    scores: tuple[Scores, ...] = ()
    mixed_precision: bool = False  # whether blocks of a model may be computed in unlike precisions
    genetic_code: int = STANDARD_CODE  # NCBI translation table that its records are made by
    contig_lengths: bool = False  # whether each row has the length of its contig: not in older ones
    # With samples in an array, blocks to look into: see `store.geometry.tails`. Schemas are equal
    # without.
    tails: tuple[int, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not is_count(self.block_rows, _MOST_BLOCK_ROWS, least=1):
            raise UsageError(
                f"block_rows is {shown(self.block_rows)}: it must be 1 to {_MOST_BLOCK_ROWS}"
            )
        if self.segment_length in (1, 2) or not is_count(self.segment_length, _MOST_ROWS):
            raise UsageError(
                f"segment length {shown(self.segment_length)}: it must hold a codon (3), or be 0 "
                "for whole contigs"
            )
        if not is_count(self.genetic_code, _MOST_CODE, least=1):
            raise UsageError(
                f"genetic code {shown(self.genetic_code)} is not a number of NCBI's, 1 to "
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
        if isinstance(self.samples, StoredSamples):
            return self.samples.rows
        return self.samples[-1].stop if self.samples else 0

    @property
    def repeats(self) -> int:
        """Rows with the sequences of an earlier row."""
        if isinstance(self.samples, StoredSamples):
            return self.samples.repeats
        return sum(sample.repeats for sample in self.samples)

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
        raise UsageError(not_held("model", name, (model.name for model in self.models)))

    def sample(self, name: str) -> Sample | None:
        """Return the sample of that name, or None."""
        return self.sample_with("name", name)

    def held_sample(self, name: str) -> Sample:
        """Return the sample of that name; UsageError if the store has no such sample."""
        sample = self.sample(name)
        if sample is None:
            raise UsageError(not_held("sample", name, (each.name for each in self.samples)))
        return sample

    def sample_with(self, field: str, value: str) -> Sample | None:
        """Return the first sample with a text in a field (``content``, ...), or None."""
        if isinstance(self.samples, StoredSamples):
            return self.samples.find(field, value)
        return next((each for each in self.samples if getattr(each, field) == value), None)

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
        if not isinstance(self.samples, StoredSamples):
            return replace(self, samples=(*self.samples, sample))
        block, rows = divmod(self.n_rows, self.block_rows)
        tails = (*self.tails, block) if rows and block not in self.tails else self.tails
        return replace(self, samples=self.samples.with_sample(sample), tails=tails)


def to_attribute(schema: Schema) -> dict[str, Any]:
    """Return the schema as the JSON value of the root attribute ``vnp``, checksum included."""
    body: dict[str, Any] = {
        "format": _format_of(schema),
        "block_rows": schema.block_rows,
        "segment_length": schema.segment_length,
        "models": [to_object(model) for model in schema.models],
    }
    if isinstance(schema.samples, StoredSamples):
        body["samples"] = {
            "count": len(schema.samples),
            "rows": schema.samples.rows,
            "repeats": schema.samples.repeats,
            "chain": schema.samples.chain,
        }
        body["tails"] = list(schema.tails)
    else:
        body["samples"] = [to_object(sample) for sample in schema.samples]
    if schema.scores:  # absent otherwise, as in stores made before there were any
        body["scores"] = [asdict(scores) for scores in schema.scores]
    if schema.mixed_precision:
        body["mixed_precision"] = True
    if schema.genetic_code != STANDARD_CODE:
        body["genetic_code"] = schema.genetic_code
    return {**body, "crc32c": _checksum(body)}


def _format_of(schema: Schema) -> int:
    if schema.contig_lengths:
        return LENGTHS_VERSION
    if isinstance(schema.samples, StoredSamples):
        return SPLIT_VERSION
    return FORMAT_VERSION if schema.genetic_code == STANDARD_CODE else CODED_VERSION


def from_attribute(value: object, *, where: str, read_samples: ReadChunk | None = None) -> Schema:
    """Read the schema back from the root attribute; NotAStoreError if that is impossible.

    ``read_samples`` reads chunks of the array of samples, where a store can have one (from format 3
    on).
    """
    if not isinstance(value, dict) or "format" not in value:
        raise NotAStoreError(f"{where} is not a vnp store: its root has no attribute 'vnp'")
    version = value["format"]
    if type(version) is not int or not FORMAT_VERSION <= version <= LENGTHS_VERSION:
        raise NotAStoreError(
            f"{where} has store format {shown(version)}; this vnp reads formats "
            f"{FORMAT_VERSION} to {LENGTHS_VERSION}: use the vnp that made it, or a newer one"
        )
    body = {key: item for key, item in value.items() if key != "crc32c"}
    if value.get("crc32c") != _checksum(body):
        raise NotAStoreError(f"{where}: the attribute 'vnp' does not match its checksum (damaged)")
    try:
        schema = Schema(
            block_rows=_int(body["block_rows"]),
            segment_length=_int(body["segment_length"]),
            models=tuple(from_object(Model, item) for item in _list(body["models"])),
            samples=_samples(body["samples"], read_samples),
            scores=tuple(from_object(Scores, item) for item in _list(body.get("scores", []))),
            mixed_precision=_bool(body.get("mixed_precision", False)),
            genetic_code=_int(body.get("genetic_code", STANDARD_CODE)),
            contig_lengths=version == LENGTHS_VERSION,
            tails=_tails(version, body),
        )
        if version != _format_of(schema):
            raise ValueError(f"format {version} does not fit its members")  # noqa: TRY301
        _check_rows(schema)
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise NotAStoreError(f"{where}: the attribute 'vnp' has the wrong form: {error}") from None
    return schema


def _tails(version: int, body: dict[str, Any]) -> tuple[int, ...]:
    if not isinstance(body["samples"], dict):
        if version == LENGTHS_VERSION and "tails" in body:  # before, an unknown member
            raise ValueError("it has tails, and its samples are not in an array")
        return ()
    return tuple(map(_int, _list(body["tails"])))


def _samples(value: Any, read: ReadChunk | None) -> Sequence[Sample]:
    if not isinstance(value, dict):
        return tuple(from_object(Sample, item) for item in _list(value))
    if read is None:
        raise ValueError("samples in an array are not of such stores")
    if not _CHAIN.match(value["chain"]):
        raise ValueError(f"{shown(value['chain'])} is not a hash")
    counts = {name: _int(value[name]) for name in ("count", "rows", "repeats")}
    if not all(is_count(number, _MOST_ROWS) for number in counts.values()):
        raise ValueError(f"samples are {shown(counts)}")
    return StoredSamples(
        count=counts["count"],
        rows=counts["rows"],
        repeats=counts["repeats"],
        chain=value["chain"],
        read=read,
    )


def _int(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"{shown(value)} is not a whole number")
    return value


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is not true or false")  # noqa: TRY004 - of the file
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{shown(value)} is not a list")  # noqa: TRY004 - of the file, not the call
    return value


def _check_rows(schema: Schema) -> None:
    """Refuse samples whose rows do not follow one another, names that are twice, absurd counts."""
    row = schema.n_rows
    if not isinstance(schema.samples, StoredSamples):
        row = 0
        for sample in schema.samples:
            if sample.start != row or not row <= sample.stop <= _MOST_ROWS:
                rows = shown(sample.start), shown(sample.stop)
                raise ValueError(f"rows of sample {shown(sample.name)} are {rows[0]} to {rows[1]}")
            row = sample.stop
            check_sample(sample)
        _check_names("samples", schema.samples)
    if row > _MOST_BLOCKS * schema.block_rows:
        raise ValueError(f"{row:,} rows are more than {_MOST_BLOCKS:,} blocks hold")
    if not all(is_count(block, row // schema.block_rows) for block in schema.tails):
        raise ValueError(f"tails are {shown(schema.tails)}")
    for scores in schema.scores:
        if not 0 <= scores.rows <= row:
            raise ValueError(f"scores {scores.name} cover {shown(scores.rows)} of {row} rows")
    _check_names("scores", schema.scores)


def _check_names(what: str, named: Sequence[Sample] | Sequence[Scores]) -> None:
    if len({each.name for each in named}) != len(named):
        raise ValueError(f"two {what} have one name")
