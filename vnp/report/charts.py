"""The charts, as SVG, and numbers as people read them.

Each chart takes plain values and returns one element.

Colours are classes of the style sheet (``s0`` .. ``s7`` for groups, ``q0`` .. ``q10`` for a score
from 0 to 1, ``grid``, ``axis``, ``ink``), so that they follow the reader's light or dark theme.
Sizes are in the units of the view box, one of which is about one pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from store.io.words import count
from vnp.report.binning import round_step
from vnp.report.data import MOST_GROUPS, Histogram, Timeline, Track
from vnp.report.markup import Child, Markup, Value, clipped, number, tag

Floats = NDArray[np.float64]

OTHERS = MOST_GROUPS  # class number of what has no colour of its own
SCORE_STEPS = 11
_LEFT, _BOTTOM, _TOP, _RIGHT = 54.0, 34.0, 10.0, 10.0


def score_class(score: float) -> str:
    """Return the class of a score's colour."""
    return f"q{min(max(round(score * (SCORE_STEPS - 1)), 0), SCORE_STEPS - 1)}"


def svg(width: float, height: float, *children: Child, label: str) -> Markup:
    """Frame a chart; ``label`` is what a screen reader says."""
    return tag(
        "svg",
        *children,
        viewBox=f"0 0 {number(width)} {number(height)}",
        role="img",
        aria_label=label,
        style=f"max-width:{number(width)}px",
    )


def text(x: float, y: float, what: str, *, anchor: str = "start", class_: str = "ink") -> Markup:
    """Write a text whose base line is at y."""
    return tag("text", what, x=x, y=y, text_anchor=anchor, class_=class_)


