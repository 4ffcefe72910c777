"""A store and its samples: ``vnp.create``, ``open``, ``append``, ``status`` and ``verify``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict, Unpack, overload

from store.errors import UsageError
from store.location import location
from store.open import open_store
from store.schema import DEFAULT_BLOCK_ROWS, STANDARD_CODE
from store.store import Store
from vnp.api.arguments import (
    AnyPath,
    SegmentLength,
    StoreOrPath,
    bases_of,
    check_whole,
    check_word,
    names_of,
    newest,
    path_of,
    paths_of,
)
from vnp.embed.keywords import named_in_python
from vnp.embed.status import StoreStatus, read_status
from vnp.embed.verification import VerifyReport
from vnp.embed.verification import verify as verify_and_repair
from vnp.models import registry
from vnp.sequence.append import AppendReport, Existing, Invalid
from vnp.sequence.append_files import AppendReports, append_files, check_append
from vnp.sequence.check import CheckReport
from vnp.sequence.contig_ids import Duplicates
from vnp.sequence.create import InitReport, StoreOptions
from vnp.sequence.create import create as create_store
from vnp.sequence.samples import read_sheet, samples_of_files


@named_in_python
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
    weights: AnyPath | None = None,
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
    weights
        Folder in which files of models of the Hugging Face hub are looked for first.
    plugins
        Python files that describe models; they are run.

    Raises
    ------
    UsageError
        If the path is taken, the store there is another one than asked for, or a name is unknown.
    """
    check_whole("genetic_code", genetic_code)
    check_whole("block_rows", block_rows)
    registry.load_plugins(map(Path, paths_of(plugins)))
    return create_store(
        location(path),
        recipe=recipe,
        models=names_of(models),
        segment_length=bases_of(segment_length),
        genetic_code=genetic_code,
        block_rows=block_rows,
        mixed_precision=mixed_precision,
        if_missing=if_missing,
        weights_dir=None if weights is None else Path(weights),
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
    return open_store(path)


class AppendOptions(TypedDict, total=False):
    """Options of `append`, of one file and of several."""

    duplicates: Literal["refuse", "number"]
    existing: Existing
    invalid: Invalid
    allow_same_content: bool
    create: bool
    recipe: str | None
    segment_length: SegmentLength | None
    genetic_code: int | None
    plugins: AnyPath | Sequence[AnyPath]


@overload
def append(  # type: ignore[overload-overlap]  # a str is one file, though it is a sequence of str
    store: StoreOrPath,
    files: AnyPath,
    *,
    sample: str | None = None,
    report: AnyPath | None = None,
    **options: Unpack[AppendOptions],
) -> AppendReport: ...
@overload
def append(
    store: StoreOrPath,
    files: Sequence[AnyPath] = (),
    *,
    sheet: AnyPath | None = None,
    **options: Unpack[AppendOptions],
) -> AppendReports: ...
@overload
def append(
    store: StoreOrPath,
    files: AnyPath | Sequence[AnyPath] = (),
    *,
    check: Literal[True],
    sheet: AnyPath | None = None,
    sample: str | None = None,
    report: AnyPath | None = None,
    **options: Unpack[AppendOptions],
) -> CheckReport: ...
@named_in_python
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
    check: bool = False,
    create: bool = False,
    recipe: str | None = None,
    segment_length: SegmentLength | None = None,
    genetic_code: int | None = None,
    plugins: AnyPath | Sequence[AnyPath] = (),
    report: AnyPath | None = None,
) -> AppendReport | AppendReports | CheckReport:
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
    check
        Read everything and write nothing: what an append would meet.
    create
        Whether to make the store first if it is missing; one that is there must be as it would be
        made.
    recipe, segment_length, genetic_code
        How to make it (see the function `create`); without ``create``, what the store must be as
        far as it is said.
    plugins
        Python files that describe models of the recipe; they are run.
    report
        Where to name the contigs of one file that give no record.

    Returns
    -------
    AppendReport, AppendReports or CheckReport
        Of one file its report; of a list or a sheet the reports of all, in ``samples``. With
        ``check`` how many ``problems`` there are, and which in each of ``samples``.

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
    named = [os.fspath(file) for file in paths_of(files)]
    if bool(named) == (sheet is not None):
        raise UsageError("name the files to append, or a sheet of them, and not both")
    check_whole("genetic_code", genetic_code)
    check_word("duplicates", duplicates, Literal["refuse", "number"])
    check_word("existing", existing, Existing)
    check_word("invalid", invalid, Invalid)
    if not one and (sample is not None or report is not None):
        raise UsageError("sample and report belong to one file: append the files one by one")
    samples = samples_of_files(named, name=sample) if sheet is None else read_sheet(Path(sheet))
    registry.load_plugins(map(Path, paths_of(plugins)))
    length = None if segment_length is None else bases_of(segment_length)
    wanted, kind = StoreOptions(recipe, length, genetic_code), Duplicates(duplicates)
    if check:
        return check_append(path_of(store), samples, wanted=wanted, make=create, duplicates=kind)
    reports = append_files(
        path_of(store),
        samples,
        wanted=wanted,
        make=create,
        duplicates=kind,
        existing=existing,
        invalid=invalid,
        allow_same_content=allow_same_content,
        report=None if report is None else Path(report),
    )
    if isinstance(store, Store):
        store.refresh()
    return reports.samples[0] if one else reports


def status(store: StoreOrPath) -> StoreStatus:
    """Tell how far a store is filled and which workers fill it, as ``vnp status`` does.

    Raises
    ------
    StoreError
        If the store does not exist.
    """
    return read_status(newest(store), precisions=True, origins=True)


def verify(
    store: StoreOrPath, *, repair: bool = False, check_threads: int | None = None
) -> VerifyReport:
    """Re-read everything and name what is not as it must be, as ``vnp verify`` does.

    Parameters
    ----------
    store
        The store.
    repair
        Make damaged blocks open again and remove leftovers; `embed` then fills them.
    check_threads
        Threads that read blocks; by default as many as the file system's latency asks for.

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
    return verify_and_repair(newest(store), repairing=repair, check_threads=check_threads)
