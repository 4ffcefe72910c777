"""Training a classifier on a store: labels, division, fitting, metrics, card, cross-validation."""

from __future__ import annotations

import datetime
import logging
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from store.errors import UsageError
from store.io.replace import refuse_existing, refuse_shared
from store.io.words import count
from store.read.view import View
from store.store import Store
from vnp import __version__
from vnp.classify.batches import MEMORY, Rows
from vnp.classify.estimators import Module
from vnp.classify.files import Card, card_path, check_name, save_classifier
from vnp.classify.fit import (
    Epoch,
    Schedule,
    computing_on,
    fit,
    score_rows_of,
    threads_for,
)
from vnp.classify.fit_estimators import fit_logistic, fit_trees
from vnp.classify.labels import UNLABELLED, LabelsError, RowLabels, label_rows, read_labels
from vnp.classify.markdown import METRICS, write_markdown
from vnp.classify.metrics import all_metrics, rounded
from vnp.classify.mlp import CLASSES
from vnp.classify.split import (
    Part,
    Split,
    fold_split,
    group_split,
    random_split,
    without_known,
)
from vnp.embed.progress import Progress
from vnp.models.held import held_models

log = logging.getLogger(__name__)

SplitBy = Literal["contig", "sample", "random"]
Kind = Literal["mlp", "logistic", "hist-gradient-boosting"]


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """What a training run is asked for."""

    kind: Kind = "mlp"  # of classifier
    models: tuple[str, ...] = ()  # bands of the feature row; (): all of the store's
    split: SplitBy = "contig"  # what is kept together
    held_out: float = 0.1  # share of rows for early stopping and metrics
    test: float = 0.0  # share of rows for the final metrics alone
    folds: int = 0  # of a cross-validation by what is kept together; 0: none
    schedule: Schedule = field(default_factory=Schedule)  # how an mlp is trained; every seed
    memory: int = MEMORY  # bytes of features held at a time
    threads: int | None = None  # of the CPU that train an mlp; None: by the size of the set


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a fit gave."""

    module: Module  # in eval mode, on the CPU
    settings: dict[str, Any]  # how it was fitted, with the seed
    history: tuple[Epoch, ...] = ()  # of an mlp
    best_epoch: int | None = None  # of an mlp


@dataclass(frozen=True, slots=True)
class TrainReport:
    """How a training run ended."""

    path: Path  # the classifier
    card: Card  # with settings, data, history and metrics
    uncertified: int  # labelled rows that were left out because they are not certified

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {
            "file": str(self.path),
            "uncertified": self.uncertified,
            "complete": not self.uncertified,
            "card": self.card.to_json(),
        }


def train(
    store: Store,
    labels: Path,
    output: Path,
    *,
    settings: TrainSettings,
    device: torch.device,
    force: bool = False,
) -> TrainReport:
    """Train a classifier on a table of labels and write it with its cards.

    ``output`` is ``NAME.safetensors``; ``NAME.json`` and ``NAME.md`` go beside it; one that exists
    is refused (UsageError) without ``force``. The store is read at the commit it holds.

    Raises
    ------
    LabelsError
        If the labels do not fit the store, or a class is too small to hold some of it out.
    UsageError
        If a model is not in the store, the shares leave nothing on one side, folds are asked for
        with a random split, scikit-learn is needed and missing, or the name of the output does not
        end in ``.safetensors``.
    """
    check_name(output)
    refuse_shared([output, card_path(output), output.with_suffix(".md")], [labels])
    refuse_existing(output, force=force)
    models = held_models(store.schema, settings.models)
    view = store.merged(models or None, missing="raise", verify=True)
    table = read_labels(labels)
    rows = label_rows(store, table, by_sample=settings.split == "sample")
    if rows.unused:
        log.info(f"{labels} labels {count(rows.unused, 'contig')} without a record in the store")
    labelled = rows.label != UNLABELLED
    uncertified = int(np.count_nonzero(labelled & ~view.filled))
    if uncertified:
        rows.label[~view.filled] = UNLABELLED
        log.warning(
            f"{count(uncertified, 'labelled record')} {'is' if uncertified == 1 else 'are'} not "
            "certified for every model and left out; run 'vnp embed' first to train on all"
        )
    split, repeated = _divide(store, rows, settings)
    data = _data(view, rows.label, split.part, settings)
    cross = None
    if settings.folds:
        cross = _cross_validated(store, view, rows, settings, device)
    if settings.kind == "mlp" and device.type == "cpu":
        threads = _threads(data[Part.TRAIN], settings)
        log.info(f"training on the CPU with {count(threads, 'thread')}")
    fitted = _fit(data, settings, device, about="train")
    metrics = _metrics(fitted.module, data)
    training = {
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "vnp": __version__,
        "torch": torch.__version__,
        "device": device.type,
        "store": store.path.name,
        "samples": [asdict(sample) for sample in store.schema.samples],
        "embeddings": {
            model.name: (store.provenance(model.name) or {}).get("identity")
            for model in view.models
        },
        "labels": {"level": table.level, "lines": len(table.entries)},
        "classifier": settings.kind,
        "schedule": fitted.settings,
        "split": {
            "by": settings.split,
            "held_out": settings.held_out,
            "test": settings.test,
            "stretched": list(split.stretched),
            "left_out_at_boundaries": split.left_out,
            "left_out_as_repeated": repeated,
            "groups": split.groups,
        },
        "records": {
            part.key: {
                name: int(np.count_nonzero(found.label == code))
                for code, name in enumerate(CLASSES)
            }
            for part, found in data.items()
        },
        "best_epoch": fitted.best_epoch,
        "history": [asdict(epoch) for epoch in fitted.history],
        "metrics": metrics,
        "cross_validation": cross,
    }
    card = Card(
        inputs=fitted.module.inputs,
        hidden=fitted.module.hidden,
        digest="",  # set when it is saved
        models=tuple((model.name, model.dim) for model in view.models),
        segment_length=store.schema.segment_length,
        genetic_code=store.schema.genetic_code,
        source="vnp train",
        training=training,
    )
    card = save_classifier(fitted.module, card, output)
    write_markdown(card, output)
    return TrainReport(output, card, uncertified)


def _divide(store: Store, rows: RowLabels, settings: TrainSettings) -> tuple[Split, int]:
    """Divide the rows; return the division and how many repeated records were left out."""
    shares = {"held_out": settings.held_out, "test": settings.test}
    if settings.held_out <= 0 or settings.held_out + settings.test >= 1:
        raise UsageError(
            f"{settings.held_out} held out and {settings.test} for the test leave no records on "
            "one side; early stopping needs some, and so does training"
        )
    seed = settings.schedule.seed
    if settings.split == "random":
        log.warning(
            "records are held out at random, as published: overlapping segments are on both sides"
        )
        return random_split(rows.label, **shares, seed=seed), 0
    split, repeated = _divide_groups(rows, np.asarray(store.column("digest")), settings)
    for name in split.stretched:
        log.warning(
            f"the class {name} has too few contigs to hold some out: stretches of them are held "
            "out, less the segments that overlap across a boundary"
        )
    if repeated:
        records = count(repeated, "held-out record")
        log.info(f"left out {records} with the sequences of training records")
    return split, repeated


def _divide_groups(
    rows: RowLabels, digest: NDArray[np.uint64], settings: TrainSettings, *, test: bool = True
) -> tuple[Split, int]:
    """Divide whole groups, less held-out records that are trained on too; count these.

    A class of which none is left to hold out, as where one contig is part of another, or stretches
    are too short, is cut into longer stretches.
    """
    cut: set[str] = set()
    while True:
        split = group_split(
            rows,
            held_out=settings.held_out,
            test=settings.test if test else 0.0,
            seed=settings.schedule.seed,
            stretch=settings.split == "contig",
            cut=cut,
        )
        part, repeated = without_known(split.part, digest)
        held = set(rows.label[part == Part.HELD_OUT].tolist())
        lost = {name for code, name in enumerate(CLASSES) if code not in held} - cut
        if not lost or settings.split != "contig":
            return replace(split, part=part), repeated
        cut |= lost


def _cross_validated(
    store: Store, view: View, rows: RowLabels, settings: TrainSettings, device: torch.device
) -> dict[str, Any]:
    """Train once without each fold and score the fold; return what the card says of it."""
    if settings.split == "random":
        raise UsageError(
            "--folds keeps contigs or samples together, and --split random does not: choose one"
        )
    seed = settings.schedule.seed
    fold_of = fold_split(rows, folds=settings.folds, seed=seed)
    digest = np.asarray(store.column("digest"))
    found = []
    for fold in range(settings.folds):
        about = f"fold {fold + 1} of {settings.folds}"
        rest = replace(rows, label=np.where(fold_of == fold, UNLABELLED, rows.label))
        part = np.where(rest.label == UNLABELLED, Part.UNUSED, Part.TRAIN).astype(np.uint8)
        if settings.kind == "mlp":  # some of the rest say when to stop
            try:
                part = _divide_groups(rest, digest, settings, test=False)[0].part
            except LabelsError as error:
                raise LabelsError(f"{about}, without the records of that fold: {error}") from None
        part[fold_of == fold] = Part.TEST
        part, _ = without_known(part, digest)
        data = _data(view, rows.label, part, settings, about=f"{about}: ")
        if not len(data[Part.TEST]):
            raise LabelsError(f"{about} holds sequences of other folds alone; ask for fewer folds")
        fitted = _fit(data, settings, device, about=about)
        metrics = _metrics(fitted.module, data)[Part.TEST.key]
        n = metrics["records"]
        log.info(f"{about}: {count(n, 'record')}, accuracy {rounded(metrics['accuracy'], n)}")
        found.append(metrics)
    mean: dict[str, float | None] = {}
    for name in METRICS:
        values = [metrics[name] for metrics in found]
        mean[name] = float(np.mean(values)) if None not in values else None
    return {"folds": settings.folds, "by": settings.split, "metrics": found, "mean": mean}


def _data(
    view: View,
    label: NDArray[np.int8],
    part_of: NDArray[np.uint8],
    settings: TrainSettings,
    *,
    about: str = "",
) -> dict[Part, Rows]:
    """Rows of each part; `LabelsError` if one that the fit needs lacks a class."""
    data = {}
    for part in (Part.TRAIN, Part.HELD_OUT, Part.TEST):
        chosen = np.flatnonzero(part_of == part)
        code = label[chosen].astype(np.int64)
        data[part] = Rows(view, chosen, code, memory=settings.memory)
    needed = [Part.TRAIN]
    if settings.kind == "mlp":
        needed.append(Part.HELD_OUT)
    for part in needed:
        if len(set(data[part].label.tolist())) < len(CLASSES):
            n_rows = count(len(data[part]), "record")
            raise LabelsError(
                f"{about}the {part.key.replace('_', '-')} records ({n_rows}; a share of "
                f"{settings.held_out:g} is held out) do not hold both classes; label more, or hold "
                "out another share"
            )
    return data


def _metrics(module: Module, data: dict[Part, Rows]) -> dict[str, dict[str, Any]]:
    """Metrics of the parts that were not trained on."""
    metrics = {}
    for part in (Part.HELD_OUT, Part.TEST):
        if len(data[part]):
            score, truth = score_rows_of(module, data[part], device=torch.device("cpu"))
            metrics[part.key] = all_metrics(truth, score)
    return metrics


def _threads(train: Rows, settings: TrainSettings) -> int:
    return settings.threads or threads_for(len(train), train.width)


def _fit(
    data: dict[Part, Rows], settings: TrainSettings, device: torch.device, *, about: str
) -> Fitted:
    """Fit a classifier of the kind that is asked for, an mlp showing its progress."""
    schedule = settings.schedule
    if settings.kind == "logistic":
        return Fitted(*fit_logistic(data[Part.TRAIN], seed=schedule.seed))
    if settings.kind == "hist-gradient-boosting":
        return Fitted(*fit_trees(data[Part.TRAIN], seed=schedule.seed))
    train, held_out = data[Part.TRAIN], data[Part.HELD_OUT]
    with (
        computing_on(_threads(train, settings)),
        Progress(about, total=schedule.epochs, unit="epochs") as progress,
    ):

        def tell(epoch: Epoch) -> None:
            progress.update(epoch.epoch)
            if epoch.epoch == 1 or epoch.epoch % 10 == 0:
                log.info(
                    f"epoch {epoch.epoch}: loss {epoch.train_loss:.4f}, held out "
                    f"{epoch.held_out_loss:.4f}, accuracy "
                    f"{rounded(epoch.held_out_accuracy, len(held_out))}"
                )

        progress.update(0)
        module, history, best = fit(
            train, held_out, inputs=train.width, schedule=schedule, device=device, tell=tell
        )
    return Fitted(module, asdict(schedule), tuple(history), best)
