"""The application: routes, files of the page, answers and errors. Needs the extra ``web``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any

from ridgepoint.errors import RidgepointError
from ridgepoint.report.html import style
from ridgepoint.web.openapi import openapi
from ridgepoint.web.routes import JSON, ROUTES, Route
from ridgepoint.web.shield import Shield

if TYPE_CHECKING:
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    **{
        f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
        for name in ("page", "state", "form", "views", "serving", "ask")
    },
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def application(hosts: Iterable[str] = (), routes: Iterable[Route] = ROUTES) -> Shield:
    """The whole application behind its shield; ``hosts`` are names that it answers to beside localhost."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.routing import Route as Address

    texts = {path: (_static(name), media) for path, (name, media) in FILES.items()}
    texts["/style.css"] = (style(), "text/css; charset=utf-8")
    texts["/openapi.json"] = (json.dumps(openapi(), ensure_ascii=False), JSON)
    addresses = [Address(route.path, partial(_answer, route), methods=[route.method]) for route in routes]
    addresses += [Address(path, partial(_file, text, media)) for path, (text, media) in texts.items()]
    errors: dict[Any, Any] = {RidgepointError: _wrong, HTTPException: _http, Exception: _defect}
    return Shield(Starlette(routes=addresses, exception_handlers=errors), hosts)


async def _answer(route: Route, request: Request) -> Response:
    from starlette.concurrency import run_in_threadpool

    arguments = [] if route.method == "GET" else [await _read(request)]
    found = await run_in_threadpool(route.answer, *arguments)
    return _json(found) if route.media == JSON else _text(found, f"{route.media}; charset=utf-8", route.file)


async def _file(text: str, media: str, request: Request) -> Response:
    return _text(text, media)


def _static(name: str) -> str:
    return (resources.files("ridgepoint.web") / "static" / name).read_text("utf-8")


async def _read(request: Request) -> Any:
    try:
        body = json.loads(await request.body(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RidgepointError("bad_request", f"the body is not valid JSON: {error}", "send a JSON object") from None
    if not isinstance(body, dict):
        raise RidgepointError("bad_request", "the body is no JSON object", "send {…}")
    return body


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _json(value: Any, status: int = 200) -> Response:
    from starlette.responses import Response

    return Response(json.dumps(value, ensure_ascii=False, allow_nan=False), status, media_type=JSON)


def _text(text: str, media: str, file: str = "") -> Response:
    from starlette.responses import Response

    headers = {"content-disposition": f'attachment; filename="{file}"'} if file else None
    return Response(text, media_type=media, headers=headers)


def _wrong(request: Request, error: RidgepointError) -> Response:
    return _json({"error": error.to_dict()}, 404 if error.kind.startswith("unknown_") else 400)


def _http(request: Request, error: HTTPException) -> Response:
    kind = "not_found" if error.status_code == 404 else "bad_request"
    told = {"kind": kind, "message": str(error.detail), "hint": "/openapi.json lists all"}
    return _json({"error": told}, error.status_code)


def _defect(request: Request, error: Exception) -> Response:
    problem = f"this is a defect: {type(error).__name__}"
    return _json({"error": {"kind": "internal", "message": problem, "hint": "the terminal shows where"}}, 500)
