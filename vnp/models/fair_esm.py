"""fair-esm's own ESM-2 files, ``esm2_t33_650M_UR50D.pt`` and the others, as torch hub keeps them.

Each holds the settings of its training, which are not looked at, and under ``model`` a state dict
with fairseq's names. These are the same tensors as in the Hugging Face files, under other names,
and some in float16, which the Hugging Face files hold as float32.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vnp.models.errors import TorchFileError, UnsafeTorchFileError, UnsafeWeightsError, WeightsError
from vnp.models.torch_files import load_torch_file

_PREFIX = re.compile(r"^(encoder\.sentence_encoder\.|encoder\.)")
_LAYER = re.compile(r"^layers\.(\d+)\.")
_PARTS = {
    "self_attn.q_proj": "attention.self.query",
    "self_attn.k_proj": "attention.self.key",
    "self_attn.v_proj": "attention.self.value",
    "self_attn.out_proj": "attention.output.dense",
    "self_attn.rot_emb": "attention.self.rotary_embeddings",
    "self_attn_layer_norm": "attention.LayerNorm",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
    "final_layer_norm": "LayerNorm",
}
_OUTER = {
    "embed_tokens": "embeddings.word_embeddings",
    "emb_layer_norm_after": "encoder.emb_layer_norm_after",
}
_HEADS = ("lm_head.", "contact_head.")


class _Settings:
    """Stands in for argparse.Namespace: holds the settings of the training, unread."""


def read(path: Path) -> dict[str, Tensor]:
    """Read the tensors as in the Hugging Face files, names and float32, without executing the file.

    So they are the same model to a store. Those in float16 take twice their room in memory.

    Raises
    ------
    WeightsError
        If the file is damaged or holds something else.
    UnsafeWeightsError
        If it names more than tensors and settings.
    """
    try:
        content = load_torch_file(path, stand_ins={"argparse.Namespace": _Settings}, mapped=True)
    except UnsafeTorchFileError as error:
        raise UnsafeWeightsError(str(error)) from None
    except TorchFileError as error:
        raise WeightsError(f"{error}; get the file again") from None
    state = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise WeightsError(f"{path} is not a file of fair-esm: it has no state dict 'model'")
    names = {_PREFIX.sub("", name): tensor for name, tensor in state.items()}
    return {
        _renamed(name): tensor.float() if tensor.dtype == torch.float16 else tensor
        for name, tensor in names.items()
        if not name.startswith(_HEADS)
    }


def _renamed(name: str) -> str:
    """Name of a tensor in the Hugging Face files; one that is not known stays as it is."""
    part, _, kind = name.rpartition(".")
    if part in _OUTER:
        return f"{_OUTER[part]}.{kind}"
    layer = _LAYER.match(name)
    if layer is None:
        return name
    part = part.removeprefix(layer[0])
    return f"encoder.layer.{layer[1]}.{_PARTS.get(part, part)}.{kind}"
