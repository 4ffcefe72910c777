"""Objects by key: the few requests that a store in S3 is made of, repeated until they are answered.

A request whose answer is lost may have been carried out. Reading and overwriting can be repeated;
creating and swapping then find their own object and must know it for theirs::

    PUT If-None-Match: *  --no answer-->  again: 412  --GET: our bytes?-->  ours, or another's

So what is created or swapped must hold bytes that nobody else writes (a claim its id, the root its
generation), or be such that it does not matter whose it is. All requests go through `send`, which
counts them; errors never repeat what a server said but its status and code, as answers can hold
keys.
"""

from __future__ import annotations

import errno
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from store.io.bucket import LONG, bucket_of
from store.io.optional import require
from store.location import S3Location

T = TypeVar("T")

PAGE = 1000  # keys that one LIST answers
_DELAYS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0)  # seconds before a request is repeated
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_PASSING = frozenset({"RequestTimeout", "SlowDown", "InternalError", "ConditionalRequestConflict"})
_CONFLICT = 409  # another condition on the key is being decided: nothing was
_NO_SUCH_RANGE = 416
_MISSING_BUCKET = "NoSuchBucket"
_HINTS = {
    401: "the keys are not accepted: look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
    "AWS_SESSION_TOKEN, or set AWS_SKIP_SIGNATURE=true to read what is public",
    403: "the keys do not permit it: look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
    "AWS_REGION and the rights on the bucket; set AWS_SKIP_SIGNATURE=true to read what is public",
    404: "the bucket does not exist: look at its name, AWS_REGION and AWS_ENDPOINT_URL",
    301: "the bucket is in another region: set AWS_REGION",
    501: "the server does not know such a request",
}


class RequestError(OSError):
    """A request to S3 that failed for good."""

    def __init__(self, text: str, number: int | None = None) -> None:
        super().__init__(text)
        self.number = number  # of errno, where one says the same


@dataclass(frozen=True, slots=True)
class Object:
    """What a GET answers."""

    content: bytes  # or the end that was asked for
    size: int  # bytes of the whole object
    etag: str  # equal for equal contents


@dataclass(slots=True)
class Tally:
    """Requests of this process by verb, and bytes of their bodies."""

    requests: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    received: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, verb: str, *, sent: int = 0, received: int = 0) -> None:
        """Count a request, or with the verb empty bytes only."""
        with self._lock:
            if verb:
                self.requests[verb] += 1
            self.sent += sent
            self.received += received


TALLY = Tally()


def wait(seconds: float) -> None:
    """Wait before a request is repeated; tests do not."""
    time.sleep(seconds)


def send(verb: str, key: str, call: Callable[[], T]) -> T:  # noqa: ARG001 - tests look at the key
    """Make one request; every one goes through here."""
    TALLY.add(verb)
    return call()


@dataclass(frozen=True, slots=True)
class _Fault:
    """What a failed request tells."""

    status: int | None  # of HTTP; None without an answer
    code: str  # S3's word for it, or the library's

    @property
    def passes(self) -> bool:
        """Whether the same request may succeed later."""
        if self.status is None:
            return self.code == "GenericError"
        if self.code in _PASSING:
            return True
        return self.status in (408, 429) or (self.status >= 500 and self.status != 501)


