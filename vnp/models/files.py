"""Where a model's files are: a folder given, the Hugging Face cache, or the hub.

Only data files are ever looked at or downloaded, never Python files. Finding them needs neither
torch nor the network when they are on the machine, and reads nothing but names and small JSON::

    --weights DIR   DIR/<model name>/, DIR/<repository name>/, DIR itself, or fair-esm's file in DIR
        |  not there
    cache           $HF_HUB_CACHE, $HF_HOME/hub, ~/.cache/huggingface/hub
        |  not there, or not whole
    torch hub       fair-esm's file of an ESM-2 in $TORCH_HOME/hub/checkpoints, ~/.cache/torch/...
        |  not there
    hub             safetensors if the repository has them, else .bin; into the cache, under the
                    hub client's own locks, so any number of workers may start at once
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from store.errors import UsageError
from vnp.models.errors import UnsafeWeightsError, WeightsError, WeightsNotFoundError
from vnp.models.hub import client_errors
from vnp.models.misnamed import kind_of_other
from vnp.models.spec import ModelSpec

_SMALL = ("config.json", "tokenizer.json")
_SAFETENSORS = ("*.safetensors", "*.safetensors.index.json")
_BIN = ("pytorch_model*.bin", "pytorch_model*.bin.index.json")

Origin = Literal["folder", "cache", "torch hub", "hub"]

_SHARD = re.compile(r"-(\d{1,6})-of-(\d{1,6})\.")

_MODEL_TYPE = {"esm2": "esm", "mosaicbert": "bert", "esmc": "esmc"}  # by architecture


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of one model on this machine."""

    folder: Path  # where they lie
    tokenizer: Path | None  # tokenizer.json; None where the architecture needs none
    tensors: tuple[Path, ...]  # *.safetensors or *.bin, in the order of their names; or one *.pt
    origin: Origin  # which of the places they came from
    revision: str  # commit of the repository, or "local" for a folder given


class _NotHere(Exception):  # noqa: N818 - a signal between the functions here, never seen outside
    """A folder does not hold the model, with the reason."""


def locate(
    spec: ModelSpec,
    *,
    weights_dir: Path | None = None,
    warn: Callable[[str], None] | None = None,
    download: bool = True,
) -> ModelFiles:
    """Find the files of a published model, downloading them if need be.

    ``weights_dir`` is looked in first; ``warn`` is told if it does not hold the model. Raises
    `UsageError` if it is not a folder, `WeightsNotFoundError`, which says how to get the files, if
    they cannot be had, and `WeightsError` if those found are not the model's.
    """
    if weights_dir is not None:
        found = _in_folder(spec, weights_dir)
        if found is not None:
            return found
        if warn is not None:
            warn(f"{spec.name} is not in {weights_dir}; looking in the Hugging Face cache and hub")
    from huggingface_hub import try_to_load_from_cache

    reason = "it is not in the Hugging Face cache"
    config = try_to_load_from_cache(_repo(spec), "config.json", revision=spec.revision)
    if isinstance(config, str):
        snapshot = Path(config).parent
        try:
            return _whole(spec, snapshot, origin="cache", revision=snapshot.name)
        except _NotHere as error:
            reason = f"its copy in the Hugging Face cache is not whole ({error})"
    fair = _fair_esm_file(spec)
    if fair is not None:
        return _of_fair_esm(fair, "torch hub")
    if not download:
        raise _not_found(spec, f"the weights of {spec.name} are not here: {reason}")
    return _downloaded(spec, reason=reason)


