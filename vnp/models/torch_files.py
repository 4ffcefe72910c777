"""The one reader of untrusted files of ``torch.save``: as data, without executing any of it.

Such a file is a pickle, and unpickling imports and calls whatever a file names. So Python never
unpickles it:

1. its opcodes are walked, which runs nothing, and every global it names must be on a short list;
2. torch's restricted reader (``weights_only``) builds what is left: tensors, lists and texts.

A caller that expects whole modules gives inert stand-ins for their classes. Memory is bounded by
the size of the file: archives must be uncompressed, as torch.save writes them, and no operand of
the pickle may reach past its end.
"""

from __future__ import annotations

import mmap
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vnp.models.errors import TorchFileError, UnsafeTorchFileError

# What tensors are made of, under the names of Python 2 and 3; torch's own reader knows these.
_TENSOR_PARTS = re.compile(
    r"collections\.OrderedDict"
    r"|(__builtin__|builtins)\.set"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)"
    r"|torch\.nn\.parameter\.Parameter"
    r"|torch\.(Double|Float|Half|BFloat16|Long|Int|Short|Char|Byte|Bool)Storage"
    r"|torch\.(Size|device)"
)
# Opcodes that look a global up by other means than by its name in the opcode. torch.save, which
# writes pickle protocol 2, uses none of them.
_INDIRECT = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX"}
_LEGACY_PICKLES = 5  # before torch 1.6: magic number, protocol, system, object, storage names


def load_torch_file(
    path: Path, *, stand_ins: Mapping[str, type] | None = None, mapped: bool = False
) -> Any:
    """Read a file of ``torch.save`` on the CPU: a zip archive, or in the form before torch 1.6.

    ``stand_ins`` are full names of classes that the file may name, and what is built in their
    place; ``*.Name`` is a class of that name in any module. ``mapped`` leaves the tensors' bytes in
    the file, where its form allows that; it must then not be overwritten in place.

    Raises `UnsafeTorchFileError`, which says what the file names besides parts of tensors and the
    stand-ins, and `TorchFileError` if the file is not there or is damaged.
    """
    stand_ins = stand_ins or {}
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"  # torch decides by the same four bytes
        named = _check(path, stand_ins, zipped=zipped)
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals([(part, name) for name, part in named.items()]),
        ):
            # Torch warns of old pickles and of sources that differ, and then reads them.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and zipped)
    except TorchFileError:
        raise
    except FileNotFoundError:
        raise TorchFileError(f"{path} does not exist") from None
    except pickle.UnpicklingError as error:
        if "persistent_load" in str(error) and not zipped:
            raise TorchFileError(
                f"{path} is a whole module in the form of torch before 1.6, which cannot be read "
                "without executing it; save its state_dict() with the torch that made it"
            ) from None
        raise UnsafeTorchFileError(
            f"{path} holds something other than tensors and was refused, nothing of it executed "
            f"({_first_line(error)}); it may be damaged or may try to run code"
        ) from None
    except Exception as error:  # noqa: BLE001  a damaged pickle ends in any error there is
        raise TorchFileError(
            f"{path} is damaged or not a file of torch.save ({_first_line(error)})"
        ) from None


def _check(path: Path, stand_ins: Mapping[str, type], *, zipped: bool) -> dict[str, type]:
    """Refuse a file whose pickles name anything but parts of tensors and the stand-ins.

    Returns the stand-ins that it names, by full name.
    """
    named: dict[str, type] = {}
    if not zipped:
        with (
            path.open("rb") as file,
            # A map ends where the file ends, whatever length an operand claims.
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            for _ in range(_LEGACY_PICKLES):
                named |= _check_pickle(content, path, stand_ins)
        return named
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        pickles = [member for member in members if member.filename.endswith("/data.pkl")]
        if len(pickles) != 1 or any(member.compress_type for member in members):
            raise TorchFileError(f"{path} is a zip archive that torch.save did not write")
        with archive.open(pickles[0]) as member:
            return _check_pickle(member, path, stand_ins)


def _check_pickle(file: Any, path: Path, stand_ins: Mapping[str, type]) -> dict[str, type]:
    named: dict[str, type] = {}
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in _INDIRECT:
            what = f"uses the pickle operation {opcode.name}, which torch.save does not write"
        elif opcode.name == "GLOBAL":
            name = str(argument).replace(" ", ".", 1)
            part = stand_ins.get(name, stand_ins.get(f"*.{name.rpartition('.')[2]}"))
            if part is not None:
                named[name] = part
                continue
            if _TENSOR_PARTS.fullmatch(name):
                continue
            what = f"names {name}, which is not part of a tensor"
        else:
            continue
        raise UnsafeTorchFileError(f"{path} {what}; it was refused and nothing of it was executed")
    return named


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
