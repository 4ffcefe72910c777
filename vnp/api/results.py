"""What comes out of a store: ``vnp.predict``, ``export`` and ``residues``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vnp.api.arguments import (
    AnyPath,
    StoreOrPath,
    check_type,
    check_word,
    names_of,
    newest,
    paths_of,
    rows_of,
)
from vnp.embed.config import WorkerConfig
from vnp.exchange.export import Dtype, ExportReport, export_store
from vnp.exchange.selection import Ids, Incomplete
from vnp.exchange.torch_files import Layout
from vnp.models.extra import require_embed
from vnp.models.registry import load_plugins

if TYPE_CHECKING:
    from vnp.classify.call_files import CallFiles
    from vnp.classify.predict import Prediction
    from vnp.classify.regions import RegionRule
    from vnp.exchange.residues import ResiduesReport
    from vnp.inference.encoder import Precision

log = logging.getLogger(__name__)


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
    rule: RegionRule | None = None,
    files: CallFiles | None = None,
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
    rule
        How viral regions are found (`vnp.classify.regions.RegionRule`); by default as documented.
    files
        FASTA, BED and GFF3 to write besides (`vnp.classify.call_files.CallFiles`).

    Returns
    -------
    Prediction
        ``samples`` with their calls; ``unscored`` rows are those not certified for every model.

    Raises
    ------
    UsageError
        If a sample or model is not there, the widths do not fit, or torch is not installed.
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

    check_type("rule", rule, RegionRule)
    check_type("files", files, CallFiles)
    scripts = tuple(map(Path, paths_of(plugins)))
    load_plugins(scripts)
    scored = newest(store)
    return score(
        scored,
        load_classifier(Path(classifier)),
        None if output is None else Path(output),
        samples=names_of(samples),
        models=names_of(models),
        device=place(device, precision="float32", threads=None, warn=log.warning).device,
        save=save,
        replace=replace,
        rule=rule,
        files=files,
        inputs=scripts,
    )


def export(
    store: StoreOrPath,
    to: AnyPath,
    *,
    samples: str | Sequence[str] = (),
    models: str | Sequence[str] = (),
    incomplete: Incomplete = "refuse",
    dtype: Dtype | None = None,
    layout: Layout | None = None,
    ids: Ids | None = None,
    sequences: bool = False,
    force: bool = False,
) -> ExportReport:
    """Write chosen rows as a file of another kind, as ``vnp export`` does.

    Parameters
    ----------
    store
        The store.
    to
        The file; its suffix says which kind (`vnp.exchange.export.FORMATS`).
    samples, models
        Names; by default all. Models go left to right.
    incomplete
        Rows that are not certified: ``refuse`` to export, ``skip`` them, or write ``nan``.
    dtype
        ``float16`` or ``float32``; by default what suits the format.
    layout
        Which of VirNucPro's files a ``.pt`` is: ``DNABERT_S``, ``ESM`` or ``merged`` (default).
    ids
        Of ``.pt`` and ``.h5``: ``plain``, ``qualified`` by the sample, or ``auto`` (default).
    sequences
        Write the sequences too (``.h5ad``, ``.zarr``, ``.parquet``).
    force
        Replace what is at ``to``.

    Raises
    ------
    UsageError
        If the options do not fit the format, a name is unknown, no row is left, the file exists, or
        a package is missing.
    DataError
        If rows are not certified, or ids are not unique where they must be.
    """
    for name, value, words in (
        ("incomplete", incomplete, Incomplete),
        ("dtype", dtype, Dtype),
        ("layout", layout, Layout),
        ("ids", ids, Ids),
    ):
        check_word(name, value, words)
    return export_store(
        newest(store),
        Path(to),
        samples=names_of(samples),
        models=names_of(models),
        incomplete=incomplete,
        ids=ids,
        dtype=dtype,
        layout=layout,
        sequences=sequences,
        force=force,
    )


def residues(
    store: StoreOrPath,
    to: AnyPath,
    *,
    model: str,
    rows: Sequence[int] = (),
    ids: str | Sequence[str] = (),
    sample: str | None = None,
    layer: int | None = None,
    dtype: Literal["float16", "float32"] = "float16",
    device: str = "auto",
    precision: Precision = "auto",
    weights: AnyPath | None = None,
    plugins: AnyPath | Sequence[AnyPath] = (),
    force: bool = False,
) -> ResiduesReport:
    """Write hidden states of chosen records, one row a residue, as ``vnp residues`` does.

    Parameters
    ----------
    store
        The store.
    to
        The ``.h5``: a dataset (L, D) a record, under its id.
    model
        A model of the store; its weights must be those that filled it.
    rows, ids, sample
        Which records: row numbers, whole ones, or ids (of a sample).
    layer
        From 1; by default that of the store's rows.
    dtype
        Of the datasets.
    device, precision, weights, plugins
        As `embed` takes them.
    force
        Replace what is at ``to``.

    Returns
    -------
    ResiduesReport
        How many records and residues were written.

    Raises
    ------
    UsageError
        If there is no such model, record or layer, or the file exists.
    DataError
        If the weights are not those of the store, or the model has no hidden states to give.
    """
    check_word("dtype", dtype, Dtype)
    require_embed("hidden states of residues")
    from vnp.exchange.residues import write_residues

    scripts = tuple(map(Path, paths_of(plugins)))
    load_plugins(scripts)
    return write_residues(
        newest(store),
        Path(to),
        model=model,
        rows=rows_of(rows),
        ids=names_of(ids),
        sample=sample,
        layer=layer,
        dtype=dtype,
        config=WorkerConfig(
            device=device,
            precision=precision,
            weights_dir=None if weights is None else Path(weights),
            plugins=scripts,
        ),
        force=force,
    )
