"""``vnp run``: init, append, embed and predict in one go.

Each stage resumes from the store, so the same ``vnp run`` again carries on where the last one
stopped.
"""

from __future__ import annotations

import argparse
import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vnp.cli import append, embed, init, options, predict
from vnp.cli.exit_codes import DONE, INCOMPLETE, INTERRUPTED, of_error
from vnp.cli.output import Outcome
from vnp.embed.config import WorkerConfig, add_device_arguments

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    parser.add_argument("fasta", metavar="FASTA", nargs="+", help="FASTA or FASTQ files: samples")
    predict.add_call_arguments(parser)
    options.sample(parser)
    options.recipe(parser)
    parser.add_argument(
        "--segment-length",
        type=options.segment_length,
        metavar="BASES",
        help="windows of a new store: 500 (default), 300, or 'whole' for short reads",
    )
    options.genetic_code(parser, default=None)
    options.workers(parser)
    add_device_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Run the stages until one does not end well; its exit code is the answer."""
    from store.errors import StoreError, UsageError
    from vnp.classify.call_files import own_tables, tables_folder
    from vnp.classify.files import load_classifier
    from vnp.cli.logs import complain

    if given.sample is not None and len(given.fasta) > 1:
        raise UsageError("--sample names one sample, and several files were given")
    if given.fasta_out is not None and not given.contigs:
        given.contigs = [file for file in given.fasta if file != "-"]
    # Before hours of work, what the last stage would refuse.
    predict.rule_of(given)
    outputs = own_tables(tables_folder(given.store, given.output))
    read = [given.classifier, *map(Path, given.fasta), *(given.plugins or ())]
    predict.files_of(given).check(outputs=outputs, inputs=read)
    load_classifier(given.classifier)
    results: dict[str, Any] = {}
    code = DONE
    for name, about, work in _stages(given):
        log.info(f"vnp {name} {about}")
        try:
            outcome = work()
        except (StoreError, OSError, KeyboardInterrupt) as error:
            code = of_error(error)
            if code != INTERRUPTED:
                complain(name, error)
        else:
            code = outcome.code
            if not given.json:
                outcome.show(as_json=False)
            elif name == "append":
                results.setdefault(name, []).append(outcome.value)
            else:
                results[name] = outcome.value
        if code != DONE:
            resumes = code in (INCOMPLETE, INTERRUPTED)
            carry_on = "; run the same command to carry on" if resumes else ""
            log.warning(f"vnp {name} ended with exit code {code}{carry_on}")
            break
    return Outcome({"exit_code": code, **results}, (), code).show(as_json=given.json)


def _stages(given: argparse.Namespace) -> Iterator[tuple[str, str, Callable[[], Outcome]]]:
    """Yield the command that does a stage, what it works on, and the work."""
    from store.open import is_there, open_store
    from vnp.embed.supervisor import embed_store
    from vnp.sequence.append import append_file
    from vnp.sequence.contig_ids import Duplicates
    from vnp.sequence.create import InitReport, StoreOptions

    path = given.store
    wanted = StoreOptions(given.recipe, given.segment_length, given.code)

    def init_store() -> Outcome:
        if is_there(path):
            found = open_store(path)
            wanted.check(found)
            return init.outcome(InitReport.of(found, made=False))
        return init.outcome(wanted.make(path))

    def append_one(file: str) -> Outcome:
        report = append_file(
            open_store(path),
            file,
            sample=given.sample,
            duplicates=Duplicates(given.duplicates),
            existing="skip",
        )
        return append.outcome(report)

    def fill() -> Outcome:
        return embed.outcome(embed_store(path, config=config, workers=given.workers))

    def score() -> Outcome:
        return predict.score(given, samples=(), device=config.device)

    if not is_there(path) or wanted != StoreOptions():
        yield "init", str(path), init_store
    for file in given.fasta:
        yield "append", f"{path} {file}", functools.partial(append_one, file)
    config = WorkerConfig.from_options(given)
    yield "embed", str(path), fill
    yield "predict", f"{path} --classifier {given.classifier}", score
