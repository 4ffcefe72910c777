import json
import os
import re
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HTTPError  # of httpx, or of httpx2

from store.errors import UsageError
from tests.vnp.models.checkpoints import config_of, random_state, tiny, write_checkpoint
from vnp.models import files
from vnp.models.errors import UnsafeWeightsError, WeightsError, WeightsNotFoundError

ESM = tiny("esm2")
DNA = tiny("mosaicbert", repo="someone/Some-DNA")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def empty_offline_cache(tmp_path, monkeypatch):
    """An empty cache and no network, whatever the machine has."""
    cache = tmp_path / "hf-cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def into_cache(cache, spec):
    """Lay out a snapshot as the hub client does; returns its folder."""
    repo = cache / f"models--{spec.repo.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    return repo / "snapshots" / COMMIT


@pytest.mark.parametrize("place", ["tiny_esm2", "Some-Model", "."])
def test_folder_given(tmp_path, place):
    folder = write_checkpoint(tmp_path / "w" / place, ESM, random_state(ESM))
    found = files.locate(ESM, weights_dir=tmp_path / "w")
    assert found.folder.resolve() == folder.resolve()
    assert [path.name for path in found.tensors] == ["model.safetensors"]
    assert (found.origin, found.revision, found.tokenizer) == ("folder", "local", None)


def test_folder_of_one_model_serves_only_its_architecture(tmp_path):
    write_checkpoint(tmp_path / "w", DNA, random_state(DNA))
    said = []
    with pytest.raises(WeightsNotFoundError):
        files.locate(ESM, weights_dir=tmp_path / "w", warn=said.append)
    assert len(said) == 1
    assert "tiny_esm2 is not in" in said[0]
    assert files.locate(DNA, weights_dir=tmp_path / "w").tokenizer == tmp_path / "w/tokenizer.json"


