"""How many GPUs torch would see, without importing it where that can be told: it takes seconds."""

from __future__ import annotations

import ctypes
import re
import sys
from importlib.util import find_spec
from pathlib import Path

_CUDA_DRIVER = "libcuda.so.1"


def count_gpus() -> int:
    """Count the CUDA devices that torch would offer to this process."""
    if "torch" not in sys.modules:
        built = _built_for()
        if built is not None:
            return _devices(_CUDA_DRIVER) if built == "cuda" else 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _built_for() -> str | None:
    """What the torch that is installed was built for, "cuda" or "cpu"; None if it must be asked."""
    try:
        spec = find_spec("torch")
        assert spec is not None
        assert spec.submodule_search_locations is not None
        [folder] = spec.submodule_search_locations
        text = (Path(folder) / "version.py").read_text(encoding="utf-8")
    except (ImportError, ValueError, AssertionError, OSError):
        return None
    found = dict(re.findall(r"^(cuda|hip)\b[^=\n]*= *(.+?) *$", text, flags=re.MULTILINE))
    if found.get("hip", "None") != "None" or "cuda" not in found:
        return None
    return "cpu" if found["cuda"] == "None" else "cuda"


def _devices(driver: str) -> int:
    """Ask the driver, which heeds CUDA_VISIBLE_DEVICES; 0 without one."""
    count = ctypes.c_int(0)
    try:
        library = ctypes.CDLL(driver)
        ready = library.cuInit(0) == 0 and library.cuDeviceGetCount(ctypes.byref(count)) == 0
    except (OSError, AttributeError):
        return 0
    return count.value if ready else 0
