"""Inner loops as machine code: compiled by numba once for a processor, then loaded without numba.

To import numba and make its first call ready takes half a second of processor time, as much as it
takes to append 50 million bases. So a set of loops is compiled once and kept in a file, a shared
library if there is a linker, which later processes open in a millisecond. Without a linker it is
object code, and llvmlite loads it in 30 ms::

    first large input    numba: Python functions -> LLVM -> object code (-> ld -> library) -> file
    any other process    file -> addresses -> ctypes, which releases the GIL

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
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from store.io.files import publish_replace
from store.io.own_cache import is_own, make_own, stranger, user_cache

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
_DIGEST = 32  # bytes of SHA-256 behind the content of a file, where a library may have some
_CPUINFO = 1 << 14  # bytes that one processor fills at most
_KINDS = (b"vendor_id", b"cpu family", b"model", b"flags", b"CPU", b"Features", b"isa", b"uarch")
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
            library = self._opened()
            if library is not None:
                return library
            llvm = importlib.import_module("llvmlite.binding")
            name = f"{self._name}-{self._key(*_llvm_processor(llvm))}.o"
            code = next(
                filter(None, (self._read(folder / name) for folder in self._folders())), None
            )
            if code is None:
                if not compiling:
                    return None
                code = self._compiled(llvm)
                if not self._kept(self._library_name(), _linked(code), opening=True):
                    self._kept(name, code)
            return self._loaded_by(llvm, code)
        except Exception as error:  # noqa: BLE001 - not installed, or not for this machine
            log.debug("%s: no compiled loops, NumPy does it: %s", self._name, error)
            return None

    def _opened(self) -> SimpleNamespace | None:
        """Open the library that an earlier process made, if there is one."""
        name = self._library_name()
        for folder in self._folders() if name else ():
            if self._read(folder / name) is not None:
                with suppress(OSError):  # the file system may forbid to run what lies on it
                    library = ctypes.CDLL(str(folder / name))
                    return self._functions_at(partial(_address, library))
        return None

    def _library_name(self) -> str:
        """Name of the library for this processor; empty where that is not known without LLVM."""
        processor = _processor()
        return f"{self._name}-{self._key(processor)}.so" if processor else ""

    def _kept(self, name: str, code: bytes, *, opening: bool = False) -> bool:
        """Keep a file where that is possible, and ``opening`` says that it must open."""
        for folder in self._folders() if name and code else ():
            with suppress(Exception):  # the next folder, or the next process compiles
                make_own(folder, code=self._code_of(folder))
                content = [code, hashlib.sha256(code).digest()]
                publish_replace(folder, folder / name, content, durable=False, mode=0o644)
                if not opening or self._opened() is not None:
                    return True
                (folder / name).unlink()
        return False

    def _key(self, *processor: bytes) -> str:
        parts = [
            self._source.read_bytes(),
            Path(__file__).read_bytes(),
            sys.version.encode(),
            importlib.import_module("llvmlite").__version__.encode(),
            *processor,
        ]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]

    def _folders(self) -> Iterator[Path]:
        beside = self._source.parent
        if is_own(beside / "__pycache__", code=beside):
            yield beside / "__pycache__"
        cache = user_cache()
        if cache is not None and is_own(cache):
            yield cache

    def _code_of(self, folder: Path) -> Path | None:
        """Folder of the code that a folder of the cache lies in; None for the user's cache."""
        beside = self._source.parent
        return beside if folder.parent == beside else None

    def _read(self, path: Path) -> bytes | None:
        """Content of a file of code, if it is whole and nobody else could write it."""
        if stranger(path, code=self._code_of(path.parent)) is not None:
            return None
        try:
            raw = path.read_bytes()
        except OSError:
            return None
        code = raw[:-_DIGEST]
        return code if code and hashlib.sha256(code).digest() == raw[-_DIGEST:] else None

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

    def _loaded_by(self, llvm: Any, code: bytes) -> SimpleNamespace:
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine(llvm))
        object_file = importlib.import_module("llvmlite.binding.object_file")
        engine.add_object_file(object_file.ObjectFileRef.from_data(code))
        engine.finalize_object()
        _engines.append(engine)
        return self._functions_at(engine.get_function_address)

    def _functions_at(self, address: Callable[[str], int]) -> SimpleNamespace:
        return SimpleNamespace(
            **{
                name: _function(address(_symbol(name)), types)
                for name, (types, _) in self._makers.items()
            }
        )


def _symbol(name: str) -> str:
    return f"vnp_{name}"


def _address(library: ctypes.CDLL, name: str) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


def _processor() -> bytes:
    """What Linux says of the first processor; empty elsewhere."""
    try:
        with Path("/proc/cpuinfo").open("rb", buffering=0) as file:
            first = file.read(_CPUINFO).partition(b"\n\n")[0].split(b"\n")
    except OSError:
        return b""
    return b"\n".join(line for line in first if line.startswith(_KINDS))


def _llvm_processor(llvm: Any) -> tuple[bytes, ...]:
    name, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    return llvm.get_process_triple().encode(), name.encode(), features.encode()


def _linked(code: bytes) -> bytes:
    """Make a shared library of object code; empty if the machine has no linker."""
    linker = shutil.which("ld")
    if linker is None or sys.platform != "linux":
        return b""
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "loops.o", Path(name) / "loops.so"
        source.write_bytes(code)
        command = [linker, "-shared", "-z", "noexecstack", "-o", str(target), str(source)]
        done = subprocess.run(command, capture_output=True, check=False)
        return target.read_bytes() if done.returncode == 0 else b""


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
