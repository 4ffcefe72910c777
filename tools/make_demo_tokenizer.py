"""Train the demo models' tokenizer on a genome and write it as tokenizer.json.

Usage: python tools/make_demo_tokenizer.py lambda_phage.fa.gz vnp/models/data/demo_tokenizer.json

The file has the layout of DNABERT-2's: byte-pair encoding, [UNK] [CLS] [SEP] [PAD] [MASK] as
tokens 0 to 4, and a template that puts [CLS] and [SEP] around a sequence. The same genome gives
the same file.
"""

import argparse
from pathlib import Path

import dnaio
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

VOCABULARY = 512
WINDOW = 500
COMPLEMENT = str.maketrans("ACGT", "TGCA")
SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]


def windows(genome: Path) -> list[str]:
    """Cut both strands of every sequence into windows, as the models will see them."""
    cut = []
    with dnaio.open(genome) as records:
        for record in records:
            forward = record.sequence.upper()
            for strand in (forward, forward.translate(COMPLEMENT)[::-1]):
                cut += [strand[at : at + WINDOW] for at in range(0, len(strand), WINDOW)]
    return cut


def train(texts: list[str]) -> Tokenizer:
    """Train the tokenizer."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=list("ACGT"),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, SPECIAL.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def main() -> None:
    """Read the arguments, train and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("genome", type=Path, help="FASTA file, plain or compressed")
    parser.add_argument("output", type=Path, help="tokenizer.json to write")
    arguments = parser.parse_args()
    tokenizer = train(windows(arguments.genome))
    arguments.output.write_text(tokenizer.to_str(pretty=False) + "\n", encoding="utf-8")
    print(f"{arguments.output}: {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
