"""The commands that take results out of a store, bring them in, and compare them."""

from __future__ import annotations

import argparse
from pathlib import Path

from vnp.cli.options import Commands, command, json_flag, positive, store


def add(commands: Commands) -> None:
    """Add the commands."""
    _export(commands)
    _import(commands)
    _compare(commands)


def _export(commands: Commands) -> None:
    export = command(commands, "export", "write chosen rows of a store as a file of another kind")
    store(export)
    export.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="FILE",
        help="file to write; its suffix says which kind: .h5ad or .zarr (AnnData), .npy (with a "
        ".rows.tsv), .parquet, .pt (VirNucPro's), .faiss, .h5 (one dataset a record)",
    )
    export.add_argument(
        "--sample", action="append", metavar="NAME", help="only this sample (repeatable)"
    )
    export.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="only this model (repeatable, left to right; default: all in the store's order)",
    )
    export.add_argument(
        "--incomplete",
        choices=("refuse", "skip", "nan"),
        default="refuse",
        help="rows that are not certified: refuse to export, skip them, or write NaN",
    )
    export.add_argument(
        "--dtype", choices=("float16", "float32"), help="numbers (default: what suits the format)"
    )
    export.add_argument(
        "--layout",
        choices=("DNABERT_S", "ESM", "merged"),
        help="which of VirNucPro's files a .pt is (default merged)",
    )
    export.add_argument(
        "--ids",
        choices=("auto", "plain", "qualified"),
        help=".pt and .h5: record ids as they are, or as <sample>:<id> (default: the latter when "
        "there are several samples)",
    )
    export.add_argument(
        "--sequences", action="store_true", help=".h5ad, .zarr, .parquet: the sequences too"
    )
    export.add_argument("--force", action="store_true", help="replace the file if it exists")
    json_flag(export)


def _import(commands: Commands) -> None:
    import_ = command(commands, "import", "make VirNucPro's result files rows of a store")
    store(import_)
    import_.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        type=Path,
        help="*_DNABERT_S.pt, *_ESM.pt or *_merged.pt of one sample, in any order",
    )
    import_.add_argument(
        "--fasta", required=True, metavar="FILE", help="the FASTA the files were made from"
    )
    import_.add_argument("--sample", metavar="NAME", help="sample name (default: from the FASTA)")
    import_.add_argument(
        "--duplicates",
        choices=("refuse", "number"),
        default="refuse",
        help="sequence ids that occur twice in the FASTA: refuse it, or number them",
    )
    json_flag(import_)


def _compare(commands: Commands) -> None:
    compare = command(commands, "compare", "compare a store's embeddings with another's")
    store(compare)
    compare.add_argument(
        "other", metavar="OTHER", nargs="+", type=Path, help="another store, or VirNucPro's files"
    )
    compare.add_argument(
        "--sample", metavar="NAME", help="compare only this sample (of STORE, with .pt files)"
    )
    compare.add_argument(
        "--model", action="append", metavar="NAME", help="compare only this model (repeatable)"
    )
    compare.add_argument(
        "--min-cosine",
        type=_cosine,
        metavar="X",
        help="exit with 1 if a row's cosine similarity is lower",
    )
    compare.add_argument(
        "--worst", type=positive, default=5, metavar="N", help="rows to name (default 5)"
    )
    json_flag(compare)


def _cosine(text: str) -> float:
    value = float(text)
    if not -1 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no cosine: it must lie between -1 and 1")
    return value
