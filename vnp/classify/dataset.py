"""The published training set, from annotated genomes on this machine.

The recipe, worked out from the published code (Brief Bioinform 2025, bbaf224): genomes are cut into
windows by the rules; windows with an ambiguous letter are dropped; of the six frames those are kept
that have no stop and whose protein lies, as it is, inside an annotated protein of the same record.
Records are parted into runs of 10,000 in the order of the files, and incomplete runs are dropped.
All runs of viruses are taken; of each of the other groups ceil(runs of viruses / groups) are drawn
at random, and of those as many as there are runs of viruses.

What comes out is made for `vnp append` and `vnp train`: per group a FASTA file whose sequences are
the windows (so that each is one window of the store again), and a table of labels that names the
kept records. Other frames of those windows get no label and are not trained on. The table's column
``group`` is the genome a window comes from, so that windows which overlap stay together.
"""

from __future__ import annotations

import fileinput
import json
import logging
import math
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from store.errors import UsageError
from store.io.replace import refuse_existing, refuse_shared, replacing
from store.io.tables import safe_cell
from store.io.words import count
from store.schema import STANDARD_CODE, check_sample_name
from vnp.classify.annotation import Genome, read_genomes
from vnp.classify.genbank import DatasetError, LeftOut
from vnp.classify.mlp import CLASSES
from vnp.embed.progress import Progress
from vnp.sequence.frames import FRAMES
from vnp.sequence.genetic_codes import codon_table
from vnp.sequence.records import record_batches
from vnp.sequence.segments import cut_windows

log = logging.getLogger(__name__)

