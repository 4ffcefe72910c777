"""Import of VirNucPro's result files: their rows become rows of a store, nothing is computed again.

The files hold embeddings by record id, but no sequences. So the FASTA they were made from is
appended like any other sample, which makes the same records, and the files' rows are matched to
them by id. Rows that the files lack stay open, and ``vnp embed`` fills them.

Rows are first collected in row order in a scratch file beside the store, as float16; then every
block whose rows are all known is published as a worker would. A block that the sample shares with
another one is completed from the rows certified there already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.claims.participant import Participant
from store.errors import SampleExistsError
from store.geometry import chunks_of
from store.io.files import mapped_file
from store.io.words import count
from store.schema import Model, Sample
from store.store import Store
from vnp import __version__
from vnp.embed.imported import refuse_imported
from vnp.exchange.publishing import publish_blocks
from vnp.exchange.virnucpro_files import (
    F32,
    ResultFile,
    ResultFileError,
    bands,
    look_up,
    read_results,
    rows_by_id,
)
from vnp.sequence.append import append_file
from vnp.sequence.compression import file_sha256
from vnp.sequence.contig_ids import Duplicates

_LARGEST = 65504.0  # of float16


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of the files."""

    sample: str
    appended: bool  # the sample was not in the store before
    rows: int  # of the sample
    matched: dict[str, int]  # per model, rows that the files have
    certified: dict[str, int]  # per model, rows of the sample certified now
    files: dict[str, str]  # name of each file and its sha-256

    @property
    def complete(self) -> bool:
        """Whether every row of the sample is certified for every model."""
        return all(rows == self.rows for rows in self.certified.values())

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {**asdict(self), "complete": self.complete}


def import_files(
    store: Store,
    files: Sequence[Path],
    *,
    fasta: str,
    sample: str | None = None,
    duplicates: Duplicates = Duplicates.REFUSE,
) -> ImportReport:
    """Bring result files of one sample into a store.

    Parameters
    ----------
    store
        Of the segment length that the files were made with.
    files
        ``*_DNABERT_S.pt``, ``*_ESM.pt`` and ``*_merged.pt``, in any number and order.
    fasta
        What they were made from; appended unless the store holds this very file already.
    sample, duplicates
        See `vnp.sequence.append.append_file`.

    Raises
    ------
    ResultFileError
        If a file is damaged or misaligned, or does not belong to the FASTA or the store's models;
        no embedding is then published.
    SampleExistsError
        If another sample of that name is in the store.
    ImportedModelError
        If a model's rows came from other files of embeddings.
    """
    # All files are read before anything is changed, so that a bad one changes nothing.
    hashes = {path.name: file_sha256(path) for path in files}
    for path in files:
        for model, _ in bands(read_results(path), store.schema.models, of=store.path):
            refuse_imported(store, model.name)
    report = append_file(store, fasta, sample=sample, duplicates=duplicates, existing="skip")
    if sample is not None and report.sample.name != sample:
        raise SampleExistsError(f"{fasta} is in the store as sample {report.sample.name}")
    store.refresh()
    made = report.sample
    index = rows_by_id(store, made)
    staged = _Staged(store, made)
    for path in files:
        staged.add(read_results(path), index)
    with Participant(store.sidecar.room) as participant:
        for name in staged.known:
            _publish(store, participant, name, staged, hashes)
    return ImportReport(
        sample=made.name,
        appended=not report.skipped,
        rows=made.stop - made.start,
        matched={name: int(np.count_nonzero(known)) for name, known in staged.known.items()},
        certified={
            name: int(np.count_nonzero(store.filled(name, made.start, made.stop)))
            for name in staged.known
        },
        files=hashes,
    )


class _Staged:
    """The rows of one sample as they come from the files, in row order, on disk."""

    def __init__(self, store: Store, sample: Sample) -> None:
        self._store = store
        self.sample = sample
        self._values: dict[str, NDArray[np.float16]] = {}
        self.known: dict[str, NDArray[np.bool_]] = {}  # rows that the files have, by model

    def add(self, file: ResultFile, index: dict[str, int]) -> None:
        """Take the rows of a file."""
        rows = look_up(index, file.ids)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            length = self._store.schema.segment_length
            cut = f"cut into {length} bp segments" if length else "not cut into segments"
            raise ResultFileError(
                f"{file.path}: {len(unknown):,} of {count(len(rows), 'id')} are not records of "
                f"sample {self.sample.name} {cut}, the first is {file.ids[unknown[0]]} in row "
                f"{unknown[0] + 1}; the file belongs to another FASTA or another segment length"
            )
        for model, values in bands(file, self._store.schema.models, of=self._store.path):
            self._put(file, model, rows - self.sample.start, values)

    def _put(self, file: ResultFile, model: Model, at: NDArray[np.int64], given: F32) -> None:
        large = np.flatnonzero((np.abs(given) > _LARGEST).any(axis=1))
        if len(large):
            raise ResultFileError(
                f"{file.path}: row {large[0] + 1} ({file.ids[large[0]]}) holds numbers beyond "
                f"float16's {_LARGEST:g}; these are not embeddings of {model.name}"
            )
        if model.name not in self.known:
            # A file without a name: it is gone with the last use of the array, however this ends.
            shape = (self.sample.stop - self.sample.start, model.dim)
            scratch = self._store.sidecar.make().temporary("import")
            try:
                self._values[model.name] = mapped_file(scratch, dtype=np.float16, shape=shape)
            finally:
                scratch.unlink(missing_ok=True)
            self.known[model.name] = np.zeros(len(self._values[model.name]), dtype=bool)
        values = given.astype(np.float16)
        known, staged = self.known[model.name], self._values[model.name]
        twice = np.flatnonzero(known[at])
        differs = twice[(staged[at[twice]] != values[twice]).any(axis=1)]
        if len(differs):
            raise ResultFileError(
                f"{file.path}: {count(len(differs), 'row')}, the first is row {differs[0] + 1} "
                f"({file.ids[differs[0]]}), differ from what an earlier file gave for "
                f"{model.name}: the files come from different runs, or rows and ids of one have "
                "come apart"
            )
        staged[at] = values
        known[at] = True

    def block(self, model: str, block: int) -> NDArray[np.float16] | None:
        """Rows of a block from the files, and from the store where it has them; None if not all."""
        start, stop = self._store.block_bounds(block)
        values = self._store.read(model, start, stop)
        first, last = max(start, self.sample.start), min(stop, self.sample.stop)
        ours = slice(first - self.sample.start, last - self.sample.start)
        part = values[first - start : last - start]
        open_ = np.isnan(part[:, 0]) & self.known[model][ours]
        part[open_] = self._values[model][ours][open_]
        return None if np.isnan(values[:, 0]).any() else values


def _publish(
    store: Store,
    participant: Participant,
    model: str,
    staged: _Staged,
    hashes: dict[str, str],
) -> None:
    """Publish every block whose rows are all known."""
    details = {
        "imported": hashes,
        "made_by": "VirNucPro",
        "precision": "float32 rounded to float16",
        "vnp": __version__,
    }
    # An empty identity: which weights VirNucPro ran with is not recorded in its files, so the
    # first worker that fills the rest is not held to any.
    origin = {"identity": {}, "environment": {"imported": "VirNucPro result files"}}
    publish_blocks(
        store,
        participant,
        model,
        chunks_of(staged.sample.start, staged.sample.stop, store.schema.block_rows),
        values_of=lambda block: staged.block(model, block),
        details_of=lambda _: details,
        provenance=origin,
    )
