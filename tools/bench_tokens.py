"""Time DNA's byte-pair encoding: the library `tokenizers`, and compiled code with the same ids.

``python tools/bench_tokens.py [--tokenizer tokenizer.json]``: half a minute. Random records of 150
and 500 bp, 4,096 of each (a block), one in ten with an N; both take turns, the least of seven
rounds is printed, and the ids are compared. Without a file a vocabulary as large as DNABERT-2's
(4,096) is trained on random DNA, whose tokens are shorter than those of genomes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import make_demo_tokenizer  # noqa: E402

from store.io.ragged import Ragged, from_items  # noqa: E402
from vnp.models.tokens import BpeTokenizer, Tokens  # noqa: E402

_RECORDS, _ROUNDS = 4_096, 7


def column(length: int, generator: np.random.Generator) -> Ragged:
    """A block of random records."""
    letters: NDArray[np.uint8] = np.frombuffer(b"ACGT", np.uint8)
    block = letters[generator.integers(0, 4, (_RECORDS, length))]
    block[::10, length // 2] = ord("N")
    return from_items([row.tobytes() for row in block])


def trained(folder: Path, generator: np.random.Generator) -> Path:
    """A tokenizer with 4,096 tokens."""
    make_demo_tokenizer.VOCABULARY = 4_096
    texts = ["".join(generator.choice(list("ACGT"), 500)) for _ in range(4_000)]
    path = folder / "tokenizer.json"
    path.write_text(make_demo_tokenizer.train(texts).to_str(), encoding="utf-8")
    return path


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tokenizer", type=Path)
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a worker's engine and publisher want the cores
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = options.tokenizer or trained(Path(folder), generator)
        compiled, library = (BpeTokenizer(path, vocab=4_096) for _ in range(2))
    library._merges = None
    for length in (150, 500):
        records = column(length, generator)
        seconds: dict[str, float] = {}
        results: dict[str, Tokens] = {}
        for _ in range(_ROUNDS):
            for name, tokenise in (("tokenizers", library), ("compiled", compiled)):
                began = time.perf_counter()
                results[name] = tokenise(records)
                took = time.perf_counter() - began
                seconds[name] = min(seconds.get(name, took), took)
        assert np.array_equal(results["tokenizers"].ids, results["compiled"].ids)
        print(
            f"{length} bp, {len(results['compiled'].ids) / _RECORDS:.1f} tokens a record: "
            + ", ".join(f"{name} {took * 1e3:.1f} ms" for name, took in seconds.items())
            + f" ({seconds['tokenizers'] / seconds['compiled']:.1f} times faster)"
        )


if __name__ == "__main__":
    main()
