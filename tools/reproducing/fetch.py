"""Files by pinned hash: a list of them, and their download, which resumes and is checked.

A file is pinned by its SHA-256, or by its git blob id, which the listing of a repository shows: the
SHA-1 of ``blob SIZE``, a zero byte and the content. Nothing is fetched without either.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from store.errors import DataError, UsageError
from store.io.files import write_failure
from vnp.exchange.embedding_rows import shown

_CHUNK = 1 << 20
_MOST = 1 << 30  # bytes of a file of unknown size
_TRIES = 20  # answers in a row that end early and bring less than this each:
_PROGRESS = 1 << 20
_LENGTH = re.compile("[0-9]{1,18}")
_TIMEOUT = 60  # seconds without a byte
_UNKNOWN = 10 << 20  # bytes taken for a file of which only the hash is known: a classifier
_SPARE = 1 << 30  # bytes left free for the store, the caches and the results


@dataclass(frozen=True, slots=True)
class Pinned:
    """One file to fetch."""

    path: PurePosixPath  # where it goes, below the folder of downloads
    part: str  # what it is needed for
    url: str
    size: int | None  # bytes; None where only the hash was found
    algorithm: str  # sha256 or git_blob
    digest: str


def read_list(path: Path) -> tuple[dict[str, Any], list[Pinned]]:
    """Read a list of pinned files, as it is and as `Pinned`; UsageError if it is wrong."""
    try:
        content = json.loads(path.read_text())
        files = [_pinned(item) for item in content["files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not a list of pinned files: {error!r}") from None
    return content, files


def _pinned(item: dict[str, Any]) -> Pinned:
    path, url = PurePosixPath(item["path"]), urlsplit(item["url"])
    if path.is_absolute() or not path.parts or ".." in path.parts:
        raise ValueError(f"{path} is not a path below the folder")
    if url.scheme != "https" and not (url.scheme == "http" and url.hostname == "127.0.0.1"):
        raise ValueError(f"{item['url']} is not https")
    pins = [(name, item[name]) for name in ("sha256", "git_blob") if item.get(name)]
    if len(pins) != 1:
        raise ValueError(f"{path} needs a sha256 or a git_blob: nothing is fetched without a hash")
    size = None if item["size"] is None else int(item["size"])
    return Pinned(path, item["part"], item["url"], size, *pins[0])


def digest_of(path: Path, algorithm: str) -> str:
    """Hash a file by one of the two kinds of pin."""
    with path.open("rb") as file:
        if algorithm == "sha256":
            return hashlib.file_digest(file, "sha256").hexdigest()
        hasher = hashlib.sha1(usedforsecurity=False)
        hasher.update(b"blob %d\0" % path.stat().st_size)
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
        return hasher.hexdigest()


def fetch(
    files: Iterable[Pinned], folder: Path, *, room: int, say: Callable[[str], None]
) -> dict[Path, Pinned]:
    """Bring the files below ``folder``; those that are there are checked again.

    What a download left as ``NAME.part`` is gone on with. ``room`` bytes more than the files must
    be free. Returns the files by path.

    Raises
    ------
    DataError
        If the disk is too full, a host cannot be reached, a download ends early, or its hash is
        another one than the pinned.
    """
    wanted = {folder / item.path: item for item in files}
    missing = {}
    for path, item in wanted.items():
        if not path.is_file():
            missing[path] = item
        elif (found := digest_of(path, item.algorithm)) != item.digest:
            raise DataError(
                f"{path} is not the file that is pinned ({item.algorithm} {found}, not "
                f"{item.digest}): remove it, then run this again to fetch it"
            )
    needed = sum(
        (_UNKNOWN if item.size is None else item.size) - _length(_part(path))
        for path, item in missing.items()
    )
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed + room + _SPARE:
        raise DataError(
            f"{folder} has {free / 1e9:.1f} GB free; the downloads need {needed / 1e9:.1f} GB and "
            f"the rest {(room + _SPARE) / 1e9:.1f} GB: choose a folder on another disk"
        )
    for path, item in missing.items():
        size = "" if item.size is None else f" ({item.size:,} bytes)"
        say(f"fetching {item.path}{size} from {urlsplit(item.url).hostname}")
        _fetch_one(path, item)
    return wanted


def _fetch_one(path: Path, item: Pinned) -> None:
    part = _part(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    resumed = _length(part) > 0
    little = 0
    while True:
        before = _length(part)
        whole = _download(part, item)
        if whole:
            break
        little = little + 1 if _length(part) < before + _PROGRESS else 0
        if _length(part) <= before or little == _TRIES:  # another try would not do better
            end = "its end" if item.size is None else f"{item.size:,}"
            raise DataError(
                f"{item.url} ended after {_length(part):,} of {end} bytes; run this again, which "
                "goes on from there"
            )
        resumed = True
    found = digest_of(part, item.algorithm)
    if found != item.digest:
        part.unlink()
        if resumed:  # the bytes of an earlier run may be of another file: once from the start
            return _fetch_one(path, item)
        raise DataError(
            f"{item.url} is not the file that is pinned: its {item.algorithm} is {found}, not "
            f"{item.digest}. It was removed and nothing of it was used; something changed there, "
            "or on the way here"
        )
    part.replace(path)
    return None


def _download(part: Path, item: Pinned) -> bool:
    """Append to ``part`` what is missing; False if the connection ended before the file did."""
    have = _length(part)
    most = _MOST if item.size is None else item.size
    if have and have == item.size:
        return True
    if have > most:
        part.unlink()  # longer than the file is
        have = 0
    request = urllib.request.Request(item.url, headers={"User-Agent": "vnp-reproduce"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    host = urlsplit(item.url).hostname
    try:
        with _OPENER.open(request, timeout=_TIMEOUT) as answer:
            if have and answer.status != http.HTTPStatus.PARTIAL_CONTENT:
                have = 0  # it sends the whole file
            length = answer.headers.get("Content-Length", "")
            if length and not _LENGTH.fullmatch(length):
                raise DataError(f"{item.url} has a length that is not a number: {shown(length)}")
            end = have + int(length) if length else item.size
            if item.size is not None and end != item.size:
                raise DataError(
                    f"{item.url} has {end:,} bytes there, not the {item.size:,} of the pinned file"
                )
            longer = end is not None and end > most
            if not longer:
                with part.open("ab" if have else "wb") as file:
                    longer = _copy(answer, file, part, room=most - have)
            if longer:
                part.unlink(missing_ok=True)
                raise DataError(
                    f"{item.url} sends more than {most:,} bytes, so it is not the file that is "
                    "pinned; nothing of it was kept"
                )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            if item.size is None:  # all of it was here
                return True
            part.unlink()
            return False
        raise DataError(
            f"{item.url} answers {error.code} {shown(str(error.reason))}: the file is "
            "no longer there, or this machine may not have it"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise DataError(
            f"{host} cannot be reached ({shown(str(reason))}), for {item.path}; what was "
            "fetched is kept: run this again where there is internet"
        ) from None
    return end is None or _length(part) == end


def _copy(answer: Any, file: BinaryIO, part: Path, *, room: int) -> bool:
    """Copy to the end, or ``room`` bytes; return whether there are more.

    A connection that ends early is told by the length of the file.
    """
    while True:
        try:
            chunk = answer.read1(_CHUNK)  # what has come, so that a stall loses nothing of it
        except (http.client.HTTPException, ConnectionError, TimeoutError):
            return False
        try:
            file.write(chunk[:room])
        except OSError as error:
            raise write_failure(error, part) from None
        if len(chunk) > room:
            return True
        if not chunk:
            return False
        room -= len(chunk)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to another address, but not from one that is encrypted to one that is not."""

    def redirect_request(
        self, request: urllib.request.Request, *arguments: Any
    ) -> urllib.request.Request | None:
        target = arguments[-1]
        if request.type == "https" and urlsplit(target).scheme != "https":
            raise DataError(
                f"{request.full_url} leads to {shown(target)}, which is not https: nothing is "
                "fetched from there"
            )
        return super().redirect_request(request, *arguments)


_OPENER = urllib.request.build_opener(_Redirects)


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
