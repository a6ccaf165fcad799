"""``ridgepoint serve``: the local page."""

from __future__ import annotations

import socket
import sys
from typing import Annotated

import typer

from ridgepoint.errors import RidgepointError

INSTALL = "pip install 'ridgepoint[web]'"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = 8642,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", metavar="NAME", help="Another name that browsers may ask for.")
    ] = None,
    browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """The local page: pick a model, a machine and a task, and see what limits it while you change them."""
    from ridgepoint.web.app import application

    try:
        import starlette  # noqa: F401 — application needs it
        import uvicorn
    except ImportError as error:
        raise RidgepointError("missing_extra", f"the page needs {error.name}", INSTALL) from None
    listener = _listener(host, port)
    name = f"[{host}]" if ":" in host else host
    address = f"http://{name}:{listener.getsockname()[1]}/"
    print(f"Ridgepoint at {address}  (Ctrl-C ends it)", flush=True)
    if host not in LOOPBACK:
        print("ridgepoint: anyone who reaches this address can use the page", file=sys.stderr)
    if browser:
        import webbrowser

        webbrowser.open(address)
    hosts = [*(allow_host or []), *([host] if host not in ("0.0.0.0", "::") else [])]
    config = uvicorn.Config(
        application(hosts), log_level="warning", server_header=False, limit_concurrency=64, timeout_keep_alive=5
    )
    uvicorn.Server(config).run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    """A socket that listens before the page is announced.

    Errors: ``bad_option`` for an address that cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        problem = f"cannot listen on {host} port {port}: {error.strerror or error}"
        raise RidgepointError("bad_option", problem, "choose another --port, or --port 0 for a free one") from None
    return listener
