"""How fast files become rows: reading, cutting and translating alone, and ``vnp append`` whole.

Makes its inputs from a seed, runs each case in a process of its own, start-up included, on one CPU
(cut) or two (append), and prints one table. The published VirNucPro code cuts and translates 1.7 MB
of bases, 3,450 segments of 500 bp, per second on one core of an AMD EPYC; ``times`` compares.

    python tools/bench_ingest.py                  # 200 Mb a case
    python tools/bench_ingest.py --large          # and 2 GB, 8 contigs of 250 Mb, for the memory
    python tools/bench_ingest.py --base CHECKOUT  # this checkout and another in turns

With ``--base`` the table has the ratios of processor time, the other's over this one's: above 1,
this checkout is faster.
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
from collections.abc import Iterator
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
PUBLISHED_MB, PUBLISHED_SEGMENTS, SEGMENT = 1.7, 3450, 500
COMPLEMENT = np.frombuffer(bytes.maketrans(b"ACGT", b"TGCA"), np.uint8)

# What each process runs: the part before the store (it prints the segments), or the command line.
# Each ends with its own peak memory: the one that wait4 reports includes its parent's.
PEAK = "import re; print(re.findall('VmHWM:[^0-9]*([0-9]+)', open('/proc/self/status').read())[0])"
CUT = f"""
import sys
from vnp.sequence.contig_ids import UniqueIds
from vnp.sequence.fastx import ContigReader
from vnp.sequence.records import record_batches
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
    peak: int  # MiB of resident memory


def run(command: list[str], cpus: set[int], log: Path) -> Cost:
    """Run a command of the repository on the given CPUs; what it says goes to ``log``."""
    os.sched_setaffinity(0, cpus)  # inherited
    start = time.perf_counter()
    with log.open("w") as talk:
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=talk, stderr=talk)
        _, process.returncode, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, int(log.read_text().split()[-1]) // 1024)


def report(case: str, stage: str, bases: int, segments: int, cost: Cost) -> None:
    """Print one line of the table."""
    rate, segment_rate = bases / 1e6 / cost.wall, segments / cost.wall
    print(
        f"| {case} | {stage} | {cost.wall:.2f} | {cost.cpu:.2f} | {rate:.0f} "
        f"| {rate / PUBLISHED_MB:.0f} | {segment_rate:,.0f} "
        f"| {segment_rate / PUBLISHED_SEGMENTS:.0f} | {cost.peak} |",
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
    spec.loader.exec_module(module)
    return module


def compare(case: str, path: Path, cpus: set[int], base: ModuleType, rounds: int) -> None:
    """Both stages of one input with both checkouts in turns."""
    for stage in (cut, append):
        ours, ratios = [], []
        for number in range(rounds):
            tools = (base, THIS) if number % 2 else (THIS, base)
            seconds = {tool: stage(path, cpus, tool).cpu for tool in tools}
            ours.append(seconds[THIS])
            ratios.append(seconds[base] / seconds[THIS])
        print(
            f"| {case} | {stage.__name__} | {statistics.median(ours):.2f} "
            f"| {statistics.median(ratios):.3f} | {min(ratios):.2f} to {max(ratios):.2f} |",
            flush=True,
        )


def main() -> None:
    """Make the inputs one by one and measure each."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--megabases", type=int, default=200, help="size of each case")
    options.add_argument("--large", action="store_true", help="add 2 GB in contigs of 250 Mb")
    options.add_argument("--folder", help="where to make inputs and stores (default: /tmp)")
    options.add_argument("--base", type=Path, help="a checkout to compare with")
    options.add_argument("--rounds", type=int, default=5, help="runs of each checkout")
    given = options.parse_args()
    base = tool_of(given.base.resolve()) if given.base else None
    cpus = set(sorted(os.sched_getaffinity(0))[:2])
    print(f"`python tools/bench_ingest.py {' '.join(sys.argv[1:])}`, {len(cpus)} CPUs")
    print(f"{processor()}, Python {platform.python_version()}, NumPy {np.__version__}\n")
    if base:
        print("| input | stage | CPU s | ratio | range |\n|---|---|---|---|---|")
    else:
        print("| input | stage | wall s | CPU s | MB/s | times | segments/s | times | peak MiB |")
        print("|---|---|---|---|---|---|---|---|---|")
    shapes = [(genome, "x.fa"), (contigs, "x.fa"), (reads, "x.fq"), (reads, "x.fq.gz")]
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for kind in (random_dna, coding_dna):
            sequence = kind(given.megabases * 1_000_000, np.random.default_rng(1))
            for shape, name in shapes:
                path = Path(folder) / name
                write(path, shape(sequence))
                case = f"{kind.__name__}, {shape.__name__}{path.suffix}"
                if base:
                    compare(case, path, cpus, base, given.rounds)
                else:
                    measure(case, path, len(sequence), cpus)
        if given.large:
            part = coding_dna(250_000_000, np.random.default_rng(1))
            path = Path(folder) / "large.fa"
            write(path, (fasta(f"chr{number}", part) for number in range(8)))
            measure("coding_dna, 8 x 250 Mb", path, 8 * len(part), cpus)


def processor() -> str:
    """Model name of the CPU."""
    return re.findall("model name.*: (.*)|$", Path("/proc/cpuinfo").read_text())[0]


if __name__ == "__main__":
    main()