def check_config(spec: ModelSpec, path: Path) -> None:
    """Hold a config.json to the registry; a `WeightsError` names all differences at once."""
    config = _read_json(path)
    # The value that the model needs, and what it means if the key is absent.
    wanted: dict[str, tuple[object, object]] = {
        "model_type": (_MODEL_TYPE[spec.architecture], None),
        "hidden_size": (spec.dim, None),
        "num_hidden_layers": (spec.layers, None),
        "num_attention_heads": (spec.heads, None),
        "intermediate_size": (spec.ffn, None),
        "vocab_size": (spec.vocab, None),
    }
    if spec.architecture == "esm2":
        wanted |= {
            "position_embedding_type": ("rotary", "absolute"),
            "token_dropout": (True, False),
            "emb_layer_norm_before": (False, False),
            "layer_norm_eps": (1e-5, 1e-12),
            "rope_theta": (10000.0, 10000.0),
        }
    elif spec.architecture == "esmc":
        wanted |= {
            "hidden_act": ("silu", "silu"),
            "attention_bias": (False, False),
            "mlp_bias": (False, False),
        }
        rope = config.get("rope_parameters")
        if isinstance(rope, dict) and rope.get("rope_type", "default") != "default":
            wanted["rope_parameters"] = ("of the default kind", None)
    else:
        wanted |= {"layer_norm_eps": (1e-12, 1e-12), "hidden_act": ("gelu", "gelu")}
    wrong = []
    for key, (value, default) in wanted.items():
        found = config.get(key)
        if found is None:
            found = default
        if not _same(found, value):
            wrong.append(f"{key} is {found!r}, not {value!r}")
    if wrong:
        raise WeightsError(
            f"{path} does not describe {spec.name}: {'; '.join(wrong)}. "
            f"The files of {spec.name} are in the Hugging Face repository {spec.repo}"
        )


def _not_found(spec: ModelSpec, what: str) -> WeightsNotFoundError:
    """Say what is missing, and how to bring the model onto this machine."""
    revision = "" if spec.revision == "main" else f" --revision {spec.revision}"
    return WeightsNotFoundError(
        f"{what}; on a machine with internet run `hf download {spec.repo}{revision} "
        f"--exclude '*.py' --local-dir DIR/{spec.base}`, then pass `--weights DIR`"
    )


def _repo(spec: ModelSpec) -> str:
    if spec.repo is None:
        raise ValueError(f"{spec.name} has no files: its weights are generated")
    return spec.repo


def _same(found: object, value: object) -> bool:
    if isinstance(value, float) and isinstance(found, int | float):
        return math.isclose(found, value, rel_tol=1e-6)
    return found == value


def _in_folder(spec: ModelSpec, weights_dir: Path) -> ModelFiles | None:
    """Look for the model in the folder the user gave, and in its two likely subfolders."""
    if not weights_dir.is_dir():
        raise UsageError(f"the weights folder {weights_dir} does not exist or is not a folder")
    named = (weights_dir / spec.base, weights_dir / _repo(spec).rpartition("/")[2])
    folder = next((folder for folder in named if folder.is_dir()), weights_dir)
    if folder is weights_dir:
        fair = _fair_esm_file(spec, weights_dir)
        if fair is not None:
            return _of_fair_esm(fair, "folder")
        # A recipe has models of two architectures, and DIR can only be one of them: the other is
        # looked for elsewhere. The same architecture with other shapes is a mistake worth an error.
        config = weights_dir / "config.json"
        if (
            not config.is_file()
            or _read_json(config).get("model_type") != _MODEL_TYPE[spec.architecture]
        ):
            return None
    try:
        return _whole(spec, folder, origin="folder", revision="local")
    except _NotHere as error:
        what = f"{folder} does not hold all files of {spec.name}: {error}"
        raise _not_found(spec, what) from None


def _fair_esm_file(spec: ModelSpec, folder: Path | None = None) -> Path | None:
    """Find fair-esm's file of an ESM-2 in a folder, by default in torch hub's cache."""
    if spec.architecture != "esm2" or spec.repo is None:
        return None
    if folder is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        folder = Path(os.environ.get("TORCH_HOME", cache / "torch")) / "hub" / "checkpoints"
    path = folder / f"{spec.repo.rpartition('/')[2]}.pt"
    return path if path.is_file() else None


def _of_fair_esm(path: Path, origin: Origin) -> ModelFiles:
    return ModelFiles(path.parent, None, (path,), origin, "local")


