"""Export as VirNucPro's ``.pt`` files, in one pass and bounded memory.

``torch.save`` wants the whole object in memory, which for lists of Python floats is sixteen times
the numbers. A ``.pt`` file is a zip of a pickle and of the tensors' bytes::

    archive/data.pkl     the object; a tensor in it refers to a storage by its key
    archive/byteorder    "little"
    archive/data/0       float32 numbers of storage 0, all tensors end to end
    archive/version      "3"

so the pickle's operations are written here as they come. They are those that ``torch.save`` would
write, and ``torch.load(..., weights_only=True)`` accepts them.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from store.errors import DataError, UsageError
from vnp.exchange.selection import Selection
from vnp.models import registry

Layout = Literal["DNABERT_S", "ESM", "merged"]
_ALIGNMENT = 64  # of a storage in the file: torch can then map it into memory
_APPENDED = 1000  # items that one operation appends to a list
_INPUTS = {"DNABERT_S": "nucleotide", "ESM": "protein"}


def models_of_layout(layout: Layout, models: tuple[str, ...]) -> tuple[str, ...]:
    """Choose the models of a store that a layout holds.

    Raises
    ------
    UsageError
        If the store has none that the layout is for, or several.
    """
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
    tensor(n, columns)}``.

    Raises
    ------
    DataError
        If two records have the same id: VirNucPro goes by them.
    """
    _check_unique(selection)
    rows, columns = len(selection), selection.view.shape[1]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with archive.open(_member("data.pkl"), "w", force_zip64=True) as file:
            for part in _pickled(selection, layout, rows, columns):
                file.write(part)
        archive.writestr(_member("byteorder"), b"little")
        if layout != "DNABERT_S":
            with archive.open(_aligned(archive, "data/0"), "w", force_zip64=True) as file:
                for batch in selection.batches():
                    file.write(np.ascontiguousarray(batch.values("<f4")).tobytes())
        archive.writestr(_member("version"), b"3\n")


def _check_unique(selection: Selection) -> None:
    seen: set[str] = set()
    for batch in selection.batches():
        for record in batch.ids:
            if record in seen:
                raise DataError(
                    f"two of the records to export are called {record}; tell them apart by their "
                    "samples with --ids qualified"
                )
            seen.add(record)


def _pickled(selection: Selection, layout: Layout, rows: int, columns: int) -> Iterator[bytes]:
    """Operations of the pickle (protocol 2)."""
    ids = (_text(record) for batch in selection.batches() for record in batch.ids)
    yield pickle.PROTO + b"\x02" + pickle.EMPTY_DICT + pickle.MARK
    yield _text({"DNABERT_S": "nucleotide", "ESM": "proteins", "merged": "ids"}[layout])
    yield from _list(ids)
    yield _text("data")
    if layout == "merged":
        yield _tensor(rows * columns, offset=0, shape=(rows, columns))
    elif layout == "ESM":
        yield from _list(
            _tensor(rows * columns, offset=row * columns, shape=(columns,)) for row in range(rows)
        )
    else:
        yield from _list(_labelled(selection))
    yield pickle.SETITEMS + pickle.STOP


def _labelled(selection: Selection) -> Iterator[bytes]:
    """Items ``{'label': id, 'mean_representation': [floats]}``."""
    label, mean = _text("label"), _text("mean_representation")
    for batch in selection.batches():
        for record, floats in zip(batch.ids, _floats(batch.values("f8")), strict=True):
            yield b"".join(
                (
                    pickle.EMPTY_DICT + pickle.MARK + label,
                    _text(record),
                    mean + pickle.EMPTY_LIST + pickle.MARK,
                    floats,
                    pickle.APPENDS + pickle.SETITEMS,
                )
            )


def _floats(values: NDArray[np.float64]) -> Iterator[bytes]:
    """For each row the operations that push its numbers, laid out for all of them at once."""
    rows, columns = values.shape
    pushed = np.empty((rows, columns, 9), dtype=np.uint8)
    pushed[:, :, 0] = pickle.BINFLOAT[0]
    pushed[:, :, 1:] = values.astype(">f8").view(np.uint8).reshape(rows, columns, 8)
    for row in pushed:
        yield row.tobytes()


def _list(items: Iterable[bytes]) -> Iterator[bytes]:
    yield pickle.EMPTY_LIST
    open_ = False
    for number, item in enumerate(items):
        if number % _APPENDED == 0:
            yield (pickle.APPENDS if open_ else b"") + pickle.MARK
            open_ = True
        yield item
    if open_:
        yield pickle.APPENDS


def _tensor(numbers: int, *, offset: int, shape: tuple[int, ...]) -> bytes:
    """Operations that make a tensor of a part of storage 0, which holds ``numbers`` numbers."""
    stride = (shape[1], 1) if len(shape) == 2 else (1,)
    storage = (
        pickle.MARK + _text("storage") + _global("torch", "FloatStorage") + _text("0")
        + _text("cpu") + _int(numbers) + pickle.TUPLE + pickle.BINPERSID
    )  # fmt: skip
    hooks = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    return (
        _global("torch._utils", "_rebuild_tensor_v2")
        + pickle.MARK + storage + _int(offset) + _tuple(shape) + _tuple(stride)
        + pickle.NEWFALSE + hooks + pickle.TUPLE + pickle.REDUCE
    )  # fmt: skip


def _text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(raw)) + raw


def _int(value: int) -> bytes:
    raw = value.to_bytes(9, "little", signed=True)
    return pickle.LONG1 + bytes([len(raw)]) + raw


def _tuple(values: tuple[int, ...]) -> bytes:
    return pickle.MARK + b"".join(map(_int, values)) + pickle.TUPLE


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


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
