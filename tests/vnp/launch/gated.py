"""A plug-in whose workers wait, in the middle of a block, until the file ``$VNP_TEST_GATE`` exists.

Its rows are arithmetic on the letters alone: every undisturbed run gives the same.
"""

import os
import time
from pathlib import Path

from vnp.models.plugins import model


@model("gated", input="nucleotide", dim=4, about="share of each base, behind a gate")
def load(*, device, precision, weights_dir):
    gate = Path(os.environ["VNP_TEST_GATE"])

    def embed(sequences):
        own = gate.with_name(f"gate-{os.getpid()}")  # for this process alone
        while not (gate.exists() or own.exists()):
            time.sleep(0.02)
        return [[each.count(base) / len(each) for base in "ACGT"] for each in sequences]

    return embed
