"""Commands that make, fill and check a store."""

from __future__ import annotations

import argparse
from pathlib import Path

from vnp.cli.options import (
    Commands,
    command,
    device_options,
    json_flag,
    positive,
    seconds,
    segment_length,
    store,
    worker_options,
)


def add(commands: Commands) -> None:
    """Add the parsers of init, append, embed, worker, status, verify, bench, models and doctor."""
    init = command(commands, "init", "make an empty store")
    store(init)
    init.add_argument(
        "--recipe",
        help="models of a recipe: virnucpro (DNABERT-S + ESM-2 3B, the default) or demo",
    )
    init.add_argument(
        "--model", action="append", metavar="NAME", help="a model (repeatable), instead of a recipe"
    )
    init.add_argument(
        "--segment-length",
        type=segment_length,
        default=500,
        metavar="BASES",
        help="length of the windows contigs are cut into (default 500; published: 300, 500), or "
        "'whole': each contig is one window, for short reads",
    )
    init.add_argument(
        "--block-rows", type=positive, metavar="R", help="rows per block (default 4096)"
    )
    init.add_argument(
        "--if-missing",
        action="store_true",
        help="do nothing if the store exists with these models and this segment length",
    )
    json_flag(init)

    append = command(commands, "append", "append a FASTA or FASTQ file as a sample")
    store(append)
    append.add_argument(
        "file", metavar="FILE", help="FASTA or FASTQ, plain or .gz/.zst/.bz2; - is standard input"
    )
    append.add_argument("--sample", metavar="NAME", help="sample name (default: from the file)")
    append.add_argument(
        "--duplicates",
        choices=("refuse", "number"),
        default="refuse",
        help="sequence ids that occur twice in the file: refuse the file, or number them",
    )
    append.add_argument(
        "--existing",
        choices=("refuse", "skip"),
        default="refuse",
        help="the store has this very file already: refuse it, or skip it",
    )
    append.add_argument(
        "--report", type=Path, metavar="TSV", help="where to name contigs that give no record"
    )
    json_flag(append)

    embed = command(commands, "embed", "fill and certify the whole store (the main job)")
    store(embed)
    embed.add_argument(
        "--workers", type=positive, metavar="N", help="workers (default: one per GPU, or one)"
    )
    worker_options(embed)
    json_flag(embed)

    worker = command(commands, "worker", "fill blocks of a store beside other workers")
    store(worker)
    worker_options(worker)
    worker.add_argument(
        "--threads", type=positive, metavar="N", help="CPU threads (default: those allowed)"
    )
    worker.add_argument(
        "--stop-at-eof",
        action="store_true",
        help=argparse.SUPPRESS,  # vnp embed: when it dies, so do its workers' standard inputs
    )
    worker.add_argument(
        "--no-linger",
        action="store_true",
        help="end when no block is free, instead of waiting for blocks of workers that may die",
    )
    worker.add_argument(
        "--lease",
        type=seconds,
        metavar="SECONDS",
        help="standstill after which another worker counts as dead (default 60)",
    )
    json_flag(worker)

    status = command(commands, "status", "show how far a store is filled, and who is at it")
    store(status)
    status.add_argument("--watch", action="store_true", help="show it again every two seconds")
    json_flag(status)

    verify = command(commands, "verify", "re-read everything and name what is damaged")
    store(verify)
    verify.add_argument(
        "--repair",
        action="store_true",
        help="make damaged blocks open again and remove orphans; run embed after it",
    )
    json_flag(verify)

    bench = command(commands, "bench", "measure this machine on a store's own records")
    store(bench)
    device_options(bench)
    bench.add_argument(
        "--model", action="append", metavar="NAME", help="measure only this model (repeatable)"
    )
    bench.add_argument(
        "--seconds",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="how long to measure in all, loading left out (default 60)",
    )
    json_flag(bench)

    models = command(commands, "models", "list the models, or add one to a store")
    models.add_argument("--add", metavar="NAME", help="add this model to the store")
    models.add_argument("store", metavar="STORE", nargs="?", type=Path, help="with --add")
    json_flag(models)

    doctor = command(commands, "doctor", "check this machine: devices, weights, file system")
    doctor.add_argument(
        "store",
        metavar="STORE",
        nargs="?",
        type=Path,
        help="check where this store lies, and the weights of its models instead of VirNucPro's",
    )
    doctor.add_argument(
        "--golden",
        type=Path,
        metavar="FILE",
        help="embed --fasta and compare with these reference values: the published tool's "
        "*_merged.pt, *_DNABERT_S.pt or *_ESM.pt",
    )
    doctor.add_argument("--fasta", metavar="FASTA", help="the file the reference was made from")
    doctor.add_argument(
        "--recipe", default="virnucpro", help="models of the reference (default: virnucpro)"
    )
    doctor.add_argument(
        "--segment-length",
        type=segment_length,
        default=500,
        metavar="BASES",
        help="segment length of the reference (default 500)",
    )
    device_options(doctor)
    json_flag(doctor)
