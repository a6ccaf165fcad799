"""What protects the page: only this machine's browser, on this page, with small bodies, gets an answer.

An ASGI layer around the application. A foreign ``Host`` is refused (a name that was made to point here), a foreign
``Origin`` too (another site's script), bodies above ``MOST_BYTES`` and bodies that are no JSON. Every answer carries a strict
Content-Security-Policy.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from ridgepoint.errors import RidgepointError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BYTES = 1_000_000
LOCAL = ("localhost", "127.0.0.1", "::1")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


class Shield:
    """The layer. ``hosts``: names under which the page may be asked for, beside this machine's own."""

    def __init__(self, application: Application, hosts: Iterable[str] = ()) -> None:
        self.application = application
        self.hosts = frozenset((*LOCAL, *(host.lower() for host in hosts)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with a limit on the body and headers on the answer."""
        if scope["type"] == "lifespan":
            await self.application(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        refused = self._refused(scope["method"], headers)
        if refused is not None:
            await answer_error(_with_headers(send), *refused)
            return
        body = await _body(receive)
        if body is None:
            await answer_error(_with_headers(send), 413, _too_large())
            return
        await self.application(scope, _replayed(body), _with_headers(send))

    def _refused(self, method: str, headers: dict[str, str]) -> tuple[int, RidgepointError] | None:
        host = headers.get("host", "")
        if host_name(host) not in self.hosts:
            hint = "ask for localhost, or start it with --allow-host NAME"
            return 403, RidgepointError("forbidden", f"this page is not served for the host '{host[:80]}'", hint)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, RidgepointError("forbidden", "another site asks", "open the page itself")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") and method != "GET":
            return 403, RidgepointError("forbidden", "another site asks", "open the page itself")
        if method not in ("GET", "HEAD", "POST"):
            return 405, RidgepointError("bad_request", f"{method[:20]} is not answered", "use GET or POST")
        if method == "POST" and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return 415, RidgepointError("bad_request", "the body is no JSON", "send content-type application/json")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            return 413, _too_large()
        return None


def _too_large() -> RidgepointError:
    return RidgepointError("too_large", f"the body is larger than {MOST_BYTES:,} bytes", "send less")


def host_name(host: str) -> str:
    """The name in a Host header.

    >>> host_name("LocalHost:8642"), host_name("[::1]:80"), host_name("evil@localhost")
    ('localhost', '::1', '')
    """
    try:
        parts = urlsplit(f"//{host}")
        return "" if "@" in host or parts.path else (parts.hostname or "")
    except ValueError:
        return ""


async def _body(receive: Receive) -> bytes | None:
    """The whole body, or None where it is too large, whatever its length said."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > MOST_BYTES:
            return None
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return body


def _replayed(body: bytes) -> Receive:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            present = {key.lower() for key, _ in message.get("headers", [])}
            more = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in present]
            message = {**message, "headers": [*message.get("headers", []), *more]}
        await send(message)

    return sending


async def answer_error(send: Send, status: int, error: RidgepointError) -> None:
    """Design §10's envelope."""
    body = json.dumps({"error": error.to_dict()}, ensure_ascii=False).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
