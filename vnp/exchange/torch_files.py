"""Export as VirNucPro's ``.pt`` files, in one pass and bounded memory.

A ``.pt`` file is a zip of a pickle and of the tensors' bytes::

    archive/data.pkl     the object; a tensor in it refers to a storage by its key
    archive/byteorder    "little"
    archive/data/0       float32 numbers of storage 0, all tensors end to end
    archive/version      "3"

``torch.save`` wants the whole object in memory: 150 kB for each row of 2,560 Python floats (the
layout ``DNABERT_S``) and 1.4 kB for each tensor of a list (``ESM``). So the pickle is written
here a few rows at a time; ``torch.load(..., weights_only=True)`` reads it.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from store.errors import UsageError
from vnp.exchange.selection import Selection, named_twice
from vnp.models import registry

Item = TypeVar("Item")
Layout = Literal["DNABERT_S", "ESM", "merged"]
_ALIGNMENT = 64  # of a storage in the file: torch can then map it into memory
_GROUP = 256  # list items pickled at a time
_INPUTS = {"DNABERT_S": "nucleotide", "ESM": "protein"}
_KEYS = {"DNABERT_S": "nucleotide", "ESM": "proteins", "merged": "ids"}


def models_of_layout(layout: Layout, models: tuple[str, ...]) -> tuple[str, ...]:
    """Choose the models that a layout holds; UsageError unless one of them is what it is for."""
    if layout == "merged":
        return models
    wanted = _INPUTS[layout]
    found = tuple(
        name for name in models if name in registry.MODELS and registry.model(name).input == wanted
    )
    if len(found) != 1:
        raise UsageError(
            f"the layout {layout} holds one model of {wanted} sequences; to choose from: "
            f"{', '.join(found) or 'none'} (choose with --model)"
        )
    return found


def write_pt(selection: Selection, path: Path, *, layout: Layout) -> None:
    """Write a file of one of VirNucPro's three layouts, float32.

    ``DNABERT_S``: ``{'nucleotide': ids, 'data': [{'label', 'mean_representation': floats}]}``;
    ``ESM``: ``{'proteins': ids, 'data': [tensor(dim)]}``; ``merged``: ``{'ids': ids, 'data':
    tensor(n, columns)}``. Ids are unique: VirNucPro goes by them.
    """
    repeated = selection.repeated_id()
    if repeated is not None:
        raise named_twice(repeated)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with archive.open(_member("data.pkl"), "w", force_zip64=True) as file:
            file.writelines(_pickled(selection, layout))
        archive.writestr(_member("byteorder"), b"little")
        if layout != "DNABERT_S":
            with archive.open(_aligned(archive, "data/0"), "w", force_zip64=True) as file:
                for batch in selection.batches():
                    file.write(np.ascontiguousarray(batch.values("<f4")).tobytes())
        archive.writestr(_member("version"), b"3\n")


def _pickled(selection: Selection, layout: Layout) -> Iterator[bytes]:
    """Yield the pickle of ``{key: ids, 'data': rows}``, part by part."""
    rows, columns = len(selection), selection.view.shape[1]
    yield pickle.PROTO + b"\x02" + pickle.EMPTY_DICT + pickle.MARK + _pushed(_KEYS[layout])
    yield pickle.EMPTY_LIST
    yield from map(_appended, _groups(selection.ids()))
    yield _pushed("data")
    if layout == "merged":
        yield _pushed(0).join(_tensor(rows * columns, (rows, columns)))
    elif layout == "ESM":
        yield pickle.EMPTY_LIST
        head, tail = _tensor(rows * columns, (columns,))
        offsets = range(0, rows * columns, columns)
        for group in _groups(head + _pushed(offset) + tail for offset in offsets):
            yield pickle.MARK + b"".join(group) + pickle.APPENDS
    else:
        yield pickle.EMPTY_LIST
        records = (
            {"label": record, "mean_representation": values.tolist()}
            for batch in selection.batches()
            for record, values in zip(batch.ids, batch.values("f4"), strict=True)
        )
        yield from map(_appended, _groups(records))
    yield pickle.SETITEMS + pickle.STOP


def _groups(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield items some at a time."""
    left = iter(items)
    while group := list(islice(left, _GROUP)):
        yield group


def _appended(items: list[Any]) -> bytes:
    """Operations that append objects to the list pushed last, as part of a larger pickle.

    What they memorise replaces what others did; none looks up what is not its own.
    """
    return pickle.dumps(items, protocol=2)[5:-1]  # without protocol, a new list's start, the end


def _pushed(item: Any) -> bytes:
    """Operations that push an object, as part of a larger pickle."""
    return pickle.dumps(item, protocol=2)[2:-1]  # without the protocol and the end


def _tensor(numbers: int, shape: tuple[int, ...]) -> tuple[bytes, bytes]:
    """Operations that push a tensor of a part of storage 0, before and after the part's offset.

    The storage holds so many numbers. They name torch's functions and do not import them: an export
    needs no torch.
    """
    storage = pickle.MARK + _pushed("storage") + pickle.GLOBAL + b"torch\nFloatStorage\n"
    storage += _pushed("0") + _pushed("cpu") + _pushed(numbers) + pickle.TUPLE + pickle.BINPERSID
    hooks = _pushed(OrderedDict())
    return (
        pickle.GLOBAL + b"torch._utils\n_rebuild_tensor_v2\n" + pickle.MARK + storage,
        _pushed(shape) + _pushed((*shape[1:], 1)) + pickle.NEWFALSE + hooks + pickle.TUPLE
        + pickle.REDUCE,
    )  # fmt: skip


def _member(name: str) -> zipfile.ZipInfo:
    """A file of the archive, with the same date whenever it is made."""
    return zipfile.ZipInfo(f"archive/{name}")


def _aligned(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """A file of the archive whose content begins at a multiple of 64 bytes."""
    member = _member(name)
    assert archive.fp is not None
    header = 30 + len(member.filename) + 20  # with the field of the sizes of large files
    padding = -(archive.fp.tell() + header + 4) % _ALIGNMENT
    member.extra = struct.pack("<HH", 0x4246, padding) + bytes(padding)
    return member
