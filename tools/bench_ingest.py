"""How fast files become rows: reading, cutting and translating alone, and ``vnp append`` whole.

Makes its inputs from a seed, runs each case in a process of its own, start-up included, on one CPU
(cut) or two (append), and prints one table.

    python tools/bench_ingest.py                  # 200 Mb a case
    python tools/bench_ingest.py --large          # and 2 GB, 8 contigs of 250 Mb, for the memory
    python tools/bench_ingest.py --base CHECKOUT --transeq --published CLONE --cases coding/contigs

The last one runs append here, in another checkout, ``transeq`` of EMBOSS (it only translates six
frames) and the cutting and translating of VirNucPro's published code (a clone of its repository;
one core, as its functions are) in turns. The table has medians, and medians of the ratios of runs
that followed one another: above 1, append here is faster.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from Bio.Data.CodonTable import unambiguous_dna_by_name
from numpy.typing import NDArray
from xopen import xopen

Bases = NDArray[np.uint8]
THIS = sys.modules[__name__]
ROOT = Path(__file__).resolve().parent.parent
SEGMENT = 500
_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"  # compiling all modules at each start is not measured
COMPLEMENT = np.frombuffer(bytes.maketrans(b"ACGT", b"TGCA"), np.uint8)

# What each process runs: the part before the store (it prints the segments), or the command line.
# Each ends with its own peak memory: the one that wait4 reports includes its parent's.
PEAK = "import re; print(re.findall('VmHWM:[^0-9]*([0-9]+)', open('/proc/self/status').read())[0])"
CUT = f"""
import sys
from store.io.compiled import allow
from vnp.sequence.contig_ids import UniqueIds
from vnp.sequence.fastx import ContigReader
from vnp.sequence.records import record_batches
allow(compiling=True)
with ContigReader(sys.argv[1]) as reader, UniqueIds() as unique:
    batches = record_batches(unique.batches(reader), segment_length={SEGMENT})
    print(sum(batch.segments for batch in batches))
{PEAK}
"""
VNP = f"""
import sys
from vnp.cli.main import main
assert main(sys.argv[1:]) == 0
{PEAK}
"""
# The published functions as they are; the libraries for models that their file imports are not
# needed for them.
PUBLISHED = f"""
import sys
from unittest.mock import MagicMock
for name in ("torch", "transformers", "esm"):
    sys.modules[name] = MagicMock()
