"""Which self-tests of kernels were passed on such a machine, so that not every worker repeats them.

A test holds for what it ran on: GPU, driver, versions and the source of the kernels. For each
combination there is one small file in the user's cache, ``vnp/selftests``, written whole or not at
all. A file that is not exactly what is written here counts as none, and only what was passed is
kept: a failure may be of the moment.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import torch

from store.errors import DamageError, StoreError
from store.io.checksummed_json import pack_record, unpack_record
from store.io.own_cache import is_own, make_own, user_cache
from store.io.replace import write_whole
from vnp.inference import ops

log = logging.getLogger(__name__)

Facts = Mapping[str, str]

_SIZE = 1024  # of a file
_DRIVER = Path("/proc/driver/nvidia/version")
_TESTED = (Path(ops.__file__).parent, Path(__file__).parent)  # kernels, what they are tested by


def facts_of(gpu: str, *, what: str) -> Facts:
    """Say all that a test of ``what`` on a GPU of that name depends on."""
    return {
        "what": what,
        "gpu": gpu,
        "driver": _driver(),
        "torch": f"{torch.__version__} for CUDA {torch.version.cuda}",
        "triton": _version("triton"),
        "kernels": _source(),
    }


def was_passed(facts: Facts) -> bool:
    """Whether a test was passed on what these facts describe."""
    path = _file(facts)
    if path is None:
        return False
    try:
        content = path.read_bytes()
        return len(content) == _SIZE and unpack_record(content, what=str(path)) == dict(facts)
    except FileNotFoundError:
        return False
    except (OSError, DamageError) as error:
        log.debug("%s is not trusted: %s", path, error)
        return False


def note_passed(facts: Facts) -> None:
    """Remember that a test was passed, if there is a place for that."""
    path = _file(facts)
    if path is None:
        return
    try:
        make_own(path.parent)
        write_whole(path, pack_record(facts, size=_SIZE))
    except (OSError, StoreError) as error:
        log.debug("%s cannot be written: %s", path, error)


def _file(facts: Facts) -> Path | None:
    """Where the outcome is kept; None where others may write."""
    cache = user_cache()
    if cache is None or not is_own(cache) or not is_own(cache / "selftests"):
        return None
    name = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()[:32]
    return cache / "selftests" / f"{name}.json"


def _driver() -> str:
    try:
        return _DRIVER.read_text(encoding="utf-8", errors="replace").splitlines()[0][:200]
    except (OSError, IndexError):
        return "unknown"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _source() -> str:
    """Hash of every file that kernels and their test are written in."""
    total = hashlib.sha256()
    for folder in _TESTED:
        for path in sorted(folder.glob("*.py")):
            total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
