"""A store as a notebook shows it: samples, models and how far they are filled, as HTML.

All names that come from files or users are escaped, and the HTML contains no script: a notebook may
show an untrusted store.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from store.errors import StoreError
from store.io.words import count
from store.read.origin import origin_of
from store.read.source import Source

_SHOWN = 10  # samples


def store_html(store: Source) -> str:
    """Write a store as two small tables: its models with their share of certified rows, samples."""
    schema = store.schema
    length = schema.segment_length
    windows = f"{length:,} bp segments" if length else "whole sequences"
    size = f"{count(schema.n_rows, 'row')} of {count(len(schema.samples), 'sample')}"
    models = [
        (each.name, f"{each.dim:,}", _filled(store, each.name), origin_of(store, each.name))
        for each in schema.models
    ]
    samples = [
        (
            sample.name,
            f"{sample.contigs:,}",
            f"{sample.bases:,}",
            f"{sample.stop - sample.start:,}",
            sample.source,
        )
        for sample in schema.samples[:_SHOWN]
    ]
    parts = [
        f"<p><b>vnp store</b> <code>{_text(str(store.path))}</code><br>{size}, {windows}, "
        f"{count(schema.block_rows, 'row')} a block</p>",
        _table(("model", "numbers a row", "certified rows", "origin"), models),
    ]
    if samples:
        parts.append(_table(("sample", "contigs", "bases", "rows", "file"), samples))
    if len(schema.samples) > _SHOWN:
        parts.append(f"<p>and {count(len(schema.samples) - _SHOWN, 'more sample')}</p>")
    if schema.scores:
        names = ", ".join(_text(scores.name) for scores in schema.scores)
        parts.append(f"<p>scores: {names}</p>")
    return f"<div>{''.join(parts)}</div>"


def _filled(store: Source, model: str) -> str:
    """Rows that are certified, and their share."""
    try:
        rows = int(store.rows_filled(model).sum())
    except (StoreError, OSError) as error:
        return f"cannot be read: {error}"
    total = store.schema.n_rows
    return f"{rows:,} ({rows / total:.1%})" if total else "0"


def _table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    cells = "".join(f"<th>{_text(name)}</th>" for name in head)
    rows = "".join(
        f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in line)}</tr>" for line in lines
    )
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table>"


def _text(text: str) -> str:
    """Escape a text for HTML; what cannot be encoded, as in the names of some files, is shown."""
    return escape(text.encode(errors="backslashreplace").decode())
