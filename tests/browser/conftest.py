"""The page in a real browser. Skips with the reason where none can be had: RIDGEPOINT_BROWSER names one, else a Chromium on
the PATH or Playwright's own is taken.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOW = "install one (apt install chromium, or python -m playwright install chromium), or name it: RIDGEPOINT_BROWSER"
READY = "#verdict .rp-verdict"


def executable() -> str | None:
    """The browser's program, or None for Playwright's own."""
    named = os.environ.get("RIDGEPOINT_BROWSER")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="browser tests need playwright")
    for name in ("starlette", "uvicorn"):
        pytest.importorskip(name, reason="the page needs the extra web")
    with sync_api.sync_playwright() as playwright:
        try:
            # --no-sandbox: containers that run tests as root have no user namespaces
            found = playwright.chromium.launch(executable_path=executable(), args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no browser: {str(error).splitlines()[0]}; {HOW}")
        yield found
        found.close()


@pytest.fixture(scope="session")
def address(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The running program's address; it has an empty catalogue of the user's own."""
    environment = {**os.environ, "RIDGEPOINT_CATALOG": str(tmp_path_factory.mktemp("catalog"))}
    command = [sys.executable, "-m", "ridgepoint", "serve", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    found = re.search(r"http://\S+/", process.stdout.readline())
    assert found is not None
    yield found[0]
    process.kill()
    process.communicate()


@dataclass
class Watched:
    """A page, with what it logged and asked for."""

    page: Any
    address: str
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def open(self, link: str = "") -> Any:
        """The page at a link, once it shows an answer."""
        self.page.goto(self.address + link)
        self.page.wait_for_selector(f"{READY}, #wrong .error", state="attached")
        return self.page

    def until(self, text: str, selector: str = "#verdict") -> None:
        """Waits until a part says something."""
        self.page.locator(selector, has_text=text).first.wait_for()


def watch(browser: Any, address: str, **options: Any) -> Watched:
    context = browser.new_context(accept_downloads=True, **{"viewport": {"width": 1280, "height": 900}, **options})
    page = context.new_page()
    page.set_default_timeout(20_000)
    watched = Watched(page, address)
    page.on("console", lambda message: watched.said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: watched.said.append(f"error: {error}"))
    page.on("request", lambda request: watched.asked.append(request.url))
    return watched


@pytest.fixture
def seen(browser: Any, address: str) -> Iterator[Watched]:
    """A fresh page. After each test: nothing was asked of another address, nothing was logged that the test did not expect."""
    watched = watch(browser, address)
    yield watched
    watched.page.context.close()
    foreign = [url for url in watched.asked if not url.startswith((address, "data:", "blob:"))]
    assert foreign == []
    assert watched.said == []


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path
