"""Any backend, with one call, the k-th, that fails or stops before or after its effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from store.backend import Backend, Transaction

WRITES = frozenset({"create", "replace", "remove", "begin", "repair"})
READS = frozenset(
    {
        "newest",
        "read_column",
        "read_scores",
        "read",
        "read_values",
        "read_rows",
        "checksum",
        "flagged",
        "values_file",
        "verify",
    }
)
COUNTED_COLUMNS = {"id", "twin"}  # the first and the last of the columns of an append


class Stopped(BaseException):
    """Stands for a kill: nothing catches it, and nothing is written after it."""


@dataclass
class Faults:
    """Which call goes wrong, and how."""

    at: int  # the call, counted from 0
    after: bool = False  # with its effect done: the reply is lost
    error: type[BaseException] = OSError
    counted: frozenset[str] = WRITES  # calls of the backend; those of a transaction all are
    calls: int = 0
    dead: bool = False

    def call(self, work: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if self.dead:
            raise Stopped("written after the stop")
        here = self.calls == self.at
        self.calls += 1
        if here and not self.after:
            self._raise()
        result = work(*arguments, **options)
        if here:
            if isinstance(result, FaultyTransaction):
                result.abort()
            self._raise()
        return result

    def _raise(self) -> None:
        self.dead = issubclass(self.error, Stopped)
        raise self.error(f"call {self.at}")


class FaultyBackend:
    def __init__(self, inner: Backend, faults: Faults) -> None:
        self.inner = inner
        self.faults = faults

    def newest(self, *, locked: bool = False) -> FaultyBackend:
        inner = (
            self.faults.call(self.inner.newest, locked=locked)
            if "newest" in self.faults.counted
            else self.inner.newest(locked=locked)
        )
        return self if inner is self.inner else FaultyBackend(inner, self.faults)

    def begin(self, guard: Callable[[], None]) -> FaultyTransaction:
        return self.faults.call(lambda: FaultyTransaction(self.inner.begin(guard), self.faults))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if name in self.faults.counted:
            return lambda *arguments, **options: self.faults.call(found, *arguments, **options)
        return found


class FaultyTransaction:
    def __init__(self, inner: Transaction, faults: Faults) -> None:
        self.inner = inner
        self.faults = faults

    def append(self, name: str, values: Any) -> None:
        if name in COUNTED_COLUMNS or self.faults.dead:
            self.faults.call(self.inner.append, name, values)
        else:
            self.inner.append(name, values)

    def abort(self) -> None:
        self.inner.abort()  # of a killed process the system closes what is open

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        return lambda *arguments, **options: self.faults.call(found, *arguments, **options)
