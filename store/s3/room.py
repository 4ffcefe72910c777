"""Claims and heartbeats as objects beside a store: ``run.zarr.vnp/claims/<model>/<block>.<epoch>``.

In keys the block has twelve digits, so that keys are in the order of blocks. Claims are never
removed, so names once seen stay; the blocks whose last claim was released are not listed again
until somebody finds a newer claim in the way.
"""

from __future__ import annotations

import re

from store.claims.plan import is_claim_name, read_names
from store.io.bucket import SHORT
from store.io.files import WriteError
from store.location import S3Location
from store.s3.listing import list_ranges, unsettled
from store.s3.objects import PAGE, Objects, RequestError
from store.s3.probe import require_conditions

_DIGITS = 12
_CLAIM = re.compile(r"(claims/[^/]+/)([0-9]+)(\..+)")
_PADDED = re.compile(rf"[0-9]{{{_DIGITS},}}\..+")
_MARK = b"released\n"  # of a marker, whose name is all it says


class ObjectRoom:
    """A `store.claims.room.Room` of objects."""

    looks = 4  # each at hundreds of claims

    def __init__(self, place: S3Location) -> None:
        self._objects = Objects(place, timeout=SHORT)
        self._seen: dict[str, set[str]] = {}  # by folder: names of claims

    def __str__(self) -> str:
        return str(self._objects.place)

    def __reduce__(self) -> tuple[type[ObjectRoom], tuple[S3Location]]:
        return ObjectRoom, (self._objects.place,)

    def names(self, folder: str) -> list[str]:
        """Names in a folder; of claims those seen before, and what is new where it matters."""
        if folder == "claims":
            return self._objects.folders(folder)
        if not folder.startswith("claims/"):
            return self._objects.names(folder)
        seen = self._seen.setdefault(folder, set())
        scan = read_names(seen)
        found = list_ranges(
            self._objects,
            folder,
            unsettled(scan.block[scan.released], size=None, jump=500),  # two names a block
            size=None,
            after=lambda block: f"{block:0{_DIGITS}d}",
            until=lambda block: f"{block:0{_DIGITS}d}",
        )
        seen.update(map(_plain, list(found)))
        return list(seen)

    def claims_from(self, folder: str, block: int) -> tuple[list[str], bool]:
        """One LIST."""
        after = f"{block:0{_DIGITS}d}"
        names = [_plain(file) for file in next(self._objects.pages(folder, after=after), [])]
        if folder in self._seen:
            self._seen[folder].update(names)
        return names, len(names) == PAGE

    def exists(self, name: str) -> bool:
        """Whether there is an object."""
        if self._objects.etag(_key(name)) is None:
            return False
        self._note(name)
        return True

    def read(self, name: str, *, most: int) -> bytes | None:
        """Content of an object; None also if it cannot be had now."""
        try:
            found = self._objects.get(_key(name), most=most)
        except RequestError:
            return None
        return found.content if found is not None and found.size <= most else None

    def make(self, name: str, content: bytes) -> bool:
        """Make an object with a PUT that only creates."""
        try:
            require_conditions(self._objects)
            made = self._objects.create(_key(name), content) is not None
        except RequestError as error:
            raise _failure(error) from error
        self._note(name)
        return made

    def mark(self, name: str) -> None:
        """Make a marker."""
        try:
            self._objects.put(_key(name), _MARK)
        except RequestError as error:
            raise _failure(error) from error
        self._note(name)

    def overwrite(self, name: str, content: bytes) -> None:
        """Replace an object; a reader sees the old content or the new."""
        try:
            require_conditions(self._objects)
            self._objects.put(_key(name), content)
        except RequestError as error:
            raise _failure(error) from error

    def remove(self, name: str) -> bool:
        """Remove an object."""
        try:
            self._objects.delete(_key(name))
        except RequestError:
            return False
        return True

    def _note(self, name: str) -> None:
        folder, _, file = name.rpartition("/")
        if folder in self._seen:
            self._seen[folder].add(file)


def _key(name: str) -> str:
    match = _CLAIM.fullmatch(name)
    return name if match is None else f"{match[1]}{match[2].zfill(_DIGITS)}{match[3]}"


def _plain(file: str) -> str:
    """Name of a claim, from the last part of its key; other keys get a name that no claim has."""
    if not _PADDED.fullmatch(file):
        return f"{file}?" if is_claim_name(file) else file
    block, _, rest = file.partition(".")
    return f"{int(block)}.{rest}"


def _failure(error: RequestError) -> WriteError:
    return WriteError(str(error), errno=error.number)