def caption(x: float, y: float, what: str, *, turned: bool = False) -> Markup:
    """Write the name of an axis, centred, from left to right or upwards."""
    place: dict[str, Value] = {"x": x, "y": y}
    if turned:
        place = {"transform": f"translate({number(x)} {number(y)}) rotate(-90)"}
    return tag("text", what, text_anchor="middle", class_="label", **place)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Draw a line."""
    return tag("line", x1=x1, x2=x2, y1=y1, y2=y2, class_=class_)


def bar(
    x: float,
    y: float,
    width: float,
    height: float,
    class_: str,
    title: str | None = None,
    opacity: float | None = None,
) -> Markup:
    """Draw a bar that shows its title when pointed at."""
    inner = None if title is None else tag("title", title)
    place: dict[str, Value] = {"x": x, "y": y, "width": width, "height": height}
    return tag("rect", inner, **place, class_=class_, opacity=opacity)


def histogram(data: Histogram, *, unit: str, class_: str = "s0") -> Markup:
    """Draw counts in bins; those of scores are coloured by score."""
    bars = []
    for index, n in enumerate(data.counts.tolist()):
        low = data.low + index * data.width
        shown = score_class(low + data.width / 2) if unit == "score" else class_
        title = f"{tick_text(low)} to {tick_text(low + data.width)} {unit}: {n:,}"
        bars.append((n, shown, title))
    last = data.low + len(bars) * data.width
    marks = [
        ((value - data.low) / (last - data.low), tick_text(value))
        for value in ticks(data.low, last, 5)
        if data.width < 1 or value == int(value)  # between lengths there is nothing
    ]
    label = f"Histogram of {count(data.total, 'value')} in {unit}"
    return _bars(bars, marks, ("" if unit == "score" else "records", unit), label=label)


def columns(counts: dict[str, int], *, unit: str) -> Markup:
    """Draw the counts of frames as columns."""
    bars = [
        (n, "s0" if name.startswith("F") else "s1", f"{name}: {n:,}") for name, n in counts.items()
    ]
    marks = [((index + 0.5) / len(bars), name) for index, name in enumerate(counts)]
    label = f"{unit} by name: " + ", ".join(f"{name} {n:,}" for name, n in counts.items())
    return _bars(bars, marks, (unit, "frame"), thickness=0.7, label=label)


def _bars(
    bars: Sequence[tuple[int, str, str]],
    marks: Sequence[tuple[float, str]],
    units: tuple[str, str],
    *,
    thickness: float | None = None,
    label: str,
) -> Markup:
    """Draw bars (count, class, title) side by side over marks (0 .. 1 along the axis, text)."""
    width, height = 300.0, 170.0
    plot_w, plot_h = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    high = max([1, *(n for n, _, _ in bars)])
    step = plot_w / len(bars)
    inside = step * thickness if thickness else step - (1 if step > 3 else 0)
    indent = (step - inside) / 2 if thickness else 0.0
    parts = _y_axis(high, width, height, units[0])
    for index, (n, class_, title) in enumerate(bars):
        if n:
            x, size = _LEFT + index * step + indent, n / high * plot_h
            parts.append(bar(x, _TOP + plot_h - size, inside, size, class_, title))
    for share, name in marks:
        x = _LEFT + share * plot_w
        parts.append(text(x, height - 18, name, anchor="middle", class_="tick"))
    parts.append(caption(_LEFT + plot_w / 2, height - 3, units[1]))
    return svg(width, height, parts, label=label)


def fill_map(
    models: Sequence[tuple[str, Floats]], marks: Sequence[tuple[str, float, float]]
) -> Markup:
    """Draw how far each model is filled along the rows, and which sample the rows are of."""
    width, left, top, strip, gap = 940.0, 150.0, 26.0, 26.0, 8.0
    plot = width - left - _RIGHT
    parts: list[Markup] = []
    for index, (name, begin, end) in enumerate(marks):
        x, size = left + begin * plot, (end - begin) * plot
        shade = "mark0" if index % 2 else "mark1"
        parts.append(bar(x, 4, max(size - 1, 0.5), 14, shade, name))
        room = int(size / 6.2)
        if room >= 5:
            shown = clipped(name, room)
            parts.append(text(x + size / 2, 14.5, shown, anchor="middle", class_="mark"))
    for row, (name, cells) in enumerate(models):
        y = top + row * (strip + gap)
        parts.append(text(left - 10, y + strip / 2 + 4, clipped(name, 20), anchor="end"))
        parts.append(bar(left, y, plot, strip, "empty"))
        size = plot / max(len(cells), 1)
        x = left
        for share, run in groupby(cells.tolist()):
            run_size = size * len(list(run))
            if share > 0:
                title = f"{name}: {100 * share:.1f} % filled"
                # A nearly full cell must still differ visibly from a full one.
                opacity = None if share >= 1 else 0.15 + 0.6 * share
                parts.append(bar(x, y, run_size, strip, "full", title, opacity))
            x += run_size
    height = top + max(len(models), 1) * (strip + gap) + 14
    parts.append(text(left, height - 3, "first row", class_="tick"))
    parts.append(text(left + plot, height - 3, "last row", anchor="end", class_="tick"))
    return svg(width, height, parts, label="Share filled, per model along the rows of the store")


def throughput(data: Timeline) -> Markup:
    """Draw records a second over time, stacked by worker; pauses are cut out."""
    width, height, pause = 940.0, 230.0, 14.0
    plot_w, plot_h = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    bins = data.records.shape[1]
    step = (plot_w - pause * (len(data.stretches) - 1)) / bins
    rates = data.records / data.seconds
    high = max(float(rates.sum(axis=0).max()), 1e-9)
    parts = _y_axis(high, width, height, "records / s")
    for number_, stretch in enumerate(data.stretches):
        shift = _LEFT + number_ * pause
        seconds = np.concatenate([[0.0], np.cumsum(data.seconds[stretch.first_bin :])])
        for index in range(stretch.first_bin, stretch.last_bin):
            base = _TOP + plot_h
            begun = stretch.begin + seconds[index - stretch.first_bin]
            for group, name in enumerate(data.groups):
                rate = float(rates[group, index])
                size = rate / high * plot_h
                if size < 0.05:
                    continue
                base -= size
                title = f"{moment(begun, exact=True)}, {name[:8]}: {short(rate)} records/s"
                class_ = f"s{group}"
                gap = 1 if step > 3 else 0
                parts.append(bar(shift + index * step, base, step - gap, size, class_, title))
        begin, end = shift + stretch.first_bin * step, shift + stretch.last_bin * step
        if number_:
            x = begin - pause / 2
            parts.append(line(x, _TOP, x, _TOP + plot_h, "pause"))
        if end - begin > 100 or len(data.stretches) == 1:
            parts.append(text(begin, height - 16, moment(stretch.begin), class_="tick"))
        if end - begin > 260:
            parts.append(text(end, height - 16, moment(stretch.end), anchor="end", class_="tick"))
    parts.append(caption(_LEFT + plot_w / 2, height - 2, "time (UTC)"))
    return svg(width, height, parts, label="Records embedded a second over time, by worker")


def scatter(
    points: Floats, classes: Sequence[str], order: Sequence[str], axes: tuple[str, str]
) -> Markup:
    """Draw points, one path per class; classes are drawn in the order given."""
    width, height, left, bottom = 460.0, 400.0, 26.0, 26.0
    plot_w, plot_h = width - left - 8, height - bottom - 8
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    place = (points - low) / span
    x = left + 6 + place[:, 0] * (plot_w - 12)
    y = 8 + plot_h - 6 - place[:, 1] * (plot_h - 12)
    parts = [bar(left, 8, plot_w, plot_h, "frame")]
    kinds = np.array(classes)
    for class_ in order:
        which = np.flatnonzero(kinds == class_)
        if len(which):
            dots = "".join(f"M{number(x[i])},{number(y[i])}h0" for i in which.tolist())
            parts.append(tag("path", d=dots, class_=f"dot {class_}"))
    parts.append(caption(left + plot_w / 2, height - 8, axes[0]))
    parts.append(caption(16, 8 + plot_h / 2, axes[1], turned=True))
    label = f"{count(len(points), 'record')}: {axes[0]} and {axes[1]}"
    return svg(width, height, parts, label=label)


def track(data: Track, longest: int) -> Markup:
    """Draw a contig's segments along it, coloured by score."""
    width, height, thickness = 620.0, 26.0, 18.0
    plot = width - 2
    scale = plot * data.bases / max(longest, 1)
    unit = max(data.bases, 1) / max(scale, 6.0)
    parts = [bar(1, height / 2 - 1, max(scale, 6.0), 2, "backbone")]
    columns_ = zip(data.start.tolist(), data.end.tolist(), data.score.tolist(), strict=True)
    for start, end, score in columns_:
        # Overlapping neighbours are drawn up to the next one's start by painting in order.
        title = f"{start:,} to {end:,}: {score:.3f}"
        x, y = 1 + start / unit, (height - thickness) / 2
        size = max((end - start) / unit - 0.6, 0.8)
        parts.append(bar(x, y, size, thickness, score_class(score), title))
    label = (
        f"{count(data.segments, 'segment')} of {count(data.bases, 'base')}, {data.viral:,} viral"
    )
    return svg(width, height, parts, label=label)


