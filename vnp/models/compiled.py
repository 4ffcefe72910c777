"""Loops that numba compiles: at the first call, kept on disk where there is a place for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(**how: Any) -> Callable[[Function], Function]:
    """Compile a function that runs without the interpreter's lock; ``how`` is for numba."""

    def compile_(function: Function) -> Function:
        try:
            made = numba.njit(cache=True, nogil=True, **how)(function)
            _drop_damaged(made)
            return cast("Function", made)
        except RuntimeError:  # neither beside the module nor at home can anything be written
            return cast("Function", numba.njit(nogil=True, **how)(function))

    return compile_


def _drop_damaged(made: Any) -> None:
    """Forget kept code that cannot be read, which would fail every call: it is compiled anew."""
    try:
        file = made._cache._cache_file
        for name in file._load_index().values():
            file._load_data(name)
    except AttributeError:  # another numba keeps it otherwise
        return
    except Exception:  # noqa: BLE001  damaged bytes may raise anything
        with suppress(Exception):
            file.flush()
