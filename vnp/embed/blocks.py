"""The steps of one block through a worker, without its threads.

::

    Claim --prepare()--> PreparedBlock --an encoder--> EmbeddedBlock --publish()--> the store
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.certificate import LARGEST, all_finite
from store.claims.claims import Claim
from store.errors import DamageError, DataError, StoreError
from store.geometry import tails
from store.io.words import count
from store.read.certified import CertifiedRows
from store.read.columns import take
from store.store import Store
from vnp.embed.dedup import CopyPlan, originals, plan_copies
from vnp.inference.encoder import Encoder
from vnp.models.tokens import Tokens

_PIECE = 1 << 14  # numbers; torch spreads more than twice as many over threads


class BlockError(StoreError):
    """An error that is not in the data, with the name of the block it happened to."""


@dataclass(frozen=True, slots=True)
class PreparedBlock:
    """A block that is claimed, read and tokenised."""

    store: Store  # at the commit that says which rows the block has
    claim: Claim
    encoder: Encoder
    tokens: Tokens  # of the rows to embed, in the plan's order
    plan: CopyPlan  # which rows these are, and where the others come from
    copies: NDArray[np.float16]  # rows copied from the store
    kept: int = 0  # of these, rows that the block itself had before it grew

    @property
    def repeats(self) -> int:
        """Rows that get the embedding of an identical record."""
        return self.plan.saved - self.kept

    @property
    def name(self) -> str:
        """The block's name in messages."""
        return name_of(self.claim)


@dataclass(frozen=True, slots=True)
class EmbeddedBlock:
    """A block whose embeddings are computed, but not yet in the store."""

    prepared: PreparedBlock
    embeddings: NDArray[np.float32]  # (records embedded, dim), without copies
    seconds: float  # that the encoder took


def name_of(claim: Claim) -> str:
    """Name a claim's block in messages."""
    return f"{claim.model} block {claim.block}"


def prepare(
    store: Store, claim: Claim, *, encoder: Encoder, certified: CertifiedRows | None
) -> PreparedBlock:
    """Read and tokenise the records of a block that the model has to embed.

    Embeddings that the store already has come from ``certified``: the block's own, if it is a tail
    that grew, and those of identical records. Without it every record is embedded.

    Damaged or empty sequences are a DataError.
    """
    nucleotide, protein = store.sequences(claim.block)
    kept = _rows_to_keep(store, claim, encoder) if certified is not None else 0
    plan, copies = _plan(store, claim, dim=encoder.dim, kept=kept, certified=certified)
    if plan.saved:
        nucleotide, protein = take(nucleotide, plan.embed), take(protein, plan.embed)
    tokens = encoder.tokenise(nucleotide, protein)
    kept = int(np.count_nonzero(plan.copied < kept))  # without those that turned out damaged
    return PreparedBlock(store, claim, encoder, tokens, plan, copies, kept)


def publish(block: EmbeddedBlock) -> None:
    """Put a block into the store.

    A NaN, or a number too large for float16, is a DataError; a block that another worker owns or
    has finished is a ClaimLostError.
    """
    prepared = block.prepared
    provenance = prepared.encoder.provenance()
    embeddings = _rounded(block.embeddings)
    _check_range(block, embeddings)
    prepared.store.publish(
        prepared.claim,
        prepared.plan.assemble(embeddings, prepared.copies),
        details={
            **provenance.environment,
            "seconds": round(block.seconds, 3),
            "copied": prepared.repeats,
            **({"kept": prepared.kept} if prepared.kept else {}),
            "precision": provenance.identity.get("precision", "unknown"),
            "identity": provenance.for_store(
                mixed_precision=prepared.store.schema.mixed_precision
            ).identity_hash(),
        },
    )


def _rounded(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """Round to float16, to the same bits as NumPy does, in a tenth of its time.

    In pieces that torch computes in this thread: the others' cores are theirs.
    """
    import torch

    rounded = np.empty(values.shape, dtype=np.float16)
    source, target = torch.from_numpy(values).flatten(), torch.from_numpy(rounded).flatten()
    for piece, out in zip(torch.split(source, _PIECE), torch.split(target, _PIECE), strict=True):
        out.copy_(piece)
    return rounded


def _check_range(block: EmbeddedBlock, rounded: NDArray[np.float16]) -> None:
    """Refuse finite numbers that float16 cannot hold; NaN and infinity `Store.publish` refuses."""
    prepared, values = block.prepared, block.embeddings
    if all_finite(rounded):
        return
    lost = np.isfinite(values) & ~np.isfinite(rounded)
    if not lost.any():
        return
    marks = lost.max(axis=1, keepdims=True, initial=False).astype(np.float16)
    none = np.zeros((len(prepared.copies), 1), np.float16)
    rows = np.flatnonzero(prepared.plan.assemble(marks, none))
    first = prepared.store.block_bounds(prepared.claim.block)[0] + int(rows[0])
    most = float(np.abs(values[lost]).max())
    raise DataError(
        f"{prepared.name}: numbers beyond float16's range in {count(len(rows), 'row')}, the first "
        f"is row {first}, the largest number {most:,.0f}; a store keeps float16, at most "
        f"{LARGEST:,.0f}, so nothing was published: take another layer or pooling of the model "
        "(NAME@layer=N, NAME@pooling=NAME), or scale the numbers in a plug-in"
    )


def _plan(
    store: Store, claim: Claim, *, dim: int, kept: int, certified: CertifiedRows | None
) -> tuple[CopyPlan, NDArray[np.float16]]:
    start, stop = store.block_bounds(claim.block)
    original = np.arange(start, stop)
    copied = np.zeros(stop - start, dtype=np.bool_)
    copies = np.empty((0, dim), dtype=np.float16)
    if certified is not None:
        duplicates = store.column("twin", start + kept, stop)
        assert isinstance(duplicates, np.ndarray)
        original[kept:] = originals(duplicates, start=start + kept)
        copied = original < start + kept
    if certified is not None and copied.any():
        copies, found = certified.take(store, model=claim.model, rows=original[copied])
        copied[copied] = found
    return plan_copies(original, copied=copied), copies


def _rows_to_keep(store: Store, claim: Claim, encoder: Encoder) -> int:
    """Rows of a tail that grew which are certified already, by the same model and precision."""
    if claim.block not in tails(store.schema):
        return 0
    try:
        certificate = store.certificate(claim.model, claim.block)
    except DamageError:
        return 0
    if certificate is None:
        return 0
    if store.schema.mixed_precision:
        mine = encoder.provenance().identity.get("precision")
        if certificate.details.get("precision") != mine:
            return 0
    start, stop = store.block_bounds(claim.block)
    return min(certificate.rows, stop - start)
