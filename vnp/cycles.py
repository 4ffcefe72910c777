"""How often Python searches for cycles of objects.

It does after 700 new objects, and now and then in all there are, those of every module among them.
A command that loads hundreds of modules, or makes millions of tuples, finds nothing for it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_MANY = 100_000  # new objects, up to some 20 MB


@contextmanager
def seldom_searched() -> Iterator[None]:
    """Have cycles searched for seldom while this is open; then as before."""
    before = gc.get_threshold()
    gc.set_threshold(max(_MANY, before[0]), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def importing() -> Iterator[None]:
    """Import much: nothing of it is garbage, now or later."""
    with seldom_searched():
        yield
    gc.freeze()
