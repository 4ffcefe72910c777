"""Reading files as an append would, writing nothing: every problem, and how long sequences are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from store.schema import STANDARD_CODE, Sample
from store.store import Store
from vnp.embed.progress import Progress
from vnp.sequence.compression import InputError
from vnp.sequence.contig_ids import Duplicates, UniqueIds
from vnp.sequence.fastx import SampleReader
from vnp.sequence.notes import Unusable
from vnp.sequence.records import record_batches
from vnp.sequence.samples import SampleFiles, check_files


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a file, or one record of it."""

    file: str
    record: int | None  # 1-based number
    line: int | None  # 1-based line of the decompressed text
    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of sequences, in bases."""

    shortest: int
    median: int
    longest: int
    n50: int  # sequences at least so long hold half of the bases


@dataclass(frozen=True, slots=True)
class SampleCheck:
    """What an append of one sample would meet."""

    sample: str
    contigs: int  # usable sequences
    bases: int  # in them
    segments: int
    records: int
    lengths: Lengths | None  # None without a usable sequence
    ambiguous_share: float  # of the letters, those other than ACGT
    uracils: int  # letters U, which are read as T
    problems: int  # all of them
    named: tuple[Problem, ...]  # the first of them

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What an append would meet."""

    samples: tuple[SampleCheck, ...]

    @property
    def problems(self) -> int:
        """Problems of all samples; without one an append would take everything."""
        return sum(each.problems for each in self.samples)

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {"samples": [each.to_json() for each in self.samples], "problems": self.problems}


def check_sample(
    sample: SampleFiles,
    *,
    held: Sequence[Sample],
    segment_length: int,
    genetic_code: int = STANDARD_CODE,
    duplicates: Duplicates = Duplicates.REFUSE,
) -> tuple[SampleCheck, str]:
    """Read the files of a sample; a fault that ends the reading of one is its last problem.

    ``held`` are the samples that the store has. The text is the hash of the content, empty if it
    could not be read to its end.
    """
    named: list[Problem] = []
    content = ""
    lengths: Counter[int] = Counter()
    segments = records = ambiguous = 0
    same = next((known for known in held if known.name == sample.name), None)
    if same is not None:
        reason = f"the store has a sample of this name, of {same.source}"
        named.append(Problem(" ".join(sample.files), None, None, "", reason))
    reader: SampleReader | None = None
    try:
        check_files([sample])
        with (
            SampleReader(sample.files, skip=True) as reader,
            UniqueIds(duplicates, source=reader.name) as unique,
            Progress(f"check {sample.name}", total=None, unit="bases") as progress,
        ):

            def counted() -> Any:
                for batch in unique.batches(reader):
                    lengths.update(batch.sequence.lengths.tolist())
                    yield batch

            batches = record_batches(
                counted(),
                segment_length=segment_length,
                genetic_code=genetic_code,
                source=reader.name,
            )
            for batch in batches:
                segments += batch.segments
                records += len(batch.rows)
                ambiguous += batch.ambiguous
                progress.update(reader.bases)
            content = reader.content_sha256()
            for other in held:
                if other.content == content and other is not same:
                    reason = f"the store has the same sequences as sample {other.name}"
                    named.append(Problem(reader.name, None, None, "", reason))
    except InputError as error:
        named.append(Problem(error.name, error.record, error.line, "", error.message))
    readers = reader.readers if reader is not None else []
    of_records = [(each.name, unusable) for each in readers for unusable in each.notes.unusable]
    named = [*(_problem(*each) for each in of_records), *named]
    bases = sum(length * times for length, times in lengths.items())
    result = SampleCheck(
        sample=sample.name,
        contigs=sum(lengths.values()),
        bases=bases,
        segments=segments,
        records=records,
        lengths=lengths_of(lengths),
        ambiguous_share=ambiguous / max(bases, 1),
        uracils=sum(each.notes.uracils for each in readers),
        problems=len(named) + sum(e.notes.count - len(e.notes.unusable) for e in readers),
        named=tuple(named),
    )
    return result, content


def lengths_of(counts: Counter[int]) -> Lengths | None:
    """Sum up how often each length occurs."""
    if not counts:
        return None
    ordered = sorted(counts.items())
    half, middle = sum(length * times for length, times in ordered), (counts.total() + 1) // 2
    seen = 0
    for length, times in ordered:
        seen += times
        if seen >= middle:
            median = length
            break
    held = 0
    for length, times in reversed(ordered):
        held += length * times
        if 2 * held >= half:
            n50 = length
            break
    return Lengths(ordered[0][0], median, ordered[-1][0], n50)


def _problem(file: str, found: Unusable) -> Problem:
    return Problem(file, found.record, found.line, found.id, found.reason)


def check_samples(
    store: Store | None,
    samples: Sequence[SampleFiles],
    *,
    segment_length: int,
    genetic_code: int = STANDARD_CODE,
    duplicates: Duplicates,
) -> CheckReport:
    """Check every sample in turn, for a store or, without one, for windows of a length.

    Without a store ``genetic_code`` counts too.
    """
    held = store.schema.samples if store is not None else ()
    length = store.schema.segment_length if store is not None else segment_length
    code = store.schema.genetic_code if store is not None else genetic_code
    found: list[SampleCheck] = []
    first: dict[str, str] = {}  # by content: the sample
    for sample in samples:
        check, content = check_sample(
            sample, held=held, segment_length=length, genetic_code=code, duplicates=duplicates
        )
        earlier = first.setdefault(content, sample.name) if content else sample.name
        if earlier != sample.name:
            reason = f"it holds the same sequences as {earlier}, given before it"
            problem = Problem(" ".join(sample.files), None, None, "", reason)
            named = (*check.named, problem)
            check = replace(check, named=named, problems=check.problems + 1)
        found.append(check)
    return CheckReport(tuple(found))
