"""Random weights of a published model's shapes, for measuring speed without the real ones.

``python tools/random_checkpoint.py MODEL FOLDER [--device cuda]`` writes a checkpoint in the
published layout that ``vnp ... --weights FOLDER`` loads. The scale is realistic: projections keep
the variance of what they are given, norms scale by about one, biases are small, so that arithmetic
errors and power draw are those of a trained model and not those of zeros. The embeddings mean
nothing. A DNABERT gets a tokenizer of 4,096 pieces trained on random DNA.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vnp.inference.load import naming_of
from vnp.models import registry
from vnp.models.spec import ModelSpec

_BIAS_STD = 0.05


def random_tensors(
    spec: ModelSpec, *, device: str, dtype: torch.dtype, seed: int = 0
) -> dict[str, Tensor]:
    """Make a checkpoint's tensors under canonical names."""
    generator = torch.Generator(device=device).manual_seed(seed)
    state = {}
    for name, shape in naming_of(spec).shapes.items():
        tensor = torch.randn(shape, generator=generator, device=device, dtype=torch.float32)
        if len(shape) == 1:
            tensor = _BIAS_STD * tensor + float(name.endswith("weight"))
        elif "embeddings" not in name:
            tensor /= shape[1] ** 0.5
        state[name] = tensor.to(dtype)
    return state


def write(spec: ModelSpec, folder: Path, *, device: str) -> Path:
    """Write a model's folder as the hub has it, in bfloat16; returns the folder."""
    folder = folder / (spec.repo or spec.name).rpartition("/")[2]
    folder.mkdir(parents=True, exist_ok=True)
    prefix = naming_of(spec).prefix
    state = random_tensors(spec, device=device, dtype=torch.bfloat16)
    save_file(
        {prefix + name: tensor.cpu() for name, tensor in state.items()},
        folder / "model.safetensors",
    )
    config = {
        "hidden_size": spec.dim,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "intermediate_size": spec.ffn,
        "vocab_size": spec.vocab,
    }
    if spec.architecture == "esm2":
        config |= {
            "model_type": "esm",
            "position_embedding_type": "rotary",
            "token_dropout": True,
            "emb_layer_norm_before": False,
            "layer_norm_eps": 1e-5,
        }
    else:
        config |= {"model_type": "bert", "layer_norm_eps": 1e-12, "hidden_act": "gelu"}
        random_tokenizer(spec.vocab).save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def random_tokenizer(vocab: int) -> Tokenizer:
    """Train a byte-pair tokenizer of DNABERT-2's form on random DNA."""
    generator = np.random.default_rng(0)
    bases = np.frombuffer(b"ACGT", np.uint8)
    texts = [generator.choice(bases, 500).tobytes().decode() for _ in range(2000)]
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    specials = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=vocab, special_tokens=specials, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def main() -> None:
    """Write a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    print(write(registry.model(options.model), options.folder, device=options.device))


if __name__ == "__main__":
    main()
