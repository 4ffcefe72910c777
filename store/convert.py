"""A store of one kind made from a store of another: rows, certified blocks, certificates.

Samples are appended one by one, then blocks are published under claims. So a conversion that was
killed, or whose source has grown, is continued by running it again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from store.append import batch_columns
from store.claims.claims import Claim
from store.claims.participant import Participant
from store.errors import DamageError, UsageError
from store.geometry import chunks_of, rows_wanted
from store.io.files import mapped_file
from store.io.ragged import Ragged
from store.io.words import count
from store.location import Location, S3Location
from store.open import HDF5_SUFFIXES, create_store, is_there, open_store
from store.read.columns import take_column, take_scores
from store.read.first_rows import FirstRows
from store.rows import RowBatch
from store.schema import Sample
from store.store import Store

log = logging.getLogger(__name__)

_BATCH = 1 << 20  # scores moved at a time


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion did."""

    rows: int  # rows of the target
    samples: int  # appended by this run
    blocks: int  # published by this run
    missing: dict[str, int]  # by model: rows of the target that are not certified in the source
    damaged: tuple[str, ...]  # blocks that were left out because the source's are damaged
    busy: int  # blocks left to others that hold their claims

    @property
    def complete(self) -> bool:
        """Whether every certified row of the source is certified in the target."""
        return not self.damaged and not self.busy


def convert(source: Location, target: Location, *, only_certified: bool = False) -> Conversion:
    """Convert by location; an HDF5 file in S3 goes through one in the folder for temporary files.

    See `convert_store`. UsageError if such a target exists.
    """
    with TemporaryDirectory(prefix="vnp-convert-") as folder:
        if _is_remote_file(source):
            from store.s3.transfer import download

            fetched = Path(folder) / f"source{source.suffix}"
            download(source, fetched)
            source = fetched
        if not _is_remote_file(target):
            return convert_store(open_store(source), target, only_certified=only_certified)
        from store.s3.transfer import require_free, upload

        require_free(target)  # before hours of work
        made = Path(folder) / f"target{target.suffix}"
        done = convert_store(open_store(source), made, only_certified=only_certified)
        upload(made, target)
        return done


def _is_remote_file(place: Location) -> TypeGuard[S3Location]:
    return isinstance(place, S3Location) and place.suffix in HDF5_SUFFIXES


def convert_store(source: Store, target: Location, *, only_certified: bool = False) -> Conversion:
    """Make, or complete, a copy of a store; the target's suffix says in which backend.

    ``only_certified`` leaves out rows that are not certified for every model; otherwise these are
    open in the copy. UsageError if the target is a store that does not begin like the source.
    """
    source = source.snapshot()
    copy = _open_or_create(source, target)
    rows = _chosen_rows(source, only_certified=only_certified)
    done = _common_samples(source, copy, rows)
    for sample in source.schema.samples[done:]:
        _append_sample(source, copy, sample, rows)
        log.info(f"sample {sample.name}: {count(copy.n_rows, 'row')} in all")
    for model in source.schema.models:
        provenance = source.provenance(model.name)
        if provenance is not None and copy.pin_provenance(model.name, provenance) != provenance:
            raise UsageError(
                f"{target}: {model.name} was filled by another model there; choose another path"
            )
    blocks, busy, damaged, missing = 0, 0, [], {}
    with Participant(copy.sidecar.make().room) as participant:
        for model in source.schema.models:
            before = blocks
            certified = source[model.name].certified
            missing[model.name] = len(rows) - int(
                np.minimum(rows.counts, certified.counts).sum(dtype=np.int64)
            )
            for block in copy.open_blocks(model.name).tolist():
                wanted = rows.span(*copy.block_bounds(block))
                if not certified.holds(wanted).all():
                    continue  # it cannot be certified: it stays open
                claim = participant.claims.try_claim(model.name, block)
                if claim is None:
                    busy += 1
                    continue
                with claim:
                    try:
                        _copy_block(source, copy, claim, wanted)
                    except DamageError as error:
                        damaged.append(f"{model.name} block {block}: {error}")
                        continue
                blocks += 1
            log.info(f"{model.name}: {count(blocks - before, 'block')} published")
    for scores in source.schema.scores:
        # Rows are in order, so those that the scores cover come first in the copy too.
        covered = rows.before(scores.rows)
        path = copy.sidecar.make().temporary("scores")
        try:
            values = np.empty((0, 2), np.float32)
            if covered:
                values = mapped_file(path, dtype=np.float32, shape=(covered, 2))
            for first in range(0, covered, _BATCH):
                part = rows.span(first, min(first + _BATCH, covered))
                values[first : first + len(part)] = take_scores(source, scores.name, part)
            copy.save_scores(
                scores.name,
                digest=scores.digest,
                values=values,
                rows=[(0, covered)],
                replace=True,
            )
        finally:
            path.unlink(missing_ok=True)
        log.info(f"scores {scores.name}: {count(covered, 'row')}")
    return Conversion(
        rows=copy.n_rows,
        samples=len(source.schema.samples) - done,
        blocks=blocks,
        missing=missing,
        damaged=tuple(damaged),
        busy=busy,
    )


