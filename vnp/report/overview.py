"""What a page asks its source for, as JSON values: `vnp/report/web/source.js` has their form.

A report puts them into its file (`vnp.report.packed`); a server answers with the same values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from store.io.words import count
from vnp.classify.calls import VIRAL
from vnp.classify.contig_arrays import Segments
from vnp.classify.regions import RegionRule, find_regions
from vnp.report.binning import binned
from vnp.report.data import (
    Calls,
    Distributions,
    Histogram,
    ModelRow,
    ReportData,
    Sampled,
    SampleRow,
    Work,
)
from vnp.report.regions import GivenRegion
from vnp.sequence.frames import FRAMES
from vnp.sequence.segments import described

Json: TypeAlias = dict[str, Any]

_NAME = 200  # letters of a name of the operator's that are kept
_FACTS = 60  # of a model
_RULE = RegionRule()


def overview(data: ReportData, *, live: bool = False) -> Json:
    """``overview()``: everything but the contigs, their tracks and the map."""
    calls = data.calls if data.rows else None  # scores of nothing call nothing
    return {
        "title": data.title[:_NAME],
        "made": data.made,
        "version": data.version,
        "warning": data.warning,
        "live": live,
        "store": {
            "rows": data.rows,
            "models": [model.name for model in data.models],
            "segments": described(data.segment_length, data.genetic_code),
            "segment_length": data.segment_length,
            "genetic_code": data.genetic_code,
            "contig_lengths": data.contig_lengths,
            "complete": data.complete,
            "left": sum(model.rows - model.filled for model in data.models),
        },
        "total": sample_json(data.total),
        "samples": [sample_json(row) for row in data.samples],
        "n_samples": data.n_samples,
        "rest": None if data.rest is None else sample_json(data.rest),
        "classifier": None if calls is None else _classifier(calls),
        "scores": None if calls is None else _scores(calls),
        "distributions": _distributions(data.distributions),
        "models": [model_json(model) for model in data.models],
        "marks": [{"name": name, "start": a, "end": b} for name, a, b in data.marks],
        "work": work_json(data.work),
    }


def sample_json(row: SampleRow) -> Json:
    """``Sample``."""
    return asdict(row)


def model_json(model: ModelRow) -> Json:
    """One of ``models``."""
    return {
        "name": model.name,
        "dim": model.dim,
        "rows": model.rows,
        "filled": model.filled,
        "blocks": model.blocks,
        "open_blocks": model.open_blocks,
        "cells": np.round(model.cells, 3).tolist(),
        "facts": _facts(model),
    }


def work_json(work: Work) -> Json:
    """``work``."""
    workers = [
        {
            "worker": row.worker,
            "device": row.device[:_NAME],
            "blocks": round(row.blocks),
            "records": round(row.records),
            "rate": round(row.rate, 1),
            "first": _moment(row.first),
            "last": _moment(row.last),
        }
        for row in work.workers
    ]
    return {
        "certificates": work.certificates,
        "of": work.of,
        "workers": workers,
        "more_workers": work.more_workers,
        "timeline": _timeline(work),
    }


def track_json(
    segments: Segments, given: Sequence[GivenRegion] = (), *, most: int | None = None
) -> Json:
    """``track()`` of a contig's segments; ``given`` are regions that a user named."""
    shown, joined = binned(segments) if most is None else binned(segments, most)
    start, end = shown.start.tolist(), shown.end.tolist()
    frames = [
        {"frame": name, "start": start[at], "end": end[at]}
        for at, mask in enumerate(shown.frames.tolist())
        for bit, name in enumerate(FRAMES)
        if mask >> bit & 1
    ]
    return {
        "start": start,
        "end": end,
        "consensus": [
            None if each is None else each / 1000 for each in thousandths(shown.consensus)
        ],
        "frames": frames,
        "regions": regions_json(segments, given),
        "joined": joined,
    }


def regions_json(segments: Segments, given: Sequence[GivenRegion] = ()) -> list[Json]:
    """The ``regions`` of a track: those found by the rule of ``vnp predict``, and given ones."""
    called = ~np.isnan(segments.score2)
    consensus = segments.consensus[called]
    found = []
    if len(consensus) and consensus.max() >= _RULE.enter:
        found = find_regions(segments.start[called], segments.end[called], consensus, _RULE)
    return [
        {"start": each.start, "end": each.end, "name": f"region {number}", "given": False}
        for number, each in enumerate(found, start=1)
    ] + [
        {"start": each.start, "end": each.end, "name": each.name[:_NAME], "given": True}
        for each in given
    ]


