"""The application in the process, asked as a browser on this machine would."""

from typing import Any

import pytest

pytest.importorskip("starlette", reason="the page needs the extra web")
testclient = pytest.importorskip("starlette.testclient", reason="asking needs httpx2")

LLAMA = {"model": "llama-3.1-8b", "machine": "h100-sxm", "task": {"name": "decode", "batch": 32, "context": "8k"}}


@pytest.fixture(scope="session")
def page() -> Any:
    from ridgepoint.web.app import application

    return testclient.TestClient(application(), base_url="http://localhost:8642", raise_server_exceptions=False)
