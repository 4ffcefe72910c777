"""Whole files to and from S3: all that can be done there with an HDF5 store.

A file is sent in parts if it is long, and appears when the last one has arrived.
"""

from __future__ import annotations

from pathlib import Path

from store.errors import NotAStoreError, UsageError
from store.io.bucket import bucket_of
from store.location import S3Location
from store.s3.objects import TALLY, Objects, failure

_PART = 16 << 20  # bytes read at a time, and of a part that is sent


def download(place: S3Location, path: Path) -> None:
    """Copy an object to a new file."""
    folder, name = place.parent()
    if Objects(folder).etag(name) is None:
        raise NotAStoreError(f"{place} does not exist")
    import obstore

    TALLY.add("GET")
    try:
        with path.open("xb") as file:
            for part in obstore.get(bucket_of(folder), name).stream(min_chunk_size=_PART):
                file.write(part)
    except (obstore.exceptions.BaseError, FileNotFoundError) as error:
        raise failure("GET", str(place), error) from None


def require_free(place: S3Location) -> None:
    """Refuse to replace an object."""
    folder, name = place.parent()
    if Objects(folder).etag(name) is not None:
        raise UsageError(f"{place} exists already: choose another name, or remove it first")


def upload(path: Path, place: S3Location) -> None:
    """Copy a file to a free key."""
    require_free(place)
    folder, name = place.parent()
    import obstore

    TALLY.add("PUT")
    try:
        obstore.put(bucket_of(folder), name, path, chunk_size=_PART)
    except (obstore.exceptions.BaseError, FileNotFoundError) as error:
        raise failure("PUT", str(place), error) from None
