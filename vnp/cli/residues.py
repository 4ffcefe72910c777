"""``vnp residues``: hidden states of chosen records, one row a residue."""

from __future__ import annotations

import argparse
from pathlib import Path

from vnp.cli import options
from vnp.cli.output import Outcome
from vnp.embed.config import WorkerConfig, add_device_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    parser.add_argument("--model", required=True, metavar="NAME", help="a model of the store")
    which = parser.add_mutually_exclusive_group(required=True)
    about = "records by row: numbers, and ranges such as 0:100"
    which.add_argument("--rows", nargs="+", metavar="ROW", help=about)
    which.add_argument("--ids", nargs="+", metavar="ID", help="records by id, or <sample>:<id>")
    parser.add_argument("--sample", metavar="NAME", help="sample that the ids belong to")
    about = "layer, from 1 (default: that of the store's rows)"
    parser.add_argument("--layer", type=options.positive, metavar="N", help=about)
    about = "file to write: one dataset (residues, numbers) a record"
    parser.add_argument("-o", "--to", type=Path, required=True, metavar="H5", help=about)
    parser.add_argument(
        "--dtype", choices=("float16", "float32"), default="float16", help="numbers"
    )
    options.force(parser)
    add_device_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Compute and write."""
    from store.errors import UsageError
    from store.io.words import count
    from store.open import open_store
    from vnp.exchange.residues import write_residues

    parts = [_rows(text) for text in given.rows or ()]
    store = open_store(given.store)
    for part in parts:  # before its rows are listed: a range may be of any length
        if part.stop > store.n_rows:
            held = f"the store has {count(store.n_rows, 'row')}, 0:{store.n_rows}"
            if len(part) == 1:
                raise UsageError(f"row {part.start} does not exist: {held}")
            raise UsageError(f"rows {part.start}:{part.stop} are not all there: {held}")
    report = write_residues(
        store,
        given.to,
        model=given.model,
        rows=[row for part in parts for row in part],
        ids=given.ids or (),
        sample=given.sample,
        layer=given.layer,
        dtype=given.dtype,
        config=WorkerConfig.from_options(given),
        force=given.force,
    )
    line = (
        f"wrote {report.path}: {count(report.records, 'record')}, {report.residues:,} x "
        f"{report.dim:,} {given.dtype} ({report.model})"
    )
    return Outcome(report.to_json(), [line]).show(as_json=given.json)


def _rows(text: str) -> range:
    """Read a row, or rows ``first:stop``."""
    from store.errors import UsageError

    first, colon, stop = text.partition(":")
    try:
        start = int(first)
        rows = range(start, int(stop) if colon else start + 1)
    except ValueError:
        rows = range(0)
    if not rows:
        raise UsageError(
            f"{text!r} is not a row, nor rows FIRST:STOP; several are set apart by blanks"
        )
    return rows
