"""Embeddings that others made, from files, as a model of the store.

Rows are joined by record id. They are first collected in a scratch file beside the store, as
float16, in the order they come in; then every block whose rows are all known, from the files or
the store, is published as a worker would. A block is certified whole, so one that lacks a row stays
open, and what was given for it is not kept. Whatever finds no place is named in a table, from
either side: records of the files, and rows of the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from store.claims.participant import Participant
from store.errors import UsageError
from store.io.words import count
from store.schema import Model
from store.store import Store
from vnp import __version__
from vnp.embed.imported import files_named, imported_provenance
from vnp.exchange.embedding_files import open_embeddings
from vnp.exchange.embedding_rows import EmbeddingFile, EmbeddingFileError, shown
from vnp.exchange.publishing import Published, publish_blocks
from vnp.exchange.record_index import RecordIndex
from vnp.exchange.staging import Leftovers, Staged
from vnp.models import registry
from vnp.sequence.compression import file_sha256

_NAMED_FILES = 3  # in the certificate of a block, which has a place of fixed size
_LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class EmbeddingImport:
    """What became of the files."""

    store: str
    model: str
    dim: int  # numbers a row
    added: bool  # the store did not have the model before
    files: dict[str, str]  # name of each file and its SHA-256
    format: str
    passed_over: tuple[str, ...]  # columns of tables that are neither ids nor embeddings
    records: int  # of the files
    matched: int  # of these, records of the store
    repeated: int  # of these, given before with the same numbers
    empty: int  # records of NaN, which count as not there
    faded: int  # records half of whose numbers, or more, float16 makes zero
    unknown: int  # records that the store, or the sample, does not have
    rows: int  # of the store, or the sample
    certified: int  # of these, certified now
    published: int  # blocks that this import published
    without: int  # rows that are open and have no embedding in the files
    waiting: int  # rows that have one and are open, since their block lacks others or is busy
    partial_blocks: int  # open for lack of rows
    busy_blocks: int  # open and held by a worker
    leftovers_file: str  # table that names what found no place; empty if everything did

    @property
    def complete(self) -> bool:
        """Whether every record of the files and every row found its place."""
        return not (self.unknown or self.empty or self.without or self.waiting)

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {**asdict(self), "complete": self.complete}


def import_embeddings(
    store: Store,
    files: Sequence[Path],
    *,
    model: str,
    sample: str | None = None,
    ids: Path | None = None,
    key: str | None = None,
) -> EmbeddingImport:
    """Bring embeddings of records into a store.

    Parameters
    ----------
    store
        Holds the records; samples are not added.
    files
        Of any of `vnp.exchange.embedding_files.SUFFIXES`, all of one width. Give all files of a
        model at once: a block that one alone does not complete stays open.
    model
        Name of the model; it is added to the store if it is not there.
    sample
        Only records of this sample.
    ids, key
        See `vnp.exchange.embedding_files.open_embeddings`.

    Raises
    ------
    UsageError
        If a name is illegal or unknown, or the model's rows were made by workers.
    EmbeddingFileError
        If a file is damaged, of another width than the model, holds numbers that cannot be an
        embedding, contradicts another or what is certified, or has an id that several samples have.
        Nothing is then changed, unless it is another import at the same time that contradicts:
        blocks that were published before stay.
    BusyError
        If the model is to be added and an appender is at work.
    """
    store = store.snapshot()
    if len({path.name for path in files}) != len(files):
        raise UsageError("two of the files have one name, by which their rows are told apart later")
    opened = [open_embeddings(path, model=model, ids=ids, key=key) for path in files]
    wanted = _wanted(store, model, opened)
    added = wanted not in store.schema.models
    index = RecordIndex(store, sample)
    hashes = {path.name: _sha256(path) for path in files}
    with ExitStack() as stack:
        leftovers = stack.enter_context(Leftovers(store, model))
        staged = stack.enter_context(Staged(store, index, wanted.dim, leftovers))
        for file in opened:
            staged.take(file)
        if not staged.matched:
            first = (
                f"; the first is called {shown(staged.first_unknown)}"
                if staged.first_unknown
                else ""
            )
            raise EmbeddingFileError(
                f"{files[0]}: {index.where} has no embedding to take of its "
                f"{count(staged.records, 'record')}: {staged.unknown:,} are not there{first}"
            )
        blocks = staged.blocks()
        if added and not any(map(staged.is_whole, blocks)):
            # A model without a certified row would only be in the way.
            added, done = False, Published((), tuple(blocks), ())
            filled = np.zeros(store.n_rows, dtype=np.bool_)
        else:
            if added:
                store.add_model(wanted)
            else:
                staged.check_certified(model, blocks)
            done = _publish(store, staged, wanted, blocks, opened, hashes)
            filled = store.filled(model)
            # Of these another import may have certified rows since they were passed over.
            staged.check_certified(model, (*done.partial, *done.busy))
        without, waiting = staged.name_open_rows(filled, busy=done.busy)
        leftovers_file = leftovers.finish()
    return EmbeddingImport(
        store=str(store.path),
        model=model,
        dim=wanted.dim,
        added=added,
        files=hashes,
        format="; ".join(dict.fromkeys(file.form for file in opened)),
        passed_over=tuple(dict.fromkeys(name for file in opened for name in file.passed_over)),
        records=staged.records,
        matched=staged.matched,
        repeated=staged.repeated,
        empty=staged.empty,
        faded=staged.faded,
        unknown=staged.unknown,
        rows=index.stop - index.start,
        certified=int(np.count_nonzero(filled[index.start : index.stop])),
        published=len(done.blocks),
        without=without,
        waiting=waiting,
        partial_blocks=len(done.partial),
        busy_blocks=len(done.busy),
        leftovers_file=leftovers_file,
    )


def _wanted(store: Store, name: str, files: Sequence[EmbeddingFile]) -> Model:
    """Return the model that the files are of, checked against each other and the store."""
    first = files[0]
    for file in files:
        if file.dim != first.dim:
            raise EmbeddingFileError(
                f"{file.path} has {count(file.dim, 'number')} a row and {first.path} "
                f"{first.dim:,}: they are not of one model"
            )
    _check_columns([file for file in files if file.columns])
    wanted = Model(name, first.dim)  # refuses an illegal name
    width = f"{first.path} has {count(first.dim, 'number')} a row"
    known = next((model for model in store.schema.models if model.name == name), None)
    if known is None:
        spec = registry.MODELS.get(name)
        if spec is not None and spec.embedding_dim != first.dim:
            raise EmbeddingFileError(
                f"{width}, and the model {name} gives {spec.embedding_dim:,}: choose another name"
            )
        store.schema.with_model(wanted)  # refuses one whose blocks would be too large
        return wanted
    if known.dim != first.dim:
        raise EmbeddingFileError(f"{width}, and {name} in {store.path} has {known.dim:,}")
    provenance = store.provenance(name)
    if provenance is not None:
        _accept(store, name, provenance)
    elif (blocks := np.flatnonzero(store.rows_filled(name))).size:
        certificate = store.certificate(name, int(blocks[0]))  # the provenance is lost
        if certificate is None or "imported" not in certificate.details:
            raise _begun(store, name)
    return wanted


def _check_columns(files: Sequence[EmbeddingFile]) -> None:
    """Refuse tables whose columns of numbers are called differently, or come in another order."""
    for file in files[1:]:
        for here, there in zip(file.columns, files[0].columns, strict=True):
            if here != there:
                raise EmbeddingFileError(
                    f"{file.path} has the column {shown(here)} where {files[0].path} has "
                    f"{shown(there)}: which numbers belong together cannot be told"
                )


def _accept(store: Store, model: str, provenance: Mapping[str, Any]) -> None:
    """Refuse to go on with a model that did not come from files."""
    if files_named(provenance) is None:
        raise _begun(store, model)


def _begun(store: Store, model: str) -> UsageError:
    return UsageError(
        f"{model} in {store.path} was begun by workers, or from VirNucPro's results: other "
        "embeddings do not go beside these; import them under another name"
    )


def _sha256(path: Path) -> str:
    """Hash of a file; of a directory, that of the names and hashes of its files in order."""
    if not path.is_dir():
        return file_sha256(path)
    total = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        total.update(f"{file.relative_to(path)}\0{file_sha256(file)}\n".encode())
    return total.hexdigest()


def _publish(
    store: Store,
    staged: Staged,
    model: Model,
    blocks: Sequence[int],
    files: Sequence[EmbeddingFile],
    hashes: dict[str, str],
) -> Published:
    """Publish the blocks that are known whole."""
    numbers = ", ".join(dict.fromkeys(file.dtype for file in files))
    form = "; ".join(dict.fromkeys(file.form for file in files))

    def details(block: int) -> dict[str, Any]:
        names = [files[number].path.name for number in staged.files_of(block)]
        named = {_short(name): hashes[name] for name in names[:_NAMED_FILES]}
        return {
            "imported": named,
            **({"more_files": len(names) - len(named)} if len(names) > len(named) else {}),
            "precision": numbers if numbers == "float16" else f"{numbers} rounded to float16",
            "vnp": __version__,
        }

    with Participant(store.sidecar.make().room) as participant:
        return publish_blocks(
            store,
            participant,
            model.name,
            blocks,
            values_of=lambda block: staged.block(model.name, block),
            details_of=details,
            provenance=imported_provenance(hashes, form=form, numbers=numbers, version=__version__),
            accept=lambda recorded: _accept(store, model.name, recorded),
            compare=lambda block: staged.check_certified(model.name, [block]),
        )


def _short(name: str) -> str:
    return name.encode("ascii", "replace").decode()[-_LONGEST_NAME:]
