"""Encoders that run through transformers: equal to it record by record, and never its code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from store.io.ragged import from_items
from store.open import open_store
from vnp.inference.load import load_encoder
from vnp.models import registry
from vnp.models.errors import RecordTooLongError, WeightsError, WeightsNotFoundError

pytestmark = pytest.mark.slow

transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()

EXAMPLE = Path(registry.__file__).parents[1] / "data" / "lambda_phage.fa.gz"
RESIDUES = "ALGVSREDTIPKFQNYMHWCXBUZO"


def word_tokenizer(words: list[str], *, special: dict[str, str], template: str, whole: bool) -> Any:
    """A tokenizer with one token a word, or a letter."""
    vocabulary = {word: number for number, word in enumerate([*special.values(), *words])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=special["unk_token"]))
    made.pre_tokenizer = (
        pre_tokenizers.Whitespace() if whole else pre_tokenizers.Split("", "isolated")
    )
    used = [(word, vocabulary[word]) for word in special.values() if word in template]
    made.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, **special)


def prot_t5(folder: Path, *, whole: bool = True) -> None:
    """T5's encoder, with residues that must stand apart and an end of sequence alone."""
    tokenizer = word_tokenizer(
        list(RESIDUES),
        special={"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"},
        template="$A </s>",
        whole=whole,
    )
    config = transformers.T5Config(
        vocab_size=128, d_model=48, d_kv=8, d_ff=96, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu", pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    save(folder, transformers.T5EncoderModel(config), tokenizer)


def ankh(folder: Path) -> None:
    """T5's encoder again, with a token a letter."""
    prot_t5(folder, whole=False)


def nucleotide_transformer(folder: Path) -> None:
    """ESM with absolute positions over 6-mers."""
    words = ["".join(word) for word in product("ATCG", repeat=6)] + list("ATCGN")
    vocabulary = ["<unk>", "<pad>", "<mask>", "<cls>", *words]
    (folder / "vocab").mkdir(parents=True)
    path = folder / "vocab" / "vocab.txt"
    path.write_text("\n".join(vocabulary))
    tokenizer = transformers.EsmTokenizer(str(path), eos_token=None)
    config = transformers.EsmConfig(
        vocab_size=len(vocabulary), hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=96, max_position_embeddings=130, position_embedding_type="absolute",
        pad_token_id=1, mask_token_id=2, token_dropout=False,
    )  # fmt: skip
    save(folder, transformers.EsmForMaskedLM(config), tokenizer)


def modern_bert(folder: Path) -> None:
    """ModernBERT over single bases."""
    tokenizer = word_tokenizer(
        list("ACGTN"),
        special={
            "unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]",
        },
        template="[CLS] $A [SEP]",
        whole=False,
    )  # fmt: skip
    config = transformers.ModernBertConfig(
        vocab_size=32, hidden_size=48, intermediate_size=64, num_hidden_layers=4,
        num_attention_heads=4, pad_token_id=1, cls_token_id=2, sep_token_id=3, bos_token_id=2,
        eos_token_id=3, local_attention=16, global_attn_every_n_layers=2,
    )  # fmt: skip
    save(folder, transformers.ModernBertForMaskedLM(config), tokenizer)


def save(folder: Path, model: Any, tokenizer: Any) -> None:
    torch.manual_seed(3)
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.dim() > 1:
                tensor.normal_(std=1.5 / tensor.shape[-1] ** 0.5)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


KINDS = {
    "prot_t5_xl_u50": (prot_t5, 2),
    "ankh_base": (ankh, 2),
    "nt_500m_1000g": (nucleotide_transformer, 3),
    "hf_modern": (modern_bert, 4),
}


@pytest.fixture(params=KINDS)
def name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    make, layers = KINDS[request.param]
    make(tmp_path / request.param)
    known = registry.MODELS.get(request.param) or replace(
        registry.MODELS["nt_500m_1000g"], name=request.param, repo="someone/modern"
    )
    monkeypatch.setitem(registry.MODELS, request.param, replace(known, dim=48, layers=layers))
    return request.param


def sequences(name: str) -> list[bytes]:
    letters = RESIDUES if registry.MODELS[name].input == "protein" else "ACGT"
    generator = np.random.default_rng(4)
    lengths = [6, 13, 13, 60, 100, 37, 21]
    return ["".join(generator.choice(list(letters), length)).encode() for length in lengths]


@torch.inference_mode()
def states_of(folder: Path, name: str, sequence: bytes, layer: int = -1) -> torch.Tensor:
    """Hidden states of one sequence by transformers alone, without its special tokens."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = sequence.decode()
    if name.startswith("prot_t5"):  # as its authors do
        text = " ".join("X" if letter in "UZOB" else letter for letter in text)
        model = transformers.T5EncoderModel.from_pretrained(folder)
    elif name.startswith("ankh"):
        model = transformers.T5EncoderModel.from_pretrained(folder)
    else:
        model = transformers.AutoModel.from_pretrained(folder)
    ids = tokenizer(text)["input_ids"]
    found = model.eval()(input_ids=torch.tensor([ids]), output_hidden_states=True)
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.eos_token_id}
    chosen = [at for at, token in enumerate(ids) if token not in special]
    states = found.last_hidden_state if layer < 0 else found.hidden_states[layer]
    return states[0, chosen]


def embedded(source: str, folder: Path, items: list[bytes], **options: Any) -> np.ndarray:
    encoder = load_encoder(source, device="cpu", threads=1, weights_dir=folder, **options)
    column = from_items(items)
    return encoder.embed(encoder.tokenise(column, column))


def test_equal_to_transformers(name: str, tmp_path: Path) -> None:
    items = sequences(name)
    expected = [states_of(tmp_path / name, name, each).mean(0).numpy() for each in items]
    found = embedded(name, tmp_path, items, token_budget=150)
    np.testing.assert_allclose(found, np.stack(expected), atol=3e-5, rtol=3e-5)


def test_other_layers_and_poolings(name: str, tmp_path: Path) -> None:
    items = sequences(name)
    states = [states_of(tmp_path / name, name, each, layer=1) for each in items]
    expected = [torch.cat([s.amax(0), s.std(0, correction=0)]).numpy() for s in states]
    found = embedded(f"{name}@layer=1,pooling=max+std", tmp_path, items)
    np.testing.assert_allclose(found, np.stack(expected), atol=3e-5, rtol=3e-5)


def test_a_record_beyond_the_positions_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nucleotide_transformer(tmp_path / "nt_500m_1000g")
    spec = replace(registry.MODELS["nt_500m_1000g"], dim=48, layers=3)
    monkeypatch.setitem(registry.MODELS, "nt_500m_1000g", spec)
    with pytest.raises(RecordTooLongError, match="positions for 128"):
        embedded("nt_500m_1000g", tmp_path, [b"ACGTTT" * 200])


def test_weights_that_are_missing_are_not_made_up(name: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = tmp_path / name / "model.safetensors"
    tensors = load_file(path)
    del tensors[next(key for key in sorted(tensors) if ".1." in key and key.endswith("weight"))]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="lacks weights of its own architecture"):
        embedded(name, tmp_path, sequences(name))


def test_files_of_another_shape_are_refused(name: str, tmp_path: Path) -> None:
    monkey = replace(registry.MODELS[name], dim=64)
    registry.MODELS[name] = monkey  # the fixture puts it back
    with pytest.raises(WeightsError, match="hidden_size is 48, not 64"):
        embedded(name, tmp_path, sequences(name))


def in_cache(home: Path, repo: str, make: Any) -> Path:
    """Lay a model out as the hub's client does."""
    commit = "0123456789012345678901234567890123456789"
    folder = home / "hub" / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    make(folder / "snapshots" / commit)
    return folder / "snapshots" / commit


def test_a_model_of_the_hub_fills_a_store(tmp_path: Path) -> None:
    folder = in_cache(tmp_path, "someone/Modern-DNA", modern_bert)
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}

    def vnp(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vnp", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    path = tmp_path / "run.zarr"
    made = vnp("init", path, "--model", "hf:someone/Modern-DNA@pooling=mean+cls")
    assert made.returncode == 0, made.stderr
    assert vnp("append", path, EXAMPLE).returncode == 0
    done = vnp("embed", path, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    store = open_store(path)
    [model] = store.schema.models
    assert (model.name, model.dim) == ("hf_someone_modern_dna_mean_cls", 96)
    assert model.source == "hf:someone/Modern-DNA@input=nucleotide,pooling=mean+cls"
    first = store.column("nucleotide").tolist()[0]
    mean = states_of(folder, "modern", first).mean(0).numpy()
    np.testing.assert_allclose(store.read(model.name)[0, :48], mean, atol=2e-3, rtol=2e-3)
    provenance = store.provenance(model.name)
    assert provenance is not None
    assert provenance["environment"]["repository"] == "someone/Modern-DNA"
    absent = vnp("init", tmp_path / "b.zarr", "--model", "hf:someone/other")
    assert absent.returncode == 1
    assert "hf download someone/other" in absent.stderr
    assert not (tmp_path / "b.zarr").exists()


def test_a_model_of_the_hub_begins_and_runs_from_a_folder_alone(tmp_path: Path) -> None:
    """As on a cluster without internet; by every name of the model."""
    folder = tmp_path / "weights" / "Modern-DNA"
    modern_bert(folder)
    environment = os.environ | {"HF_HOME": str(tmp_path / "empty"), "HF_HUB_OFFLINE": "1"}

    def vnp(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vnp", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    path, name = tmp_path / "run.zarr", "hf:someone/Modern-DNA@layer=2"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    absent = vnp("init", path, "--model", name, "--weights", elsewhere)
    assert absent.returncode == 1
    assert f"hf:someone/Modern-DNA is not in {elsewhere}" in absent.stderr
    assert "--local-dir DIR/Modern-DNA" in absent.stderr
    assert vnp("init", path, "--model", name, "--weights", tmp_path / "none").returncode == 2
    assert not path.exists()
    made = vnp("init", path, "--model", name, "--weights", folder.parent)
    assert made.returncode == 0, made.stderr
    added = vnp("models", "--add", "hf:someone/Modern-DNA", path, "--weights", folder)
    assert added.returncode == 0, added.stderr
    names = [model.name for model in open_store(path).schema.models]
    assert names == ["hf_someone_modern_dna_layer2", "hf_someone_modern_dna"]
    assert vnp("append", path, EXAMPLE).returncode == 0

    run = ("--weights", folder.parent, "--device", "cpu")
    worked = vnp("worker", path, "--model", name, *run)
    assert worked.returncode == 0, worked.stderr
    done = vnp("embed", path, *run)
    assert done.returncode == 0, done.stderr
    store = open_store(path)
    first = store.column("nucleotide").tolist()[0]
    for each, layer in zip(names, (2, -1), strict=True):
        mean = states_of(folder, "modern", first, layer=layer).mean(0).numpy()
        np.testing.assert_allclose(store.read(each)[0], mean, atol=2e-3, rtol=2e-3)
    states = vnp("residues", path, "--model", name, "--rows", 0, "-o", tmp_path / "r.h5", *run)
    assert states.returncode == 0, states.stderr
    out = vnp("export", path, "--model", name, "-o", tmp_path / "x.npy")
    assert out.returncode == 0, out.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), store.read(names[0]))
    wrong = vnp("export", path, "--model", name.replace("2", "3"), "-o", tmp_path / "y.npy")
    assert wrong.returncode == 2
    assert "did you mean hf_someone_modern_dna_layer2?" in wrong.stderr


def test_without_internet_the_hub_is_tried_once(tmp_path: Path) -> None:
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-m", "vnp", "init", str(tmp_path / "a.zarr")]
    command += ["--model", "hf:someone/other"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    said, error = done.stderr.splitlines()
    assert "http://127.0.0.1:9 cannot be reached" in said
    assert "hf download someone/other" in error


def test_code_of_a_repository_is_never_run(tmp_path: Path) -> None:
    folder = tmp_path / "nt_500m_1000g"
    folder.mkdir()
    mark = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Config: pass\n")
    kind = {"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps({"model_type": "evil", **kind}))
    with pytest.raises(WeightsError, match="needs code of its own"):
        embedded("nt_500m_1000g", tmp_path, [b"ACGT"])
    assert not mark.exists()


def test_a_decoder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "nt_500m_1000g"
    transformers.GPT2Config(n_embd=48, n_layer=2, n_head=2).save_pretrained(folder)
    with pytest.raises(WeightsError, match="kind gpt2, which is not an encoder"):
        embedded("nt_500m_1000g", tmp_path, [b"ACGT"])


def test_names_that_are_none(tmp_path: Path) -> None:
    from store.errors import UsageError

    with pytest.raises(UsageError, match="not the name of a model"):
        registry.model("hf:../etc/passwd")
    with pytest.raises(UsageError, match="layers 1 to 36"):
        registry.model("esm2_3b@layer=37")
    with pytest.raises(UsageError, match="unknown pooling 'median'"):
        registry.model("esm2_3b@pooling=median")
    assert registry.model("esm2_3b@layer=36").layer is None, "the last: normed, as usual"
    assert WeightsNotFoundError.__name__  # what an absent model of the hub raises
