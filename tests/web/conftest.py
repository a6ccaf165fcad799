"""The application in the process, asked as a browser on this machine would."""

from typing import Any

import pytest

LLAMA = {"model": "llama-3.1-8b", "machine": "h100-sxm", "task": {"name": "decode", "batch": 32, "context": "8k"}}


def client(host: str = "localhost:8642", **options: Any) -> Any:
    """Asks the application in the process; skips where the extra is missing."""
    pytest.importorskip("starlette", reason="the page needs the extra web")
    testclient = pytest.importorskip("starlette.testclient", reason="asking needs httpx2")
    from ridgepoint.web.app import application

    return testclient.TestClient(application(**options), base_url=f"http://{host}", raise_server_exceptions=False)


@pytest.fixture(scope="session")
def page() -> Any:
    return client()