LABELS = "labels.tsv"
LEFT_OUT = "left_out.tsv"  # records that were not used: file, number in it, id, reason
REPORT = "dataset.json"
# By byte: the letters, upper case, that the published code looks for.
_AMBIGUOUS = np.isin(np.arange(256), list(b"NRYMKSWHBVD"))


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a training set is made by; the defaults are the published ones."""

    segment_length: int = 500  # bases per window
    genetic_code: int = STANDARD_CODE  # NCBI's number of the translation table
    part_records: int = 10_000  # records of a run, the unit of sampling
    virus: str = "viral"  # the group that is labelled virus
    seed: int = 42  # of the sampling
    uneven: bool = False  # take what there is of a group that has less than its share


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """What became of one group."""

    genomes: int  # sequences read
    segments: int  # that they were cut into
    ambiguous: int  # of these, dropped for an ambiguous letter
    records: int  # kept records
    parts: int  # complete runs of them
    left_out: int  # records of its files that were not used
    parts_taken: int = 0  # of these, sampled
    records_taken: int = 0  # records in them


@dataclass(frozen=True, slots=True)
class Dataset:
    """How a training set came out."""

    folder: str
    recipe: Recipe
    files: dict[str, str]  # group -> FASTA file
    labels: str  # the table of labels
    groups: dict[str, GroupCounts]
    left_out: str  # the table of records that were not used; empty if all were

    @property
    def complete(self) -> bool:
        """Whether every record of the input was used."""
        return not self.left_out

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return asdict(self)


class Kept(NamedTuple):
    """One kept record."""

    genome: str  # id of the sequence it comes from
    window: str  # id of its window
    frame: str  # F1 ... R3
    bases: str  # of the window


def make_dataset(
    inputs: Mapping[str, Sequence[Path]], folder: Path, *, recipe: Recipe, force: bool = False
) -> Dataset:
    """Make a training set from the files of each group in a new folder, which appears whole.

    `UsageError` if the folder exists, without ``force``, or the groups make no sense;
    `DatasetError` if an input is not what it must be, or a group has less than its share.
    """
    refuse_shared([folder], [path for paths in inputs.values() for path in paths])
    refuse_existing(folder, force=force)
    codon_table(recipe.genetic_code)  # there is one
    for group in inputs:
        check_sample_name(group)
    if recipe.virus not in inputs or len(inputs) < 2:
        raise UsageError(
            f"a training set needs the group {recipe.virus} (say which with --virus) and at least "
            f"one other; given: {', '.join(inputs)}"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing(folder, force=force) as work:
        parts = work / "parts"
        parts.mkdir(parents=True)
        left_out: list[str] = []
        seen: dict[str, str] = {}  # by accession: where, over all groups
        cut = {
            group: _cut(group, paths, parts, recipe, left_out, seen)
            for group, paths in inputs.items()
        }
        taken = _sample({group: counts.parts for group, counts in cut.items()}, recipe)
        groups = _write(work, parts, cut, taken, recipe)
        result = Dataset(
            folder=str(folder),
            recipe=recipe,
            files={group: str(folder / f"{group}.fa") for group in groups if taken[group]},
            labels=str(folder / LABELS),
            groups=groups,
            left_out=str(folder / LEFT_OUT) if left_out else "",
        )
        if left_out:
            header = "group\tfile\trecord\tid\treason\n"
            (work / LEFT_OUT).write_text(header + "".join(left_out))
        (work / REPORT).write_text(json.dumps(result.to_json(), indent=1) + "\n")
        shutil.rmtree(parts)
    return result


def kept_records(
    genome: Genome, *, segment_length: int, genetic_code: int = STANDARD_CODE
) -> tuple[list[Kept], int, int]:
    """Keep records of a genome, in rule order; count its windows, and the ambiguous ones."""
    bases = genome.contig.sequence.data
    # Ambiguous letters up to each position, so that those of a window are a difference.
    before = np.concatenate([[0], np.cumsum(_AMBIGUOUS[bases])])
    windows = cut_windows(np.array([len(bases)]), segment_length=segment_length)
    ambiguous = np.count_nonzero(before[windows.end] > before[windows.start])
    kept: list[Kept] = []
    batches = record_batches(
        [genome.contig], segment_length=segment_length, genetic_code=genetic_code
    )
    for batch in batches:
        rows = batch.rows
        clean = np.flatnonzero(before[rows.end] == before[rows.start])
        kept += [
            Kept(
                genome.id,
                f"{genome.id}_chunk_{rows.segment[at]}",
                FRAMES[int(rows.frame[at]) - 1 + 3 * int(rows.strand[at] < 0)],
                bases[rows.start[at] : rows.end[at]].tobytes().decode(),
            )
            for at in clean.tolist()
            if rows.protein[at] in genome.proteins
        ]
    return kept, len(windows), int(ambiguous)


def _cut(
    group: str,
    paths: Sequence[Path],
    parts: Path,
    recipe: Recipe,
    left_out: list[str],
    seen: dict[str, str],
) -> GroupCounts:
    """Write the kept records of a group in runs, ``parts/GROUP/0``, ``parts/GROUP/1``, ...

    Lines on records that are not used are added to ``left_out``; ``seen`` has the accessions of the
    groups before, and gets those of this one.
    """
    (parts / group).mkdir()
    before = len(left_out)
    genomes = windows = ambiguous = records = runs = 0
    waiting: list[str] = []  # lines of the current run; an incomplete one is never written
    with Progress(f"read {group}", total=None, unit="records") as progress:
        for genome in read_genomes(paths, seen=seen):
            if isinstance(genome, LeftOut):
                cells = (group, genome.file, str(genome.record), genome.id, genome.reason)
                left_out.append("\t".join(safe_cell(cell) for cell in cells) + "\n")
                continue
            kept, cut, unclear = kept_records(
                genome, segment_length=recipe.segment_length, genetic_code=recipe.genetic_code
            )
            genomes, windows, ambiguous = genomes + 1, windows + cut, ambiguous + unclear
            records += len(kept)
            waiting += ["\t".join(record) + "\n" for record in kept]
            while len(waiting) >= recipe.part_records:
                run = waiting[: recipe.part_records]
                (parts / group / str(runs)).write_text("".join(run))
                del waiting[: recipe.part_records]
                runs += 1
            progress.update(records)
    if not genomes:
        first = left_out[before].split("\t") if len(left_out) > before else ["", "", "", "", "none"]
        raise DatasetError(
            f"no record of the group {group} can be used; the first ({first[3]}): "
            f"{first[4].strip()}"
        )
    return GroupCounts(genomes, windows, ambiguous, records, runs, len(left_out) - before)


def _sample(parts: Mapping[str, int], recipe: Recipe) -> dict[str, list[int]]:
    """Choose the runs of each group, ascending."""
    n_virus = parts[recipe.virus]
    run = f"run of {count(recipe.part_records, 'record')}"
    runs = run.replace("run", "runs", 1)
    if not n_virus:
        raise DatasetError(
            f"the group {recipe.virus} gives less than one {run}; give more files, or a smaller "
            "--part-records"
        )
    others = [group for group in parts if group != recipe.virus]
    share = math.ceil(n_virus / len(others))
    rng = random.Random(recipe.seed)  # noqa: S311 - a sample, not a secret
    drawn: list[tuple[str, int]] = []
    for group in others:
        have = parts[group]
        if have < share:
            text = f"the group {group} gives {count(have, run, runs)} where its share is {share:,}"
            if not recipe.uneven:
                raise DatasetError(
                    f"{text}; give more files, a smaller --part-records, or --uneven to take what "
                    "there is"
                )
            log.warning(text)
        drawn += [(group, part) for part in rng.sample(range(have), min(share, have))]
    if not drawn:
        raise DatasetError("the other groups do not give a single complete run of records")
    drawn = rng.sample(drawn, min(n_virus, len(drawn)))
    taken = {group: sorted(part for name, part in drawn if name == group) for group in others}
    return {recipe.virus: list(range(n_virus)), **taken}


def _write(
    work: Path,
    parts: Path,
    cut: Mapping[str, GroupCounts],
    taken: Mapping[str, Sequence[int]],
    recipe: Recipe,
) -> dict[str, GroupCounts]:
    """Write the FASTA files and the labels of the runs taken; return the counts with them."""
    groups = {}
    with (work / LABELS).open("w") as labels:
        labels.write("sample\trecord\tlabel\tgroup\n")
        for group, counts in cut.items():
            records, last = 0, ""
            label = CLASSES[group == recipe.virus]
            runs = [parts / group / str(part) for part in taken[group]]
            if runs:
                with (work / f"{group}.fa").open("w") as fasta, fileinput.input(runs) as lines:
                    for line in lines:
                        kept = Kept(*line.rstrip("\n").split("\t"))
                        if kept.window != last:  # a run may begin inside a window
                            last = kept.window
                            fasta.write(f">{kept.window}\n{kept.bases}\n")
                        # Appended, the window is a contig of one window.
                        record = f"{kept.window}_chunk_1{kept.frame}"
                        labels.write(f"{group}\t{record}\t{label}\t{kept.genome}\n")
                        records += 1
            groups[group] = replace(counts, parts_taken=len(taken[group]), records_taken=records)
    return groups