def _downloaded(spec: ModelSpec, *, reason: str) -> ModelFiles:
    """Fetch the data files of the model into the Hugging Face cache."""
    from huggingface_hub import constants, snapshot_download

    what = f"the weights of {spec.name} cannot be had"
    if constants.is_offline_mode():
        raise _not_found(spec, f"{what}: {reason} and HF_HUB_OFFLINE is set")
    missing = "the repository has no weights"
    try:
        for patterns in (_SAFETENSORS, _BIN):
            snapshot = Path(
                snapshot_download(
                    _repo(spec), revision=spec.revision, allow_patterns=[*_SMALL, *patterns]
                )
            )
            try:
                return _whole(spec, snapshot, origin="hub", revision=snapshot.name)
            except _NotHere as error:
                missing = str(error)
    except client_errors() as error:
        first_line = (str(error) or type(error).__name__).strip().splitlines()[0]
        what += f": {reason} and the download of {spec.repo} failed ({first_line})"
        raise _not_found(spec, what) from error
    raise _not_found(spec, f"{what}: {spec.repo} at {spec.revision}: {missing}")


def _whole(spec: ModelSpec, folder: Path, *, origin: Origin, revision: str) -> ModelFiles:
    """Describe a folder if it has every file that the model needs."""
    config = folder / "config.json"
    if not config.is_file():
        raise _NotHere("config.json is missing")
    check_config(spec, config)
    tokenizer = None
    if spec.architecture == "mosaicbert":
        tokenizer = folder / "tokenizer.json"
        if not tokenizer.is_file():
            raise _NotHere("tokenizer.json is missing")
    return ModelFiles(folder, tokenizer, _tensor_files(folder), origin, revision)


def _tensor_files(folder: Path) -> tuple[Path, ...]:
    """Name the weight files of a folder, safetensors before .bin, one file before shards."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        path, index = folder / name, folder / f"{name}.index.json"
        if path.is_file():
            return (path,)
        if index.is_file():
            shards = _shards(index, suffix=path.suffix)
            absent = [shard.name for shard in shards if not shard.is_file()]
            if absent:
                raise _NotHere(f"{index.name} names {', '.join(absent)}, which is missing")
            return shards
        if loose := sorted(folder.glob(f"{path.stem}-*-of-*{path.suffix}")):
            return _without_index(loose)
    raise _NotHere("neither model.safetensors nor pytorch_model.bin is there, whole or in shards")


def _without_index(shards: list[Path]) -> tuple[Path, ...]:
    """Shards whose index is missing: their names say whether all are there."""
    numbers = [_SHARD.search(shard.name) for shard in shards]
    counts = {int(number[2]) for number in numbers if number is not None}
    have = {int(number[1]) for number in numbers if number is not None}
    if len(counts) != 1 or have - set(range(1, max(counts) + 1)):
        raise _NotHere(f"{shards[0].name} and others have no index, and their numbers do not fit")
    absent = sorted(set(range(1, max(counts) + 1)) - have)
    if absent:
        names = ", ".join(map(str, absent))
        raise _NotHere(f"of {max(counts)} shards without an index {names} are missing")
    return tuple(shards)


def _shards(index: Path, *, suffix: str) -> tuple[Path, ...]:
    """Read the shard names of an index, trusting none of them."""
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, Mapping) or not weight_map:
        raise WeightsError(f"{index} has no weight_map")
    names = set(weight_map.values())
    for name in names:
        plain = (
            isinstance(name, str)
            and name.endswith(suffix)
            and name == Path(name).name
            and "\\" not in name
            and "\0" not in name
            and not name.startswith(".")
        )
        if not plain:
            raise UnsafeWeightsError(
                f"{index} names the shard {name!r}, which is not a {suffix} file in the "
                "same folder; do not use this checkpoint"
            )
    return tuple(index.parent / name for name in sorted(names))


def _read_json(path: Path) -> Mapping[str, object]:
    if (other := kind_of_other(path)) is not None:
        raise WeightsError(f"{path} is {other}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise WeightsError(f"{path} holds no JSON object")
    return value
