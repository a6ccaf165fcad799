"""The summary of reproduced figures by paper, kept in the catalogue so that advice can show it (design §6, §7)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from ridgepoint.evidence.reproduce import COMPARED, Outcome
from ridgepoint.files import write_whole

HEAD = "# Predicted over reported, by paper: written by `ridgepoint reproduce --all --record`.\n"


def record_text(outcomes: Sequence[Outcome]) -> str:
    """The catalogue file: for each paper the ratios of its compared claims; bounds, which no ratio describes, are left out."""
    by_paper: dict[str, list[float]] = {}
    for found in outcomes:
        if found.ratio is not None and found.state in COMPARED:
            by_paper.setdefault(found.claim.slug, []).append(found.ratio)
    blocks = (
        f"[papers.{slug}]\nratios = [{', '.join(f'{ratio:.3g}' for ratio in ratios)}]\n"
        for slug, ratios in sorted(by_paper.items())
    )
    return "\n".join([HEAD, *blocks])


def write_record(outcomes: Sequence[Outcome]) -> None:
    """Writes the record into the catalogue of this checkout."""
    write_whole(Path(str(resources.files("ridgepoint.catalog"))) / "evidence.toml", record_text(outcomes))
