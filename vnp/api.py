"""vnp's commands as functions, for scripts and notebooks: ``import vnp``, then ``vnp.append(...)``.

Each function does what the command of its name does, with its options as keyword arguments, and
returns the report that the command prints with ``--json``: a frozen dataclass with ``to_json()``.
``store`` is always a path or an open store. An error that ends a command is raised, as
`store.errors.UsageError` if the call is wrong (exit code 2), else as another
`store.errors.StoreError` or an OSError (1), and KeyboardInterrupt (130). What is incomplete (3) is
told by the report, and so is the damage that `verify` finds.

Messages go to the loggers ``vnp`` and ``store``, progress is shown as the commands show it and as a
bar in a notebook.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args, overload

from store.errors import UsageError
from store.open import open_store
from store.schema import DEFAULT_BLOCK_ROWS, STANDARD_CODE
from store.store import Store
from vnp.embed.config import WorkerConfig
from vnp.embed.function import embed
from vnp.embed.status import StoreStatus, read_status
from vnp.embed.verification import VerifyReport
from vnp.embed.verification import verify as verify_and_repair
from vnp.exchange.export import Dtype, ExportReport, export_store
from vnp.exchange.selection import Ids, Incomplete
from vnp.exchange.torch_files import Layout
from vnp.models import registry
from vnp.models.extra import require_embed
from vnp.sequence.append import AppendReport, Existing, Invalid
from vnp.sequence.append_files import AppendReports, NewStore, append_files
from vnp.sequence.contig_ids import Duplicates
from vnp.sequence.create import InitReport
from vnp.sequence.create import create as create_store
from vnp.sequence.samples import read_sheet, samples_of_files
from vnp.sequence.segments import WHOLE

if TYPE_CHECKING:
    from vnp.classify.call_files import CallFiles
    from vnp.classify.predict import Prediction
    from vnp.classify.regions import RegionRule
    from vnp.exchange.residues import ResiduesReport

__all__ = ["append", "create", "embed", "export", "open", "predict", "residues", "status", "verify"]

AnyPath: TypeAlias = str | os.PathLike[str]
StoreOrPath: TypeAlias = AnyPath | Store
SegmentLength: TypeAlias = int | Literal["whole"]  # bases of a window; whole: contigs are not cut

log = logging.getLogger(__name__)


def create(
    path: AnyPath,
    *,
    recipe: str | None = None,
    models: str | Sequence[str] = (),
    segment_length: SegmentLength = 500,
    genetic_code: int = STANDARD_CODE,
    block_rows: int = DEFAULT_BLOCK_ROWS,
    mixed_precision: bool = False,
    if_missing: bool = False,
    plugins: AnyPath | Sequence[AnyPath] = (),
) -> InitReport:
    """Make an empty store, as ``vnp init`` does.

    Parameters
    ----------
    path
        Where: ``.zarr`` is a directory, ``.h5`` one HDF5 file.
    recipe, models
        ``virnucpro`` (DNABERT-S and ESM-2 3B, the default) or ``demo``; or models, as
        `vnp.models.registry` resolves them: ``esm2_650m@layer=20``, ``hf:ORG/NAME``.
    segment_length
        Bases of the windows that contigs are cut into (published: 300, 500), or ``whole``.
    genetic_code
        NCBI's number of the translation table.
    block_rows
        Rows of a block.
    mixed_precision
        Whether workers of unlike precisions may fill the store.
    if_missing
        Accept a store that exists with these models and this segment length.
    plugins
        Python files that describe models; they are run.

    Raises
    ------
    UsageError
        If the path is taken, the store there is another one than asked for, or a name is unknown.
    """
    registry.load_plugins(map(Path, _paths(plugins)))
    return create_store(
        Path(path),
        recipe=recipe,
        models=_names(models),
        segment_length=_bases(segment_length),
        genetic_code=genetic_code,
        block_rows=block_rows,
        mixed_precision=mixed_precision,
        if_missing=if_missing,
    )


def open(path: AnyPath) -> Store:  # noqa: A001 - vnp.open(...) reads best
    """Open a store to read it; what it offers is in `store.store.Store`.

    ``run["esm2_3b"]`` and ``run.merged()`` are lazy arrays, ``run.obs`` is the table of the
    records, ``run.to_anndata()`` an AnnData. The object keeps the rows of the moment it was opened;
    ``run.refresh()`` takes the newest.

    Raises
    ------
    NotAStoreError
        If there is none, or it was made by a newer vnp.
    """
    return open_store(Path(path))


@overload
def append(  # type: ignore[overload-overlap]  # a str is one file, though it is a sequence of str
    store: StoreOrPath,
    files: AnyPath,
    *,
    sample: str | None = None,
    duplicates: Literal["refuse", "number"] = "refuse",
    existing: Existing = "refuse",
    invalid: Invalid = "refuse",
    allow_same_content: bool = False,
    create: bool = False,
    recipe: str | None = None,
    segment_length: SegmentLength = 500,
    genetic_code: int | None = None,
    report: AnyPath | None = None,
) -> AppendReport: ...
@overload
def append(
    store: StoreOrPath,
    files: Sequence[AnyPath] = (),
    *,
    sheet: AnyPath | None = None,
    duplicates: Literal["refuse", "number"] = "refuse",
    existing: Existing = "refuse",
    invalid: Invalid = "refuse",
    allow_same_content: bool = False,
    create: bool = False,
    recipe: str | None = None,
    segment_length: SegmentLength = 500,
    genetic_code: int | None = None,
) -> AppendReports: ...
def append(
    store: StoreOrPath,
    files: AnyPath | Sequence[AnyPath] = (),
    *,
    sheet: AnyPath | None = None,
    sample: str | None = None,
    duplicates: Literal["refuse", "number"] = "refuse",
    existing: Existing = "refuse",
    invalid: Invalid = "refuse",
    allow_same_content: bool = False,
    create: bool = False,
    recipe: str | None = None,
    segment_length: SegmentLength = 500,
    genetic_code: int | None = None,
    report: AnyPath | None = None,
) -> AppendReport | AppendReports:
    """Append FASTA, FASTQ, BAM or CRAM files as samples, as ``vnp append`` does.

    Parameters
    ----------
    store
        An open one has the new rows afterwards.
    files
        One file, or a list of files, a sample each.
    sheet
        Instead of files, a table of samples: sample, file, and file2 of read pairs.
    sample
        Name of the sample of one file; by default made of the file's name.
    duplicates
        Sequence ids that occur twice in a file: ``refuse`` the file, or ``number`` them.
    existing
        A file, or its content, that is in the store already: ``refuse`` or ``skip`` it.
    invalid
        Records that cannot be used: ``refuse`` the file, or ``skip`` and name them.
    allow_same_content
        Whether the store may hold the same content as another sample.
    create, recipe, segment_length, genetic_code
        Whether to make the store first if it is missing, and how; see `create`.
    report
        Where to name the contigs of one file that give no record.

    Returns
    -------
    AppendReport or AppendReports
        Of one file its report; of a list or a sheet the reports of all, in ``samples``.

    Raises
    ------
    UsageError
        If the arguments do not fit each other, or a sample's name is illegal.
    SampleExistsError
        If the store holds such a sample, or this very file.
    DataError
        If a file is not what it must be; it left nothing behind, and the samples before it are in.
    """
    one = isinstance(files, str | os.PathLike)
    given = [files] if isinstance(files, str | os.PathLike) else files
    named = [os.fspath(file) for file in given]
    if bool(named) == (sheet is not None):
        raise UsageError("name the files to append, or a sheet of them, and not both")
    _one_of("duplicates", duplicates, Literal["refuse", "number"])
    _one_of("existing", existing, Existing)
    _one_of("invalid", invalid, Invalid)
    if not one and (sample is not None or report is not None):
        raise UsageError("sample and report belong to one file: append the files one by one")
    samples = samples_of_files(named, name=sample) if sheet is None else read_sheet(Path(sheet))
    reports = append_files(
        _path(store),
        samples,
        new=NewStore(recipe, _bases(segment_length)) if create else None,
        genetic_code=genetic_code,
        duplicates=Duplicates(duplicates),
        existing=existing,
        invalid=invalid,
        allow_same_content=allow_same_content,
        report=None if report is None else Path(report),
    )
    if isinstance(store, Store):
        store.refresh()
    return reports.samples[0] if one else reports


def status(store: StoreOrPath) -> StoreStatus:
    """Tell how far a store is filled and who is at it, as ``vnp status`` does.

    Raises
    ------
    StoreError
        If the store does not exist.
    """
    return read_status(_newest(store), precisions=True)


def verify(store: StoreOrPath, *, repair: bool = False) -> VerifyReport:
    """Re-read everything and name what is not as it must be, as ``vnp verify`` does.

    Parameters
    ----------
    store
        The store.
    repair
        Make damaged blocks open again and remove leftovers; `embed` then fills them.

    Returns
    -------
    VerifyReport
        ``sound``: nothing is damaged; ``complete``: besides every row is certified; ``findings``
        says what and where.

    Raises
    ------
    StoreError
        If the store does not exist.
    """
    return verify_and_repair(_newest(store), repairing=repair)


def predict(
    store: StoreOrPath,
    classifier: AnyPath,
    *,
    output: AnyPath | None = None,
    samples: str | Sequence[str] = (),
    models: str | Sequence[str] = (),
    device: str = "auto",
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
    from vnp.classify.files import load_classifier
    from vnp.classify.predict import predict as score
    from vnp.inference.device import place

    scored = _newest(store)
    if files is not None:
        files.check(scored.schema.samples)
    return score(
        scored,
        load_classifier(Path(classifier)),
        None if output is None else Path(output),
        samples=_names(samples),
        models=_names(models),
        device=place(device, precision="float32", threads=None, warn=log.warning).device,
        save=save,
        replace=replace,
        rule=rule,
        files=files,
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
        _one_of(name, value, words)
    return export_store(
        _newest(store),
        Path(to),
        samples=_names(samples),
        models=_names(models),
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
    weights: AnyPath | None = None,
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
        Which records: row numbers, or ids (of a sample).
    layer
        From 1; by default that of the store's rows.
    dtype
        Of the datasets.
    device, weights
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
    _one_of("dtype", dtype, Dtype)
    require_embed("hidden states of residues")
    from vnp.exchange.residues import write_residues

    return write_residues(
        _newest(store),
        Path(to),
        model=model,
        rows=rows,
        ids=_names(ids),
        sample=sample,
        layer=layer,
        dtype=dtype,
        config=WorkerConfig(device=device, weights_dir=None if weights is None else Path(weights)),
        force=force,
    )


def _path(store: StoreOrPath) -> Path:
    return store.path if isinstance(store, Store) else Path(store)


def _newest(store: StoreOrPath) -> Store:
    """Open a store at its newest commit, whichever one an open one holds."""
    return store.snapshot() if isinstance(store, Store) else open_store(Path(store))


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several; a str is no sequence of names."""
    return (names,) if isinstance(names, str) else tuple(names)


def _paths(paths: AnyPath | Sequence[AnyPath]) -> tuple[AnyPath, ...]:
    """One path or several."""
    return (paths,) if isinstance(paths, str | os.PathLike) else tuple(paths)


def _one_of(name: str, value: object, words: object) -> None:
    """Refuse what a command's parser would: a word that is none of a Literal's, nor None."""
    known = get_args(words)
    if value is not None and value not in known:
        raise UsageError(f"{name} is {value!r}, not {' or '.join(map(str, known))}")


def _bases(length: SegmentLength) -> int:
    return WHOLE if length == "whole" else length
