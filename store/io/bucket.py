"""Connections to S3, made from the environment as other tools read it.

``AWS_*`` variables say everything: keys, region, ``AWS_ENDPOINT_URL``, ``AWS_SKIP_SIGNATURE`` for
reading without keys. Nothing of them is kept in an object of ours, so none can get into a store, a
report or a pickle.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from store.errors import UsageError
from store.io.optional import require
from store.location import S3Location

LONG = "120s"  # for one request, its answer included: a block on a slow line
SHORT = "15s"  # for what is small, and told in time: a heartbeat
_CONNECT = "5s"
_used_in: set[int] = set()  # processes in which the library's threads run


def bucket_of(place: S3Location, *, timeout: str = LONG) -> Any:
    """Return obstore's store of the objects below a location; it repeats no request by itself."""
    here = os.getpid()
    if _used_in and here not in _used_in:
        raise UsageError(
            f"{place}: this process was forked from one that uses S3, and its connections do not "
            "survive that; start processes with 'spawn' or 'forkserver' (of a torch DataLoader: "
            "multiprocessing_context='spawn')"
        )
    _used_in.add(here)
    settings = tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith("AWS_")))
    return _connected(place, timeout, hash(settings))


def endpoint() -> str:
    """URL of the server that the environment names; empty for Amazon's."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return next(filter(None, (os.environ.get(name) for name in names)), "").rstrip("/")


@lru_cache(maxsize=64)
def _connected(place: S3Location, timeout: str, _settings: int) -> Any:
    library = require("obstore.store", for_what=f"{place}: a store in S3")
    options: dict[str, Any] = {"timeout": timeout, "connect_timeout": _CONNECT}
    if endpoint().startswith("http://"):
        options["allow_http"] = True
    try:
        return library.S3Store(
            place.bucket,
            prefix=place.key or None,
            client_options=options,
            retry_config={"max_retries": 0},
        )
    except Exception as error:  # noqa: BLE001 - the library raises many kinds
        said = type(error).__name__  # its text may hold what the environment holds
        raise UsageError(
            f"{place}: the AWS_* variables of the environment do not fit ({said}): look at "
            "AWS_REGION, AWS_ENDPOINT_URL and the keys"
        ) from None
