"""``ridgepoint serve``: it says where it is, answers, and ends quietly (design §10)."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.request import urlopen

import pytest

from tests.cli.conftest import Run


@pytest.fixture
def installed() -> None:
    for name in ("starlette", "uvicorn"):
        pytest.importorskip(name, reason="the page needs the extra web")


@pytest.fixture
def server(installed: None) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "ridgepoint", "serve", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    yield process
    process.kill()
    process.communicate()


def test_it_says_where_it_is_and_ends_quietly(server: subprocess.Popen[str]) -> None:
    assert server.stdout is not None
    line = server.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/", line)
    assert found, line
    with urlopen(found[0], timeout=20) as response:
        assert b"<title>Ridgepoint</title>" in response.read()
    server.send_signal(signal.SIGINT)
    out, err = server.communicate(timeout=20)
    assert (out, err) == ("", "")


def test_a_port_that_is_taken_is_said(run: Run, installed: None) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        answer = run("serve", "--port", str(taken.getsockname()[1]))
    assert answer.code == 2
    assert "cannot listen" in answer.err


def test_without_the_extra_it_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    answer = run("serve")
    assert answer.code == 2
    assert "pip install 'ridgepoint[web]'" in answer.err
