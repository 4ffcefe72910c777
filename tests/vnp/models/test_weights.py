import pickle

import pytest
import torch
from safetensors.torch import save_file

from tests.vnp.models.checkpoints import random_state, tiny, write_checkpoint
from vnp.inference.load import naming_of
from vnp.models import demo, files, registry, weights
from vnp.models.errors import UnsafeWeightsError, WeightsError

SPECS = {"esm2": tiny("esm2"), "mosaicbert": tiny("mosaicbert")}


def read(folder, spec):
    found = files.locate(spec, weights_dir=folder)
    return weights.read(found.tensors, naming_of(spec), source=str(folder))


@pytest.mark.parametrize("architecture", SPECS)
def test_same_weights_same_hash_in_every_form(tmp_path, architecture):
    spec = SPECS[architecture]
    plain = random_state(spec)
    unused = {
        "esm2": {
            "lm_head.bias": torch.ones(33),
            "esm.contact_head.regression.weight": torch.ones(1, 8),
            "esm.embeddings.position_ids": torch.arange(4),
            "esm.embeddings.position_embeddings.weight": torch.ones(4, 32),
            "esm.encoder.layer.1.attention.self.rotary_embeddings.inv_freq": torch.ones(4),
            "esm.pooler.dense.weight": torch.ones(32, 32),
        },
        "mosaicbert": {
            "cls.predictions.decoder.bias": torch.ones(512),
            "bert.pooler.dense.weight": torch.ones(32, 32),
        },
    }[architecture]
    forms = {
        "whole": (plain, "safetensors", 1),
        "shards": (plain, "safetensors", 3),
        "bin": (plain, "bin", 1),
        "bin-shards": (random_state(spec, prefix=True), "bin", 2),
        "headed": (random_state(spec, prefix=True) | unused, "safetensors", 1),
        "reversed": (dict(reversed(plain.items())), "safetensors", 1),
    }
    hashes = {}
    for form, (state, kind, shards) in forms.items():
        write_checkpoint(tmp_path / form / spec.name, spec, state, kind=kind, shards=shards)
        hashes[form] = weights.digest(read(tmp_path / form, spec))
    assert len(set(hashes.values())) == 1, hashes


def test_hash_sees_names_shapes_dtypes_and_bytes():
    base = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2)}
    others = [
        {"a": base["a"], "c": base["b"]},
        {"a": base["a"].reshape(3, 2), "b": base["b"]},
        {"a": base["a"], "b": base["b"].to(torch.bfloat16)},
        {"a": base["a"], "b": torch.tensor([0.0, -0.0])},
    ]
    hashes = {weights.digest(tensors) for tensors in [base, *others]}
    assert len(hashes) == 1 + len(others)
    strided = {"a": base["a"].T.contiguous().T, "b": base["b"]}
    assert weights.digest(strided) == weights.digest(base)


def test_demo_weights_never_change():
    """Stores made with the demo models name these hashes: another is another model."""
    hashes = {}
    for spec in registry.recipe("demo"):
        naming = naming_of(spec)
        tensors = weights.select(demo.tensors_of(spec, naming), naming, source="demo")
        hashes[spec.name] = weights.digest(tensors)
    assert hashes == {
        "demo_dnabert_s": "sha256:56f4dfcc0051de5128c99cf95bd12b138c65df3704dc7d75ae7128748d59d5b0",
        "demo_esm2": "sha256:e34649c80c5fa3bd43294ce12e030d6e10acae73db8f7cedd5d52137476cf9ae",
    }


