"""Reading VirNucPro's result files as data: ids and rows, held against each other.

A ``.pt`` file is a pickle, and a pickle can run code. So its operations are walked first, which
runs nothing, and every name in them is held to a short list; then torch's restricted reader
(``weights_only``) builds the lists and tensors. Three kinds are told apart by their keys, not by
the file's name::

    nucleotide  {'nucleotide': ids, 'data': [{'label': id, 'mean_representation': floats}]}
    protein     {'proteins': ids, 'data': [tensor(dim)]}
    merged      {'ids': ids, 'data': tensor(n, columns)}       (and 'labels' for training)
"""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from store.errors import DataError

Kind = Literal["nucleotide", "protein", "merged"]
F32 = NDArray[np.float32]

_KEYS: dict[str, Kind] = {"nucleotide": "nucleotide", "proteins": "protein", "ids": "merged"}
_ALLOWED = re.compile(
    r"collections OrderedDict"
    r"|torch\._utils _rebuild_tensor(_v2)?"
    r"|torch (Float|Double|Half|BFloat16|Long|Int)Storage"
    r"|torch Size"
)
# Operations that find a name otherwise than by spelling it; torch.save uses none of them.
_INDIRECT = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX"}
_LEGACY_PICKLES = 5  # a file of torch before 1.6: magic, protocol, system, object, storage names


class ResultFileError(DataError):
    """A result file cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class ResultFile:
    """Rows of one VirNucPro result file."""

    path: Path
    kind: Kind
    ids: list[str]  # record ids, each once
    values: F32  # shape (n, columns), finite


def read_results(path: Path) -> ResultFile:
    """Read one file.

    Raises
    ------
    ResultFileError
        If it cannot be read, names anything but numbers and texts, or if its rows and ids do not
        belong together.
    """
    content = _load(path)
    kinds = [key for key in _KEYS if key in content]
    if len(kinds) != 1 or "data" not in content:
        keys = ", ".join(map(str, list(content)[:5])) or "none"
        raise ResultFileError(
            f"{path} is no result file of VirNucPro: its keys are {keys}, where 'nucleotide', "
            "'proteins' or 'ids' belongs beside 'data'"
        )
    kind, ids, data = _KEYS[kinds[0]], content[kinds[0]], content["data"]
    if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
        raise ResultFileError(f"{path}: {kinds[0]!r} is no list of record ids")
    if not isinstance(data, list | torch.Tensor):
        raise ResultFileError(f"{path}: 'data' is no list of rows and no tensor")
    if not ids:
        raise ResultFileError(f"{path} holds no record at all: it is a run that failed; drop it")
    if len(data) != len(ids):
        cause = (
            "VirNucPro's merge left rows out that one side lacked and kept their ids, so rows and "
            "ids have come apart and no row can be trusted; give the _DNABERT_S and _ESM files "
            "instead"
            if kind == "merged"
            else "the file is incomplete"
        )
        raise ResultFileError(f"{path} has {len(ids):,} ids but {len(data):,} rows: {cause}")
    values = _rows(path, kind, ids, data)
    seen: dict[str, int] = {}
    for number, item in enumerate(ids, start=1):
        first = seen.setdefault(item, number)
        if first != number:
            raise ResultFileError(f"{path}: rows {first} and {number} are both called {item}")
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise ResultFileError(
            f"{path}: row {bad[0] + 1} ({ids[bad[0]]}) holds NaN or infinity, as do "
            f"{len(bad) - 1:,} others"
        )
    return ResultFile(path, kind, ids, values)


def _rows(path: Path, kind: Kind, ids: list[str], data: Any) -> F32:
    """Rows as one matrix; the ids that stand beside single rows are compared."""
    if kind == "merged":
        if not isinstance(data, torch.Tensor) or data.ndim != 2:
            raise ResultFileError(f"{path}: 'data' is no tensor of rows and columns")
        merged: F32 = data.to(torch.float32).numpy()
        return merged
    out: F32 | None = None
    for number, (item, row) in enumerate(zip(ids, data, strict=True), start=1):
        if kind == "nucleotide":
            if not isinstance(row, dict) or "mean_representation" not in row:
                raise ResultFileError(f"{path}: row {number} ({item}) has no mean_representation")
            if row.get("label") != item:
                raise ResultFileError(
                    f"{path}: row {number} is labelled {row.get('label')!r} where its id is "
                    f"{item!r}: rows and ids have come apart"
                )
            row = row["mean_representation"]
        try:
            values = np.asarray(row, dtype=np.float32)
        except (TypeError, ValueError):
            values = np.empty((0, 0), np.float32)
        if out is None:
            out = np.empty((len(ids), len(values)), np.float32)
        if values.shape != out.shape[1:]:
            raise ResultFileError(
                f"{path}: row {number} ({item}) is no row of {out.shape[1]} numbers"
            )
        out[number - 1] = values
    assert out is not None
    return out


def _load(path: Path) -> dict[Any, Any]:
    try:
        zipped = zipfile.is_zipfile(path)
        _check(path, zipped)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's, of pickles it did not write
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except DataError:
        raise
    except FileNotFoundError:
        raise ResultFileError(f"there is no file {path}") from None
    except Exception as error:  # noqa: BLE001 - a damaged pickle ends in any error there is
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        refused = "; nothing of it was executed" if isinstance(error, pickle.PickleError) else ""
        raise ResultFileError(f"{path} is damaged or no file of torch ({said}){refused}") from None
    if not isinstance(content, dict):
        raise ResultFileError(
            f"{path} is no result file of VirNucPro: it holds a {type(content).__name__}"
        )
    return content


def _check(path: Path, zipped: bool) -> None:
    """Refuse a file whose pickle names anything but tensors' parts."""
    if not zipped:
        with path.open("rb") as file:
            for _ in range(_LEGACY_PICKLES):
                _check_pickle(path, file)
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        pickles = [member for member in members if member.filename.endswith("/data.pkl")]
        if len(pickles) != 1 or any(member.compress_type for member in members):
            raise ResultFileError(f"{path} is a zip archive that torch.save did not write")
        with archive.open(pickles[0]) as member_file:
            _check_pickle(path, member_file)


def _check_pickle(path: Path, file: BinaryIO | Any) -> None:
    for operation, argument, _ in pickletools.genops(file):
        name = operation.name
        if name in _INDIRECT or (name == "GLOBAL" and not _ALLOWED.fullmatch(str(argument))):
            what = str(argument).replace(" ", ".") if name == "GLOBAL" else name
            raise ResultFileError(
                f"{path} names {what}, which is no part of lists and tensors; it was refused and "
                "nothing of it was executed"
            )
