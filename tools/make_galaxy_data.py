"""Makes the Galaxy tool's test data: contigs without a stop, a classifier for the demo models.

Usage, in a clone: python tools/make_galaxy_data.py
"""

import random
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vnp.classify.files import Card, save_classifier
from vnp.classify.mlp import Mlp
from vnp.models import registry

FOLDER = Path(__file__).resolve().parent.parent / "workflows/galaxy/test-data"
CODONS = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"]

if __name__ == "__main__":
    draw = random.Random(0)
    frame = [codon for codon in CODONS if codon not in ("TAA", "TAG", "TGA")]
    with (FOLDER / "contigs.fasta").open("w") as file:
        for number, codons in enumerate((400, 250, 120)):
            print(f">open_{number}", "".join(draw.choices(frame, k=codons)), sep="\n", file=file)
    torch.manual_seed(0)
    width = sum(spec.embedding_dim for spec in registry.recipe("demo"))
    module = Mlp(width, hidden=4).eval()
    with torch.no_grad():
        module.output_layer.bias.copy_(torch.tensor([0.0, 1.0]))  # most are viral
    save_classifier(module, Card(width, 4, ""), FOLDER / "demo_classifier.safetensors")
    (FOLDER / "demo_classifier.json").unlink()  # Galaxy's datasets are single files
