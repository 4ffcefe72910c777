"""The server: the page's files, and what the page asks of its source.

Answers are made in a few threads, so that events and other requests go on; each is JSON. What goes
wrong is told in a sentence without paths or code; the terminal has the rest.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from store.errors import StoreError
from vnp.view.contigs import SORTS, Query
from vnp.view.guard import Guard, failure
from vnp.view.live import LiveStore, NotKnownError
from vnp.view.page import Page
from vnp.view.parameters import (
    MOST_ROWS,
    ParameterError,
    Reader,
    flag,
    number,
    one_of,
    read_parameters,
    required,
    text,
    whole,
)
from vnp.view.search import Cancelled
from vnp.view.stream import Searches

log = logging.getLogger(__name__)

_THREADS = 4  # that make answers
_UNREAD = "the store cannot be read there: the terminal of 'vnp view' says why"
_FAILED = "the server failed: its terminal says why"
_SAMPLE, _CONTIG = 200, 8000  # letters of names that can be asked for

Answer: TypeAlias = Callable[[Mapping[str, Any]], Any]


def make_app(live: LiveStore, page: Page, *, token: str) -> Starlette:
    """Make the application.

    Parameters
    ----------
    live
        What it answers from.
    page
        The page and its files.
    token
        What a browser must bring.
    """
    asked: dict[str, tuple[Answer, dict[str, Reader]]] = {
        "overview": (lambda _: live.overview(), {}),
        "contigs": (
            lambda found: live.contigs(Query(**found)),
            {
                "sample": text(_SAMPLE),
                "min_length": number,
                "min_score": number,
                "viral": flag,
                "text": text(),
                "sort": one_of(*SORTS),
                "descending": flag,
                "offset": whole(),
                "limit": whole(MOST_ROWS),
            },
        ),
        "track": (
            lambda found: live.track(*required(found, "sample", "contig")),
            {"sample": text(_SAMPLE), "contig": text(_CONTIG)},
        ),
        "map": (lambda found: live.map(**found), {"again": flag}),
    }
    threads = anyio.CapacityLimiter(_THREADS)

    def route(name: str, answer: Answer, known: Mapping[str, Reader]) -> Route:
        async def respond(request: Request) -> Response:
            found = read_parameters(request.query_params, known)
            value = await anyio.to_thread.run_sync(answer, found, limiter=threads)
            return _Answer(value)

        return Route(f"/api/{name}", respond, methods=["GET"])

    def file(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:  # noqa: ARG001 - Starlette's
            return Response(content, media_type=kind)

        return respond

    routes = [route(name, *how) for name, how in asked.items()]
    routes += [
        Route("/api/neighbours", _Neighbours(live)),
        Route("/api/events", _Events(live)),
        *(Route(path, file(*each), methods=["GET"]) for path, each in page.files.items()),
    ]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Guard, token=token, policy=page.policy),
            Middleware(GZipMiddleware, minimum_size=2000, compresslevel=1),
        ],
        exception_handlers={
            HTTPException: _http_error,
            ParameterError: _bad_request,
            NotKnownError: _not_known,
            Cancelled: _cancelled,
            StoreError: _store_error,
            OSError: _store_error,
            Exception: _bug,
        },
    )
    app.router.redirect_slashes = False
    return app


class _Answer(JSONResponse):
    """An answer in ASCII: names of files, as in the title, need not be UTF-8."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class _Neighbours:
    """The stream of what a search of embeddings finds, as an ASGI application."""

    def __init__(self, live: LiveStore) -> None:
        self._live = live
        self._searches = Searches(_failed_late)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        found = read_parameters(Request(scope).query_params, {"row": whole()})
        [row] = required(found, "row")
        begin = partial(self._live.neighbours, row)
        await self._searches.stream(begin, scope, receive, send)


class _Events:
    """The stream of events, as an ASGI application."""

    def __init__(self, live: LiveStore) -> None:
        self._live = live

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        read_parameters(Request(scope).query_params, {})
        await self._live.events.stream(scope, receive, send)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {404: "there is nothing here", 405: "only GET is answered: this server reads"}
    return failure(error.status_code, said.get(error.status_code, "this is not answered"))


async def _bad_request(_: Request, error: Exception) -> Response:
    return failure(400, str(error))


async def _not_known(_: Request, error: Exception) -> Response:
    return failure(404, str(error))


async def _cancelled(_: Request, __: Exception) -> Response:
    return failure(503, "given up")


async def _store_error(request: Request, error: Exception) -> Response:
    log.warning("%s: %s", request.url.path, error)
    return failure(500, _UNREAD)


async def _bug(request: Request, error: Exception) -> Response:
    log.error("%s failed", request.url.path, exc_info=error)
    return failure(500, _FAILED)


def _failed_late(error: Exception) -> str:
    """Tell the terminal of an error that has no status any more; return what the page is told."""
    expected = isinstance(error, (StoreError, OSError))
    log.warning("a search failed: %s", error, exc_info=None if expected else error)
    return _UNREAD if expected else _FAILED
