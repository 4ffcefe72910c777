"""``vnp export``: write chosen rows as a file of another kind."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from vnp.cli import options
from vnp.cli.output import Outcome

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.store(parser)
    parser.add_argument(
        "-o",
        "--to",
        type=Path,
        required=True,
        metavar="FILE",
        help="file to write; its suffix says which kind: .h5ad or .zarr (AnnData), .npy (with a "
        ".rows.tsv), .csv, .tsv, .parquet, .lance, .pt (VirNucPro's), .faiss, .h5 (one dataset a "
        "record)",
    )
    options.names(parser, "--sample", "only this sample")
    options.names(parser, "--model", "only this model; several: left to right")
    parser.add_argument(
        "--incomplete",
        choices=("refuse", "skip", "nan"),
        default="refuse",
        help="rows that are not certified: refuse to export, skip them, or write NaN",
    )
    about = "numbers (default: what suits the format)"
    parser.add_argument("--dtype", choices=("float16", "float32"), help=about)
    about = "which of VirNucPro's files a .pt is (default merged)"
    parser.add_argument("--layout", choices=("DNABERT_S", "ESM", "merged"), help=about)
    about = ".pt and .h5: plain record ids, or <sample>:<id> (default: by the number of samples)"
    parser.add_argument("--ids", choices=("auto", "plain", "qualified"), help=about)
    about = ".h5ad, .zarr, .parquet, .lance: the sequences too"
    parser.add_argument("--sequences", action="store_true", help=about)
    options.force(parser)


def run(given: argparse.Namespace) -> int:
    """Write the file."""
    from store.io.words import count
    from store.open import open_store
    from vnp.exchange.export import export_store

    report = export_store(
        open_store(given.store),
        given.to,
        samples=tuple(given.sample),
        models=tuple(given.model),
        incomplete=given.incomplete,
        ids=given.ids,
        dtype=given.dtype,
        layout=given.layout,
        sequences=given.sequences,
        force=given.force,
    )
    if report.left_out:
        log.warning(f"left out, as not certified: {count(report.left_out, 'row')}")
    if report.qualified:
        log.info("there are several samples: ids are written as <sample>:<id>")
    if report.escaped:
        ids = count(report.escaped, "id")
        log.info(f"{ids} with '/' or '%': percent-encoded, '/' is %2F and '%' is %25")
    names = f" and {report.rows_file}" if report.rows_file else ""
    line = (
        f"wrote {report.path}{names}: {count(report.rows, 'row')} x {report.columns:,} "
        f"{report.dtype} ({' + '.join(report.models)})"
    )
    return Outcome(report.to_json(), [line]).show(as_json=given.json)
