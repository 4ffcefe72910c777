"""The compression of chunks: zstd as numcodecs has it, without importing numcodecs.

Its package imports every codec and looks for plug-ins among all that is installed, in 30 ms and
more, and appends of small files take 200. So the library that lies in it is called by ctypes, which
gives the same bytes; where that cannot be, numcodecs does it.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from numcodecs.zstd import Zstd

_LEVEL = 1
_LEVEL_PARAMETER = 100  # ZSTD_c_compressionLevel, of zstd.h
_size = ctypes.c_size_t
_pointer = ctypes.c_void_p
# Functions of the stable interface: what each returns and takes.
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "ZSTD_createCCtx": (_pointer,),
    "ZSTD_CCtx_setParameter": (_size, _pointer, ctypes.c_int, ctypes.c_int),
    "ZSTD_compressBound": (_size, _size),
    "ZSTD_compress2": (_size, _pointer, _pointer, _size, _pointer, _size),
    "ZSTD_isError": (ctypes.c_uint, _size),
}

_contexts: list[int] = []  # not in use: no more than compressed at one time


def compressed(content: bytes | NDArray[np.uint8]) -> bytes:
    """Compress the content of a chunk."""
    library = _library()
    if library is None:
        return bytes(_numcodecs().encode(content))
    source = np.frombuffer(content, np.uint8)
    target = np.empty(library.ZSTD_compressBound(len(source)), np.uint8)
    try:
        context = _contexts.pop()
    except IndexError:
        context = _context(library)
    size = library.ZSTD_compress2(
        context, _address(target), len(target), _address(source), len(source)
    )
    if library.ZSTD_isError(size):
        raise MemoryError("zstd could not compress a chunk")  # the target is large enough
    _contexts.append(context)
    return target[:size].tobytes()


def decompressed(content: bytes) -> bytes:
    """Decompress the content of a chunk; RuntimeError if it is damaged."""
    return bytes(_numcodecs().decode(content))


@cache
def _library() -> ctypes.CDLL | None:
    """The library in numcodecs that has zstd; None if it does not show its functions."""
    package = importlib.util.find_spec("numcodecs")  # imports nothing
    module = package and PathFinder.find_spec("zstd", package.submodule_search_locations)
    if module is None or module.origin is None:
        return None
    try:
        library = ctypes.CDLL(module.origin)
        for name, (returned, *taken) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = returned, taken
    except (AttributeError, OSError):
        return None
    return library


def _context(library: ctypes.CDLL) -> int:
    context: int | None = library.ZSTD_createCCtx()
    if context is None:
        raise MemoryError("zstd could not begin to compress")
    library.ZSTD_CCtx_setParameter(context, _LEVEL_PARAMETER, _LEVEL)
    return context


@cache
def _numcodecs() -> Zstd:
    from numcodecs.zstd import Zstd

    return Zstd(level=_LEVEL)


def _address(array: NDArray[np.uint8]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
