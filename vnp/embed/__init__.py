"""Filling a store: workers, their supervision, status and progress.

The package is also the function ``vnp.embed(store, ...)``, the command of that name: importing a
module of the package binds ``vnp.embed`` to the package, so only the package itself can be what is
called. See `vnp.embed.function.embed`.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vnp.embed.fill import EmbedReport


class _Callable(ModuleType):
    """A module that can be called."""

    def __call__(self, *arguments: Any, **options: Any) -> EmbedReport:
        """Fill and certify a store; see `vnp.embed.function.embed`."""
        from vnp.embed.function import embed

        return embed(*arguments, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        from vnp.embed.function import embed

        return inspect.signature(embed)


sys.modules[__name__].__class__ = _Callable
