"""``vnp import``: make VirNucPro's result files, or embeddings of others, rows of a store."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from vnp.cli import options
from vnp.cli.exit_codes import of_result
from vnp.cli.output import Outcome

log = logging.getLogger(__name__)

_DESCRIPTION = """\
Two kinds of files are read, which an option tells apart.

With --fasta: VirNucPro's results, *_DNABERT_S.pt, *_ESM.pt or *_merged.pt of one sample, in any
order. The FASTA they were made from is appended as a sample, and their rows go to its records.

With --model: embeddings that any program made, for records that the store has: .npy (with --ids),
.npz, .csv, .tsv, .h5 or .hdf5 (a dataset a record, or embeddings and ids), .h5ad or .zarr
(AnnData), .parquet. They are joined by record id, and become the model NAME of the store.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = _DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    options.store(parser)
    about = "files of one kind: VirNucPro's of one sample, or all those of one model"
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help=about)
    about = "the FASTA that VirNucPro's results were made from"
    parser.add_argument("--fasta", metavar="FILE", help=about)
    about = "the model that embeddings of others become; it is added if the store lacks it"
    parser.add_argument("--model", metavar="NAME", help=about)
    about = (
        "with --fasta: name of the sample (default: from the file); with --model: only this one's "
        "records, needed where an id is in several samples"
    )
    parser.add_argument("--sample", metavar="NAME", help=about)
    about = "with --fasta: sequence ids that occur twice: refuse the file (default), or number them"
    parser.add_argument("--duplicates", choices=("refuse", "number"), help=about)
    about = (
        "with an .npy: its ids, one a line, or a table with a column id (default: NAME.rows.tsv)"
    )
    parser.add_argument("--ids", type=Path, metavar="FILE", help=about)
    about = (
        "which of the embeddings in a file (default: what fits): a key of obsm or X of AnnData; of "
        "Parquet the column of lists; where each number has a column, the name before their "
        "numbers, e for e0, e1, ..., or the columns with commas between them"
    )
    parser.add_argument("--key", metavar="NAME", help=about)


def run(given: argparse.Namespace) -> int:
    """Bring the files in."""
    from store.errors import UsageError

    if given.fasta is not None and given.model is not None:
        raise UsageError(
            "--fasta is for VirNucPro's results and --model for embeddings of others: give one"
        )
    results = [str(path) for path in given.files if path.suffix == ".pt"]
    if given.model is None:
        if given.fasta is None:
            needs = "--fasta, what VirNucPro made them from" if results else "--model, their name"
            raise UsageError(f"{given.files[0]}: to import such files give {needs}")
        for flag in ("ids", "key"):
            if getattr(given, flag) is not None:
                raise UsageError(f"--{flag} goes with --model, not with VirNucPro's results")
        return _results(given).show(as_json=given.json)
    if results:
        raise UsageError(
            f"{results[0]}: .pt files are VirNucPro's results, of models that are known: give "
            "--fasta instead of --model"
        )
    if given.duplicates is not None:
        raise UsageError("--duplicates goes with --fasta")
    if given.ids is not None and len(given.files) > 1:
        raise UsageError("--ids names the rows of one file, and several were given")
    return _embeddings(given).show(as_json=given.json)


def _results(given: argparse.Namespace) -> Outcome:
    """Import VirNucPro's results."""
    from store.io.words import count
    from store.open import open_store
    from vnp.exchange.import_results import import_files
    from vnp.sequence.contig_ids import Duplicates

    report = import_files(
        open_store(given.store),
        given.files,
        fasta=given.fasta,
        sample=given.sample,
        duplicates=Duplicates(given.duplicates or "refuse"),
    )
    there = "" if report.appended else " (the sample was in the store already)"
    lines = [f"imported {report.sample}: {count(report.rows, 'record')}{there}"]
    for name, matched in report.matched.items():
        lines.append(
            f"{name}: {count(matched, 'row')} in the files, {report.certified[name]:,} of "
            f"{report.rows:,} certified now"
        )
    if not report.complete:
        lines.append("the rest is open: fill it with 'vnp embed'")
    return Outcome(report.to_json(), lines)


def _embeddings(given: argparse.Namespace) -> Outcome:
    """Import embeddings of others."""
    from store.io.words import count
    from store.open import open_store
    from vnp.exchange.embedding_rows import shown
    from vnp.exchange.import_embeddings import import_embeddings

    report = import_embeddings(
        open_store(given.store),
        given.files,
        model=given.model,
        sample=given.sample,
        ids=given.ids,
        key=given.key,
    )
    new = ", a new model of the store" if report.added else ""
    lines = [
        f"{report.model} ({report.dim:,}{new}): {report.matched:,} of "
        f"{count(report.records, 'record')} of the files are in the store; "
        f"{count(report.published, 'block')} published, {report.certified:,} of "
        f"{count(report.rows, 'row')} certified now"
    ]
    for number, noun, what in (
        (report.unknown, "record", "of the files not in the store, or not in the sample"),
        (report.empty, "record", "of the files of nothing but NaN"),
        (report.without, "row", "of the store without an embedding"),
        (report.waiting, "row", "with one, not kept: a block is certified whole"),
    ):
        if number:
            lines.append(f"  {count(number, noun)} {what}")
    if report.passed_over:
        names = ", ".join(map(shown, report.passed_over[:10]))
        more = ", ..." if len(report.passed_over) > 10 else ""
        lines.append(f"  taken: {report.format}; columns passed over: {names}{more}")
    if report.partial_blocks:
        lines.append(
            f"  open for lack of rows: {count(report.partial_blocks, 'block')}; import them again "
            "together with what is missing"
        )
    if report.busy_blocks:
        lines.append(
            f"  being filled by others: {count(report.busy_blocks, 'block')}; run it again"
        )
    if report.faded:
        log.warning(
            f"{count(report.faded, 'record')} of the files lost half of the numbers or more: they "
            "are too small for float16 and became zero; scale all by one factor to keep them"
        )
    if report.leftovers_file:
        log.warning(f"what found no place is named in {report.leftovers_file}")
    return Outcome(report.to_json(), lines, of_result(complete=report.complete))
