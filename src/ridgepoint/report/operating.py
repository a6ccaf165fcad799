"""The operating curve of a deployment, as a page for the terminal and as a JSON document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgepoint.document import plain
from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.terminal import notes, section
from ridgepoint.report.text import bar, count, gigabytes, number, percent, plural
from ridgepoint.serving.operating import Operating
from ridgepoint.serving.summary import plan_of
from ridgepoint.units import duration

ROWS = 9
BAR = 10


def page(found: Operating, width: int) -> RenderableType:
    """The whole report for a terminal of ``width`` columns."""
    return Group(*_sections(found, width))


def _sections(found: Operating, width: int) -> Iterator[RenderableType]:
    given = found.deployment
    lengths, how = subjects(found)
    text = Text.assemble((given.model.name, "bold"), " on ", (given.machine.name, "bold"), " · ", ("serve", "bold"))
    yield text.append(f" · {lengths}")
    yield Text(how, style="dim")
    yield Text("")
    yield section("Operating curve", _curve(found, width - 2))
    yield Text("")
    yield _advice(found)
    yield from notes("Warnings", found.warnings, "yellow")
    yield from notes("Assumptions", (*given.assumptions, *ASSUMED), "dim")


def subjects(found: Operating) -> tuple[str, str]:
    """The lengths of requests, and what serves them, in words."""
    given = found.deployment
    replicas = plural(given.replicas, "replica")
    lengths = f"prompt {count(found.prompt)} · output {count(found.output)}"
    return lengths, f"{given.engine}, {replicas}; the figures are those of one"


ASSUMED = (
    "clients each send the next request when the last one is answered; latencies are means; no prefix is shared",
)


def _shown(found: Operating) -> list[int]:
    """Positions to show: spread over what fits, the knee, the capacity and one beyond."""
    counts = found.concurrency
    wanted = np.geomspace(1.0, max(float(found.capacity), 1.0), ROWS)
    spread = {int(np.argmin(np.abs(counts - value))) for value in wanted}
    beyond = {len(counts) - 1} if counts[-1] > found.capacity else set()
    return sorted(spread | beyond | {found.knee})


TITLES = ("under way", "TTFT", "TPOT", "tokens/s", "requests/s")


def rows(found: Operating) -> Iterator[tuple[int, tuple[str, ...], str]]:
    """(position, figures of ``TITLES``, what to say of it) of the points that are shown."""
    columns = (found.ttft_s, found.tpot_s, found.tokens_per_s, found.requests_per_s)
    for i in _shown(found):
        ttft, tpot, tokens, requests = (float(column[i]) for column in columns)
        remark = "knee" if i == found.knee else "queues" if found.concurrency[i] > found.capacity else ""
        figures = (duration(ttft), duration(tpot), number(tokens), number(requests))
        yield i, (count(float(found.concurrency[i])), *figures), remark


def _curve(found: Operating, width: int) -> Table:
    most = float(found.tokens_per_s.max())
    cells: list[list[Cell]] = []
    for i, (under_way, ttft, tpot, tokens, requests), remark in rows(found):
        drawn = bar(float(found.tokens_per_s[i]) / most, BAR)
        cells.append([under_way, ttft, tpot, Text(tokens, style="bold"), requests, drawn, remark])
    return fitted([*TITLES, "", ""], cells, width, wordy=(6,), left=(5,))


def freed_bytes(found: Operating) -> float:
    """Bytes of cache on one device that stay free when no more requests run than at the knee."""
    cache = found.deployment.cache(found.prompt + found.output)
    spared = max(found.capacity - float(found.concurrency[found.knee]), 0.0)
    each = (found.prompt + found.output / 2.0) * cache.token_bytes + cache.sequence_bytes
    return spared * each / found.deployment.passes.pooled


def _advice(found: Operating) -> Text:
    return Text(knee_words(found))


def knee_words(found: Operating) -> str:
    """What the knee gives, and the memory that it leaves, in a sentence or two."""
    knee = found.knee
    best = float(found.tokens_per_s[found.concurrency <= max(found.capacity, 1.0)].max())
    part, free = float(found.tokens_per_s[knee]) / best, freed_bytes(found)
    said = (
        f"At the knee {count(float(found.concurrency[knee]))} requests under way give {percent(part)} of the most "
        f"tokens per second at {duration(float(found.tpot_s[knee]))} per token."
    )
    if free > 1e8:
        said += f" No more than that at once leaves {gigabytes(free)} of a device's memory free, for a second model or replica."
    return f"{said} {certainty_words(found)}"


def certainty_words(found: Operating) -> str:
    """How far off the figures may be, in a sentence."""
    first, each, rate = (f"{found.factors[name]:.1f}" for name in ("ttft_s", "tpot_s", "per_s"))
    return (
        f"Nine measurements in ten are expected within a factor of {first} of TTFT, {each} of TPOT and {rate} of the "
        "rates, either way."
    )


def document(found: Operating) -> dict[str, Any]:
    """The curve as JSON knows it."""
    given = found.deployment
    return {
        "model": given.model.name,
        "machine": given.machine.name,
        "task": {"name": "serve", "prompt": plain(found.prompt), "output": plain(found.output)},
        "plan": {name: plain(v) if isinstance(v, float) else v for name, v in plan_of(given).items()},
        "capacity": plain(float(found.capacity)),
        "curve": {
            "concurrency": plain(found.concurrency),
            "ttft_s": plain(found.ttft_s),
            "tpot_s": plain(found.tpot_s),
            "requests_per_s": plain(found.requests_per_s),
            "tokens_per_s": plain(found.tokens_per_s),
        },
        "factor_90": {name: plain(value) for name, value in found.factors.items()},
        "knee": {
            "concurrency": plain(float(found.concurrency[found.knee])),
            "freed_gb": plain(freed_bytes(found) / 1e9),
        },
        "warnings": list(found.warnings),
        "assumptions": [*given.assumptions, *ASSUMED],
        "citations": list(found.citations),
    }
