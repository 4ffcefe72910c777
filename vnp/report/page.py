"""The page: one HTML document without scripts, fonts, images or anything from the network."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import numpy as np

from store.io.words import count
from vnp.report import charts
from vnp.report.charts import moment, percent, short
from vnp.report.data import Calls, ModelRow, ReportData, Sampled, SampleRow, Work
from vnp.report.markup import Child, Markup, clipped, tag
from vnp.sequence.segments import described

_NAME = 60  # letters of an id that are shown

# The browser itself refuses anything that is not in the page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(data: ReportData) -> str:
    """Write the page."""
    style = (files("vnp.report") / "page.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{data.title} · vnp report"),
        tag("style", Markup(style)),
    )
    body = tag("body", _header(data), tag("main", _sections(data)), _footer(data))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _header(data: ReportData) -> Markup:
    names = " and ".join(model.name for model in data.models) or "no models"
    state = "complete: every record is certified for every model"
    if not data.complete:
        left = sum(model.rows - model.filled for model in data.models)
        state = f"incomplete: {count(left, 'embedding')} still to be made"
    if not data.rows:
        state = "empty: no records yet"
    tiles = [
        ("sample", data.n_samples),
        ("contig", data.total.contigs),
        ("base", data.total.bases),
        ("segment", data.total.segments),
        ("record", data.rows),
    ]
    if data.total.viral_contigs is not None:
        tiles.append(("viral contig", data.total.viral_contigs))
    return tag(
        "header",
        tag("p", "Viral metagenome embeddings", class_="over"),
        tag("h1", clipped(data.title, 120)),
        tag(
            "p",
            f"Stop-free reading frames of {described(data.segment_length, data.genetic_code)}, "
            f"embedded with {names}.",
            class_="lead",
        ),
        tag("p", f"Warning: {data.warning}.", class_="warning", role="alert")
        if data.warning
        else None,
        tag("p", state, class_="state complete" if data.complete and data.rows else "state"),
        tag(
            "dl",
            [
                tag("div", tag("dd", short(number)), tag("dt", name if number == 1 else f"{name}s"))
                for name, number in tiles
            ],
            class_="tiles",
        ),
    )


def _sections(data: ReportData) -> Iterable[Child]:
    yield _samples(data)
    if data.calls is not None:
        yield from _calls(data.calls)
    if data.sampled is not None:
        yield _projections(data.sampled)
    yield _fill(data)
    yield _work(data.work)
    if data.distributions is not None:
        shown = data.distributions
        proteins = charts.histogram(shown.proteins, unit="residues", class_="s2")
        yield _section(
            "Lengths and frames",
            f"Segments and frames of {count(shown.records, 'record')}, proteins of "
            f"{shown.sequences:,}"
            + ("." if shown.records == data.rows else ", spread evenly over the store."),
            tag(
                "div",
                _figure("Segment length", charts.histogram(shown.windows, unit="bases")),
                _figure("Protein length", proteins),
                _figure("Reading frame", charts.columns(shown.frames, unit="records")),
                class_="few",
            ),
        )
    yield _provenance(data)


def _samples(data: ReportData) -> Markup:
    called = data.total.called_contigs is not None
    heads = ["sample", "contigs", "without a record", "bases", "segments", "records", "certified"]
    if called:
        heads += ["viral segments", "viral contigs"]
    rows = [_sample(row, called, None) for row in data.samples]
    if data.rest is not None:
        rows.append(_sample(data.rest, called, "rest"))
    if data.n_samples > 1:
        rows.append(_sample(data.total, called, "sum"))
    say = "Contigs without a record have no stop-free reading frame in any segment."
    if called:
        say += (
            " A segment is viral by VirNucPro's consensus over its frames, a contig if at least "
            "half of its segments are."
        )
    return _section("Samples", say, _table(heads, rows, left=1))


def _sample(row: SampleRow, called: bool, class_: str | None) -> Markup:
    cells = [
        f"{row.contigs:,}",
        f"{row.without_records:,}",
        short(row.bases),
        f"{row.segments:,}",
        f"{row.records:,}",
        percent(row.certified, row.records),
    ]
    if called:
        for part, whole in (
            (row.viral_segments or 0, row.called_segments or 0),
            (row.viral_contigs or 0, row.called_contigs or 0),
        ):
            cells.append(f"{part:,} ({percent(part, whole)})")
    name = tag("td", clipped(row.name, _NAME), class_="name left", title=row.name)
    return tag("tr", name, [tag("td", cell) for cell in cells], class_=class_)


def _calls(calls: Calls) -> Iterable[Markup]:
    shown = [
        _figure(
            clipped(name, 40),
            charts.histogram(counts, unit="score"),
            count(counts.total, "segment"),
        )
        for name, counts in zip(calls.groups, calls.histograms, strict=True)
        if counts.total
    ]
    yield _section(
        "Scores",
        f"Segments by the highest virus score of their records; {count(calls.records, 'record')} "
        f"scored with {calls.source} (weights {calls.digest[:19]}"
        + (f", saved {calls.saved[:10]})." if calls.saved else ")."),
        tag("div", shown, class_="few") if shown else tag("p", "No record has a score."),
    )
    if calls.tracks:
        longest = max(track.bases for track in calls.tracks)
        rows = [
            tag(
                "tr",
                tag(
                    "td",
                    clipped(track.contig, 34),
                    tag("span", clipped(track.sample, 34), class_="sub"),
                    class_="name left",
                    title=clipped(track.contig, 200),
                ),
                tag("td", charts.track(track, longest), class_="track"),
                tag("td", f"{track.viral:,} / {track.segments:,}"),
                tag("td", f"{track.mean:.3f}"),
                class_="contig",
            )
            for track in calls.tracks
        ]
        yield _section(
            "Most viral contigs",
            "Ranked by the summed score of their viral segments. Each block is a segment in its "
            "place on the contig; gaps have no stop-free frame.",
            tag("div", charts.score_scale(), class_="scale"),
            _table(["contig", "segments by score", "viral / all", "mean score"], rows, left=2),
        )


def _projections(sampled: Sampled) -> Markup:
    used = sorted(set(sampled.group.tolist()))
    last = len(sampled.groups) - 1
    classes = {group: f"s{charts.OTHERS if group == last else group}" for group in used}
    by_sample = [classes[group] for group in sampled.group.tolist()]
    # The largest group first, so that the small ones lie on top.
    order = sorted(set(by_sample), key=lambda class_: -by_sample.count(class_))
    colourings = {"sample": (by_sample, order)}
    if sampled.score is not None and not np.isnan(sampled.score).all():
        unscored = f"s{charts.OTHERS}"
        by_score = [
            unscored if np.isnan(score) else charts.score_class(score)
            for score in sampled.score.tolist()
        ]
        # The undecided first, so that the decided lie on top.
        middle = (charts.SCORE_STEPS - 1) / 2
        steps = sorted(range(charts.SCORE_STEPS), key=lambda step: abs(step - middle))
        colourings["virus score"] = (by_score, [unscored, *(f"q{step}" for step in steps)])
    figures = [
        _figure(f"{shown.method} by {what}", charts.scatter(shown.points, *colours, shown.axes))
        for shown in sampled.projections
        for what, colours in colourings.items()
    ]
    n = len(sampled.group)
    some = count(n, "record")
    if n < sampled.of:
        some = f"{n:,} of {count(sampled.of, 'certified record')}"
    names = [(classes[group], sampled.groups[group]) for group in used]
    return _section(
        "Embedding space",
        f"{some}, {' and '.join(sampled.models)} side by side, each model scaled to the same "
        "total variance.",
        charts.legend(names),
        tag("div", figures, class_="pair"),
    )


def _fill(data: ReportData) -> Markup:
    counts = "; ".join(
        f"{model.name} {percent(model.filled, model.rows)} "
        f"({model.blocks - model.open_blocks:,} of {count(model.blocks, 'block')})"
        for model in data.models
    )
    chart = charts.fill_map([(model.name, model.cells) for model in data.models], data.marks)
    return _section("Fill map", f"{counts or 'No models'}.", chart)


def _work(work: Work) -> Markup:
    if work.timeline is None:
        return _section("Work", "Nothing has been embedded yet.")
    say = f"From {count(work.certificates, 'certificate')}"
    say += "." if work.certificates == work.of else f", an even sample of {work.of:,}."
    if len(work.timeline.stretches) > 1:
        say += " Dashed lines: pauses of more than 15 minutes, cut out."
    rows = [
        tag(
            "tr",
            tag("td", tag("code", worker.worker[:8]), class_="left"),
            tag("td", clipped(worker.device, 40), class_="left"),
            tag("td", f"{worker.blocks:,.0f}"),
            tag("td", f"{worker.records:,.0f}"),
            tag("td", f"{short(worker.rate)}"),
            tag("td", moment(worker.first)),
            tag("td", moment(worker.last)),
        )
        for worker in work.workers
    ]
    if work.more_workers:
        more = count(work.more_workers, "more worker")
        rows.append(tag("tr", tag("td", more, class_="left", colspan="7"), class_="rest"))
    heads = ["worker", "device", "blocks", "records", "records / s", "first", "last (UTC)"]
    names = [
        (f"s{n}", name[:8] if len(name) == 32 else name)
        for n, name in enumerate(work.timeline.groups)
    ]
    return _section(
        "Work",
        say,
        charts.legend(names),
        charts.throughput(work.timeline),
        _table(heads, rows, left=2),
    )


def _provenance(data: ReportData) -> Markup:
    return _section(
        "Provenance",
        "What decides the numbers is fixed by the first worker and checked by every other; the "
        "rest is in the certificate of each block.",
        tag("div", [_model(model) for model in data.models], class_="pair"),
    )


def _model(model: ModelRow) -> Markup:
    identity = _mapping(model.provenance.get("identity"))
    environment = _mapping(model.provenance.get("environment"))
    facts: list[tuple[str, Child]] = [("numbers a record", f"{model.dim:,}")]
    for known, most in (("precision", 40), ("pooling", 40), ("weights", 27), ("tokenizer", 27)):
        value = identity.pop(known, None)
        if value is not None:
            code = tag("code", clipped(value, most), title=value[:200])
            facts.append((known, code if most == 27 else clipped(value, most)))
    identity.pop("model", None)
    identity |= {key: environment[key] for key in ("repository", "revision") if key in environment}
    facts += [(key, clipped(value, 200)) for key, value in identity.items()]
    for key, values in model.environments.items():
        shown = clipped(next(iter(values)), 70)
        if len(values) > 1:
            shown = "; ".join(
                f"{clipped(name, 50)} ({count(n, 'block')})" for name, n in values.items()
            )
        facts.append((key, shown))
    if not model.provenance:
        facts.append(("state", "no worker has begun"))
    listed = [(tag("dt", key), tag("dd", value)) for key, value in facts]
    return tag("figure", tag("h3", model.name), tag("dl", listed, class_="facts"))


def _footer(data: ReportData) -> Markup:
    made = data.made.replace("T", " ").removesuffix("+00:00")
    return tag("footer", tag("p", f"Made by vnp {data.version} at {made} UTC."))


def _section(title: str, say: str, *children: Child) -> Markup:
    anchor = title.lower().replace(" ", "-")
    return tag("section", tag("h2", title), tag("p", say, class_="say"), *children, id=anchor)


def _figure(title: str, chart: Markup, caption: str | None = None) -> Markup:
    below = None if caption is None else tag("figcaption", caption)
    return tag("figure", tag("h3", title), chart, below)


def _table(heads: list[str], rows: list[Markup], *, left: int) -> Markup:
    head = [tag("th", name, class_="left" if n < left else None) for n, name in enumerate(heads)]
    table = tag("table", tag("thead", tag("tr", head)), tag("tbody", rows))
    return tag("div", table, class_="scroll")


def _mapping(value: Any) -> dict[str, str]:
    return {str(key): str(text) for key, text in value.items()} if isinstance(value, dict) else {}
