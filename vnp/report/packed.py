"""The parts of a page as they lie in its file: compressed, and of bounded size.

`vnp/report/web/source.js` reads them. What a part holds is bounded in number already; where ids
are very long that is not enough, and a part takes fewer until it fits.
"""

from __future__ import annotations

import base64
import gzip
import json
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from store.io.words import count
from vnp.classify.contig_arrays import picked
from vnp.report.binning import binned
from vnp.report.data import ContigList, ReportData, Sampled
from vnp.report.overview import Json, map_json, overview, regions_json, rounded, thousandths
from vnp.report.regions import TrackRegions
from vnp.sequence.frames import FRAMES

log = logging.getLogger(__name__)

# Letters of each part, which is base64.
MOST_OVERVIEW = 500_000
MOST_CONTIGS = 1_000_000
MOST_TRACKS = 1_300_000
MOST_MAP = 1_300_000


def parts(data: ReportData, given: TrackRegions | None = None) -> dict[str, str]:
    """All parts by name; ``given`` are regions that a user named, by the number of the track."""
    listed = data.listed
    n = 0 if listed is None else len(listed.names)
    n, contigs = _fitting(MOST_CONTIGS, n, lambda most: _contigs(data, most))
    tracked = 0 if listed is None else min(len(listed.tracks), n)
    kept, tracks = _fitting(MOST_TRACKS, tracked, lambda most: _tracks(listed, most, given or {}))
    if lost := sum(len(regions) for at, regions in (given or {}).items() if at >= kept):
        log.warning(f"regions: left out {count(lost, 'region')}: no room for their tracks")
    points = 0 if data.sampled is None else len(data.sampled.rows)
    _, shown = _fitting(MOST_MAP, points, lambda most: _map(data.sampled, most))
    _, first = _fitting(MOST_OVERVIEW, len(data.samples), lambda most: _overview(data, most))
    return {"overview": first, "contigs": contigs, "tracks": tracks, "map": shown}


def packed(value: object) -> str:
    """JSON, compressed, in letters that mean nothing in HTML."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=9, mtime=0)).decode()


def _fitting(room: int, number: int, made: Callable[[int], object]) -> tuple[int, str]:
    """As many of ``number`` as fit into the room, and the part that holds them."""
    while True:
        text = packed(made(number))
        if len(text) <= room or not number:
            return number, text
        number = min(number - 1, int(0.9 * number * room / len(text)))


def _overview(data: ReportData, most: int) -> Json:
    """The overview; with no more than so many samples where names and facts are beyond measure."""
    found = overview(data)
    if most < len(data.samples):
        found["samples"] = found["samples"][:most]
        found["marks"] = []
    return found


def _contigs(data: ReportData, most: int) -> Json:
    listed = data.listed
    if listed is None:
        return {"of": 0, "samples": [], "contig": [], "score": None}
    contigs = picked(listed.contigs, slice(0, most))
    used, sample = np.unique(contigs.sample, return_inverse=True)
    table: Json = {
        "of": listed.of,
        "samples": [listed.samples[number] for number in used.tolist()],
        "sample": sample.tolist(),
        "contig": list(listed.names[:most]),
        "bases": contigs.bases.tolist(),
        "segments": contigs.segments.tolist(),
        "records": (contigs.stop - contigs.first).tolist(),
        "score": None,
    }
    if data.calls is not None:
        table["viral_segments"] = contigs.viral_segments.tolist()
        table["score"] = rounded(contigs.mean)
        table["viral"] = contigs.viral.astype(int).tolist()
    return table


def _tracks(listed: ContigList | None, most: int, given: TrackRegions) -> dict[str, Any]:
    first, step, length, mask, joined = [0], [], [], [], {}
    consensus: list[int | None] = []
    regions = {}
    for at in range(most):
        assert listed is not None  # there are tracks
        segments = listed.tracks[at]
        if found := regions_json(segments, given.get(at, ())):
            regions[at] = found
        shown, each = binned(segments)
        if each > 1:
            joined[at] = each
        first.append(first[-1] + len(shown))
        step += np.diff(shown.start, prepend=0).tolist()
        length += (shown.end - shown.start).tolist()
        mask += shown.frames.tolist()
        consensus += thousandths(shown.consensus)
    scored = any(each is not None for each in consensus)
    return {
        "first": first,
        "step": step,
        "length": length,
        "mask": mask,
        "consensus": consensus if scored else None,
        "frames": FRAMES,
        "regions": regions,
        "joined": joined,
    }


def _map(sampled: Sampled | None, most: int) -> Json | None:
    """The map, of evenly fewer records if need be; ids lack their beginning, the contig's id."""
    if sampled is None or not most:
        return None
    if most < len(sampled.rows):
        sampled = sampled.only(np.linspace(0, len(sampled.rows) - 1, most).astype(np.int64))
    found = map_json(sampled)
    pairs = list(zip(sampled.ids, sampled.contigs, strict=True))
    if found is not None and all(each.startswith(contig) for each, contig in pairs):
        del found["id"]
        found["suffix"] = [each[len(contig) :] for each, contig in pairs]
    return found