def test_folder_that_does_not_exist(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        files.locate(ESM, weights_dir=tmp_path / "nowhere")


def test_cache(empty_offline_cache):
    write_checkpoint(into_cache(empty_offline_cache, ESM), ESM, random_state(ESM))
    found = files.locate(ESM)
    assert (found.origin, found.revision) == ("cache", COMMIT)


def test_cache_by_environment_offline_in_a_fresh_process(tmp_path):
    spec = tiny("esm2", name="esm2_8m")
    write_checkpoint(into_cache(tmp_path / "hub", spec), spec, random_state(spec))
    code = (
        "from tests.vnp.models.checkpoints import tiny\n"
        "from vnp.models import files\n"
        "print(files.locate(tiny('esm2', name='esm2_8m')).revision)"
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == COMMIT, done.stderr


def test_missing_weights_say_how_to_get_them():
    with pytest.raises(WeightsNotFoundError) as caught:
        files.locate(ESM)
    message = str(caught.value)
    assert "HF_HUB_OFFLINE is set" in message
    assert "hf download someone/Some-Model" in message
    assert "--local-dir DIR/tiny_esm2" in message
    assert "--weights DIR" in message
    assert "\n" not in message


def test_looking_without_downloading(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def fail(*_args, **_kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(WeightsNotFoundError, match="hf download"):
        files.locate(ESM, download=False)


def test_incomplete_cache_is_told(empty_offline_cache):
    snapshot = into_cache(empty_offline_cache, ESM)
    write_checkpoint(snapshot, ESM, random_state(ESM), shards=3)
    (snapshot / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(WeightsNotFoundError, match=r"not whole.*model-00002-of-00003"):
        files.locate(ESM)


@pytest.mark.parametrize("error", [OSError("disk full"), HTTPError("too slow")])
def test_failed_download_is_one_sentence(monkeypatch, error):
    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(WeightsNotFoundError, match=f"{error}.*hf download"):
        files.locate(ESM)


def hub(monkeypatch, cache, repository):
    """Stand in for the hub: serves the files of a folder that match the patterns asked for."""
    snapshot = into_cache(cache, ESM)
    served = []

    def snapshot_download(_repo, *, revision, allow_patterns):
        assert revision == "main"
        snapshot.mkdir(parents=True, exist_ok=True)
        names = [path.name for path in repository.iterdir()]
        for name in huggingface_hub.utils.filter_repo_objects(names, allow_patterns=allow_patterns):
            (snapshot / name).write_bytes((repository / name).read_bytes())
            served.append(name)
        return str(snapshot)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return served


@pytest.mark.parametrize("kinds", [["safetensors"], ["bin"], ["bin", "safetensors"]])
def test_download_takes_data_only_and_safetensors_first(
    tmp_path, monkeypatch, empty_offline_cache, kinds
):
    repository = tmp_path / "repository"
    for kind in kinds:
        write_checkpoint(repository, ESM, random_state(ESM), kind=kind)
    for name in ("modeling.py", "training_args.bin", "tf_model.h5", "notes.md"):
        (repository / name).write_text("raise SystemExit('executed')")
    served = hub(monkeypatch, empty_offline_cache, repository)
    found = files.locate(ESM)
    wanted = "model.safetensors" if "safetensors" in kinds else "pytorch_model.bin"
    assert set(served) == {"config.json", wanted}
    assert (found.origin, found.revision) == ("hub", COMMIT)
    assert [path.name for path in found.tensors] == [wanted]


def test_repository_without_weights(tmp_path, monkeypatch, empty_offline_cache):
    repository = write_checkpoint(tmp_path / "repository", ESM, random_state(ESM))
    (repository / "model.safetensors").unlink()
    hub(monkeypatch, empty_offline_cache, repository)
    with pytest.raises(WeightsNotFoundError, match="neither model"):
        files.locate(ESM)


def test_shards_in_both_formats(tmp_path):
    for kind in ("safetensors", "bin"):
        write_checkpoint(tmp_path / kind / "tiny_esm2", ESM, random_state(ESM), kind=kind, shards=3)
        found = files.locate(ESM, weights_dir=tmp_path / kind)
        assert len(found.tensors) == 3


@pytest.mark.parametrize(
    "shard",
    [
        "../elsewhere.safetensors",
        "/etc/passwd.safetensors",
        "sub/model.safetensors",
        "..\\model.safetensors",
        "..",
        ".hidden.safetensors",
        "model.bin",
        "",
        7,
        None,
    ],
)
def test_index_that_leaves_its_folder_is_refused(tmp_path, shard):
    folder = write_checkpoint(tmp_path / "tiny_esm2", ESM, random_state(ESM), shards=2)
    (tmp_path / "elsewhere.safetensors").write_bytes(b"secret")
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["embeddings.word_embeddings.weight"] = shard
    index.write_text(json.dumps(content))
    with pytest.raises(UnsafeWeightsError, match="names the shard"):
        files.locate(ESM, weights_dir=tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": {}}', '{"weight_map": 3}', "\udcff"])
def test_broken_index(tmp_path, text):
    folder = write_checkpoint(tmp_path / "tiny_esm2", ESM, random_state(ESM), shards=2)
    raw = text.encode(errors="surrogateescape")
    (folder / "model.safetensors.index.json").write_bytes(raw)
    with pytest.raises(WeightsError, match=r"index\.json"):
        files.locate(ESM, weights_dir=tmp_path)


@pytest.mark.parametrize(
    ("spec", "change", "said"),
    [
        (ESM, {"hidden_size": 64}, "hidden_size is 64, not 32"),
        (ESM, {"num_hidden_layers": 3}, "num_hidden_layers is 3, not 2"),
        (ESM, {"num_attention_heads": 8}, "num_attention_heads is 8, not 4"),
        (ESM, {"token_dropout": False}, "token_dropout is False, not True"),
        (ESM, {"position_embedding_type": "absolute"}, "position_embedding_type is 'absolute'"),
        (ESM, {"layer_norm_eps": 1e-12}, "layer_norm_eps is 1e-12, not 1e-05"),
        (ESM, {"emb_layer_norm_before": True}, "emb_layer_norm_before is True"),
        (ESM, {"model_type": "bert"}, "model_type is 'bert', not 'esm'"),
        (DNA, {"vocab_size": 4096}, "vocab_size is 4096, not 512"),
        (DNA, {"hidden_act": "relu"}, "hidden_act is 'relu', not 'gelu'"),
    ],
)
def test_config_of_another_model(tmp_path, spec, change, said):
    folder = write_checkpoint(tmp_path / spec.name, spec, {})
    (folder / "config.json").write_text(json.dumps(config_of(spec) | change))
    with pytest.raises(WeightsError, match=re.escape(said)) as caught:
        files.locate(spec, weights_dir=tmp_path)
    assert spec.repo in str(caught.value)


def test_config_without_optional_keys(tmp_path):
    folder = write_checkpoint(tmp_path / DNA.name, DNA, random_state(DNA))
    config = config_of(DNA)
    del config["hidden_act"], config["layer_norm_eps"]
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "x.py"}}))
    assert files.locate(DNA, weights_dir=tmp_path).folder == folder


def test_named_folder_that_is_not_whole(tmp_path):
    folder = write_checkpoint(tmp_path / DNA.name, DNA, random_state(DNA))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(WeightsNotFoundError, match=r"tokenizer\.json is missing; on a machine"):
        files.locate(DNA, weights_dir=tmp_path)
