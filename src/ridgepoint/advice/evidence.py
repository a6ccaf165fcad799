"""How well a technique's papers were reproduced: the summary that ``ridgepoint reproduce --record`` writes (design §7)."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any

from ridgepoint.techniques.technique import Technique


@cache
def _record() -> dict[str, dict[str, Any]]:
    path = resources.files("ridgepoint.catalog") / "evidence.toml"
    return tomllib.loads(path.read_text("utf-8")).get("papers", {}) if path.is_file() else {}


def evidence(found: Technique) -> dict[str, Any]:
    """Claims of the technique's papers that were compared, how many came out within 25 %, and each paper's ratios.

    Ratios are predicted over reported.
    """
    rows = {slug: _record()[slug] for slug in found.papers if slug in _record()}
    ratios = [ratio for row in rows.values() for ratio in row["ratios"]]
    return {
        "claims": len(ratios),
        "within_25_percent": sum(0.8 <= ratio <= 1.25 for ratio in ratios),
        "ratios": {slug: row["ratios"] for slug, row in rows.items()},
    }