class Touch:
    """Unpickled by a careless reader, it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("legacy", [False, True])
def test_hostile_bin_is_refused_and_not_executed(tmp_path, legacy):
    spec = SPECS["esm2"]
    folder = write_checkpoint(tmp_path / spec.name, spec, random_state(spec), kind="bin")
    victim = tmp_path / "executed"
    state = random_state(spec) | {"payload": Touch(victim)}
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnsafeWeightsError, match="something other than tensors"):
        read(tmp_path, spec)
    assert not victim.exists()


def test_plain_pickle_is_refused_and_not_executed(tmp_path):
    spec = SPECS["esm2"]
    folder = write_checkpoint(tmp_path / spec.name, spec, random_state(spec), kind="bin")
    victim = tmp_path / "executed"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Touch(victim)))
    with pytest.raises(WeightsError):
        read(tmp_path, spec)
    assert not victim.exists()


def test_legacy_bin_is_read(tmp_path):
    spec = SPECS["esm2"]
    folder = write_checkpoint(tmp_path / spec.name, spec, random_state(spec), kind="bin")
    expected = weights.digest(read(tmp_path, spec))
    torch.save(
        random_state(spec), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False
    )
    assert weights.digest(read(tmp_path, spec)) == expected


def test_python_files_are_never_imported(tmp_path):
    spec = SPECS["mosaicbert"]
    folder = write_checkpoint(tmp_path / spec.name, spec, random_state(spec))
    victim = tmp_path / "executed"
    for name in ("bert_layers.py", "configuration_bert.py", "__init__.py", "torch.py"):
        (folder / name).write_text(f"open({str(victim)!r}, 'w').close()")
    read(tmp_path, spec)
    assert not victim.exists()


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("damage", ["cut", "empty", "zeros"])
def test_damaged_file_is_named(tmp_path, kind, damage):
    spec = SPECS["esm2"]
    folder = write_checkpoint(tmp_path / spec.name, spec, random_state(spec), kind=kind)
    path = folder / ("model.safetensors" if kind == "safetensors" else "pytorch_model.bin")
    size = path.stat().st_size
    path.write_bytes(
        {"cut": path.read_bytes()[: size // 2], "empty": b"", "zeros": bytes(size)}[damage]
    )
    with pytest.raises(WeightsError, match=path.name):
        read(tmp_path, spec)


def test_bin_that_is_no_state_dict(tmp_path):
    spec = SPECS["esm2"]
    folder = write_checkpoint(tmp_path / spec.name, spec, random_state(spec), kind="bin")
    torch.save([1, 2], folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="not a state dict"):
        read(tmp_path, spec)


def test_repeated_tensor_across_shards(tmp_path):
    spec = SPECS["esm2"]
    folder = write_checkpoint(tmp_path / spec.name, spec, random_state(spec), shards=2)
    save_file(random_state(spec), folder / "model-00002-of-00002.safetensors")
    with pytest.raises(WeightsError, match="repeats"):
        read(tmp_path, spec)


def altered(spec, **changes):
    """Random weights with some replaced, or removed where the change is None."""
    state = random_state(spec) | {name.replace("__", "."): new for name, new in changes.items()}
    return {name: tensor for name, tensor in state.items() if tensor is not None}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"encoder__layer__1__output__dense__bias": None}, "lacks.*layer.1.output.dense.bias"),
        ({"encoder__layer__9__output__dense__bias": torch.ones(3)}, "does not have.*layer.9"),
        (
            {"encoder__layer__0__intermediate__dense__weight": torch.ones(4, 4)},
            r"layer.0.intermediate.dense.weight has the shape \(4, 4\), not \(128, 32\)",
        ),
        ({"encoder__layer__0__output__dense__bias": torch.ones(32, dtype=torch.int8)}, "int8"),
    ],
)
def test_wrong_tensors_are_named(changes, said):
    spec = SPECS["esm2"]
    with pytest.raises(WeightsError, match=said):
        weights.select(altered(spec, **changes), naming_of(spec), source="x")


def test_gamma_and_beta_are_weight_and_bias():
    spec = SPECS["mosaicbert"]
    plain = random_state(spec)
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in plain.items()
    }
    assert renamed.keys() != plain.keys()
    naming = naming_of(spec)
    read_back = weights.select(renamed, naming, source="x")
    assert weights.digest(read_back) == weights.digest(plain)
    with pytest.raises(WeightsError, match="under two names"):
        weights.select(plain | renamed, naming, source="x")


def test_many_missing_tensors_are_counted():
    spec = SPECS["esm2"]
    with pytest.raises(WeightsError, match=r"and \d+ more"):
        weights.select({}, naming_of(spec), source="x")
