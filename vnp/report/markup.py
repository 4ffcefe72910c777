"""HTML and SVG elements. What is not `Markup` is text, and text is always escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

_VOID = frozenset({"br", "meta", "line", "rect", "path", "circle"})  # have no children here


class Markup(str):
    """Text that is markup already: made by `tag`, never from data."""

    __slots__ = ()


Child: TypeAlias = "str | Markup | Iterable[Child] | None"
Value: TypeAlias = "str | float | None"


def escaped(text: str) -> Markup:
    """Escape text for an element or a quoted attribute; control characters become U+FFFD."""
    clean = "".join(c if c >= " " and c != "\x7f" else "�" for c in text)
    # A lone surrogate cannot be written as UTF-8.
    clean = clean.encode("utf-8", "replace").decode("utf-8")
    return Markup(html.escape(clean, quote=True))


def tag(name: str, /, *children: Child, **attributes: Value) -> Markup:
    """Make an element of text, which is escaped, elements, and iterables of them; None is nothing.

    The attribute ``class_`` is written ``class``, other underscores become hyphens; None is left
    out.
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is not None:
            text = escaped(value) if isinstance(value, str) else number(value)
            parts.append(f' {key.rstrip("_").replace("_", "-")}="{text}"')
    content = "".join(_flat(children))
    if not content and name in _VOID:
        parts.append("/>")
    else:
        parts.append(f">{content}</{name}>")
    return Markup("".join(parts))


def number(value: float) -> str:
    """Write a coordinate: two decimals at most."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def clipped(text: str, most: int) -> str:
    """Shorten a name in the middle, where ids differ least."""
    if len(text) <= most:
        return text
    head = (most - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def _flat(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            yield child
        elif isinstance(child, str):
            yield escaped(child)
        else:
            yield from _flat(child)
