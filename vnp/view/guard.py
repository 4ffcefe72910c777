"""Who may ask, and how: the first and last thing that every request passes.

The server listens on 127.0.0.1, where every user and every page of this machine's browsers can
reach it. So a request has to

- name this machine as its host, so that no other site can have its own name lead here (DNS
  rebinding),
- come from the page itself, not from another site or another port of this machine,
- and carry the token: once in the address that the terminal shows, then in a cookie that no script
  can read and that the browser sends along from this page alone.

Only GET is answered, nothing has permission of another origin (CORS), and the browser is told to
load, run and frame nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_LONGEST = 16_384  # bytes of path and query

_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def failure(status: int, said: str) -> JSONResponse:
    """Answer that something went wrong, in a sentence."""
    return JSONResponse({"error": said}, status_code=status)


class Guard:
    """Lets requests with the token through, and adds headers to every answer.

    Parameters
    ----------
    token
        Whoever has it may read the store.
    policy
        Content Security Policy of every answer.
    """

    def __init__(self, app: ASGIApp, *, token: str, policy: str) -> None:
        self._app = app
        self._token = token
        # Cookies of a host are those of all its ports: each server has a name of its own.
        self.cookie = f"vnp_view_{hashlib.sha256(token.encode()).hexdigest()[:12]}"
        self._headers = {**_HEADERS, "Content-Security-Policy": policy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as an ASGI application."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a websocket: refused by closing it
            await send({"type": "websocket.close", "code": 1008})
            return
        query = scope["query_string"]
        by_address = scope["path"] == "/" and self._is_token(_token_of(query))

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                if by_address:
                    kept = f"{self.cookie}={self._token}; HttpOnly; Path=/; SameSite=Strict"
                    headers.append("Set-Cookie", kept)
            await send(message)

        refusal = self._refusal(scope, by_address=by_address)
        by_address = by_address and refusal is None  # whoever is refused gets no cookie
        await (refusal or self._app)(scope, receive, guarded)

    def _refusal(self, scope: Scope, *, by_address: bool) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if scope["method"] != "GET":
            refused = failure(405, "only GET is answered: this server reads")
            refused.headers["Allow"] = "GET"
            return refused
        if not _names_this_machine(headers.getlist("host")):
            return failure(421, "open this page as 127.0.0.1 or localhost")
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > _LONGEST:
            return failure(414, "the address is too long")
        if by_address:
            return None
        site = headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") or ("origin" in headers and not _is_own(headers)):
            return failure(403, "this is for the page itself, not for other sites")
        if not self._is_token(_cookie_of(headers.getlist("cookie"), self.cookie)):
            said = "open the address with the token that 'vnp view' printed in its terminal"
            return failure(403, said)
        return None

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), self._token.encode())


def _token_of(query: bytes) -> str:
    if len(query) > _LONGEST:
        return ""
    given = parse_qs(query.decode("latin-1"), max_num_fields=None).get("token", [])
    return given[0] if len(given) == 1 else ""


def _cookie_of(given: Sequence[str], name: str) -> str:
    """Value of a cookie; those of other programs on this machine may be written in any way."""
    for pair in ";".join(given).split(";"):
        found, _, value = pair.partition("=")
        if found.strip() == name:
            return value.strip()
    return ""


def _names_this_machine(hosts: Sequence[str]) -> bool:
    """Whether the host asked for is this one; any port, as ``ssh -L`` may give it another."""
    if len(hosts) != 1:
        return False
    host = hosts[0].lower()
    name, _, port = host.rpartition(":")
    return host in _HOSTS or (name in _HOSTS and (not port or port.isdecimal()))


def _is_own(headers: Headers) -> bool:
    return headers["origin"] == f"http://{headers['host']}"
