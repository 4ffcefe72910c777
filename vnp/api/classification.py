"""From a store to virus calls: ``vnp.train``, ``vnp.predict`` and ``vnp.precisions``."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from store.errors import UsageError
from vnp.api.arguments import (
    AnyPath,
    StoreOrPath,
    check_whole,
    check_word,
    names_of,
    newest,
    paths_of,
)
from vnp.embed.config import WorkerConfig
from vnp.embed.keywords import named_in_python
from vnp.models.extra import require_embed
from vnp.models.registry import load_plugins

if TYPE_CHECKING:
    from vnp.classify.precisions import PrecisionsReport
    from vnp.classify.predict import Prediction
    from vnp.classify.train import TrainReport

log = logging.getLogger(__name__)


@named_in_python
def predict(
    store: StoreOrPath,
    classifier: AnyPath,
    *,
    output: AnyPath | None = None,
    samples: str | Sequence[str] = (),
    models: str | Sequence[str] = (),
    device: str = "auto",
    plugins: AnyPath | Sequence[AnyPath] = (),
    save: str | None = None,
    replace: bool = False,
    fasta_out: AnyPath | None = None,
    contigs: AnyPath | Sequence[AnyPath] = (),
    bed: AnyPath | None = None,
    gff: AnyPath | None = None,
    force: bool = False,
    smooth: int = 5,
    enter: float = 0.7,
    leave: float = 0.5,
    min_region: int = 2000,
    merge_gap: int = 2000,
    max_blank: int = 10_000,
) -> Prediction:
    """Score the certified rows with a classifier and write the tables, as ``vnp predict`` does.

    Parameters
    ----------
    store
        The store.
    classifier
        A published ``.pth``, or a ``.safetensors`` made by ``vnp train``.
    output
        Folder of the tables, a folder per sample in it; by default ``STORE.predictions``.
    samples
        Names of the samples to score; by default all.
    models
        Models whose embeddings make a feature row, in order; by default those that fit.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    plugins
        Python files with recipes, one of which may tell the models that fit; they are run.
    save, replace
        Name under which the store keeps the scores too, and whether those of another classifier
        under that name are dropped.
    fasta_out, contigs
        FASTA file of the viral contigs to write, and the files that were appended, which have
        their sequences.
    bed, gff
        Files of the viral regions to write.
    force
        Replace what is at ``fasta_out``, ``bed`` and ``gff``.
    smooth, enter, leave, min_region, merge_gap, max_blank
        What makes a viral region, in segments, scores and bases: see docs/classify.md.

    Returns
    -------
    Prediction
        ``samples`` with their calls; ``unscored`` rows are those not certified for every model.

    Raises
    ------
    UsageError
        If a sample or model is not there, the widths do not fit, a file exists, the numbers
        contradict each other, or torch is not installed.
    DamageError
        If certified rows cannot be read.
    DataError
        If the file is not a classifier.
    """
    require_embed("a prediction")
    from vnp.classify.call_files import CallFiles
    from vnp.classify.files import load_classifier
    from vnp.classify.predict import predict as score
    from vnp.classify.regions import RegionRule
    from vnp.inference.device import place

    scripts = tuple(map(Path, paths_of(plugins)))
    load_plugins(scripts)
    wholes = {
        "smooth": smooth,
        "min_region": min_region,
        "merge_gap": merge_gap,
        "max_blank": max_blank,
    }
    for name, value in wholes.items():
        check_whole(name, value)
    rule = RegionRule(smooth, enter, leave, min_region, merge_gap, max_blank)
    scored = newest(store)
    files = CallFiles(
        fasta=_path(fasta_out),
        contigs=tuple(os.fspath(file) for file in paths_of(contigs)),
        bed=_path(bed),
        gff=_path(gff),
        force=force,
    )
    files.check(scored.schema.samples, inputs=[Path(classifier), *scripts])
    return score(
        scored,
        load_classifier(Path(classifier)),
        _path(output),
        samples=names_of(samples),
        models=names_of(models),
        device=place(device, precision="float32", threads=None, warn=log.warning).device,
        save=save,
        replace=replace,
        rule=rule,
        files=files,
        inputs=scripts,
    )


@named_in_python
def train(
    store: StoreOrPath,
    labels: AnyPath,
    output: AnyPath,
    *,
    classifier: Literal["mlp", "logistic", "hist-gradient-boosting"] = "mlp",
    models: str | Sequence[str] = (),
    split: Literal["contig", "sample", "random"] = "contig",
    held_out: float = 0.1,
    test: float = 0.0,
    folds: int = 0,
    epochs: int | None = None,
    patience: int | None = None,
    batch: int | None = None,
    learning_rate: float | None = None,
    threads: int | None = None,
    seed: int = 42,
    device: str = "auto",
    force: bool = False,
) -> TrainReport:
    """Train a classifier on labelled records, as ``vnp train`` does.

    Parameters
    ----------
    store
        The store; rows that are not certified are left out.
    labels
        Table with a header: label (virus or others); sample, contig or record; maybe group.
    output
        ``NAME.safetensors``; its cards ``NAME.json`` and ``NAME.md`` go beside it.
    classifier
        What is trained; all but ``mlp`` need scikit-learn.
    models
        Models whose embeddings make a feature row, in order; by default all of the store.
    split
        What is held out as a whole; ``random``: single records, as published.
    held_out, test
        Shares of the records for early stopping and metrics, and for the final metrics alone.
    folds
        Of a cross-validation besides; 0: none.
    epochs, patience, batch, learning_rate
        Schedule of an mlp; by default as published.
    threads
        CPU threads that train an mlp; by default one for a small set, up to four for a larger.
    seed
        Of everything random.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    force
        Replace what is at ``output``.

    Returns
    -------
    TrainReport
        ``card`` has settings, data and metrics; ``uncertified`` records were left out.

    Raises
    ------
    LabelsError
        If the labels do not fit the store, or a class is too small to hold some of it out.
    UsageError
        If an option is wrong, a model is not there, the file exists, or a package is missing.
    """
    require_embed("training")
    from vnp.classify.fit import Schedule
    from vnp.classify.train import Kind, SplitBy, TrainSettings
    from vnp.classify.train import train as fit
    from vnp.inference.device import place

    check_word("classifier", classifier, Kind)
    check_word("split", split, SplitBy)
    if isinstance(folds, bool) or folds not in (0, *range(2, 101)):
        raise UsageError(f"folds is {folds}: give 2 to 100, or 0 for none")
    schedule: dict[str, Any] = {
        name: value
        for name, value in (
            ("epochs", epochs),
            ("patience", patience),
            ("batch", batch),
            ("learning_rate", learning_rate),
        )
        if value is not None
    }
    own = schedule if threads is None else {**schedule, "threads": threads}
    for name, value in own.items():
        if isinstance(value, bool) or not 0 < value < float("inf"):
            raise UsageError(f"{name} is {value}: give a positive number")
    if own and classifier != "mlp":
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in own)
        raise UsageError(
            f"{flags} {'is' if len(own) == 1 else 'are'} of the training of an mlp, and "
            f"a classifier {classifier} has no such"
        )
    return fit(
        newest(store),
        Path(labels),
        Path(output),
        settings=TrainSettings(
            kind=classifier,
            models=names_of(models),
            split=split,
            held_out=held_out,
            test=test,
            folds=folds,
            schedule=Schedule(seed=seed, **schedule),
            threads=threads,
        ),
        force=force,
        device=place(device, precision="float32", threads=None, warn=log.debug).device,
    )


@named_in_python
def precisions(
    store: StoreOrPath,
    *,
    models: str | Sequence[str] = (),
    classifier: AnyPath | None = None,
    device: str = "auto",
    weights: AnyPath | None = None,
    plugins: AnyPath | Sequence[AnyPath] = (),
    token_budget: int | None = None,
) -> PrecisionsReport:
    """Tell what faster precisions would change, as ``vnp precisions`` does.

    The store stays as it is.

    Parameters
    ----------
    store
        A store with rows; none need be embedded.
    models
        Names of the models to compare; by default all of the store.
    classifier
        A classifier's file: also count the records that it would call otherwise.
    device, weights, plugins, token_budget
        As `embed` takes them.

    Returns
    -------
    PrecisionsReport
        By model and precision: cosines, speed and changed calls.

    Raises
    ------
    UsageError
        If the store has no rows or no such model, the classifier does not fit it, or torch is not
        installed.
    DataError
        If the weights are not those of the store, or the file is not a classifier.
    """
    require_embed("comparing precisions")
    from vnp.classify.files import load_classifier
    from vnp.classify.precisions import compare_precisions

    scripts = tuple(map(Path, paths_of(plugins)))
    load_plugins(scripts)
    file = _path(classifier)
    return compare_precisions(
        newest(store),
        models=names_of(models),
        classifier=None if file is None else load_classifier(file),
        config=WorkerConfig(
            device=device,
            weights_dir=_path(weights),
            plugins=scripts,
            token_budget=token_budget,
        ),
    )


def _path(path: AnyPath | None) -> Path | None:
    return None if path is None else Path(*paths_of([path]))