class Objects:
    """The objects below a location; can be pickled, and holds no connection itself."""

    def __init__(self, place: S3Location, *, timeout: str = LONG) -> None:
        self.place = place
        self._timeout = timeout  # of a request

    def get(self, key: str, *, most: int | None = None) -> Object | None:
        """Read an object; None if there is none. ``most`` bounds what is taken into memory."""
        return self._read("GET", key, None, most)

    def tail(self, key: str, size: int) -> Object | None:
        """Read the last ``size`` bytes of an object; None if there is none."""
        return self._read("GET", key, {"range": {"suffix": size}}, None)

    def changed(self, key: str, etag: str) -> Object | None:
        """Read an object unless it still has the ETag (None); one that is gone is empty."""

        def act(_doubtful: bool) -> Object | None:
            try:
                return send("GET", key, lambda: self._got(key, {"if_none_match": etag}))
            except self._errors.NotModifiedError:
                return None
            except FileNotFoundError as error:
                self._require_bucket(key, error)
                return Object(b"", 0, "")

        return self._repeat("GET", key, act)

    def etag(self, key: str) -> str | None:
        """ETag of an object; None if there is none."""

        def act(_doubtful: bool) -> str | None:
            try:
                head = send("HEAD", key, lambda: self._library.head(self._bucket, key))
            except FileNotFoundError as error:
                self._require_bucket(key, error)
                return None
            return str(head["e_tag"])

        return self._repeat("HEAD", key, act)

    def create(self, key: str, content: bytes) -> str | None:
        """Make an object unless there is one; its ETag, or None if another's is there.

        If an answer was lost, one of the same bytes counts as made here.
        """

        def act(doubtful: bool) -> str | None:
            try:
                return self._put(key, content, mode="create")
            except self._errors.AlreadyExistsError as error:
                if _fault_of(error).status == _CONFLICT and self.etag(key) is None:
                    raise
                found = self.get(key) if doubtful else None
                return found.etag if found is not None and found.content == content else None

        return self._repeat("PUT", key, act)

    def swap(self, key: str, content: bytes, etag: str) -> str | None:
        """Replace an object that still has the ETag; its new one, or None if it has another.

        The content must differ from all that the object ever held, also if an answer is lost.
        """

        def act(doubtful: bool) -> str | None:
            try:
                return self._put(key, content, mode={"e_tag": etag})
            except self._errors.PreconditionError:
                found = self.get(key) if doubtful else None
                return found.etag if found is not None and found.content == content else None

        return self._repeat("PUT", key, act)

    def put(self, key: str, content: bytes) -> None:
        """Write an object, whether or not there is one."""
        self._repeat("PUT", key, lambda _: self._put(key, content, mode="overwrite"))

    def delete(self, key: str) -> None:
        """Remove an object; fine if there is none."""

        def act(_doubtful: bool) -> None:
            try:
                send("DELETE", key, lambda: self._library.delete(self._bucket, key))
            except FileNotFoundError as error:
                self._require_bucket(key, error)

        self._repeat("DELETE", key, act)

    def pages(self, folder: str, *, after: str = "") -> Iterator[list[str]]:
        """Yield names below ``folder/``, in the order of their bytes, a LIST each.

        ``after`` is a name: those up to it are left out. A caller that stops early sends no
        further request.
        """
        while True:
            page = self._repeat("LIST", folder, lambda _: self._page(folder, after))  # noqa: B023
            if page:
                yield page
            if len(page) < PAGE:
                return
            after = page[-1]

    def names(self, folder: str) -> list[str]:
        """All names below ``folder/``, in the order of their bytes."""
        return [name for page in self.pages(folder) for name in page]

    def folders(self, folder: str) -> list[str]:
        """Names directly below ``folder/`` that have names below them."""

        def call() -> list[str]:
            found = self._library.list_with_delimiter(self._bucket, folder)
            return [path.rpartition("/")[2] for path in found["common_prefixes"]]

        return self._repeat("LIST", folder, lambda _: send("LIST", folder, call))

    # -- requests -------------------------------------------------------------------------------

    @property
    def _bucket(self) -> Any:
        return bucket_of(self.place, timeout=self._timeout)

    @property
    def _library(self) -> Any:
        require("obstore", for_what=f"{self.place}: a store in S3")
        import obstore

        return obstore

    @property
    def _errors(self) -> Any:
        return self._library.exceptions

    def _put(self, key: str, content: bytes, *, mode: Any) -> str:
        # Never in parts: conditions hold for single requests everywhere, for those not.
        put, bucket = self._library.put, self._bucket
        TALLY.add("", sent=len(content))
        answer = send("PUT", key, lambda: put(bucket, key, content, mode=mode, use_multipart=False))
        return str(answer["e_tag"])

    def _read(self, verb: str, key: str, options: Any, most: int | None) -> Object | None:
        def act(_doubtful: bool) -> Object | None:
            try:
                return send(verb, key, lambda: self._got(key, options, most))
            except FileNotFoundError as error:
                self._require_bucket(key, error)
                return None
            except self._errors.BaseError as error:
                if _fault_of(error).status == _NO_SUCH_RANGE:
                    return Object(b"", 0, "")  # the end of an object without a byte
                raise

        return self._repeat(verb, key, act)

    def _got(self, key: str, options: Any, most: int | None = None) -> Object:
        answer = self._library.get(self._bucket, key, options=options)
        size, etag = answer.meta["size"], str(answer.meta["e_tag"])
        if most is not None and size > most:
            return Object(b"", size, etag)
        content = bytes(answer.bytes())
        TALLY.add("", received=len(content))
        return Object(content, size, etag)

    def _page(self, folder: str, after: str) -> list[str]:
        def call() -> list[str]:
            stream = self._library.list(
                self._bucket,
                folder or None,
                offset=("/".join(filter(None, (folder, after)))) if after else None,
                chunk_size=PAGE,
            )
            return [entry["path"] for entry in next(iter(stream), [])]

        start = len(folder) + 1 if folder else 0
        return [path[start:] for path in send("LIST", folder, call)]

    def _require_bucket(self, key: str, error: BaseException) -> None:
        """Raise if an object is not there because its bucket is not."""
        if _fault_of(error).code == _MISSING_BUCKET:
            raise self._failure("", key, _Fault(404, _MISSING_BUCKET))

    def _repeat(self, verb: str, key: str, act: Callable[[bool], T]) -> T:
        doubtful = False
        for delay in (*_DELAYS, None):
            try:
                return act(doubtful)
            except (self._errors.BaseError, FileNotFoundError) as error:
                fault = _fault_of(error)
                if delay is None or not (fault.passes or fault.status == _CONFLICT):
                    raise self._failure(verb, key, fault) from None
            doubtful = True
            wait(delay * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        raise AssertionError("the last attempt returns or raises")

    def _failure(self, verb: str, key: str, fault: _Fault) -> RequestError:
        return _error(verb, f"{self.place}/{key}", fault)


def failure(verb: str, where: str, error: BaseException) -> RequestError:
    """Say what became of a request, without what the server said in its own words."""
    return _error(verb, where, _fault_of(error))


def _error(verb: str, where: str, fault: _Fault) -> RequestError:
    if fault.status is None:
        said = "no answer: look at AWS_ENDPOINT_URL, and whether the server runs"
    else:
        hint = _HINTS.get(fault.status, "run the command again later")
        said = f"{fault.status} {fault.code}: {hint}"
    number = errno.EACCES if fault.status in (401, 403) else None
    return RequestError(f"{verb} {where}: {said}".strip(), number)


def _fault_of(error: BaseException) -> _Fault:
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    return _Fault(int(status[1]) if status else None, code[1] if code else type(error).__name__)
