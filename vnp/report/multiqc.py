"""Custom content for MultiQC: one ``*_mqc.json`` per chart, found by its name.

MultiQC shows a file's ``data`` as the plot named by ``plot_type``; names and texts are put into its
page as they are, so they are escaped here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vnp.report.data import ReportData
from vnp.report.markup import escaped

_PARENT = {
    "parent_id": "vnp",
    "parent_name": "vnp",
    "parent_description": "Embeddings of stop-free reading frames and virus calls.",
}


def contents(data: ReportData) -> dict[str, dict[str, Any]]:
    """Custom content by name: ``samples`` always, ``scores`` when there are scores."""
    called = data.total.called_contigs is not None
    rows = {}
    for row in data.samples:
        values: dict[str, Any] = {
            "contigs": row.contigs,
            "segments": row.segments,
            "records": row.records,
            "certified": 100 * row.certified / row.records if row.records else None,
        }
        if called:
            values["viral_segments"] = row.viral_segments
            values["viral_contigs"] = row.viral_contigs
        rows[str(escaped(row.name))] = values
    headers: dict[str, Any] = {
        "contigs": {"title": "Contigs", "format": "{:,.0f}", "scale": "Blues"},
        "segments": {"title": "Segments", "format": "{:,.0f}", "scale": "Blues"},
        "records": {"title": "Records", "format": "{:,.0f}", "scale": "Blues"},
        "certified": {"title": "Certified", "suffix": " %", "min": 0, "max": 100},
    }
    if called:
        headers["viral_segments"] = {"title": "Viral segments", "format": "{:,.0f}"}
        headers["viral_contigs"] = {"title": "Viral contigs", "format": "{:,.0f}"}
    found = {
        "samples": {
            "id": "vnp_samples",
            **_PARENT,
            "section_name": "Samples",
            "description": "Records are stop-free reading frames; certified ones have embeddings.",
            "plot_type": "table",
            "pconfig": {"id": "vnp_samples_table", "title": "vnp: samples"},
            "headers": headers,
            "data": rows,
        }
    }
    if data.calls is not None:
        lines = {}
        for name, counts in zip(data.calls.groups, data.calls.histograms, strict=True):
            if counts.total:
                middle = counts.low + counts.width / 2
                lines[str(escaped(name))] = {
                    f"{middle + index * counts.width:.4f}": 100 * count / counts.total
                    for index, count in enumerate(counts.counts.tolist())
                }
        found["scores"] = {
            "id": "vnp_scores",
            **_PARENT,
            "section_name": "Virus scores",
            "description": "Segments by the highest virus score of their records.",
            "plot_type": "linegraph",
            "pconfig": {
                "id": "vnp_scores_plot",
                "title": "vnp: virus scores",
                "xlab": "score",
                "ylab": "% of segments",
            },
            "data": lines,
        }
    return found


def paths(report: Path) -> dict[str, Path]:
    """Where the custom content beside a report goes, by name."""
    return {name: report.with_name(f"{report.stem}_{name}_mqc.json") for name in _NAMES}


def texts(data: ReportData) -> dict[str, str]:
    """Return the files' content, by name."""
    return {name: json.dumps(value, indent=1) + "\n" for name, value in contents(data).items()}


_NAMES = ("samples", "scores")
