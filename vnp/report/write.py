"""The report of a store as files: the page, and custom content for MultiQC beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.io.replace import refuse_existing, write_whole
from store.location import Location, beside
from store.store import Store
from vnp.report import multiqc
from vnp.report.calls import ScoreSource
from vnp.report.collect import collect
from vnp.report.packed import parts
from vnp.report.page import page
from vnp.report.regions import Regions


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """What was written."""

    store: Location
    files: tuple[Path, ...]  # the page first
    complete: bool  # whether every row is filled for every model

    def to_json(self) -> dict[str, Any]:
        """Return the report's report as a JSON object: files with their sizes in bytes."""
        files = {str(path): path.stat().st_size for path in self.files}
        return {"store": str(self.store), "files": files, "complete": self.complete}


def write_report(
    store: Store,
    output: Path | None = None,
    *,
    title: str | None = None,
    scores: ScoreSource | None = None,
    umap: bool = True,
    regions: Regions | None = None,
    for_multiqc: bool = False,
    force: bool = False,
) -> WrittenReport:
    """Write the page, by default beside the store, and ``*_mqc.json`` beside it for MultiQC.

    The page beside the store is always rewritten; another ``output`` that exists is refused
    (UsageError) without ``force``.

    ``title``, ``scores`` and ``umap`` are those of `vnp.report.collect.collect`; ``regions`` are
    shown on the tracks of contigs.
    """
    if output is not None:
        refuse_existing(output, force=force)
    output = output or beside(store.path, ".report.html")
    data = collect(store, title=title, scores=scores, umap=umap)
    contents = {output: page(data.title, warning=data.warning, parts=parts(data, regions))}
    if for_multiqc:
        contents |= multiqc.texts(data, beside=output)
    output.parent.mkdir(parents=True, exist_ok=True)
    for path, text in contents.items():
        write_whole(path, text.encode())
    return WrittenReport(store.path, tuple(contents), data.complete)
