"""The page: one HTML document with its scripts, its libraries and its data; nothing from elsewhere.

Scripts are those of ``web/`` and the libraries of ``vendor/``, as they are. The browser runs what
the policy has the hash of, and nothing else; data are compressed and so hold no markup at all.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

LIBRARIES = ("d3.min.js", "plot.umd.min.js")
SCRIPTS = (
    "source.js",
    "dom.js",
    "pictures.js",
    "charts.js",
    "track.js",
    "contigs.js",
    "first.js",
    "points.js",
    "map.js",
    "operator.js",
    "main.js",
)
START = "start.js"  # of a page that holds its data

# The style that Observable Plot puts into each chart.
_PLOT_STYLE = """:where(.plot-d6a7b5) {
  --plot-background: white;
  display: block;
  height: auto;
  height: intrinsic;
  max-width: 100%;
}
:where(.plot-d6a7b5 text),
:where(.plot-d6a7b5 tspan) {
  white-space: pre;
}"""


def page(
    title: str,
    *,
    warning: str = "",
    parts: Mapping[str, str] | None = None,
    start: str | None = None,
    connect: str = "'none'",
) -> str:
    """Write the page.

    Parameters
    ----------
    title, warning
        For the browser's tab, and for readers without JavaScript.
    parts
        Its data, as `vnp.report.packed.parts` makes them; none for a page that asks a server.
    start
        Script that starts it; by default that which reads the parts.
    connect
        What it may connect to, as a Content-Security-Policy has it.
    """
    scripts = _scripts(start)
    style = text_of("page.css")
    policy = policy_of(start, connect=connect)
    shown = escaped(title)
    told = f"<p><strong>{escaped(warning)}.</strong></p>" if warning else ""
    held = "".join(
        f'<script type="text/plain" id="part-{name}">{text}</script>\n'
        for name, text in (parts or {}).items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f'<title>{shown} · vnp</title>\n<link rel="icon" href="data:,">\n'
        f"<style>{style}</style>\n</head>\n<body>\n"
        '<p id="said" class="unseen" role="status" aria-live="polite"></p>\n'
        f'<div id="app"><noscript><h1>{shown}</h1>{told}<p>This page is drawn by the scripts in '
        "it; allow JavaScript to read it. The same calls as tables: vnp predict.</p></noscript>"
        f"</div>\n{held}" + "".join(f"<script>{text}</script>\n" for text in scripts) + "</body>\n"
        "</html>\n"
    )


@cache
def text_of(name: str) -> str:
    """Text of a script or style sheet of ``web/``."""
    return (files("vnp.report") / "web" / name).read_text(encoding="utf-8")


def escaped(text: str) -> str:
    """Escape text for an element or a quoted attribute; control characters become U+FFFD."""
    clean = "".join(c if c >= " " and c != "\x7f" else "�" for c in text)
    # A lone surrogate cannot be written as UTF-8.
    clean = clean.encode("utf-8", "replace").decode("utf-8")
    return html.escape(clean, quote=True)


@cache
def _libraries() -> tuple[str, ...]:
    folder = files("vnp.report") / "vendor"
    return tuple((folder / name).read_text(encoding="utf-8") for name in LIBRARIES)


def policy_of(start: str | None = None, *, connect: str = "'none'") -> str:
    """Content-Security-Policy of the page that a script starts."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hashes(_scripts(start))}",
            f"style-src {_hashes([text_of('page.css'), _PLOT_STYLE])}",
            "img-src data: blob:",
            f"connect-src {connect}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _scripts(start: str | None) -> list[str]:
    return [*_libraries(), *(text_of(name) for name in SCRIPTS), start or text_of(START)]


def _hashes(texts: Sequence[str]) -> str:
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in texts]
    return " ".join(f"'sha256-{digest.decode()}'" for digest in digests)
