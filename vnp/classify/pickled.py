"""Published classifier files, which are whole pickled modules, as tensors.

``torch.save(model)`` writes a pickle that names classes, above all ``MLPClassifier`` of the script
that was run, or of a module of one of VirNucPro's ports. The safe reader of torch files
(`vnp.models.torch_files`) builds inert stand-ins in their place, and what the file gave them is
read here. State dicts are read too, alone or in the dictionary of a checkpoint, and modules and
state dicts of ``DataParallel``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vnp.classify.mlp import EPS, ClassifierError
from vnp.models.errors import TorchFileError, UnsafeTorchFileError
from vnp.models.misnamed import kind_of_other
from vnp.models.torch_files import load_torch_file


class UnsafeClassifierError(ClassifierError):
    """The file names something other than the parts of a classifier, and was not executed."""


class _Layer:
    """Stands in for a class of torch: holds the attributes that the file gives it, does nothing."""


class _BatchNorm(_Layer): ...


class _Classifier(_Layer): ...


class _DataParallel(_Layer): ...


_STAND_INS: dict[str, type[_Layer]] = {
    "*.MLPClassifier": _Classifier,
    "torch.nn.parallel.data_parallel.DataParallel": _DataParallel,
    "torch.nn.parallel.distributed.DistributedDataParallel": _DataParallel,
    "torch.nn.modules.linear.Linear": _Layer,
    "torch.nn.modules.batchnorm.BatchNorm1d": _BatchNorm,
    "torch.nn.modules.dropout.Dropout": _Layer,
    "torch.nn.modules.activation.ReLU": _Layer,
}


_CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model")
_FIRST = "hidden_layer.weight"


def read_pickled(path: Path) -> tuple[dict[str, Tensor], object]:
    """Read a module or a state dict written by ``torch.save``, without executing any of it.

    Returns the tensors by dotted name, as a state dict has them, and ``eps`` of the batch norm as
    the file states it, unchecked (torch's own for a state dict). `UnsafeClassifierError` says what
    else the file names; `ClassifierError` if it holds neither a module nor a state dict.
    """
    if (other := kind_of_other(path)) is not None:
        raise ClassifierError(f"{path} is {other}")
    try:
        content = load_torch_file(path, stand_ins=_STAND_INS)
    except UnsafeTorchFileError as error:
        raise UnsafeClassifierError(str(error)) from None
    except TorchFileError as error:
        raise ClassifierError(f"{error}; get the classifier again") from None
    if isinstance(content, Mapping):
        keys = [key for key in _CHECKPOINT_KEYS if isinstance(content.get(key), Mapping | _Layer)]
        if len(keys) > 1:
            raise ClassifierError(f"{path} holds several models, {' and '.join(keys)}: keep one")
        content = content[keys[0]] if keys else content
    if isinstance(content, _DataParallel):
        content = _mapping(content, "_modules", path).get("module")
    if isinstance(content, _Classifier):
        return _of_module(content, path)
    if not isinstance(content, Mapping):
        kind = type(content).__name__.lstrip("_")
        raise ClassifierError(f"{path} holds a {kind}, neither a classifier nor its state dict")
    if not all(isinstance(n, str) and isinstance(t, Tensor) for n, t in content.items()):
        raise ClassifierError(f"{path} is not a state dict: it does not map names to tensors")
    # DataParallel, torch.compile and others write the same prefix before every name.
    anchor = next((name for name in content if name.endswith(_FIRST)), _FIRST)
    prefix = anchor.removesuffix(_FIRST)
    if not all(name.startswith(prefix) for name in content):
        prefix = ""
    return {name.removeprefix(prefix): tensor.detach() for name, tensor in content.items()}, EPS


def _of_module(module: _Classifier, path: Path) -> tuple[dict[str, Tensor], object]:
    """Tensors of the layers by dotted name, and the batch norm's eps."""
    tensors: dict[str, Tensor] = {}
    eps: object = EPS
    for name, layer in _mapping(module, "_modules", path).items():
        if not isinstance(layer, _Layer) or not isinstance(name, str):
            raise ClassifierError(f"{path}: its attribute {name!r} is not a layer of a classifier")
        if isinstance(layer, _BatchNorm):
            eps = vars(layer).get("eps", EPS)
        for kind in ("_parameters", "_buffers"):
            for key, tensor in _mapping(layer, kind, path).items():
                if isinstance(tensor, Tensor):
                    tensors[f"{name}.{key}"] = tensor.detach()
    return tensors, eps


def _mapping(part: _Layer, key: str, path: Path) -> Mapping[Any, Any]:
    value = vars(part).get(key, {})
    if not isinstance(value, Mapping):
        raise ClassifierError(f"{path}: {key} of a layer is not a mapping")
    return value
