"""Errors of the functions of ``vnp``: which keyword an option is that a message names.

Messages are the commands' and name options, ``--existing skip``. A function adds a note to an
error, which a traceback shows below it; the message itself stays as it is.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from store.errors import StoreError

P = ParamSpec("P")
R = TypeVar("R")

_OTHERWISE = {"code": "genetic_code", "plugin": "plugins", "model": "models", "sample": "samples"}


def named_in_python(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function say what the options in its errors are called among its keywords."""
    keywords = inspect.signature(function).parameters

    @functools.wraps(function)
    def called(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return function(*arguments, **options)
        except StoreError as error:
            note = note_on(str(error), keywords)
            if note and note not in getattr(error, "__notes__", ()):
                error.add_note(note)
            raise

    return called


def note_on(message: str, keywords: Iterable[str]) -> str:
    """Say which keywords the options in a message are; empty if it names none of them."""
    known = set(keywords)
    found = {}
    for flag in re.findall(r"(?<![\w-])--([a-z][a-z-]*[a-z])", message):
        name = flag.replace("-", "_")
        for keyword in (name, _OTHERWISE.get(name)):
            if keyword in known:
                found[flag] = keyword
                break
    if not found:
        return ""
    return "in Python: " + ", ".join(f"--{flag} is {name}=" for flag, name in found.items())
