"""Weight files as people have them: fair-esm's, prefixed, without an index, or none at all."""

import pytest
import torch

from tests.vnp.models.checkpoints import (
    config_of,
    random_state,
    tiny,
    write_checkpoint,
    write_fair_esm,
)
from vnp.inference.load import naming_of
from vnp.models import fair_esm, files, weights
from vnp.models.errors import UnsafeWeightsError, WeightsError, WeightsNotFoundError

SPEC = tiny("esm2", repo="facebook/esm2_t2_tiny_UR50D")
FAIR_NAME = "esm2_t2_tiny_UR50D.pt"


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))


@pytest.mark.parametrize("prefix", ["encoder.sentence_encoder.", "encoder.", ""])
def test_fair_esm_files_are_the_same_model_as_the_hugging_face_files(tmp_path, prefix):
    state = random_state(SPEC)
    write_checkpoint(tmp_path / "hf" / "here", SPEC, random_state(SPEC, prefix=True))
    theirs = weights.read([tmp_path / "hf/here/model.safetensors"], naming_of(SPEC), source="hf")
    write_fair_esm(tmp_path / "torch/hub/checkpoints" / FAIR_NAME, state, prefix=prefix)
    found = files.locate(SPEC, download=False)
    assert (found.origin, found.revision) == ("torch hub", "local")
    ours = weights.read(found.tensors, naming_of(SPEC), source="fair-esm")
    assert weights.digest(ours) == weights.digest(theirs)


def test_fair_esm_files_in_float16_are_the_same_model(tmp_path):
    half = {name: tensor.half() for name, tensor in random_state(SPEC).items()}
    single = {name: tensor.float() for name, tensor in half.items()}
    path = write_fair_esm(tmp_path / FAIR_NAME, half)
    ours = weights.read([path], naming_of(SPEC), source="fair-esm")
    assert weights.digest(ours) == weights.digest(
        weights.select(single, naming_of(SPEC), source="")
    )


def test_fair_esm_files_are_found_in_a_folder_given(tmp_path):
    write_fair_esm(tmp_path / "mine" / FAIR_NAME, random_state(SPEC))
    found = files.locate(SPEC, weights_dir=tmp_path / "mine")
    assert found.origin == "folder"
    weights.read(found.tensors, naming_of(SPEC), source="mine")


def test_a_fair_esm_file_that_names_more_is_not_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("executed",))

    path = write_fair_esm(tmp_path / FAIR_NAME, random_state(SPEC), extra=Trap())
    with pytest.raises(UnsafeWeightsError, match=r"names (builtins|__builtin__)\.print"):
        fair_esm.read(path)
    torch.save({"other": 1}, path)
    with pytest.raises(WeightsError, match="no state dict 'model'"):
        fair_esm.read(path)


@pytest.mark.parametrize(
    "prefix", ["", "esm.", "model.", "module.", "_orig_mod.", "module._orig_mod.esm.", "a.b.c."]
)
def test_any_prefix_under_which_every_tensor_is_found_will_do(prefix):
    state = random_state(SPEC)
    named = {prefix + name: tensor for name, tensor in state.items()}
    if prefix:
        named["lm_head.bias"] = torch.zeros(33)  # outside
    found = weights.select(named, naming_of(SPEC), source="here")
    assert weights.digest(found) == weights.digest(state)
    named["ema." + next(iter(state))] = torch.zeros(1)  # not the whole model
    if prefix:
        weights.select(named, naming_of(SPEC), source="here")


def test_two_models_in_one_file_are_named():
    state = random_state(SPEC)
    both = {f"{prefix}.{name}": t for prefix in ("student", "teacher") for name, t in state.items()}
    with pytest.raises(WeightsError, match="several times, under 'student.' and 'teacher.'"):
        weights.select(both, naming_of(SPEC), source="here")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty: its download did not finish"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "is an HTML page"),
        (b"<HTML>", "is an HTML page"),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json"])
def test_what_is_in_the_place_of_a_file_is_named(tmp_path, name, content, said):
    kind = "bin" if name.endswith("bin") else "safetensors"
    folder = write_checkpoint(tmp_path / SPEC.name, SPEC, random_state(SPEC), kind=kind)
    (folder / name).write_bytes(content)
    with pytest.raises(WeightsError, match=said):
        weights.read(
            files.locate(SPEC, weights_dir=tmp_path).tensors, naming_of(SPEC), source="here"
        )


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", FAIR_NAME])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_download_that_was_cut_short_is_got_anew(tmp_path, name, share):
    path = tmp_path / SPEC.name / name
    if name == FAIR_NAME:
        path = write_fair_esm(tmp_path / FAIR_NAME, random_state(SPEC))
    else:
        write_checkpoint(path.parent, SPEC, random_state(SPEC), kind=name.rpartition(".")[2])
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    found = files.locate(SPEC, weights_dir=tmp_path)
    with pytest.raises(WeightsError, match=rf"{name}.*get the file again"):
        weights.read(found.tensors, naming_of(SPEC), source="here")


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_without_an_index_are_read_if_all_are_there(tmp_path, kind):
    state = random_state(SPEC)
    folder = write_checkpoint(tmp_path / SPEC.name, SPEC, state, kind=kind, shards=3)
    [index] = folder.glob("*.index.json")
    index.unlink()
    found = files.locate(SPEC, weights_dir=tmp_path)
    read = weights.read(found.tensors, naming_of(SPEC), source="here")
    assert weights.digest(read) == weights.digest(state)
    sorted(folder.glob(f"*.{kind}"))[1].unlink()
    with pytest.raises(WeightsNotFoundError, match="of 3 shards without an index 2 are missing"):
        files.locate(SPEC, weights_dir=tmp_path)
    assert config_of(SPEC)["model_type"] == "esm"
