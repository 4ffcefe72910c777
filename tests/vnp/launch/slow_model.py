"""A model whose batches take seconds until a file ``gate`` lies beside it: a store to interrupt."""

import time
from pathlib import Path

from vnp.models.plugins import model

GATE = Path(__file__).with_name("gate")


@model("slow", input="nucleotide", dim=6, about="shares of bases, slowly")
def load(*, device, precision, weights_dir):
    def embed(sequences):
        until = time.monotonic() + 2
        while time.monotonic() < until and not GATE.exists():
            time.sleep(0.05)
        return [
            [text.count(letter) / len(text) for letter in ("A", "C", "G", "T", "AA", "CG")]
            for text in sequences
        ]

    return embed
