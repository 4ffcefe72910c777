"""Choosing the device, the precision and the threads; every choice is named for the provenance."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from store.errors import UsageError
from store.io.concurrent import processors
from store.io.words import count
from vnp.inference.encoder import Precision, Warn
from vnp.models.errors import DeviceError

# What a model computes in between its matrix products; with fp8 and int8 only these are shorter.
_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "fp8": torch.bfloat16,
    "int8": torch.bfloat16,
}
_LEAST_CAPABILITY = {"bfloat16": (8, 0), "fp8": (8, 9), "int8": (8, 0)}

# Tokens in a batch. A GPU wants its matrix products large; a core wants what it works on cached.
_BUDGET_CUDA = 32_768
_BUDGET_CPU = 4_096


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how a model runs."""

    device: torch.device  # cpu, or cuda with its number
    device_name: str  # the product's name
    precision: str  # float32, bfloat16, float16 or fp8
    threads: int  # threads of the CPU
    token_budget: int  # most tokens in a batch unless the user says otherwise
    chosen: str  # how device and precision came about, for the provenance

    @property
    def dtype(self) -> torch.dtype:
        """What the residual stream is kept in."""
        return _DTYPES[self.precision]


def place(
    device: str,
    *,
    precision: Precision,
    threads: int | None,
    warn: Warn,
    short_on_cpu: bool = False,
) -> Placement:
    """Choose device, precision and threads.

    With ``short_on_cpu``, ``auto`` is bfloat16 on a CPU that multiplies it; else float32 there.

    Raises
    ------
    DeviceError
        If what was asked for is not there, or the device cannot compute in that precision.
    UsageError
        If the names make no sense.
    """
    if precision != "auto" and precision not in _DTYPES:
        raise UsageError(f"unknown precision {precision!r}: choose auto, {', '.join(_DTYPES)}")
    allowed = processors()
    if threads is not None and threads < 1:
        raise UsageError(f"{count(threads, 'thread')} cannot compute anything")
    threads = threads or allowed
    if device == "auto" and not torch.cuda.is_available():
        running = f"no CUDA device was found: running on the CPU with {count(threads, 'thread')}"
        chosen = "device auto: no CUDA device"
        device = "cpu"
    else:
        running, chosen = "", f"device {device}"
    chosen += f", precision {precision}"
    if device == "cpu":
        return _place_cpu(
            precision=precision, threads=threads, chosen=chosen, warn=warn, running=running,
            short=short_on_cpu,
        )  # fmt: skip
    return _place_cuda(
        _cuda("cuda" if device == "auto" else device),
        precision=precision,
        threads=threads,
        chosen=chosen,
        warn=warn,
    )


def bfloat16_instructions() -> str | None:
    """By what the processor multiplies bfloat16, as torch found it: None if by nothing."""
    found = torch.cpu.get_capabilities()
    names = {"amx_bf16": "AMX-BF16", "avx512_bf16": "AVX512-BF16"}
    return next((name for flag, name in names.items() if found.get(flag)), None)


def _place_cpu(
    *, precision: Precision, threads: int, chosen: str, warn: Warn, running: str, short: bool
) -> Placement:
    if precision == "fp8":
        raise DeviceError("fp8 needs a CUDA device of compute capability 8.9; ask for float32")
    name, settled = _cpu_name(), "float32" if precision == "auto" else precision
    if precision in ("auto", "bfloat16") and (short or precision == "bfloat16"):
        instructions = bfloat16_instructions()
        if precision == "bfloat16" and instructions is None:
            warn(
                f"{name} has no instructions for bfloat16, so it is slower than float32 would be; "
                "a store that was begun in bfloat16 stays in it"
            )
        elif precision == "auto" and instructions is not None:
            settled = "bfloat16"
            chosen += f" ({instructions})"
            running = (running or f"{name}: running on the CPU") + (
                f", in bfloat16 as it has {instructions} (--precision float32 for more digits)"
            )
    if running:
        warn(running)
    return Placement(
        device=torch.device("cpu"),
        device_name=name,
        precision=settled,
        threads=threads,
        token_budget=_BUDGET_CPU,
        chosen=chosen,
    )


def _cuda(device: str) -> torch.device:
    kind, _, number = device.partition(":")
    if kind != "cuda" or (number and not number.isdecimal()):
        raise UsageError(f"unknown device {device!r}; give auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise DeviceError(
            f"{device} was asked for but torch {torch.__version__} sees no CUDA device; "
            "check `nvidia-smi`, or ask for cpu"
        )
    found = torch.cuda.device_count()
    index = int(number) if number else torch.cuda.current_device()
    if index >= found:
        raise DeviceError(
            f"{device} was asked for but there {'is' if found == 1 else 'are'} "
            f"{count(found, 'CUDA device')}, from cuda:0"
        )
    return torch.device("cuda", index)


def _place_cuda(
    device: torch.device, *, precision: Precision, threads: int, chosen: str, warn: Warn
) -> Placement:
    name = torch.cuda.get_device_name(device)
    major, minor = torch.cuda.get_device_capability(device)
    has_bfloat16 = (major, minor) >= (8, 0)
    if precision == "auto":
        settled = "bfloat16" if has_bfloat16 else "float16"
        if not has_bfloat16:
            reason = f"compute capability {major}.{minor} has no bfloat16"
            warn(f"{name}: {reason}, using float16")
            chosen += f" ({reason})"
    else:
        settled = precision
    needed = _LEAST_CAPABILITY.get(settled, (0, 0))
    if (major, minor) < needed:
        raise DeviceError(
            f"{name} has compute capability {major}.{minor} and {settled} needs "
            f"{needed[0]}.{needed[1]}; ask for float16 or float32"
        )
    return Placement(
        device=device,
        device_name=name,
        precision=settled,
        threads=threads,
        token_budget=_BUDGET_CUDA,
        chosen=chosen,
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: the CPU's allocator and cuBLAS have no exception of their own."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        sign in str(error)
        for sign in ("DefaultCPUAllocator: can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    )


def _cpu_name() -> str:
    """Name the processor as Linux has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()
