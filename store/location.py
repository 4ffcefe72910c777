"""Where a store is: a path of the file system, or a prefix of an S3 bucket.

`location` is the one place that reads what a user names. A bucket's name is not made a
`pathlib.Path`: whatever would open it as a file fails at once instead.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from store.errors import UsageError

_SCHEME = "s3://"
_COLLAPSED = re.compile(r"s3:/(?=[^/])")  # what `Path("s3://bucket/...")` makes of it
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_LONGEST = 512  # letters of a key's prefix; the names below it fit in S3's 1024 then
# Others are escaped by some clients and not by others, which then see different keys.
_KEY = re.compile(r"[A-Za-z0-9._=+,@()!' /-]+")


@dataclass(frozen=True, slots=True)
class S3Location:
    """The objects of a bucket whose keys begin with ``key/``."""

    bucket: str
    key: str  # no slash at its ends, no empty, '.' or '..' part

    def __str__(self) -> str:
        return f"{_SCHEME}{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        """Last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """Ending of the name, as of a path: ``.zarr``."""
        return Path(self.name).suffix

    def parent(self) -> tuple[S3Location, str]:
        """Split into the folder, which may be the whole bucket (an empty key), and the name."""
        return S3Location(self.bucket, self.key.rpartition("/")[0]), self.name

    def with_name(self, name: str) -> S3Location:
        """Return the location beside this one."""
        return S3Location(self.bucket, f"{self.key.removesuffix(self.name)}{name}")


Location: TypeAlias = Path | S3Location


def location(text: str | os.PathLike[str] | S3Location) -> Location:
    """Read what names a store.

    ``s3://bucket/some/run.zarr`` is a location in a bucket, all else a path. UsageError if a
    bucket or a key cannot be called so.
    """
    if isinstance(text, S3Location):
        return text
    named = os.fspath(text)
    named = _COLLAPSED.sub(_SCHEME, named) if isinstance(text, Path) else named
    if not named.startswith(_SCHEME):
        return Path(text)
    bucket, _, key = named.removeprefix(_SCHEME).partition("/")
    if "@" in bucket:  # never repeated: it may be a key and its secret
        raise UsageError(
            "a location in S3 has no user or password: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, and write s3://BUCKET/run.zarr"
        )
    key = key.removesuffix("/")
    parts = key.split("/")
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(f"{named!r}: {bucket!r} is not the name of a bucket")
    if not _KEY.fullmatch(key) or {"", ".", ".."} & set(parts) or len(key) > _LONGEST:
        raise UsageError(
            f"{named!r}: write s3://BUCKET/run.zarr, or with folders before it: at most {_LONGEST} "
            "letters, digits, spaces and ._=+,@()!'-, no part empty, '.' or '..'"
        )
    return S3Location(bucket, key)


def in_bucket(path: str | os.PathLike[str]) -> str | None:
    """Return the location in S3 that stands where the name of a file should, or None.

    Only stores are used there; it is not checked further, and no user or password is repeated.
    """
    named = _COLLAPSED.sub(_SCHEME, os.fspath(path))
    if not named.startswith(_SCHEME):
        return None
    return _SCHEME + named.removeprefix(_SCHEME).rpartition("@")[2]


def require_local(path: str | os.PathLike[str]) -> None:
    """Refuse a file to read that is in a bucket."""
    if (place := in_bucket(path)) is not None:
        raise UsageError(f"{place}: files are read from this machine only; copy it here first")


def beside(place: Location, ending: str) -> Path:
    """Return the path of an output named after a store: beside it, of S3 in the current folder."""
    if isinstance(place, S3Location):
        return Path(f"{place.name}{ending}")
    return place.with_name(f"{place.name}{ending}")
