"""Inner loops as machine code: compiled by numba once for a processor, then loaded without numba.

To import numba and make its first call ready takes half a second of processor time, as much as it
takes to append 50 million bases. So a set of loops is compiled once, its object code is kept in a
file, and later processes load that with llvmlite alone, in 50 ms::

    first large input    numba: Python functions -> LLVM -> object code -> file
    any other process    file -> llvmlite's loader -> addresses -> ctypes, which releases the GIL

A loop is a plain Python function over pointers and numbers. It calls nothing but what numba
compiles into it, allocates nothing and raises nothing, so its object code needs nothing of numba's
run time. Whoever uses a set has the same thing by other means, for where it cannot be had, and
tests hold one to the other.

The file lies beside the code like the files of Python itself, or in the user's cache, and is used
where nobody else may write (`store.io.own_cache`): what it holds is run. Its name says by which
code and versions and for which processor it was made.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from store.io.files import publish_replace
from store.io.own_cache import is_own, stranger, user_cache

log = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])

# Types in the signatures of loops: numba's, and how ctypes passes them.
_TYPES: dict[str, tuple[str, Any]] = {
    "u8*": ("CPointer(uint8)", ctypes.c_void_p),
    "i8*": ("CPointer(int8)", ctypes.c_void_p),
    "i32*": ("CPointer(int32)", ctypes.c_void_p),
    "u32*": ("CPointer(uint32)", ctypes.c_void_p),
    "i64*": ("CPointer(int64)", ctypes.c_void_p),
    "u64*": ("CPointer(uint64)", ctypes.c_void_p),
    "i64": ("int64", ctypes.c_int64),
}
_DIGEST = 32  # bytes of SHA-256 before the content of a file
_LOADED, _COMPILED = 1, 2  # how much may be done to have the loops

_allowed = 0
_lock = threading.Lock()
_engines: list[Any] = []  # they own the code for as long as the process lives


def allow(*, compiling: bool) -> None:
    """Have the compiled loops used in this process, by those who come to them from now on.

    With ``compiling``, loops that have not been compiled yet are compiled, in some seconds.
    """
    global _allowed
    _allowed = max(_allowed, _COMPILED if compiling else _LOADED)


class Loops:
    """A set of loops; ``source`` is the file of the code that defines them."""

    def __init__(self, name: str, source: str) -> None:
        self._name = name
        self._source = Path(source)
        self._makers: dict[str, tuple[list[str], Callable[[], Callable[..., Any]]]] = {}
        self._tried = 0
        self._functions: SimpleNamespace | None = None

    def loop(self, *types: str) -> Callable[[Function], Function]:
        """Add a function; its parameters have these types, and it returns a number."""

        def add(function: Function) -> Function:
            self._makers[function.__name__] = (list(types), lambda: function)
            return function

        return add

    def made(self, *types: str) -> Callable[[Function], Function]:
        """Add what a function returns, which is called only to compile; see `loop`."""

        def add(maker: Function) -> Function:
            self._makers[maker.__name__] = (list(types), maker)
            return maker

        return add

    def get(self, *, compiling: bool = False) -> Any | None:
        """Return the loops as attributes; None where they cannot be had, or are not allowed.

        With ``compiling`` they are allowed, and compiled if they have not been. They take
        C-contiguous arrays for pointers. Their lengths are not checked.
        """
        allowed = _COMPILED if compiling else _allowed
        if not allowed:
            return None
        if self._functions is None and self._tried < allowed:
            with _lock:
                if self._functions is None and self._tried < allowed:
                    self._functions = self._loaded(compiling=allowed == _COMPILED)
                    self._tried = allowed
        return self._functions

    def _loaded(self, *, compiling: bool) -> SimpleNamespace | None:
        try:
            llvm = importlib.import_module("llvmlite.binding")
            name = f"{self._name}-{self._key(llvm)}.o"
            code = next(
                filter(None, (self._kept(folder / name) for folder in self._folders())), None
            )
            if code is None:
                if not compiling:
                    return None
                code = self._compiled(llvm)
                for folder in self._folders():
                    with suppress(Exception):  # the next folder, or the next process compiles
                        folder.mkdir(parents=True, exist_ok=True)
                        content = [hashlib.sha256(code).digest(), code]
                        publish_replace(folder, folder / name, content, durable=False)
                        break
            return self._linked(llvm, code)
        except Exception as error:  # noqa: BLE001 - not installed, or not for this machine
            log.debug("%s: no compiled loops, NumPy does it: %s", self._name, error)
            return None

    def _key(self, llvm: Any) -> str:
        parts = [
            self._source.read_bytes(),
            Path(__file__).read_bytes(),
            sys.version.encode(),
            importlib.import_module("llvmlite").__version__.encode(),
            llvm.get_process_triple().encode(),
            llvm.get_host_cpu_name().encode(),
            llvm.get_host_cpu_features().flatten().encode(),
        ]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]

    def _folders(self) -> Iterator[Path]:
        beside = self._source.parent
        if is_own(beside / "__pycache__", code=beside):
            yield beside / "__pycache__"
        cache = user_cache()
        if cache is not None and is_own(cache):
            yield cache

    def _kept(self, path: Path) -> bytes | None:
        """Content of a file of object code, if it is whole and nobody else could write it."""
        beside = self._source.parent
        if stranger(path, code=beside if path.parent.parent == beside else None) is not None:
            return None
        try:
            raw = path.read_bytes()
        except OSError:
            return None
        code = raw[_DIGEST:]
        return code if code and hashlib.sha256(code).digest() == raw[:_DIGEST] else None

    def _compiled(self, llvm: Any) -> bytes:
        """Object code of all loops."""
        numba = importlib.import_module("numba")
        began = time.perf_counter()
        whole = llvm.parse_assembly("")
        for name, (types, maker) in self._makers.items():
            signature = f"int64({', '.join(_TYPES[each][0] for each in types)})"
            made = numba.cfunc(signature, nopython=True, error_model="numpy")(maker())
            module = llvm.parse_assembly(made.inspect_llvm())
            for function in module.functions:
                if not function.is_declaration:
                    function.linkage = "internal"
            entry = module.get_function(made.native_name)
            entry.name, entry.linkage = _symbol(name), "external"
            whole.link_in(module)
        code: bytes = _machine(llvm).emit_object(whole)
        seconds = time.perf_counter() - began
        log.info("compiled %s for this processor, once: %.0f s", self._name, seconds)
        return code

    def _linked(self, llvm: Any, code: bytes) -> SimpleNamespace:
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine(llvm))
        object_file = importlib.import_module("llvmlite.binding.object_file")
        engine.add_object_file(object_file.ObjectFileRef.from_data(code))
        engine.finalize_object()
        _engines.append(engine)
        return SimpleNamespace(
            **{
                name: _function(engine.get_function_address(_symbol(name)), types)
                for name, (types, _) in self._makers.items()
            }
        )


def _symbol(name: str) -> str:
    return f"vnp_{name}"


def _machine(llvm: Any) -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="pic",
        codemodel="jitdefault",
        jit=True,
    )


def _function(address: int, types: list[str]) -> Callable[..., int]:
    if not address:
        raise ValueError("the object code lacks a loop")
    passed = [_TYPES[each][1] for each in types]
    call = ctypes.CFUNCTYPE(ctypes.c_int64, *passed)(address)
    sizes = [int(each[1:-1]) // 8 if each.endswith("*") else 0 for each in types]

    def function(*arguments: Any) -> int:
        values = []
        for value, size in zip(arguments, sizes, strict=True):
            if size:
                assert value.itemsize == size and value.flags.c_contiguous  # noqa: PT018
                value = value.__array_interface__["data"][0]
            values.append(value)
        return int(call(*values))

    return function