sys.path.insert(0, sys.argv[1])
from units import SeqIO, process_record, split_fasta_chunk
split_fasta_chunk(sys.argv[2], sys.argv[2] + ".chunks", {SEGMENT})
records = SeqIO.parse(sys.argv[2] + ".chunks", "fasta")
print(sum(len(process_record(*each)[1]) for each in enumerate(records)))
{PEAK}
"""


def random_dna(size: int, rng: np.random.Generator) -> Bases:
    """Equal shares of the four bases: nearly every frame of 500 bp has a stop."""
    return np.frombuffer(b"ACGT", np.uint8)[rng.integers(0, 4, size, dtype=np.uint8)]


def coding_dna(size: int, rng: np.random.Generator) -> Bases:
    """Stop-free genes of 0.9 to 1.2 kb on either strand, up to 60 bases apart."""
    codons = np.array([list(c.encode()) for c in unambiguous_dna_by_name["Standard"].forward_table])
    parts = []
    while size > 0:
        gene = codons[rng.integers(0, len(codons), rng.integers(300, 400))].astype(np.uint8).ravel()
        parts.append(gene if rng.random() < 0.5 else COMPLEMENT[gene[::-1]])
        parts.append(random_dna(int(rng.integers(0, 60)), rng))
        size -= len(gene) + len(parts[-1])
    return np.concatenate(parts)[: size or None]


def fasta(name: str, sequence: Bases) -> bytes:
    """One record, wrapped at 70 columns."""
    lines, rest = divmod(len(sequence), 70)
    text = np.full((lines, 71), ord("\n"), np.uint8)
    text[:, :70] = sequence[: lines * 70].reshape(lines, 70)
    end = sequence[-rest:].tobytes() + b"\n" if rest else b""
    return b">%b some description\n" % name.encode() + text.tobytes() + end


def genome(sequence: Bases) -> Iterator[bytes]:
    """All in one contig."""
    yield fasta("chr1", sequence)


def contigs(sequence: Bases) -> Iterator[bytes]:
    """Contigs of 1 to 10 kb."""
    rng = np.random.default_rng(2)
    at = number = 0
    while at < len(sequence):
        size = int(rng.integers(1000, 10_001))
        yield fasta(f"k141_{number}", sequence[at : at + size])
        at += size
        number += 1


def reads(sequence: Bases) -> Iterator[bytes]:
    """FASTQ reads of 150 bases."""
    text = sequence.tobytes()
    for number in range(len(text) // 150):
        read = text[number * 150 : number * 150 + 150]
        yield b"@A00123:45:HXXX:1:%d:%d 1:N:0\n%b\n+\n%b\n" % (
            *divmod(number, 9973),
            read,
            b"F" * 150,
        )


def write(path: Path, parts: Iterator[bytes]) -> None:
    """Write a file, compressed if its suffix says so."""
    with xopen(path, "wb", compresslevel=1 if path.suffix == ".gz" else None) as file:
        for part in parts:
            file.write(part)


class Cost(NamedTuple):
    """What one process took."""

    wall: float  # seconds
    cpu: float  # seconds, all threads
    peak: int  # MiB of resident memory; 0: of a program that does not tell its own


def run(command: list[str], cpus: set[int], log: Path, *, program: str = sys.executable) -> Cost:
    """Run a command of the repository on the given CPUs; what it says goes to ``log``."""
    os.sched_setaffinity(0, cpus)  # inherited
    environment = {key: value for key, value in os.environ.items() if key != _NO_BYTECODE}
    start = time.perf_counter()
    with log.open("w") as talk:
        process = subprocess.Popen(
            [program, *command], cwd=ROOT, stdout=talk, stderr=talk, env=environment
        )
        _, process.returncode, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()}")
    peak = int(log.read_text().split()[-1]) if program == sys.executable else 0
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak // 1024)


def report(case: str, stage: str, bases: int, segments: int, cost: Cost) -> None:
    """Print one line of the table."""
    rate, segment_rate = bases / 1e6 / cost.wall, segments / cost.wall
    print(
        f"| {case} | {stage} | {cost.wall:.2f} | {cost.cpu:.2f} | {rate:.0f} "
        f"| {segment_rate:,.0f} | {cost.peak} |",
        flush=True,
    )


def cut(path: Path, cpus: set[int], tool: ModuleType) -> Cost:
    """Cut and translate one input; the log ends with the segments and the peak memory."""
    return tool.run(["-c", tool.CUT, str(path)], {min(cpus)}, path.with_name("log"))


def append(path: Path, cpus: set[int], tool: ModuleType) -> Cost:
    """Append one input to an empty store."""
    store, log = path.with_name("bench.zarr"), path.with_name("log")
    shape = ["--recipe", "demo", "--segment-length", str(SEGMENT)]
    tool.run(["-c", tool.VNP, "init", str(store), *shape], cpus, log)
    cost = tool.run(
        ["-c", tool.VNP, "append", str(store), str(path), "--sample", "bench"], cpus, log
    )
    for left in (store, Path(f"{store}.vnp")):
        shutil.rmtree(left, ignore_errors=True)
    return cost


def measure(case: str, path: Path, bases: int, cpus: set[int]) -> None:
    """Both stages of one input."""
    cost = cut(path, cpus, THIS)
    segments = int(path.with_name("log").read_text().split()[-2])
    report(case, "cut", bases, segments, cost)
    report(case, "append", bases, segments, append(path, cpus, THIS))


def tool_of(checkout: Path) -> ModuleType:
    """Load another checkout's copy of this tool, with its module names."""
    spec = importlib.util.spec_from_file_location("base", checkout / "tools" / "bench_ingest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["base"] = module  # it looks for itself there
    spec.loader.exec_module(module)
    return module


def published(path: Path, cpus: set[int], clone: Path) -> Cost:
    """Cut and translate one FASTA file by VirNucPro's own functions."""
    return run(["-c", PUBLISHED, str(clone), str(path)], {min(cpus)}, path.with_name("log"))


def transeq(path: Path, cpus: set[int]) -> Cost:
    """Translate six frames of one FASTA file by EMBOSS."""
    options = ["-sequence", str(path), "-outseq", str(path.with_name("pep")), "-frame", "6"]
    return run(options, cpus, path.with_name("log"), program="transeq")


def compare(case: str, commands: dict[str, Callable[[], Cost]], rounds: int) -> None:
    """Run commands in turns; the first is what the others are compared with."""
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for number in range(rounds + 1):  # the first round is not counted
        order = list(commands.items())
        for name, command in order if number % 2 else reversed(order):
            if number or name.startswith("append"):
                costs[name].append(command())
    ours, *_ = costs.values()
    for name, all_of_it in costs.items():
        counted = all_of_it[-rounds:]
        ratios = [
            (other.wall / mine.wall, other.cpu / mine.cpu)
            for other, mine in zip(counted, ours[-rounds:], strict=True)
        ]
        wall, cpu = (statistics.median(each) for each in zip(*ratios, strict=True))
        low, high = min(ratios)[0], max(ratios)[0]
        cost = Cost(*(statistics.median(each) for each in zip(*counted, strict=True)))
        print(
            f"| {case} | {name} | {cost.wall:.2f} | {cost.cpu:.2f} | {wall:.2f} "
            f"({low:.2f} to {high:.2f}) | {cpu:.2f} | {f'{cost.peak:.0f}' if cost.peak else ''} |",
            flush=True,
        )


def main() -> None:
    """Make the inputs one by one and measure each."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--megabases", type=int, default=200, help="size of each case")
    options.add_argument("--large", action="store_true", help="add 2 GB in contigs of 250 Mb")
    options.add_argument("--folder", help="where to make inputs and stores (default: /tmp)")
    options.add_argument("--base", type=Path, help="a checkout to compare with")
    options.add_argument("--published", type=Path, help="a clone of VirNucPro to compare with")
    options.add_argument("--transeq", action="store_true", help="compare with EMBOSS")
    options.add_argument("--rounds", type=int, default=5, help="runs of each command compared")
    options.add_argument("--cases", nargs="+", help="some only, such as coding/contigs")
    given = options.parse_args()
    base = tool_of(given.base.resolve()) if given.base else None
    cpus = set(sorted(os.sched_getaffinity(0))[:2])
    print(f"`python tools/bench_ingest.py {' '.join(sys.argv[1:])}`, {len(cpus)} CPUs")
    print(f"{processor()}, Python {platform.python_version()}, NumPy {np.__version__}\n")
    beside = base or given.published or given.transeq
    if beside:
        print("| input | command | wall s | CPU s | wall, times ours | CPU, times | peak MiB |")
    else:
        print("| input | stage | wall s | CPU s | MB/s | segments/s | peak MiB |")
    print("|---|---|---|---|---|---|---|")
    shapes = [(genome, "x.fa"), (contigs, "x.fa"), (reads, "x.fq"), (reads, "x.fq.gz")]
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for kind in (random_dna, coding_dna):
            if given.cases and not any(
                kind.__name__.startswith(c.split("/")[0]) for c in given.cases
            ):
                continue
            sequence = kind(given.megabases * 1_000_000, np.random.default_rng(1))
            for shape, name in shapes:
                path = Path(folder) / name
                case = f"{kind.__name__.removesuffix('_dna')}/{shape.__name__}"
                if given.cases and case not in given.cases:
                    continue
                write(path, shape(sequence))
                case += path.suffix if path.suffix == ".gz" else ""
                if beside:
                    commands = {"append": partial(append, path, cpus, THIS)}
                    if base:
                        commands["append, before"] = partial(append, path, cpus, base)
                    if given.transeq and path.suffix == ".fa":
                        commands["transeq"] = partial(transeq, path, cpus)
                    if given.published and path.suffix == ".fa":
                        commands["published"] = partial(published, path, cpus, given.published)
                    compare(case, commands, given.rounds)
                else:
                    measure(case, path, len(sequence), cpus)
        if given.large:
            part = coding_dna(250_000_000, np.random.default_rng(1))
            path = Path(folder) / "large.fa"
            write(path, (fasta(f"chr{number}", part) for number in range(8)))
            measure("coding, 8 x 250 Mb", path, 8 * len(part), cpus)


def processor() -> str:
    """Model name of the CPU."""
    return re.findall("model name.*: (.*)|$", Path("/proc/cpuinfo").read_text())[0]


if __name__ == "__main__":
    main()
