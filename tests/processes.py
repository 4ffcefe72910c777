"""What another process makes of an object that it is given, as a DataLoader's workers are."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Given, Found = TypeVar("Given"), TypeVar("Found")


def in_another_process(function: Callable[[Given], Found], given: Given) -> Found:
    """Call a function of a module in a process that is spawned."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, given).result()
