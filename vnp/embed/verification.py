"""``vnp verify`` as a function: re-read a store, repair it if asked to, report both."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from store.findings import Finding, Kind
from store.repair import repair, verify_store
from store.store import Store
from vnp.embed.precisions import rows_by_precision


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What re-reading a store found."""

    store: str  # its path
    rows: int  # of the store
    findings: tuple[Finding, ...]
    repaired: tuple[str, ...]  # what repair did, or could not do, a sentence each
    left: tuple[Finding, ...]  # what is found after it; without repair the findings
    open_blocks: dict[str, int]  # with rows to embed, by model
    precisions: dict[str, dict[str, int]]  # rows by model and precision, in a store of mixed

    @property
    def damaged(self) -> int:
        """Findings that are damage."""
        return sum(finding.is_damage for finding in self.findings)

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged, or nothing is any more."""
        return not any(finding.is_damage for finding in self.left)

    @property
    def complete(self) -> bool:
        """Whether besides every row is certified."""
        uncertified = any(finding.kind is Kind.UNCERTIFIED for finding in self.left)
        return self.sound and not uncertified and not any(self.open_blocks.values())

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {
            "store": self.store,
            "findings": [asdict(finding) for finding in self.findings],
            "repaired": list(self.repaired),
            "open_blocks": self.open_blocks,
            "precisions": self.precisions,
        }


def verify(
    store: Store, *, repairing: bool = False, check_threads: int | None = None
) -> VerifyReport:
    """Re-read everything and name what is not as it must be.

    Parameters
    ----------
    store
        The store.
    repairing
        Make damaged blocks open again and remove leftovers; `store.repair.repair` says how.
    check_threads
        How many threads read blocks; None: as many as the file system's latency asks for.
    """
    findings = tuple(verify_store(store, threads=check_threads))
    repaired = tuple(repair(store, findings)) if repairing else ()
    open_blocks = {model.name: len(store.open_blocks(model.name)) for model in store.schema.models}
    precisions = (
        {model.name: rows_by_precision(store, model.name) for model in store.schema.models}
        if store.schema.mixed_precision
        else {}
    )
    return VerifyReport(
        store=str(store.path),
        rows=store.n_rows,
        findings=findings,
        repaired=repaired,
        left=tuple(verify_store(store, threads=check_threads)) if repairing else findings,
        open_blocks=open_blocks,
        precisions=precisions,
    )
