"""Export of rows to a file of another kind, which its suffix tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from store.errors import UsageError
from store.io.replace import check_free, refuse_shared, replacing
from store.store import Store
from vnp.exchange import anndata, arrays, torch_files
from vnp.exchange.selection import Ids, Incomplete, select
from vnp.models.held import held_models

Dtype = Literal["float16", "float32"]

# Suffix -> the number type written unless another is asked for.
FORMATS: dict[str, Dtype] = {
    ".h5ad": "float16",
    ".zarr": "float16",
    ".npy": "float16",
    ".csv": "float32",  # the texts of float16 are shorter, and mean the number only as float16
    ".tsv": "float32",
    ".parquet": "float32",  # many readers of Parquet lack float16
    ".lance": "float32",
    ".pt": "float32",  # as VirNucPro writes them
    ".faiss": "float32",  # faiss has no other
    ".h5": "float16",
}
_FLOAT32_ONLY = (".pt", ".faiss")
_WITH_SEQUENCES = (".h5ad", ".zarr", ".parquet", ".lance")
_WITH_IDS = (".pt", ".h5")


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written."""

    path: str
    rows: int
    columns: int
    models: tuple[str, ...]
    dtype: str
    left_out: int  # rows that are not certified and were skipped
    qualified: bool  # ids are written as <sample>:<id>
    escaped: int  # ids that were percent-encoded to be HDF5 names
    rows_file: str  # of an .npy file: the table that names its rows; else empty

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return asdict(self)


def export_store(
    store: Store,
    target: Path,
    *,
    samples: Sequence[str] = (),
    models: Sequence[str] = (),
    incomplete: Incomplete = "refuse",
    ids: Ids | None = None,
    dtype: Dtype | None = None,
    layout: torch_files.Layout | None = None,
    sequences: bool = False,
    force: bool = False,
) -> ExportReport:
    """Write rows of a store to a file of another kind; it appears whole or not at all.

    Parameters
    ----------
    store
        The store.
    target
        What to write; its suffix says which kind (`FORMATS`).
    samples, models
        Names; none for all in the store's order. Models go left to right.
    incomplete
        What to do about rows that are not certified for every chosen model: ``refuse`` to
        export, ``skip`` them, or give them as ``nan``.
    ids
        For ``.pt`` and ``.h5``: ``plain`` record ids, which are unique within a sample only, or
        ``qualified`` by the sample's name; ``auto`` qualifies them for more than one sample.
    dtype
        ``float16``, as stored, or ``float32``.
    layout
        Which of VirNucPro's files a ``.pt`` is: ``DNABERT_S``, ``ESM`` or ``merged``.
    sequences
        Write the nucleotide and protein sequences too, where the format has a place for them.
    force
        Replace what is at ``target``.

    Raises
    ------
    UsageError
        If the options do not fit the format, a name is unknown, no row is left, ``target``
        exists, or a package is missing.
    DataError
        If rows are not certified, or ids are not unique where they must be.
    """
    suffix = target.suffix
    if suffix not in FORMATS:
        raise UsageError(f"{target}: the name of an export must end in {', '.join(FORMATS)}")
    _check(suffix, ids=ids, dtype=dtype, layout=layout, sequences=sequences)
    check_free(target, force=force)
    if isinstance(store.path, Path):  # it may lie in a folder that is replaced
        refuse_shared([target], [store.path])
    if suffix == ".pt":
        named = held_models(store.schema, models)
        known = named or tuple(model.name for model in store.schema.models)
        models = torch_files.models_of_layout(layout or "merged", known)
    selection = select(
        store, samples=samples, models=models, incomplete=incomplete, ids=ids or "auto"
    )
    number = dtype or FORMATS[suffix]
    rows_file = target.with_suffix(".rows.tsv") if suffix == ".npy" else None
    if rows_file is not None:
        check_free(rows_file, force=force)
    escaped = 0
    with replacing(target, force=force) as part:
        if suffix in (".h5ad", ".zarr"):
            write = anndata.write_h5ad if suffix == ".h5ad" else anndata.write_zarr
            write(selection, part, dtype=number, sequences=sequences)
        elif suffix == ".parquet":
            arrays.write_parquet(selection, part, dtype=number, sequences=sequences)
        elif suffix == ".lance":
            arrays.write_lance(selection, part, dtype=number, sequences=sequences)
        elif suffix in (".csv", ".tsv"):
            delimiter = "," if suffix == ".csv" else "\t"
            arrays.write_table(selection, part, dtype=number, delimiter=delimiter)
        elif suffix == ".pt":
            torch_files.write_pt(selection, part, layout=layout or "merged")
        elif suffix == ".faiss":
            arrays.write_faiss(selection, part)
        elif suffix == ".h5":
            escaped = arrays.write_per_record(selection, part, dtype=number)
        else:
            arrays.write_npy(selection, part, dtype=number)
        if rows_file is not None:
            with replacing(rows_file, force=force) as names:
                arrays.write_rows(selection, names)
    return ExportReport(
        path=str(target),
        rows=len(selection),
        columns=selection.view.shape[1],
        models=tuple(model.name for model in selection.view.models),
        dtype=number,
        left_out=selection.left_out,
        qualified=selection.qualified and suffix in _WITH_IDS,
        escaped=escaped,
        rows_file=str(rows_file) if rows_file is not None else "",
    )


def _check(
    suffix: str,
    *,
    ids: Ids | None,
    dtype: Dtype | None,
    layout: torch_files.Layout | None,
    sequences: bool,
) -> None:
    """Refuse an option that the format would have to ignore."""
    if layout is not None and suffix != ".pt":
        raise UsageError(f"--layout is for .pt files, not for {suffix}")
    if dtype == "float16" and suffix in _FLOAT32_ONLY:
        raise UsageError(f"{suffix} files hold float32")
    if sequences and suffix not in _WITH_SEQUENCES:
        raise UsageError(
            f"{suffix} files have no place for sequences; {', '.join(_WITH_SEQUENCES)} have"
        )
    if ids is not None and suffix not in _WITH_IDS:
        raise UsageError(
            f"--ids is for {' and '.join(_WITH_IDS)}; a {suffix} file has a column for the sample"
            if suffix != ".faiss"
            else "--ids is for .pt and .h5; a .faiss file holds row numbers of the store"
        )
