"""Custom content for MultiQC: one ``*_mqc.json`` per chart, found by its name.

MultiQC shows a file's ``data`` as the plot named by ``plot_type``; names and texts are put into its
page as they are, so they are escaped here. Of a ``data`` that is a dict it "cleans" the names of
samples, which makes ``gut`` of ``gut_trimmed``, and one row of two; a list of one dict it takes as
it is. Files of one ``id`` would replace each other, so each report has ids of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from vnp.report.data import Calls, ReportData
from vnp.report.page import escaped

# MultiQC writes titles of sections into its menu as HTML, escaped or not.
_NO_TITLE = re.compile(r"[^\w .,:()/+-]+")
NAMES = ("samples", "scores")  # of the files; the second is written where there are scores
_COUNT = {"format": "{:,.0f}", "scale": "Blues"}


def path_of(name: str, *, beside: Path) -> Path:
    """Where a file for MultiQC beside a report goes; ``name`` is one of `NAMES`."""
    return beside.with_name(f"{beside.stem}_{name}_mqc.json")


def texts(data: ReportData, *, beside: Path) -> dict[Path, str]:
    """Files for MultiQC beside a report: of the samples, and of the scores if there are any."""
    contents = {"samples": _samples(data)}
    if data.calls is not None:
        contents["scores"] = _scores(data.calls)
    own = hashlib.sha256(os.fsencode(beside.resolve())).hexdigest()[:8]
    title = _NO_TITLE.sub("_", data.title)
    return {
        path_of(name, beside=beside): json.dumps(
            {
                "id": f"vnp_{name}_{own}",
                "section_name": f"{content.pop('section_name')}: {title}",
                "pconfig": {"id": f"vnp_{name}_plot_{own}", **content.pop("pconfig")},
                "parent_id": "vnp",
                "parent_name": "vnp",
                "parent_description": "Embeddings of stop-free reading frames and virus calls.",
                **content,
            },
            indent=1,
        )
        + "\n"
        for name, content in contents.items()
    }


def _samples(data: ReportData) -> dict[str, Any]:
    headers: dict[str, Any] = {
        "contigs": {"title": "Contigs", **_COUNT},
        "segments": {"title": "Segments", **_COUNT},
        "records": {"title": "Records", **_COUNT},
        "certified": {"title": "Certified", "suffix": " %", "min": 0, "max": 100},
    }
    if data.total.called_contigs is not None:
        for name in ("segments", "contigs"):
            headers[f"viral_{name}"] = {"title": f"Viral {name}", "format": "{:,.0f}"}
    rows = {}
    for row in data.samples:
        values = {name: getattr(row, name) for name in headers}
        values["certified"] = 100 * row.certified / row.records if row.records else None
        rows[escaped(row.name)] = values
    return {
        "section_name": "Samples",
        "description": "Records are stop-free reading frames; certified ones have embeddings."
        + (f" {escaped(data.rest.name)} samples are not listed." if data.rest else ""),
        "plot_type": "table",
        "pconfig": {"title": "vnp: samples"},
        "headers": headers,
        "data": [rows],
    }


def _scores(calls: Calls) -> dict[str, Any]:
    lines = {}
    for name, counts in zip(calls.groups, calls.histograms, strict=True):
        if counts.total:
            middle = counts.low + counts.width / 2
            lines[escaped(name)] = {
                f"{middle + index * counts.width:.4f}": 100 * count / counts.total
                for index, count in enumerate(counts.counts.tolist())
            }
    return {
        "section_name": "score2 of segments",
        "description": "Segments by score2: the highest probability of virus of their records.",
        "plot_type": "linegraph",
        "pconfig": {
            "title": "vnp: score2 of segments",
            "xlab": "score2",
            "ylab": "% of segments",
        },
        "data": [lines],
    }
