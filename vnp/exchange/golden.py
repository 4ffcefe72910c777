"""The golden check: whether this installation reproduces reference embeddings.

A reference is a result file of VirNucPro (`virnucpro_files`) together with the FASTA file it was
made from. The records are cut, translated and embedded here with the same code and models as
``vnp embed`` uses, rounded to float16 as a store keeps them, and compared row by row with the
reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.errors import DataError
from store.io.ragged import Ragged
from store.io.words import count
from store.schema import STANDARD_CODE, Model
from vnp.embed.progress import Progress
from vnp.exchange.virnucpro_files import F32, bands, look_up, read_results
from vnp.inference.encoder import Encoder
from vnp.models.similarity import row_similarity
from vnp.models.spec import ModelSpec
from vnp.sequence.contig_ids import Duplicates, UniqueIds
from vnp.sequence.fastx import ContigReader
from vnp.sequence.records import record_batches
from vnp.sequence.strided import items

_WORST = 3  # rows named per model
_STEP = 512  # records embedded between two signs of progress


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far rows may lie from the reference and still count as the same computation.

    The reference was computed in float32 by other kernels. Rounding alone moves a row by about
    3e-4 of its length in float32 (nearly all of it float16 on disk), 1e-3 in float16, 4e-3 in
    bfloat16; the limits leave room for the order of summation. A wrong rule shows in the median:
    one special token too many in a mean of 160 moves every row by about 1e-2.
    """

    cosine: float  # the lowest cosine similarity of any row
    relative: float  # the median over rows of |here - reference| / |reference|


TOLERANCES = {
    "float32": Tolerance(cosine=0.9999, relative=1e-3),
    "float16": Tolerance(cosine=0.9998, relative=4e-3),
    "bfloat16": Tolerance(cosine=0.9995, relative=1e-2),
    "fp8": Tolerance(cosine=0.998, relative=4e-2),
}


@dataclass(frozen=True, slots=True)
class Reference:
    """Reference embeddings: one band per model."""

    path: Path
    ids: tuple[str, ...]  # record ids, unique
    bands: dict[str, F32]  # by model name, float32 (n, dim) in the order of the ids


@dataclass(frozen=True, slots=True)
class RowDifference:
    """One row beside its reference."""

    id: str
    cosine: float  # similarity of the two rows
    relative: float  # length of their difference over the reference's length


@dataclass(frozen=True, slots=True)
class BandReport:
    """One model's rows against the reference."""

    model: str
    precision: str  # arithmetic of this run
    device: str
    rows: int  # compared
    lowest_cosine: float
    median_cosine: float
    largest_difference: float  # of any single number
    median_relative: float  # median over rows of |here - reference| / |reference|
    reproduced: bool  # within the tolerance of the precision
    worst: tuple[RowDifference, ...]  # the rows farthest off, the farthest first


@dataclass(frozen=True, slots=True)
class GoldenReport:
    """The whole comparison."""

    reference: str
    rows: int  # of the reference
    missing: tuple[str, ...]  # ids of the reference that the FASTA file does not give here
    extra: int  # records of the FASTA file that the reference lacks
    bands: tuple[BandReport, ...]

    @property
    def reproduced(self) -> bool:
        """Whether every row of the reference was made here and lies within the tolerance."""
        return not self.missing and all(band.reproduced for band in self.bands)

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {**asdict(self), "reproduced": self.reproduced}


def read_reference(path: Path, *, models: Sequence[ModelSpec]) -> Reference:
    """Read a result file of VirNucPro that was made with the models of a recipe.

    ResultFileError if its ids and rows do not belong together, or its width is not the models'.
    """
    file = read_results(path)
    known = [Model(model.name, model.embedding_dim) for model in models]
    chosen = bands(file, known, of="the recipe")
    return Reference(path, tuple(file.ids), {model.name: values for model, values in chosen})


