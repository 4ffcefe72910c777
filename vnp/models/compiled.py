"""Loops that numba compiles: at the first call, kept on disk where there is a place for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

from store.io.own_cache import close_empty, is_own, make_own

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(**how: Any) -> Callable[[Function], Function]:
    """Compile a function that runs without the interpreter's lock; ``how`` is for numba."""

    def compile_(function: Function) -> Function:
        code = _folder_of(function)
        with suppress(OSError):  # numba looks elsewhere
            make_own(code / "__pycache__", code=code)
        try:
            made = numba.njit(cache=True, nogil=True, **how)(function)
            if _is_own(made, function):  # what is kept is run
                _drop_damaged(made)
                return cast("Function", made)
        except RuntimeError:  # neither beside the module nor at home can anything be written
            pass
        return cast("Function", numba.njit(nogil=True, **how)(function))

    return compile_


def _is_own(made: Any, function: Callable[..., Any]) -> bool:
    """Whether nobody else may write where numba keeps the code."""
    try:
        kept = Path(made._cache._cache_path)
    except (AttributeError, TypeError):  # another numba keeps it otherwise
        return False
    code = _folder_of(function)
    if kept.parent == code:
        return is_own(kept, code=code)
    close_empty(kept)  # numba has just made it, if nothing was kept before
    return is_own(kept)


def _folder_of(function: Callable[..., Any]) -> Path:
    return Path(function.__code__.co_filename).parent


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
