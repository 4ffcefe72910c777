"""Loops that numba compiles: at the first call, kept on disk where there is a place for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(**how: Any) -> Callable[[Function], Function]:
    """Compile a function that runs without the interpreter's lock; ``how`` is for numba."""

    def compile_(function: Function) -> Function:
        try:
            return cast("Function", numba.njit(cache=True, nogil=True, **how)(function))
        except RuntimeError:  # neither beside the module nor at home can anything be written
            return cast("Function", numba.njit(nogil=True, **how)(function))

    return compile_
