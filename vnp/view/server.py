"""The server: the page's files, and what the page asks of its source.

Answers are made in a few threads, so that events and other requests go on; each is JSON. What goes
wrong is told in a sentence without paths or code; the terminal has the rest.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
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

log = logging.getLogger(__name__)

_THREADS = 4  # that make answers
_DISCONNECT_SECONDS = 0.5  # between two looks whether a browser still waits
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
        "map": (lambda _: live.map(), {}),
    }
    threads = anyio.CapacityLimiter(_THREADS)
    searches = anyio.CapacityLimiter(1)  # each reads all embeddings

    def route(name: str, answer: Answer, known: Mapping[str, Reader]) -> Route:
        async def respond(request: Request) -> Response:
            found = read_parameters(request.query_params, known)
            value = await anyio.to_thread.run_sync(answer, found, limiter=threads)
            return _Answer(value)

        return Route(f"/api/{name}", respond, methods=["GET"])

    async def neighbours(request: Request) -> Response:
        found = read_parameters(request.query_params, {"row": whole()})
        [row] = required(found, "row")
        gone = threading.Event()
        watcher = asyncio.ensure_future(_watch(request, gone))
        try:
            value = await anyio.to_thread.run_sync(
                lambda: live.neighbours(row, gone), limiter=searches
            )
        finally:
            gone.set()
            watcher.cancel()
        return _Answer(value)

    def file(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:  # noqa: ARG001 - Starlette's
            return Response(content, media_type=kind)

        return respond

    routes = [route(name, *how) for name, how in asked.items()]
    routes += [
        Route("/api/neighbours", neighbours, methods=["GET"]),
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


class _Events:
    """The stream of events, as an ASGI application."""

    def __init__(self, live: LiveStore) -> None:
        self._live = live

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        read_parameters(Request(scope).query_params, {})
        await self._live.events.stream(scope, receive, send)


async def _watch(request: Request, gone: threading.Event) -> None:
    """Note when a browser does not wait any more."""
    while not gone.is_set():
        if await request.is_disconnected():
            gone.set()
        await asyncio.sleep(_DISCONNECT_SECONDS)


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
    return failure(500, "the store cannot be read there: the terminal of 'vnp view' says why")


async def _bug(request: Request, error: Exception) -> Response:
    log.error("%s failed", request.url.path, exc_info=error)
    return failure(500, "the server failed: its terminal says why")
