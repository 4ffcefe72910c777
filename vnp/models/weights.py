"""Reading weight files as data: tensors by canonical name, and one hash over them.

A canonical name is the published one less the ``esm.`` or ``bert.`` in front (and with a norm's
gamma and beta spelt weight and bias), so the same weights have the same names and the same hash
whether they come from safetensors or ``.bin``, whole or in shards, saved from the bare encoder or
from a model with a head.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from store.io.concurrent import processors
from vnp.models import fair_esm
from vnp.models.errors import (
    TorchFileError,
    UnsafeTorchFileError,
    UnsafeWeightsError,
    WeightsError,
)
from vnp.models.misnamed import kind_of_other
from vnp.models.torch_files import load_torch_file

_HASH_THREADS = 16
# TensorFlow's names of a norm's parameters, which transformers 5 writes for ESM-2 again.
_NORM = re.compile(r"(?<=LayerNorm\.)(gamma|beta)$")
_NAMED = 4  # how many tensors a message lists before it counts the rest


@dataclass(frozen=True, slots=True)
class Naming:
    """Which tensors of a checkpoint an architecture uses."""

    prefix: str  # what a model with a head puts in front of the encoder's tensors
    shapes: Mapping[str, tuple[int, ...]]  # canonical name -> shape
    unused: re.Pattern[str]  # canonical names that a checkpoint may have and the encoder ignores


def read(paths: Sequence[Path], naming: Naming, *, source: str) -> dict[str, Tensor]:
    """Read the tensors an architecture uses from weight files, memory-mapped, on the CPU.

    Parameters
    ----------
    paths : sequence of Path
        The files, all ``.safetensors`` or all ``.bin``, or one ``.pt`` of fair-esm.
    naming : Naming
        What to read.
    source : str
        Name of the checkpoint for messages.

    Returns
    -------
    dict
        Canonical name to tensor, in the files' own dtypes.

    Raises
    ------
    WeightsError
        If a file is damaged, or tensors are missing, unexpected or of the wrong shape or dtype.
    UnsafeWeightsError
        If a ``.bin`` holds anything but tensors. It is refused without being executed.
    """
    tensors: dict[str, Tensor] = {}
    for path in paths:
        if (other := kind_of_other(path)) is not None:
            raise WeightsError(f"{path} is {other}")
        part = _READERS.get(path.suffix, _bin)(path)
        twice = tensors.keys() & part.keys()
        if twice:
            raise WeightsError(f"{path} repeats {_some(twice)} of an earlier shard")
        tensors |= part
    return select(tensors, naming, source=source)


def select(tensors: Mapping[str, Tensor], naming: Naming, *, source: str) -> dict[str, Tensor]:
    """Bring a checkpoint's tensors under canonical names and hold them to the architecture.

    Raises
    ------
    WeightsError
        If tensors are missing, unexpected or of the wrong shape or dtype; they are named.
    """
    # Inside the encoder, a tensor that we do not know means another architecture.
    prefix = _prefix(tensors, naming, source=source)
    inside: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            canonical = _NORM.sub(_norm_name, name.removeprefix(prefix))
            if canonical in inside:
                raise WeightsError(f"{source} has the tensor {canonical} under two names")
            inside[canonical] = tensor
    missing = naming.shapes.keys() - inside.keys()
    if missing:
        raise WeightsError(f"{source} lacks the tensors {_some(missing)}")
    unexpected = {
        name for name in inside.keys() - naming.shapes.keys() if not naming.unused.fullmatch(name)
    }
    if unexpected:
        raise WeightsError(
            f"{source} has tensors that this architecture does not have: {_some(unexpected)}"
        )
    for name, shape in naming.shapes.items():
        tensor = inside[name]
        if tuple(tensor.shape) != shape:
            raise WeightsError(
                f"{source}: the tensor {name} has the shape {tuple(tensor.shape)}, not {shape}"
            )
        if not tensor.is_floating_point():
            raise WeightsError(f"{source}: the tensor {name} holds {tensor.dtype}, not numbers")
    return {name: inside[name] for name in naming.shapes}


def _prefix(tensors: Mapping[str, Tensor], naming: Naming, *, source: str) -> str:
    """What stands before the encoder's tensors: nothing in a bare encoder.

    A model with a head keeps the encoder under a prefix and the head outside; wrappers and training
    scripts add ``module.``, ``_orig_mod.``, ``model.`` and others. Any prefix will do under which
    every tensor is found; if there are two, a `WeightsError` names them.
    """
    names = {_NORM.sub(_norm_name, name) for name in tensors}
    anchor = next(iter(naming.shapes))
    candidates = {name.removesuffix(anchor) for name in names if name.endswith(anchor)}
    whole = sorted(
        prefix
        for prefix in candidates
        if (not prefix or prefix.endswith("."))
        and all(prefix + name in names for name in naming.shapes)
    )
    if len(whole) > 1:
        listed = " and ".join(repr(prefix) for prefix in whole)
        raise WeightsError(f"{source} has the model several times, under {listed}: keep one")
    if whole:
        return whole[0]
    # Not whole under any: the usual prefix, for the message about what is missing.
    return naming.prefix if any(name.startswith(naming.prefix) for name in tensors) else ""


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash weights: sha-256 over the sorted names, dtypes, shapes and sha-256 of the bytes.

    Tensors are hashed side by side in threads, at memory speed on a node with a few cores.

    Returns
    -------
    str
        ``sha256:`` and 64 hexadecimal digits.
    """
    threads = min(_HASH_THREADS, processors())
    names = sorted(tensors)
    with ThreadPoolExecutor(max_workers=threads) as pool:
        parts = list(pool.map(lambda name: _digest_tensor(tensors[name]), names))
    total = hashlib.sha256()
    for name, part in zip(names, parts, strict=True):
        tensor = tensors[name]
        dtype = str(tensor.dtype).removeprefix("torch.")
        shape = ",".join(map(str, tensor.shape))
        total.update(f"{name} {dtype} {shape} {part}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _digest_tensor(tensor: Tensor) -> str:
    raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(raw.data).hexdigest()


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} cannot be read as safetensors ({error}); get the file again"
        ) from None


def _bin(path: Path) -> dict[str, Tensor]:
    try:
        content = load_torch_file(path, mapped=True)
    except UnsafeTorchFileError as error:
        raise UnsafeWeightsError(
            f"{path} holds something other than tensors: take the safetensors of the same model "
            f"({error})"
        ) from None
    except TorchFileError as error:
        raise WeightsError(f"{error}; get the file again") from None
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()
    ):
        raise WeightsError(f"{path} is not a state dict: it does not map names to tensors")
    return content


_READERS = {".safetensors": _safetensors, ".pt": fair_esm.read}


def _norm_name(match: re.Match[str]) -> str:
    return "weight" if match[0] == "gamma" else "bias"


def _some(names: set[str] | frozenset[str]) -> str:
    """List names for a message: the first few, then a count."""
    listed = sorted(names)
    rest = len(listed) - _NAMED
    text = ", ".join(listed[:_NAMED])
    return f"{text} and {rest} more" if rest > 0 else text
