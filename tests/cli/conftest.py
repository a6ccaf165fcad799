"""Running commands in the process, away from the user's own catalogue."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ridgepoint.cli import app


@dataclass(frozen=True)
class Answer:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The body of the error envelope."""
        assert self.code == 2, self
        body: dict[str, str] = self.document["error"]
        return body


Run = Callable[..., Answer]


def answer(*arguments: str) -> Answer:
    result = CliRunner().invoke(app, list(arguments))
    return Answer(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command with an empty catalogue of the user's own, in an empty folder."""
    monkeypatch.setenv("RIDGEPOINT_CATALOG", str(tmp_path / "catalog"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return answer
