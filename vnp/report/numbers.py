"""Numbers as people read them, and the ticks of an axis."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from vnp.report.binning import round_step


def short(value: float) -> str:
    """Write a count in three digits: 950, 12.3 k, 4.56 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size * 0.9995:
            scaled = value / size
            # 0.9996 k is written as the 1.00 k it rounds to.
            return f"{scaled:.{min(max(0, 2 - _digits(scaled)), 2)}f} {unit}"
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:.{max(0, 2 - _digits(value))}f}"


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


def _digits(value: float) -> int:
    return math.floor(math.log10(abs(value))) if value else 0
