"""``vnp dataset``: make a training set from annotated genomes by the published recipe."""

from __future__ import annotations

import argparse
from pathlib import Path

from vnp.cli import options
from vnp.cli.exit_codes import DONE, INCOMPLETE
from vnp.cli.output import Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--input",
        action="append",
        nargs="+",
        required=True,
        metavar=("GROUP", "FILE"),
        help="a group and its files (repeatable): GenBank with annotated proteins, and FASTA for "
        "sequences that the GenBank files lack; plain or compressed",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder to make"
    )
    options.force(parser)
    about = "the group of viruses (default: viral)"
    parser.add_argument("--virus", default="viral", metavar="GROUP", help=about)
    parser.add_argument(
        "--segment-length",
        type=options.positive,
        default=500,
        metavar="BASES",
        help="length of the windows (default 500; published: 300, 500)",
    )
    options.genetic_code(parser, of="the frames, and of the store they are for")
    parser.add_argument(
        "--part-records",
        type=options.positive,
        default=10_000,
        metavar="N",
        help="records of a part, the unit of sampling (default 10000, as published)",
    )
    about = "take what there is of a group that has less than its share, instead of refusing"
    parser.add_argument("--uneven", action="store_true", help=about)
    parser.add_argument("--seed", type=int, default=42, help="of the sampling (default 42)")


def run(given: argparse.Namespace) -> int:
    """Make the training set."""
    from store.errors import UsageError
    from store.io.words import count
    from vnp.classify.dataset import Recipe, make_dataset
    from vnp.sequence.segments import described

    inputs: dict[str, list[Path]] = {}
    for group, *files in given.input:
        if not files:
            raise UsageError(f"--input {group}: name its files after the group")
        inputs.setdefault(group, []).extend(map(Path, files))
    recipe = Recipe(
        segment_length=given.segment_length,
        genetic_code=given.code,
        part_records=given.part_records,
        virus=given.virus,
        seed=given.seed,
        uneven=given.uneven,
    )
    result = make_dataset(inputs, given.output, recipe=recipe, force=given.force)
    lines = [
        f"{group}: {count(found.genomes, 'sequence')}, {count(found.segments, 'segment')} "
        f"({found.ambiguous:,} ambiguous), {count(found.records, 'record')} in annotated proteins, "
        f"{found.records_taken:,} taken"
        + (f"; {count(found.left_out, 'input record')} not used" if found.left_out else "")
        for group, found in result.groups.items()
    ]
    windows = described(recipe.segment_length, recipe.genetic_code)
    lines.append(f"wrote {result.folder}; append and label, in a store of {windows}:")
    lines += [f"  vnp append STORE {file}" for file in result.files.values()]
    lines.append(f"  vnp train STORE --labels {result.labels} -o NAME.safetensors")
    if not result.complete:
        lines.append(f"input records that were not used, and why: {result.left_out}")
    code = DONE if result.complete else INCOMPLETE
    return Outcome(result.to_json(), lines, code).show(as_json=given.json)
