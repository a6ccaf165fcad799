"""What protects the page: hosts, origins, sizes, types, headers."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ridgepoint.web.routes import Route
from ridgepoint.web.shield import HEADERS, MOST_BYTES, Shield, host_name
from tests.web.conftest import LLAMA, client


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "evil@localhost",
        "localhost/x",
        "10.0.0.1",
    ],
)
def test_foreign_hosts_get_no_answer(page: Any, host: str) -> None:
    """A name of an attacker's that points to this machine must not reach the page (DNS rebinding)."""
    for response in (
        page.get("/", headers={"host": host}),
        page.post("/api/estimate", json=LLAMA, headers={"host": host}),
    ):
        assert response.status_code == 403
        assert response.json()["error"]["kind"] == "forbidden"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8642", "127.0.0.1:1", "[::1]:8642"])
def test_this_machine_gets_one(page: Any, host: str) -> None:
    assert page.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9999"},
        {"origin": "http://localhost:8642.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_sites_get_no_answer(page: Any, headers: dict[str, str]) -> None:
    assert page.post("/api/estimate", json=LLAMA, headers=headers).status_code == 403


def test_the_page_itself_gets_one(page: Any) -> None:
    headers = {"origin": "http://localhost:8642", "sec-fetch-site": "same-origin"}
    assert page.post("/api/estimate", json=LLAMA, headers=headers).status_code == 200
    assert page.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200, "a link from elsewhere"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_forms_of_other_sites_are_no_json(page: Any, kind: str) -> None:
    response = page.post("/api/estimate", content=b'{"model": "gpt2", "machine": "t4"}', headers={"content-type": kind})
    assert response.status_code == 415


def test_large_bodies_are_refused_whatever_they_say(page: Any) -> None:
    headers = {"content-type": "application/json"}
    big = b'{"model": "' + b"x" * MOST_BYTES + b'"}'
    assert page.post("/api/estimate", content=big, headers=headers).status_code == 413
    chunks = (b"x" * 100_000 for _ in range(11))
    assert page.post("/api/estimate", content=chunks, headers=headers).status_code == 413
    assert page.post("/api/estimate", content=b"{}", headers={**headers, "content-length": "-1"}).status_code == 413


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_refused(page: Any, method: str) -> None:
    assert page.request(method, "/api/estimate").status_code == 405


@pytest.mark.parametrize(
    "path", ["/", "/page.js", "/style.css", "/api/models", "/nothing", "/../pyproject.toml", "/openapi.json"]
)
def test_every_answer_carries_the_policy(page: Any, path: str) -> None:
    response = page.get(path)
    for name, value in HEADERS.items():
        assert response.headers[name] == value
    assert "unsafe" not in response.headers["content-security-policy"]
    assert "access-control-allow-origin" not in response.headers
    if path in ("/nothing", "/../pyproject.toml"):
        assert response.status_code == 404
        assert response.json()["error"]["kind"] == "not_found"


def test_another_name_can_be_allowed() -> None:
    lan = client("workbench.lan", hosts=["Workbench.lan"])
    assert lan.get("/").status_code == 200
    assert lan.get("/", headers={"host": "other.lan"}).status_code == 403


def test_a_defect_shows_no_insides() -> None:
    response = client(routes=[Route("GET", "/api/broken", lambda: 1 / 0)]).get("/api/broken")
    assert response.status_code == 500
    told = {"kind": "internal", "message": "this is a defect: ZeroDivisionError", "hint": "the terminal shows where"}
    assert response.json()["error"] == told


def test_other_protocols_get_nothing() -> None:
    sent: list[Any] = []

    async def nothing(*_: Any) -> Any:
        sent.append(_)

    asking = Shield(nothing)({"type": "websocket", "headers": []}, nothing, nothing)
    with ThreadPoolExecutor(1) as other:  # a browser's tests may have a loop of their own in this thread
        other.submit(asyncio.run, asking).result()
    assert sent == []
    assert host_name("[::1") == ""
