"""Hidden states of chosen records, one row a residue (or token), as HDF5: one dataset a record.

The layout is that of bio-embeddings and protspace: a dataset (L, D) under the record's id. Nothing
of it is kept in the store: it is computed again by the model that filled it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from store.errors import DataError, UsageError
from store.io.optional import require
from store.io.ragged import Ragged
from store.io.replace import check_free, refuse_shared, replacing
from store.io.words import count
from store.read.columns import sample_names, take_column
from store.store import Store
from vnp.embed.config import WorkerConfig
from vnp.embed.encoders import check_weights, load_for
from vnp.embed.imported import refuse_imported
from vnp.embed.progress import Progress
from vnp.exchange.arrays import escape
from vnp.exchange.record_index import RecordIndex
from vnp.inference.encoder import Encoder, PipelinedEncoder
from vnp.inference.load import load_encoder
from vnp.models.held import held_model
from vnp.models.packing import Batch, plan
from vnp.models.tokens import Tokens

log = logging.getLogger(__name__)

_STEP = 1024  # records read and tokenised at a time


@runtime_checkable
class StatesEncoder(Encoder, Protocol):
    """An encoder that gives the hidden states of records, not only their rows."""

    def states(self, batch: Batch, tokens: Tokens) -> list[NDArray[np.float32]]:
        """Hidden states of each record of a batch, (L, D)."""
        ...


@dataclass(frozen=True, slots=True)
class ResiduesReport:
    """What was written."""

    path: str
    model: str
    layer: int | None  # whose states they are, from 1; None: not told by the model
    records: int
    residues: int  # rows of all datasets
    dim: int

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return asdict(self)


def write_residues(
    store: Store,
    output: Path,
    *,
    model: str,
    rows: Sequence[int] = (),
    ids: Sequence[str] = (),
    sample: str | None = None,
    layer: int | None = None,
    dtype: Literal["float16", "float32"] = "float16",
    config: WorkerConfig | None = None,
    force: bool = False,
    load: Callable[..., Encoder] = load_encoder,
) -> ResiduesReport:
    """Compute and write the hidden states of chosen records.

    Parameters
    ----------
    store
        The store.
    output
        The ``.h5`` to write: a dataset (L, D) a record, under its id (``/`` and ``%``
        percent-encoded; ``<sample>:<id>`` where an id is in several samples), with the attributes
        ``sample``, ``id`` and ``row``.
    model
        A model of the store, as `vnp.models.held.held_model` takes it; its weights must be those
        that filled it.
    rows, ids
        Which records: row numbers, whole ones, or ids; of either at least one.
    sample
        Sample that the ids belong to; None: any.
    layer
        Layer, from 1; None: that of the model's rows.
    dtype
        Of the datasets.
    config
        Device, precision, weights, token budget and plug-ins.
    force
        Replace what is at ``output``.

    Raises
    ------
    UsageError
        If the store lacks the model or a record, the model lacks the layer, or the file exists.
    DataError
        If the model's weights are not those of the store, or it gives no states.
    """
    if output.suffix not in (".h5", ".hdf5") or output.is_dir():
        raise UsageError(f"{output}: name a file that ends in .h5 or .hdf5")
    settings = config or WorkerConfig()
    check_free(output, force=force)
    refuse_shared([output], settings.plugins)
    chosen = _rows_of(store, rows, ids, sample)
    model = held_model(store.schema, model)
    encoder = _loaded(store, model, layer, settings, load)
    h5py = require("h5py", for_what="hidden states of residues")
    written = residues = 0
    with (
        replacing(output, force=force) as part,
        h5py.File(part, "w") as file,
        Progress("residues", total=len(chosen), unit="records") as progress,
    ):
        file.attrs.update({"model": model, "dim": encoder.spec.dim, "store": store.path.name})
        of_layer = encoder.spec.layer or encoder.spec.layers or None
        if of_layer is not None:
            file.attrs["layer"] = of_layer
        for first in range(0, len(chosen), _STEP):
            here = chosen[first : first + _STEP]
            for at, states in _states(store, encoder, here):
                row = int(here[at])
                [found] = store.column("id", row, row + 1).tolist()
                record = found.decode(errors="surrogateescape")
                [of] = sample_names(store, np.asarray(store.column("sample", row, row + 1)))
                name = escape(record)
                if name in file:
                    name = escape(f"{of}:{record}")
                if name in file:  # an id that looks like <sample>:<id>
                    raise DataError(
                        f"two of the records would be called {name}: ask for them one by one"
                    )
                data = states.astype(dtype)
                if not np.isfinite(data).all():
                    raise DataError(f"record {record}: {dtype} cannot hold a state; try float32")
                made = file.create_dataset(name, data=data)
                made.attrs.update({"id": record, "sample": of, "row": row})
                written, residues = written + 1, residues + len(states)
                progress.update(written)
    return ResiduesReport(str(output), model, of_layer, written, residues, encoder.spec.dim)


def _states(
    store: Store, encoder: StatesEncoder, rows: NDArray[np.int64]
) -> list[tuple[int, NDArray[np.float32]]]:
    """States of some records, by their position in ``rows``."""
    columns = []
    for name in ("nucleotide", "protein"):
        column = take_column(store, name, rows)
        assert isinstance(column, Ragged)
        columns.append(column)
    tokens = encoder.tokenise(*columns)
    found = [
        (int(at), states)
        for batch in plan(tokens.lengths, token_budget=encoder.token_budget)
        for at, states in zip(batch.records, encoder.states(batch, tokens), strict=True)
    ]
    return sorted(found, key=lambda each: each[0])


def _rows_of(
    store: Store, rows: Sequence[int], ids: Sequence[str], sample: str | None
) -> NDArray[np.int64]:
    """Rows asked for, ascending, each once."""
    if bool(len(rows)) == bool(len(ids)):
        raise UsageError("name records by their rows or by their ids, and not both")
    if len(rows):
        if sample is not None:
            raise UsageError("a sample goes with ids; rows are numbers of the whole store")
        for row in rows:
            if isinstance(row, bool | np.bool_) or not isinstance(row, int | np.integer):
                raise UsageError(f"rows are named by whole numbers, not by {row!r}")
            if not 0 <= row < store.n_rows:
                raise UsageError(f"no row {row} among {store.n_rows:,}")
        return np.unique(np.array(rows, dtype=np.int64))
    found = RecordIndex(store, sample, among=ids).find(ids)
    for at, samples in found.several.items():
        raise UsageError(
            f"{ids[at]} is in the samples {', '.join(samples[:3])}: say which (--sample)"
        )
    absent = [ids[at] for at in np.flatnonzero(found.rows < 0).tolist()]
    if absent:
        raise UsageError(f"{count(len(absent), 'id')} not in the store, as {absent[0]}")
    return np.unique(found.rows)


def _loaded(
    store: Store,
    model: str,
    layer: int | None,
    config: WorkerConfig,
    load: Callable[..., Encoder],
) -> StatesEncoder:
    """Load the model that filled the store, to give the states of a layer."""
    refuse_imported(store, model, advice="it has rows here, and no hidden states to compute")

    def of_layer(source: str, **settings: Any) -> Encoder:
        if layer is not None:
            base, _, options = source.partition("@")
            kept = [each for each in options.split(",") if each and not each.startswith("layer=")]
            source = f"{base}@{','.join([*kept, f'layer={layer}'])}"
        return load(source, **settings)

    encoder = load_for(store, model, config=config, load=of_layer, warn=log.warning)
    if isinstance(encoder, PipelinedEncoder):
        encoder.qualify(store, model)  # in int8 it takes the store's scales
    if not isinstance(encoder, StatesEncoder):
        raise DataError(f"{model} is a plug-in's, which gives rows and no hidden states")
    check_weights(store, model, encoder)
    return encoder
