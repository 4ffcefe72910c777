"""Reading published classifier files, which are whole pickled modules, as plain data.

``torch.save(model)`` writes a pickle that names classes, above all ``__main__.MLPClassifier``, and
unpickling imports and calls whatever a file names. So the file is never unpickled by Python:

1. its opcodes are walked, which runs nothing, and every global it names is held to a list;
2. torch's restricted reader (``weights_only``) builds the tensors, with inert stand-ins, which have
   no methods, in place of the listed classes.

State dicts of torch before 1.6 (no zip archive) are read in the same way. Whole modules of that age
are not: torch's restricted reader does not take them, and says so.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from vnp.classify.mlp import EPS, ClassifierError


class UnsafeClassifierError(ClassifierError):
    """The file names something other than the parts of a classifier, and was not executed."""


class _Part:
    """Stands in for a module's class: holds the attributes that the file gives it, does nothing."""


class _Classifier(_Part): ...


class _Linear(_Part): ...


class _BatchNorm(_Part): ...


class _Dropout(_Part): ...


class _Relu(_Part): ...


_STAND_INS: dict[str, type[_Part]] = {
    "__main__.MLPClassifier": _Classifier,
    "torch.nn.modules.linear.Linear": _Linear,
    "torch.nn.modules.batchnorm.BatchNorm1d": _BatchNorm,
    "torch.nn.modules.dropout.Dropout": _Dropout,
    "torch.nn.modules.activation.ReLU": _Relu,
}
# What tensors are made of, under the names of Python 2 and 3; torch's own reader knows these.
_TENSOR_PARTS = re.compile(
    r"collections\.OrderedDict"
    r"|(__builtin__|builtins)\.set"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)"
    r"|torch\.nn\.parameter\.Parameter"
    r"|torch\.(Float|Double|Half|BFloat16|Long|Int)Storage"
    r"|torch\.Size"
)
# Opcodes that look a global up by other means than by its name in the opcode. torch.save, which
# writes pickle protocol 2, uses none of them.
_INDIRECT = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX"}
_LEGACY_PICKLES = 5  # magic number, protocol, system, the object, names of its storages


def read_pickled(path: Path) -> tuple[dict[str, Tensor], object]:
    """Read a module or a state dict written by ``torch.save``, without executing any of it.

    Returns
    -------
    dict of str to Tensor
        Tensors by dotted name, as a state dict has them.
    object
        ``eps`` of the batch norm as the file states it, unchecked; torch's own for a state dict.

    Raises
    ------
    UnsafeClassifierError
        If the file names anything but the parts of a classifier; the message says what.
    ClassifierError
        If it cannot be read, or holds neither a module nor a state dict.
    """
    try:
        _check(path)
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals([(part, name) for name, part in _STAND_INS.items()]),
        ):
            # Torch warns of old pickles and of sources that differ, and then reads them.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, UnicodeDecodeError) as error:
        if "persistent_load" in str(error) and not zipfile.is_zipfile(path):
            raise ClassifierError(
                f"{path} is a whole module in the form of torch before 1.6, which cannot be read "
                "without executing it; save its state_dict() with the torch that made it"
            ) from None
        raise UnsafeClassifierError(
            f"{path} holds something that is not part of a classifier and was refused unread "
            f"({_first_line(error)}); it may be damaged or may try to run code"
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ClassifierError(
            f"{path} cannot be read as a classifier ({_first_line(error)}); get the file anew"
        ) from None
    except (TypeError, AttributeError, IndexError, AssertionError) as error:
        # What torch's reader runs into when the parts of a pickle do not belong together.
        raise ClassifierError(
            f"{path} is put together as no torch.save does it ({_first_line(error)})"
        ) from None
    if isinstance(content, _Classifier):
        tensors, norm = _of_module(content, path)
        return tensors, norm.get("eps", EPS)
    if isinstance(content, Mapping):
        return _state_dict(content, path), EPS
    raise ClassifierError(
        f"{path} holds a {type(content).__name__.lstrip('_')}, neither a classifier nor its state "
        "dict"
    )


def _check(path: Path) -> None:
    """Refuse a file that names anything that is not listed."""
    for module, name in _globals(path):
        full = f"{module}.{name}"
        if full not in _STAND_INS and not _TENSOR_PARTS.fullmatch(full):
            raise UnsafeClassifierError(
                f"{path} names {full}, which is not part of a classifier; nothing of the file was "
                "executed, and it is refused"
            )


def _globals(path: Path) -> Iterator[tuple[str, str]]:
    """Yield module and name of every global that the file's pickles look up."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            for _ in range(_LEGACY_PICKLES):
                yield from _globals_of(file, path)
        return
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise ClassifierError(
                f"{path} is an archive with {len(names)} pickles (data.pkl) where torch.save "
                "writes one"
            )
        yield from _globals_of(io.BytesIO(archive.read(names[0])), path)


def _globals_of(file: BinaryIO, path: Path) -> Iterator[tuple[str, str]]:
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in _INDIRECT:
            raise UnsafeClassifierError(
                f"{path} uses the pickle operation {opcode.name}, which torch.save does not write "
                "for a classifier; nothing of the file was executed, and it is refused"
            )
        if opcode.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            yield module, name


def _of_module(part: _Part, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a module and of the modules in it, by dotted name."""
    tensors: dict[str, Tensor] = {}
    norm: dict[str, Any] = {}
    for name, child in _dict_of(part, "_modules", path).items():
        if not isinstance(child, _Part) or not isinstance(name, str):
            raise ClassifierError(f"{path}: its attribute {name!r} is not a layer of a classifier")
        if isinstance(child, _BatchNorm):
            norm = dict(vars(child))
        for kind in ("_parameters", "_buffers"):
            for key, tensor in _dict_of(child, kind, path).items():
                if isinstance(tensor, Tensor):
                    tensors[f"{name}.{key}"] = tensor.detach()
    return tensors, norm


def _dict_of(part: _Part, key: str, path: Path) -> Mapping[Any, Any]:
    value = vars(part).get(key, {})
    if not isinstance(value, Mapping):
        raise ClassifierError(f"{path}: {key} of a layer is not a mapping")
    return value


def _state_dict(content: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ClassifierError(f"{path} is not a state dict: it does not map names to tensors")
    return {name: tensor.detach() for name, tensor in content.items()}


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