def _open_or_create(source: Store, target: Location) -> Store:
    schema = source.schema
    if not is_there(target):
        return create_store(
            target,
            models=schema.models,
            segment_length=schema.segment_length,
            block_rows=schema.block_rows,
            mixed_precision=schema.mixed_precision,
            genetic_code=schema.genetic_code,
            contig_lengths=schema.contig_lengths,
        )
    copy = open_store(target)
    if copy.path == source.path:
        raise UsageError(f"{target} is the store itself; name another path")
    for model in schema.models[len(copy.schema.models) :]:
        copy.add_model(model)  # added to the source since
    geometry = ("block_rows", "segment_length", "models", "mixed_precision", "genetic_code")
    if any(getattr(copy.schema, name) != getattr(schema, name) for name in geometry):
        raise UsageError(
            f"{target} has other models, blocks, segments or another genetic code than "
            f"{source.path}: it is not a copy of it; choose another path"
        )
    if copy.schema.contig_lengths and not schema.contig_lengths:
        raise UsageError(
            f"{target} keeps the lengths of contigs, which {source.path} has not (any more): "
            "choose another path"
        )
    return copy


def _chosen_rows(source: Store, *, only_certified: bool) -> FirstRows:
    """Rows of the source that go into the copy."""
    if only_certified and source.schema.models:
        return source.merged().certified
    return FirstRows(rows_wanted(source.schema), block_rows=source.schema.block_rows)


def _common_samples(source: Store, copy: Store, rows: FirstRows) -> int:
    """Count the samples the copy has already; they must be those of the source."""
    pairs = zip(source.schema.samples, copy.schema.samples, strict=False)
    same = takewhile(lambda pair: _same_sample(source, copy, pair[0], pair[1], rows), pairs)
    count = sum(1 for _ in same)
    if count != len(copy.schema.samples):
        found = copy.schema.samples[count].name
        raise UsageError(
            f"{copy.path}: its sample {found} is not the rows of {source.path} that belong there "
            "(another store, other rows, or fewer were certified when it was begun); remove it or "
            "choose another path"
        )
    return count


def _same_sample(source: Store, copy: Store, ours: Sample, theirs: Sample, rows: FirstRows) -> bool:
    chosen = rows.between(ours.start, ours.stop)
    if (ours.name, ours.content) != (theirs.name, theirs.content):
        return False
    if chosen != theirs.stop - theirs.start:
        return False
    if chosen == ours.stop - ours.start:
        return True
    start = theirs.start
    for part in _batches(rows, ours):
        there = copy.column("id", start, start + len(part))
        start += len(part)
        here = take_column(source, "id", part)
        if not (isinstance(here, Ragged) and isinstance(there, Ragged)):
            return False
        if here.tolist() != there.tolist():
            return False
    return True


def _append_sample(source: Store, copy: Store, sample: Sample, rows: FirstRows) -> None:
    with copy.appending() as append:
        for part in _batches(rows, sample):
            columns: dict[str, Any] = {
                name: take_column(source, name, part) for name in batch_columns(copy.schema)
            }
            append.write(RowBatch(**columns))
        append.commit(
            sample.name,
            contigs=sample.contigs,
            contigs_without_records=sample.contigs_without_records,
            segments=sample.segments,
            bases=sample.bases,
            content=sample.content,
            source=sample.source,
            file_sha256=sample.file_sha256,
            appended=sample.appended,
            ambiguous=sample.ambiguous,
            uracils=sample.uracils,
            allow_same_content=True,  # the source has it so
        )


def _batches(rows: FirstRows, sample: Sample) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of a sample, those of one block of the source at a time."""
    for block in chunks_of(sample.start, sample.stop, rows.block_rows):
        first = max(sample.start, block * rows.block_rows)
        last = min(sample.stop, (block + 1) * rows.block_rows)
        part = rows.span(rows.before(first), rows.before(last))
        if len(part):
            yield part


def _copy_block(source: Store, copy: Store, claim: Claim, rows: NDArray[np.int64]) -> None:
    """Publish one block with the source's certificate, or its certificates where rows moved."""
    model = claim.model
    size = source.schema.block_rows
    blocks = list(dict.fromkeys((rows // size).tolist()))
    parts = []
    for number in blocks:
        inside = rows[rows // size == number]
        first = int(inside[0])
        parts.append(source.read(model, first, int(inside[-1]) + 1)[inside - first])
    certificates = [source.certificate(model, number) for number in blocks]
    certificate = certificates[0]
    moved = len(blocks) > 1 or int(rows[0]) != copy.block_bounds(claim.block)[0]
    if certificate is None or any(found is None for found in certificates):
        raise DamageError("a certificate is missing in the source; run 'vnp verify' on it")
    details = certificate.details
    if moved:
        workers = sorted({found.worker for found in certificates if found is not None})
        details = {**details, "copied_from_blocks": blocks, "computed_by": workers}
        certificate = replace(certificate, worker=claim.worker, epoch=claim.epoch)
    copy.publish(claim, np.concatenate(parts), details, origin=certificate)
