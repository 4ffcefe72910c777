"""``vnp dataset``: make a training set from annotated genomes by the published recipe."""

from __future__ import annotations

import argparse
from pathlib import Path

from store.errors import UsageError
from vnp.classify.dataset import Dataset, Recipe, make_dataset
from vnp.cli.output import print_json, print_lines


def run(options: argparse.Namespace) -> int:
    """Make the training set."""
    inputs: dict[str, list[Path]] = {}
    for group, *files in options.input:
        if not files:
            raise UsageError(f"--input {group}: name its files after the group")
        inputs.setdefault(group, []).extend(map(Path, files))
    result = make_dataset(
        inputs,
        options.output,
        recipe=Recipe(
            segment_length=options.segment_length,
            part_records=options.part_records,
            virus=options.virus,
            seed=options.seed,
            uneven=options.uneven,
        ),
    )
    if options.json:
        print_json(result.to_json())
    else:
        print_lines(_lines(result))
    return 0


def _lines(result: Dataset) -> list[str]:
    lines = [
        f"{group}: {found.genomes:,} sequences, {found.windows:,} windows ({found.ambiguous:,} "
        f"ambiguous), {found.records:,} records in annotated proteins, "
        f"{found.records_taken:,} taken"
        for group, found in result.groups.items()
    ]
    lines.append(f"wrote {result.folder}; append and label, at {result.recipe.segment_length} bp:")
    lines += [f"  vnp append STORE {file}" for file in result.files.values()]
    lines.append(f"  vnp train STORE --labels {result.labels} -o NAME.safetensors")
    return lines
