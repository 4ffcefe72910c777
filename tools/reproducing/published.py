"""The published code, run in an environment of its own, on files that were fetched by hash.

It is the one thing fetched that is ever executed: its two scripts, the modelling code in
DNABERT-S's repository, which the scripts ask transformers for, and what its requirements install.
The process sees the pinned files as torch hub's and the Hugging Face hub's caches, is told to be
offline, and is given none of this process's environment but what devices and locales need.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from store.errors import DataError, UsageError
from store.io.replace import write_whole

_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
_LAST_LINES = 5  # of what a failed command said
_NEWEST = (3, 11)  # Python for which the published requirements have packages
INPUT = "example.fa"  # the scripts name their outputs by what is before the first ".fa"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run took."""

    seconds: float  # on the clock, loading of the models included
    cpu_seconds: float  # user and system
    peak_bytes: int  # of memory; of the largest process


@dataclass(frozen=True, slots=True)
class Results:
    """What the published code made of a FASTA file."""

    merged: tuple[Path, ...]  # *_merged.pt, in the order of their records
    records: Path  # prediction_results.txt
    segments: Path  # prediction_results_highestscore.csv
    cost: Cost | None  # None: it was run elsewhere


def environment(
    folder: Path,
    *,
    python: str,
    requirements: Path,
    also: Sequence[str],
    without: Sequence[str],
    say: Callable[[str], None],
) -> str:
    """Make the virtual environment of the published code; returns its interpreter.

    ``also`` is installed besides the requirements, ``without`` removed again, as the published
    instructions say.

    UsageError if the interpreter is too new, DataError if the packages cannot be installed.
    """
    interpreter = folder / "bin/python"
    stamp = folder / "installed"
    if stamp.is_file():
        return str(interpreter)
    asked = "import sys; print(*sys.version_info[:2])"
    found = tuple(map(int, _said([python, "-c", asked], what=f"{python} --version").split()))
    if found > _NEWEST:
        raise UsageError(
            f"{python} is Python {'.'.join(map(str, found))}; the published requirements need 3.8 "
            "to 3.11: give one with --python, or an environment that has them with --environment"
        )
    shutil.rmtree(folder, ignore_errors=True)
    say(f"making {folder} with the published requirements (torch among them: some GB)")
    _said([python, "-m", "venv", str(folder)], what="making the environment")
    pip = [str(interpreter), "-m", "pip"]
    install = [*pip, "install", "--quiet", "-r", str(requirements), *also]
    _said(install, what="installing the published requirements")
    if without:
        _said([*pip, "uninstall", "--yes", "--quiet", *without], what="removing packages")
    stamp.touch()
    return str(interpreter)


def versions(python: str) -> list[str]:
    """List the packages of an environment, as ``NAME==VERSION``."""
    asked = (
        "from importlib.metadata import distributions\n"
        "for found in distributions(): print(found.metadata['Name'] + '==' + found.version)"
    )
    return sorted(_said([python, "-c", asked], what="listing the packages").splitlines())


def run(
    folder: Path,
    *,
    python: str,
    downloads: Path,
    code: Mapping[str, Any],
    fasta: str,
    segment_length: int,
    classifier: Path,
    say: Callable[[str], None],
) -> Results:
    """Run the published script on a FASTA file's text, or take what it made here before.

    A run that was interrupted begins again, in an empty folder: the code takes a file that is
    there for a whole one. DataError says where its output is if it fails.
    """
    done = folder / "done.json"
    if done.is_file():
        return _results(folder, Cost(**json.loads(done.read_text())))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / INPUT).write_text(fasta)
    _caches(folder, downloads, code["hub"])
    script = downloads / "code" / code["script"]
    command = [python, str(script), INPUT, str(segment_length), str(classifier)]
    log = folder / "output.log"
    say(f"running the published code; what it says is in {log}")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    with log.open("wb") as output:
        ended = subprocess.run(
            command,
            cwd=folder,
            env=_variables(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    seconds = time.monotonic() - began
    if ended.returncode:
        last = " / ".join(log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
        raise DataError(f"the published code ended with {ended.returncode}: {last} ({log})")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    cost = Cost(seconds, spent, after.ru_maxrss * 1024)
    found = _results(folder, cost)
    write_whole(done, json.dumps(asdict(cost)).encode())
    return found


def _results(folder: Path, cost: Cost) -> Results:
    merged = folder / INPUT.replace(".fa", "_merged")
    files = sorted(merged.glob("output_*_merged.pt"), key=lambda path: (len(path.name), path.name))
    results = Results(
        tuple(files),
        merged / "prediction_results.txt",
        merged / "prediction_results_highestscore.csv",
        cost,
    )
    for path in (*(files or [merged / "output_1_merged.pt"]), results.records, results.segments):
        if not path.is_file():
            raise DataError(f"the published code ended well and made no {path}")
    return results


def _caches(folder: Path, downloads: Path, hub: Mapping[str, str]) -> None:
    """Lay links to the pinned files out as the caches that the published code looks in."""
    torch_hub = folder / "caches/torch/hub/checkpoints"
    repository = folder / "caches/hf/hub" / f"models--{hub['repo'].replace('/', '--')}"
    snapshot = repository / "snapshots" / hub["revision"]
    name = hub["repo"].rpartition("/")[2]
    for target in (torch_hub, snapshot, repository / "refs", folder / "home"):
        target.mkdir(parents=True)
    (repository / "refs/main").write_text(hub["revision"])
    for source in (downloads / "weights", downloads / "code"):
        for path in source.glob("*.pt"):
            (torch_hub / path.name).symlink_to(path.resolve())
        for path in (source / name).glob("*"):
            (snapshot / path.name).symlink_to(path.resolve())


def _variables(folder: Path) -> dict[str, str]:
    caches = folder.resolve() / "caches"
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | {
        "HOME": str(folder.resolve() / "home"),
        "TORCH_HOME": str(caches / "torch"),
        "HF_HOME": str(caches / "hf"),
        "HUGGINGFACE_HUB_CACHE": str(caches / "hf/hub"),
        "HF_MODULES_CACHE": str(caches / "modules"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _said(command: list[str], *, what: str) -> str:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UsageError(f"{command[0]} cannot be run: {error.strerror}") from None
    if ended.returncode:
        last = " / ".join(ended.stderr.strip().splitlines()[-_LAST_LINES:])
        raise DataError(f"{what} failed ({ended.returncode}): {last}")
    return ended.stdout