def map_json(sampled: Sampled | None) -> Json | None:
    """``map()``."""
    if sampled is None:
        return None
    names, contig = np.unique(np.array(sampled.contigs, dtype=object), return_inverse=True)
    x, y = _placed(sampled.projection.points).T.tolist()
    bands = f" {' and '.join(sampled.models)}, each scaled to the same total variance."
    return {
        "method": sampled.projection.method,
        "axes": list(sampled.projection.axes),
        "note": sampled.projection.note + (bands if len(sampled.models) > 1 else ""),
        "of": sampled.of,
        "x": x,
        "y": y,
        "id": list(sampled.ids),
        "row": sampled.rows.tolist(),
        "length": sampled.length.tolist(),
        "score": None if sampled.score is None else rounded(sampled.score),
        "contig": contig.tolist(),
        "sample": sampled.sample.tolist(),
        "frame": sampled.frame.tolist(),
        "names": {
            "contig": names.tolist(),
            "sample": list(sampled.samples),
            "frame": list(FRAMES),
        },
    }


def thousandths(score: NDArray[np.floating[Any]]) -> list[int | None]:
    """Consensus in 1/1000, None for NaN; one under `VIRAL` is not rounded up to it.

    Rounded as the page rounds what `rounded` gives (``vnp.score``): from six decimals, halves up.
    """
    value = np.array([np.nan if each is None else each for each in rounded(score)])
    whole = np.floor(np.floor(1e6 * np.nan_to_num(value) + 0.5) / 1000 + 0.5)
    whole = np.where(np.nan_to_num(score) < VIRAL, np.minimum(whole, 1000 * VIRAL - 1), whole)
    pairs = zip(whole.astype(int).tolist(), np.isnan(score).tolist(), strict=True)
    return [None if missing else each for each, missing in pairs]


def rounded(score: NDArray[np.floating[Any]]) -> list[float | None]:
    """Scores with the six digits of ``vnp predict``'s tables; None for NaN.

    One under `VIRAL` is not rounded up to it.
    """
    below = VIRAL - 1e-6
    return [
        None if math.isnan(each) else below if below < each < VIRAL else float(f"{each:.6g}")
        for each in score.tolist()
    ]


def _placed(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points to four digits of the wider axis: enough for a screen."""
    span = float(np.ptp(points, axis=0).max())
    digits = 4 - math.ceil(math.log10(span)) if span > 0 else 0
    found: NDArray[np.float64] = np.round(points, digits) + 0.0  # no -0.0
    return found


def _classifier(calls: Calls) -> Json:
    return {
        "file": calls.file[:_NAME],
        "scores": calls.kept,
        "digest": calls.digest,
        "date": calls.date,
        "date_of": "scores kept" if calls.kept else "file last changed",
        "records": calls.records,
    }


def _scores(calls: Calls) -> Json:
    return {
        "low": calls.consensus[0].low,
        "width": calls.consensus[0].width,
        "threshold": VIRAL,
        "groups": [
            {"name": name, "counts": each.counts.tolist()}
            for name, each in zip(calls.groups, calls.consensus, strict=True)
            if each.total
        ],
    }


def _distributions(shown: Distributions | None) -> Json | None:
    if shown is None:
        return None
    return {
        "records": shown.records,
        "sequences": shown.sequences,
        "segment_length": _histogram(shown.windows),
        "protein_length": _histogram(shown.proteins),
        "frames": shown.frames,
    }


def _histogram(shown: Histogram) -> Json:
    return {"low": shown.low, "width": shown.width, "counts": shown.counts.tolist()}


def _facts(model: ModelRow) -> list[tuple[str, str]]:
    """What made a model's numbers, in words."""
    if not model.provenance:
        return [("state", "no worker has begun")]
    identity = _texts(model.provenance.get("identity"))
    environment = _texts(model.provenance.get("environment"))
    identity.pop("model", None)
    order: list[str] = [
        name for name in ("precision", "pooling", "weights", "tokenizer") if name in identity
    ]
    facts: list[tuple[str, str]] = [(name, identity.pop(name)) for name in order]
    facts += identity.items()
    facts += [(key, environment[key]) for key in ("repository", "revision") if key in environment]
    for key, values in model.environments.items():
        shown = next(iter(values))
        if len(values) > 1:
            shown = "; ".join(f"{name} ({count(n, 'block')})" for name, n in values.items())
        facts.append((key, shown))
    return [(key[:_NAME], text[:_NAME]) for key, text in facts[:_FACTS]]


def _texts(value: Any) -> dict[str, str]:
    return {str(key): str(text) for key, text in value.items()} if isinstance(value, dict) else {}


def _timeline(work: Work) -> Json | None:
    found = work.timeline
    if found is None:
        return None
    bins = []
    for stretch in found.stretches:
        begin = stretch.begin
        for at in range(stretch.first_bin, stretch.last_bin):
            end = begin + float(found.seconds[at])
            rates = found.records[:, at] / found.seconds[at]
            times = {"start": _moment(begin), "end": _moment(end)}
            bins.append({**times, "rates": np.round(rates, 2).tolist()})
            begin = end
    return {"groups": [name[:_NAME] for name in found.groups], "bins": bins}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
