"""Commands that turn embeddings into calls: predict, classifier, train, dataset."""

from __future__ import annotations

import argparse
from pathlib import Path

from vnp.cli.options import Commands, command, json_flag, positive, store


def add(commands: Commands) -> None:
    """Add the parsers of predict, classifier, train and dataset."""
    _predict(commands)
    _classifier(commands)
    _train(commands)
    _dataset(commands)


def _predict(commands: Commands) -> None:
    predict = command(commands, "predict", "score the certified rows with a classifier")
    store(predict)
    predict.add_argument(
        "--classifier",
        type=Path,
        required=True,
        metavar="FILE",
        help="a published .pth, or a .safetensors made by vnp train or vnp classifier convert",
    )
    predict.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="where the tables go, a folder per sample (default: beside the store, "
        "STORE.predictions)",
    )
    predict.add_argument(
        "--sample",
        action="append",
        metavar="NAME",
        help="score only this sample (repeatable; default: all)",
    )
    _models(predict)
    predict.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    predict.add_argument(
        "--save",
        metavar="NAME",
        help="also keep the scores in the store, as obs columns NAME_score1 and NAME_score2",
    )
    predict.add_argument(
        "--replace",
        action="store_true",
        help="with --save: replace columns of that name that another classifier made",
    )
    json_flag(predict)


def _classifier(commands: Commands) -> None:
    classifier = command(commands, "classifier", "convert a published classifier file")
    actions = classifier.add_subparsers(dest="action", metavar="ACTION", required=True)
    convert = command(
        actions, "convert", "turn a published .pth into safetensors and a JSON card, unexecuted"
    )
    convert.add_argument("input", metavar="IN.pth", type=Path, help="the published file")
    convert.add_argument(
        "output",
        metavar="OUT.safetensors",
        type=Path,
        help="the file to make; refused if it exists",
    )
    convert.add_argument(
        "--models",
        nargs="+",
        metavar="NAME",
        help="models whose embeddings it takes, in order (default: those of the recipe whose "
        "width fits)",
    )
    convert.add_argument(
        "--segment-length",
        type=positive,
        metavar="BASES",
        help="length of the segments it was trained on, for the card",
    )
    json_flag(convert)


def _train(commands: Commands) -> None:
    train = command(commands, "train", "train a classifier on labelled samples of a store")
    store(train)
    train.add_argument(
        "--labels",
        type=Path,
        required=True,
        metavar="TSV",
        help="table with a header: label (virus or others) and sample, contig or record; "
        "optionally group",
    )
    train.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="classifier to write, NAME.safetensors; its cards NAME.json and NAME.md go beside it",
    )
    _models(train)
    train.add_argument(
        "--split",
        choices=("contig", "sample", "random"),
        default="contig",
        help="what is held out as a whole: contigs (default), samples, or single records as "
        "published, which lets overlapping segments straddle",
    )
    train.add_argument(
        "--held-out",
        type=share,
        default=0.1,
        metavar="SHARE",
        help="share of the records held out for early stopping and the metrics (default 0.1)",
    )
    train.add_argument(
        "--test",
        type=share,
        default=0.0,
        metavar="SHARE",
        help="share of the records that only the final metrics see (default: none, as published)",
    )
    train.add_argument("--epochs", type=positive, default=200, help="at most (default 200)")
    train.add_argument(
        "--patience",
        type=positive,
        default=5,
        help="epochs without a lower loss on the held-out records before it stops (default 5)",
    )
    train.add_argument("--batch", type=positive, default=32, help="rows a step (default 32)")
    train.add_argument(
        "--learning-rate", type=positive_float, default=2e-4, metavar="RATE", help="default 2e-4"
    )
    train.add_argument("--seed", type=int, default=42, help="of everything random (default 42)")
    train.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    json_flag(train)


def _dataset(commands: Commands) -> None:
    dataset = command(
        commands, "dataset", "make a training set from annotated genomes by the published recipe"
    )
    dataset.add_argument(
        "--input",
        action="append",
        nargs="+",
        required=True,
        metavar=("GROUP", "FILE"),
        help="a group and its files (repeatable): GenBank with annotated proteins, and FASTA for "
        "sequences that the GenBank files lack; plain or compressed",
    )
    dataset.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder to make"
    )
    dataset.add_argument(
        "--virus", default="viral", metavar="GROUP", help="the group of viruses (default: viral)"
    )
    dataset.add_argument(
        "--segment-length",
        type=positive,
        default=500,
        metavar="BASES",
        help="length of the windows (default 500; published: 300, 500)",
    )
    dataset.add_argument(
        "--part-records",
        type=positive,
        default=10_000,
        metavar="N",
        help="records of a part, the unit of sampling (default 10000, as published)",
    )
    dataset.add_argument(
        "--uneven",
        action="store_true",
        help="take what there is of a group that has less than its share, instead of refusing",
    )
    dataset.add_argument("--seed", type=int, default=42, help="of the sampling (default 42)")
    json_flag(dataset)


def _models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="NAME",
        help="models whose embeddings make a feature row, in order (default: what fits)",
    )


def share(text: str) -> float:
    """Parse a share: 0 or more, less than 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no share of 1")
    return value


def positive_float(text: str) -> float:
    """Parse a positive number."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value
