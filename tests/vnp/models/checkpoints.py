"""Small checkpoints in the published layouts, for the tests of the models."""

import argparse
import json
import shutil

import torch
from safetensors.torch import save_file

from vnp.inference.load import naming_of
from vnp.models import demo
from vnp.models.spec import ModelSpec

FAIR_OUTER = {
    "embeddings.word_embeddings.": "embed_tokens.",
    "encoder.emb_layer_norm_after.": "emb_layer_norm_after.",
}
FAIR_INNER = {
    "attention.self.query.": "self_attn.q_proj.",
    "attention.self.key.": "self_attn.k_proj.",
    "attention.self.value.": "self_attn.v_proj.",
    "attention.output.dense.": "self_attn.out_proj.",
    "attention.LayerNorm.": "self_attn_layer_norm.",
    "intermediate.dense.": "fc1.",
    "output.dense.": "fc2.",
    "LayerNorm.": "final_layer_norm.",
}


def tiny(
    architecture, *, dim=32, layers=2, heads=4, vocab=None, name=None, repo="someone/Some-Model"
):
    """Describe a model of a size for tests, as the registry would."""
    protein = architecture == "esm2"
    return ModelSpec(
        name=name or ("tiny_esm2" if protein else "tiny_dnabert"),
        architecture=architecture,
        input="protein" if protein else "nucleotide",
        dim=dim,
        layers=layers,
        heads=heads,
        ffn=4 * dim,
        vocab=vocab or (33 if protein else 512),
        pooling="mean_residues_1024" if protein else "mean_all_tokens",
        repo=repo,
        revision="main",
        about="for tests",
    )


def random_state(spec, *, seed=0, prefix=False):
    """Random tensors under canonical names, or under the published ones with their prefix."""
    naming = naming_of(spec)
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in naming.shapes.items():
        tensor = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            tensor = 0.1 * tensor + (1.0 if name.endswith("weight") else 0.0)
        elif "embeddings" not in name:
            tensor = 1.5 * tensor / shape[1] ** 0.5
        state[(naming.prefix if prefix else "") + name] = tensor
    return state


def config_of(spec):
    """What config.json says of a model."""
    config = {
        "hidden_size": spec.dim,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "intermediate_size": spec.ffn,
        "vocab_size": spec.vocab,
    }
    if spec.architecture == "esm2":
        return config | {
            "model_type": "esm",
            "position_embedding_type": "rotary",
            "token_dropout": True,
            "emb_layer_norm_before": False,
            "layer_norm_eps": 1e-5,
        }
    return config | {"model_type": "bert", "layer_norm_eps": 1e-12, "hidden_act": "gelu"}


def write_checkpoint(folder, spec, state, *, kind="safetensors", shards=1):
    """Write a model folder as the hub has it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_of(spec)))
    if spec.architecture == "mosaicbert":
        shutil.copy(demo.tokenizer_file(), folder / "tokenizer.json")
    stem = "model" if kind == "safetensors" else "pytorch_model"
    save = save_file if kind == "safetensors" else torch.save
    if shards == 1:
        save(state, folder / f"{stem}.{kind}")
        return folder
    weight_map = {}
    for shard in range(shards):
        file_name = f"{stem}-{shard + 1:05}-of-{shards:05}.{kind}"
        part = {name: state[name] for name in list(state)[shard::shards]}
        save(part, folder / file_name)
        weight_map |= dict.fromkeys(part, file_name)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / f"{stem}.{kind}.index.json").write_text(json.dumps(index))
    return folder


def fair_name(name: str) -> str:
    """fair-esm's name of a tensor of the Hugging Face files."""
    for ours, theirs in FAIR_OUTER.items():
        name = name.replace(ours, theirs)
    if name.startswith("encoder.layer."):
        _, _, layer, part = name.split(".", 3)
        ours, theirs = next(pair for pair in FAIR_INNER.items() if part.startswith(pair[0]))
        name = f"layers.{layer}.{theirs}{part.removeprefix(ours)}"
    return name


def write_fair_esm(path, state, *, prefix="encoder.sentence_encoder.", **more):
    """Write a file as fair-esm publishes its ESM-2: settings, heads and all."""
    model = {prefix + fair_name(name): tensor for name, tensor in state.items()}
    model |= {
        "encoder.lm_head.weight": torch.zeros(
            33, state["embeddings.word_embeddings.weight"].shape[1]
        ),
        f"{prefix}contact_head.regression.weight": torch.zeros(1, 8),
        f"{prefix}layers.0.self_attn.rot_emb.inv_freq": torch.zeros(4),
    }
    settings = argparse.Namespace(arch="esm2", encoder_layers=2, nested={"a": [1, None, "b"]})
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"cfg": {"model": settings, "task": None}, "model": model, **more}, path)
    return path
