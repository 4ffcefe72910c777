"""What comes out of a store: ``vnp.export`` and ``residues``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vnp.api.arguments import (
    AnyPath,
    StoreOrPath,
    check_word,
    names_of,
    newest,
    paths_of,
    rows_of,
)
from vnp.embed.config import WorkerConfig
from vnp.embed.keywords import named_in_python
from vnp.exchange.export import Dtype, ExportReport, export_store
from vnp.exchange.selection import Ids, Incomplete
from vnp.exchange.torch_files import Layout
from vnp.models.extra import require_embed
from vnp.models.registry import load_plugins

if TYPE_CHECKING:
    from vnp.exchange.residues import ResiduesReport
    from vnp.inference.encoder import Precision


@named_in_python
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
        Write the sequences too (``.h5ad``, ``.zarr``, ``.parquet``, ``.lance``).
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


@named_in_python
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
    precision: Precision = "default",
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
        If the store lacks the model, record or layer, or the file exists.
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
