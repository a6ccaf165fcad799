"""Take the pictures of the local page that the documentation shows: ``docs/images``.

python -m tools.screenshots           takes them all (`make screenshots`)
python -m tools.screenshots sweep     takes one

Needs Playwright and a Chromium: RIDGEPOINT_BROWSER names one, else one on the PATH or Playwright's own is taken.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SETTLED_MS = 500


@dataclass(frozen=True)
class Shot:
    """A view of the page: its link, the theme, the size of the window, and what stands there when it is drawn."""

    link: str
    theme: str
    size: tuple[int, int]
    ready: str


SHOTS = {
    "page": Shot(
        "#model=deepseek-v3&on=8xh200-sxm&task=decode&batch=64&context=8192", "light", (1280, 1310), "#roofline svg"
    ),
    "sweep": Shot(
        "#model=llama-3.1-8b&on=h100-sxm&task=decode&batch=32&context=8192&view=sweep",
        "dark",
        (1280, 860),
        "#sweep svg",
    ),
    "serving": Shot(
        "#model=llama-3.1-8b&on=2xh100-sxm&task=decode&batch=32&context=8192&view=serving&serve.rate=24&serve.requests=2000",
        "light",
        (1280, 1330),
        "#serving .rp-pairs svg",
    ),
}


def main(names: Sequence[str]) -> int:
    """Take the shots of these names, or all."""
    from playwright.sync_api import sync_playwright

    unknown = [name for name in names if name not in SHOTS]
    if unknown:
        print(f"no shot is called {unknown[0]}; there are {', '.join(SHOTS)}", file=sys.stderr)
        return 2
    with served() as address, sync_playwright() as playwright:
        # --no-sandbox: containers that run as root have no user namespaces
        browser = playwright.chromium.launch(executable_path=executable(), args=["--no-sandbox"])
        for name in names or SHOTS:
            shot = SHOTS[name]
            width, height = shot.size
            context = browser.new_context(color_scheme=shot.theme, viewport={"width": width, "height": height})
            page = context.new_page()
            page.goto(address + shot.link)
            page.wait_for_selector(shot.ready)
            page.wait_for_timeout(SETTLED_MS)
            page.screenshot(path=FOLDER / f"{name}.png")
            context.close()
            print(FOLDER / f"{name}.png")
        browser.close()
    return 0


def executable() -> str | None:
    """The browser's program, or None for Playwright's own."""
    named = os.environ.get("RIDGEPOINT_BROWSER")
    return named or next((found for name in BROWSERS if (found := shutil.which(name))), None)


@contextmanager
def served() -> Iterator[str]:
    """The address of a running page."""
    command = [sys.executable, "-m", "ridgepoint", "serve", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+/", process.stdout.readline())
        assert found is not None
        yield found[0]
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
