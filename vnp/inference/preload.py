"""What the import of torch spends outside Python, begun beside the imports before it.

A fifth of that import is the system's loader, which maps and relocates torch's libraries while the
interpreter waits with its lock held. A thread has that done through ctypes, which lets the lock go:
what is imported next finds the libraries in place. Nothing depends on it; what it cannot load is
left to torch, whose errors say more.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

# In torch's order. They hold no code of Python's, which would need the lock.
_LIBRARIES = (("libtorch_global_deps.so", ctypes.RTLD_GLOBAL), ("libtorch.so", ctypes.RTLD_LOCAL))


def preload_torch() -> threading.Thread | None:
    """Begin to load torch's libraries; return the thread that does, or None if none should.

    Where the environment names folders to look in first, the order of loading matters, and torch
    has one of its own.
    """
    if "torch" in sys.modules or os.environ.get("LD_LIBRARY_PATH") or sys.platform != "linux":
        return None
    try:
        spec = find_spec("torch")
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    loader = threading.Thread(
        target=_load, args=(Path(spec.origin).parent / "lib",), name="preload", daemon=True
    )
    loader.start()
    return loader


def _load(folder: Path) -> None:
    dlopen = getattr(ctypes.CDLL(None), "dlopen", None)
    if dlopen is None:
        return
    dlopen.argtypes, dlopen.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    for name, mode in _LIBRARIES:
        if not dlopen(os.fsencode(folder / name), mode | os.RTLD_NOW):
            return
