"""Whether a server honours the conditions that a store in S3 is built on: it is tried, not asked.

Some take the headers and ignore them (rclone's ``serve s3``, s3rver): two workers would both be
told that a claim is theirs.
"""

from __future__ import annotations

from contextlib import suppress
from uuid import uuid4

from store.errors import UsageError
from store.io.bucket import endpoint
from store.location import S3Location
from store.s3.objects import Objects, RequestError

_trusted: set[tuple[str, str]] = set()  # bucket and endpoint that this process has tried


class ConditionsError(UsageError):
    """The server does not do what it is asked under a condition."""


def require_conditions(objects: Objects) -> None:
    """Try the server once in a process, with an object beside the store, before it is written to.

    Raises
    ------
    ConditionsError
        If it ignores a condition, or refuses what fulfils one.
    RequestError
        If it does not answer, or nothing may be written there.
    """
    place = objects.place
    known = (place.bucket, endpoint())
    if known in _trusted:
        return
    key = f"probe-{uuid4().hex}"
    try:
        _try(objects, key)
    except RequestError as error:
        if "501" in str(error):
            raise _refusal(place, "does not know conditional requests") from error
        raise
    finally:
        with suppress(RequestError):
            objects.delete(key)
    _trusted.add(known)


def _try(objects: Objects, key: str) -> None:
    place = objects.place
    etag = objects.create(key, b"first")
    if etag is None:
        raise _refusal(place, "refuses If-None-Match: * for a key that is free")
    if objects.create(key, b"second") is not None:
        raise _refusal(place, "ignores If-None-Match: *, so two workers could hold one block")
    if objects.swap(key, b"third", '"0123456789abcdef0123456789abcdef"') is not None:
        raise _refusal(place, "ignores If-Match, so one append could undo another")
    if objects.swap(key, b"fourth", etag) is None:
        raise _refusal(place, "refuses If-Match with the ETag that it gave")


def _refusal(place: S3Location, what: str) -> ConditionsError:
    return ConditionsError(
        f"{place}: its server {what}. Nothing is written there: use one that honours conditional "
        "requests (Amazon S3, MinIO, SeaweedFS, Cloudflare R2), or a store on a file system"
    )
