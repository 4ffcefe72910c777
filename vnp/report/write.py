"""The report of a store as files: the page, and custom content for MultiQC beside it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.io.replace import refuse_existing, refuse_shared, write_whole
from store.location import Location, beside
from store.store import Store
from vnp.report import multiqc
from vnp.report.calls import ScoreSource
from vnp.report.collect import collect
from vnp.report.packed import parts
from vnp.report.page import page
from vnp.report.regions import Regions, on_tracks

log = logging.getLogger(__name__)


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
    inputs: Iterable[Path | None] = (),
    force: bool = False,
) -> WrittenReport:
    """Write the page, by default beside the store, and ``*_mqc.json`` beside it for MultiQC.

    What lies beside the store is always rewritten; another ``output`` that exists, or a file for
    MultiQC beside it, is refused (UsageError) without ``force``. So is one that is among the
    ``inputs``, the files that ``scores`` and ``regions`` come from, whatever ``force`` says.

    ``title``, ``scores`` and ``umap`` are those of `vnp.report.collect.collect`; ``regions`` are
    shown on the tracks of contigs; those that lie beyond the end, or on no track, are cut or left
    out with a warning.
    """
    named = output is not None
    output = output or beside(store.path, ".report.html")
    files = [output]
    if for_multiqc:
        names = multiqc.NAMES[: 1 if scores is None else None]
        files += [multiqc.path_of(name, beside=output) for name in names]
    refuse_shared(files, inputs)
    for path in files:
        refuse_existing(path, force=force or not named)
    data = collect(store, title=title, scores=scores, umap=umap)
    end = "the contig's end" if data.contig_lengths else "the contig's last record"
    given, told = on_tracks(regions or {}, data.listed, end=end)
    for line in told:
        log.warning(f"regions: {line}")
    contents = {output: page(data.title, warning=data.warning, parts=parts(data, given))}
    if for_multiqc:
        contents |= multiqc.texts(data, beside=output)
    output.parent.mkdir(parents=True, exist_ok=True)
    for path, text in contents.items():
        write_whole(path, text.encode())
    return WrittenReport(store.path, tuple(contents), data.complete)