def legend(names: Sequence[tuple[str, str]]) -> Markup:
    """List names with their colour's class."""
    return tag(
        "ul",
        [
            tag("li", tag("i", class_=f"swatch {class_}"), clipped(name, 40), title=name[:200])
            for class_, name in names
        ],
        class_="legend",
    )


def score_scale() -> Markup:
    """Draw the colours of the scores."""
    step = 12.0
    cells = [bar(52 + index * step, 2, step, 10, f"q{index}") for index in range(SCORE_STEPS)]
    width = 52 + SCORE_STEPS * step
    ends = [
        text(46, 11, "0 others", anchor="end", class_="tick"),
        text(width + 6, 11, "1 virus", class_="tick"),
    ]
    return svg(width + 52, 14, cells, ends, label="Colours of scores from 0, others, to 1, virus")


def _y_axis(high: float, width: float, height: float, unit: str) -> list[Markup]:
    plot_h = height - _TOP - _BOTTOM
    parts: list[Markup] = []
    for value in ticks(0, high, 4):
        y = _TOP + plot_h - value / high * plot_h
        parts.append(line(_LEFT, y, width - _RIGHT, y, "grid" if value else "axis"))
        parts.append(text(_LEFT - 6, y + 3.5, tick_text(value), anchor="end", class_="tick"))
    if unit:
        parts.append(caption(9, _TOP + plot_h / 2, unit, turned=True))
    return parts


def short(value: float) -> str:
    """Write a count in three digits: 950, 12.3 k, 4.56 M."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size * 0.9995:  # 0.9996 k is written as the 1.00 k it rounds to
            return f"{value / size:#.3g}".rstrip(".") + f" {unit}"
    return f"{value:.0f}" if value == int(value) else f"{value:#.3g}".rstrip(".")


def percent(part: float, whole: float) -> str:
    """Write a share; nothing that is not all of it is written 100 %, nothing that is, less."""
    if not whole:
        return "n/a"
    share = 100 * part / whole
    if part != whole and share > 99.9:
        return "99.9 %"
    if part and share < 0.1:
        return "< 0.1 %"
    return f"{share:.0f} %" if share in (0, 100) else f"{share:.1f} %"


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between ``low`` and ``high``, at most ``most`` + 1 of them."""
    step = round_step(high - low, most)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def tick_text(value: float) -> str:
    """Write a tick."""
    if abs(value) >= 10_000:
        return short(value).replace(".00", "").replace(".0", "")
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def moment(seconds: float, *, exact: bool = False) -> str:
    """Write a time, UTC, to the minute or to the second."""
    form = "%Y-%m-%d %H:%M:%S" if exact else "%Y-%m-%d %H:%M"
    return datetime.fromtimestamp(seconds, UTC).strftime(form)
