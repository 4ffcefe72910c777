"""Which kernels run on a device: Triton's, those for Hopper, those of a CPU; and why not.

The kernels for Hopper are written in a young language, so they are tested before a worker relies on
them, once on a machine.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import threading
from types import ModuleType

import torch

from store.errors import DataError, UsageError
from store.io.optional import why_not
from vnp.inference import remembered
from vnp.inference.device import Placement, place
from vnp.inference.encoder import Precision, Warn
from vnp.inference.linear import FP8
from vnp.inference.ops import cpu
from vnp.inference.ops import torch as plain
from vnp.inference.selftest import check_products
from vnp.models import registry
from vnp.models.spec import ModelSpec

log = logging.getLogger(__name__)

_LEAST_CAPABILITY = (8, 0)  # what Triton's matrix instructions are tested on

# What a model's inner width is finished with.
_ACTIVATIONS: dict[str, plain.Activation] = {
    "esm2": "gelu", "esmc": "swiglu", "mosaicbert": "geglu",
}  # fmt: skip

_FUSED_CAPABILITY = 9  # Hopper, whose instructions `hopper` is written for


def obstacle(placement: Placement) -> str | None:
    """Why the kernels cannot run on a device, or None if they can."""
    if placement.device.type != "cuda":
        return "no CUDA device"
    if placement.precision == "float32":
        return "float32 asks for plain arithmetic"
    major, minor = torch.cuda.get_device_capability(placement.device)
    if (major, minor) < _LEAST_CAPABILITY:
        return (
            f"compute capability {major}.{minor} is below {'.'.join(map(str, _LEAST_CAPABILITY))}"
        )
    trouble = why_not("triton")
    return None if trouble is None else f"Triton {trouble}"


def hash_compiler() -> threading.Thread:
    """Have a thread hash Triton's own files, as its first kernel does, half a second's work.

    It remembers the hash, and hashing needs no lock of the interpreter: weights come meanwhile. It
    is only sooner: a Triton that hashes elsewhere does it when it needs it.
    """

    def run() -> None:
        with contextlib.suppress(Exception):  # whatever ails the compiler, the first kernel tells
            importlib.import_module("triton.runtime.cache").triton_key()

    thread = threading.Thread(target=run, name="compiler", daemon=True)
    thread.start()
    return thread


def cpu_operations(placement: Placement) -> tuple[ModuleType, str]:
    """What a CPU computes with, and why, in words."""
    reason = cpu.obstacle(placement.dtype)
    if reason is not None:
        return plain, f"plain torch ({reason})"
    return cpu, f"{cpu.name}, weights packed"


def cpu_int8(operations: ModuleType) -> tuple[ModuleType | None, str]:
    """Products of integers for a CPU whose other operations are these, or None; and why not."""
    if operations is not cpu:
        return None, "it does not multiply by oneDNN"
    trouble = why_not("numba")
    if trouble is not None:
        return None, f"numba {trouble}"
    module = importlib.import_module("vnp.inference.ops.cpu_int8")
    trouble = module.obstacle()
    return (module, "") if trouble is None else (None, trouble)


def hopper_kernels(
    spec: ModelSpec, placement: Placement, *, warn: Warn
) -> tuple[ModuleType | None, str]:
    """Products fused with what follows them, and attention, for Hopper, or None; and why, in words.

    The language that they are written in is young, so they are tested before they are used.
    """
    major, minor = torch.cuda.get_device_capability(placement.device)
    narrow = {"fp8": FP8, "int8": torch.int8}.get(placement.precision)
    instead = "products by Triton" if narrow == torch.int8 else "products by cuBLAS"
    if placement.dtype != torch.bfloat16:
        return None, instead
    if major != _FUSED_CAPABILITY:
        return None, f"{instead} (no kernels for compute capability {major}.{minor})"
    try:
        hopper = importlib.import_module("vnp.inference.ops.hopper")
        activation = _ACTIVATIONS[spec.architecture]
        if not hopper.fits(
            spec.dim, spec.ffn, head=spec.dim // spec.heads, dtype=narrow or torch.bfloat16,
            activation=activation,
        ):  # fmt: skip
            return None, f"{instead} (no kernels for these widths)"
        facts = _facts(placement.device_name, narrow=narrow, activation=activation)
        if remembered.was_passed(facts):
            log.debug("%s: the Hopper kernels were tested on such a machine before", spec.name)
            return hopper, "products fused"
        log.info("%s: testing the Hopper kernels; compiling them takes half a minute", spec.name)
        with torch.cuda.device(placement.device):  # Triton launches on the current one
            check_products(hopper, placement.device, narrow=narrow, activation=activation)
        remembered.note_passed(facts)
    except Exception as error:  # noqa: BLE001  a compiler may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        warn(f"the kernels for Hopper do not work here ({reason}): slower ones take their place")
        return None, f"{instead} ({reason})"
    return hopper, "products fused"


def retest(device: torch.device) -> bool:
    """Test the kernels of a device, whether or not that was done before; False if it has none.

    A test that fails raises what `hopper_kernels` would have warned of.
    """
    if torch.cuda.get_device_capability(device)[0] != _FUSED_CAPABILITY or why_not("triton"):
        return False
    hopper = importlib.import_module("vnp.inference.ops.hopper")
    kinds = [(None, activation) for activation in _ACTIVATIONS.values()]
    for narrow, activation in (*kinds, (FP8, "gelu"), (torch.int8, "gelu")):
        with torch.cuda.device(device):
            check_products(hopper, device, narrow=narrow, activation=activation)
        name = torch.cuda.get_device_name(device)
        remembered.note_passed(_facts(name, narrow=narrow, activation=activation))
    return True


def _facts(
    gpu: str, *, narrow: torch.dtype | None, activation: plain.Activation
) -> remembered.Facts:
    what = f"products in {narrow or torch.bfloat16}, {activation}"
    return remembered.facts_of(gpu, what=what)


def faster_precisions(name: str, *, device: str) -> tuple[Precision, ...]:
    """Precisions in eight bits that a model can run in on a device, the fastest first.

    Parameters
    ----------
    name, device
        See ``load_encoder``.
    """
    return tuple(each for each, why in _eight_bits(name, device=device).items() if why is None)


def left_out(name: str, *, device: str) -> dict[str, str]:
    """Precisions in eight bits that a kind of device has, and a model cannot run in; and why."""
    found = _eight_bits(name, device=device).items()
    return {each: why for each, why in found if why is not None}


def _eight_bits(name: str, *, device: str) -> dict[Precision, str | None]:
    """Precisions in eight bits that a kind of device has, the fastest first; None where one runs.

    Where the device or the model is not there it is empty: loading tells what is wrong.
    """
    try:
        spec = registry.model(name)
        placement = place(device, precision="auto", threads=None, warn=log.debug)
    except (UsageError, DataError):
        return {}
    on_cpu = placement.device.type == "cpu"
    of_device: tuple[Precision, ...] = ("int8",) if on_cpu else ("int8", "fp8")
    reason = None
    if spec.architecture != "esm2":
        reason = "only ESM-2 has a form in eight bits"
    elif spec.demo:
        reason = "a demo model is too small to gain by eight bits"
    elif not on_cpu:
        reason = obstacle(placement)
    if reason is not None:
        return dict.fromkeys(of_device, reason)
    if on_cpu:
        module, trouble = cpu_int8(cpu_operations(placement)[0])
        return {"int8": None if module is not None else trouble}
    has_fp8 = torch.cuda.get_device_capability(placement.device) >= (8, 9)
    return {"int8": None, "fp8": None if has_fp8 else "it needs compute capability 8.9"}