def compare(
    reference: Reference,
    fasta: str,
    *,
    segment_length: int,
    genetic_code: int = STANDARD_CODE,
    load: Callable[[str], Encoder],
) -> GoldenReport:
    """Embed the records of the FASTA file and compare them with the reference made from it.

    ``load`` loads the encoder of a model by name. VirNucPro's own files are of genetic code 1;
    others are exports of a store (`vnp export`), which may have another. DataError if the file
    cannot be read, or no id of it occurs in the reference.
    """
    position = {name: index for index, name in enumerate(reference.ids)}
    places: list[NDArray[np.int64]] = []
    records: list[tuple[Ragged, Ragged]] = []
    extra = 0
    for names, nucleotide, protein in _records(fasta, segment_length, genetic_code):
        place = look_up(position, names)
        known = np.flatnonzero(place >= 0)
        extra += len(names) - len(known)
        places.append(place[known])
        records.append((items(nucleotide, known), items(protein, known)))
    made = np.concatenate([np.empty(0, np.int64), *places])
    if not len(made):
        raise DataError(
            f"{fasta} gives no record of the {count(len(reference.ids), 'id')} of "
            f"{reference.path}, which was made from another file, or with another segment length "
            f"than {segment_length} or another genetic code than {genetic_code}"
        )
    missing = np.setdiff1d(np.arange(len(reference.ids)), made)
    compared = tuple(
        _compare_band(reference, model, load(model), made, records) for model in reference.bands
    )
    return GoldenReport(
        reference=str(reference.path),
        rows=len(reference.ids),
        missing=tuple(reference.ids[index] for index in missing.tolist()),
        extra=extra,
        bands=compared,
    )


def _compare_band(
    reference: Reference,
    model: str,
    encoder: Encoder,
    made: NDArray[np.int64],
    records: list[tuple[Ragged, Ragged]],
) -> BandReport:
    """Embed the records, whose places in the reference are ``made``, and compare."""
    there = reference.bands[model][made]
    here = np.empty_like(there)
    done = 0
    with Progress(f"golden {model}", total=len(there), unit="records") as progress:
        for nucleotide, protein in records:
            for first in range(0, len(protein), _STEP):
                last = min(first + _STEP, len(protein))
                tokens = encoder.tokenise(nucleotide.slice(first, last), protein.slice(first, last))
                rows = encoder.embed(tokens)
                here[done : done + len(rows)] = rows.astype(np.float16)  # as a store keeps them
                done += len(rows)
                progress.update(done)
    cosine, relative = row_similarity(here, there)
    provenance = encoder.provenance()
    precision = provenance.identity.get("precision", "float32")
    limit = TOLERANCES.get(precision, TOLERANCES["float32"])
    worst = tuple(
        RowDifference(reference.ids[made[row]], float(cosine[row]), float(relative[row]))
        for row in np.argsort(-relative, kind="stable")[:_WORST].tolist()
    )
    return BandReport(
        model=model,
        precision=precision,
        device=provenance.environment.get("device", "unknown"),
        rows=len(there),
        lowest_cosine=float(cosine.min()),
        median_cosine=float(np.median(cosine)),
        largest_difference=float(np.abs(here - there).max()),
        median_relative=float(np.median(relative)),
        reproduced=bool(
            np.isfinite(here).all()
            and cosine.min() >= limit.cosine
            and np.median(relative) <= limit.relative
        ),
        worst=worst,
    )


def _records(
    fasta: str, segment_length: int, genetic_code: int
) -> Iterator[tuple[list[str], Ragged, Ragged]]:
    """Ids, nucleotide and protein sequences of a file's records, as an append would make them."""
    with (
        ContigReader(fasta) as reader,
        UniqueIds(Duplicates.REFUSE, source=reader.name) as unique,
    ):
        batches = record_batches(
            unique.batches(reader),
            segment_length=segment_length,
            genetic_code=genetic_code,
            source=reader.name,
        )
        for batch in batches:
            yield batch.rows.id.decode(), batch.rows.nucleotide, batch.rows.protein
