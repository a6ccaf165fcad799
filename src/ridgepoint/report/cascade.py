"""Several models for one stream of requests, as a page for the terminal and as a JSON document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgepoint.report.simulation import goals
from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.terminal import notes, section
from ridgepoint.report.text import money, number, percent
from ridgepoint.serving.cascade import CASCADE, Cascade
from ridgepoint.serving.outcome import Slo
from ridgepoint.serving.summary import document as document_of_one
from ridgepoint.serving.summary import summary_document
from ridgepoint.units import duration, si

LATENCIES = (("ttft_s", "Time to first token"), ("latency_s", "Time in all"))


def page(found: Cascade, slo: Slo, width: int) -> RenderableType:
    """The whole report for a terminal of ``width`` columns."""
    return Group(*_sections(found, slo, width))


def _sections(found: Cascade, slo: Slo, width: int) -> Iterator[RenderableType]:
    yield _headline(found)
    yield Text("")
    yield _latencies(found, width)
    yield Text("")
    yield _figures(found, slo, width)
    yield Text("")
    yield section("Models", _models(found, width - 2))
    names = [outcome.deployment.model.name for outcome in found.outcomes]
    warned = [f"{n}: {w}" for n, o in zip(names, found.outcomes, strict=True) for w in o.warnings]
    yield from notes("Warnings", tuple(warned), "yellow")
    yield from notes("Assumptions", tuple(assumptions(found)), "dim")


def assumptions(found: Cascade) -> list[str]:
    """What the models rest on, and how they share the requests."""
    shared = (
        "which answers are not good enough is drawn by chance; the next model reads the prompt anew, users see the last one"
        if found.kind == CASCADE
        else "which model answers is drawn by chance, whatever the request costs; routing itself takes no time"
    )
    said = [line for outcome in found.outcomes for line in outcome.deployment.assumptions]
    return [shared, *dict.fromkeys(said)]


def _headline(found: Cascade) -> Text:
    first, requests = found.outcomes[0].deployment, found.requests
    kind = "cascade of" if found.kind == CASCADE else "router to"
    text = Text.assemble((first.model.name, "bold"), f" · {kind} {len(found.outcomes)} models · {requests.source}")
    return text.append(f" · {len(requests):,} requests")


def _latencies(found: Cascade, width: int) -> Table:
    rows: list[list[Cell]] = []
    for name, title in LATENCIES:
        one = found.summary(name)
        if one is not None:
            rows.append([title, *(Text(duration(v), style="bold") for v in (one.mean, one.p50, one.p90, one.p99))])
    return fitted(["", "mean", "p50", "p90", "p99"], rows or [["no request was completed", "", "", "", ""]], width)


def _figures(found: Cascade, slo: Slo, width: int) -> Table:
    done, span = int(found.completed.sum()), max(found.span_s, 1e-12)
    rows: list[list[Cell]] = [
        ["Throughput", Text(f"{number(done / span)} requests/s", style="bold"), f"over {duration(span)}"]
    ]
    if slo:
        part = found.attainment(slo)
        good = f"{number(part * len(found.requests) / span)} requests/s"
        rows.append(["Goodput", Text(good, style="bold"), f"{percent(part)} of requests {goals(slo)}"])
    if found.energy_j is not None:
        rows.append(["Energy", Text(si(found.energy_j / max(done, 1), "J"), style="bold"), "per request"])
    if found.cost_usd is not None:
        rows.append(["Cost", Text(money(1e3 * found.cost_usd / max(done, 1)), style="bold"), "per thousand requests"])
    return fitted(["", "", ""], rows, width, wordy=(2,), left=(0, 1))


def _models(found: Cascade, width: int) -> Table:
    rows: list[list[Cell]] = []
    for outcome, index in zip(found.outcomes, found.indices, strict=True):
        given, last = outcome.deployment, outcome.summary("latency_s")
        rows.append([
            given.model.name,
            given.machine_name,
            percent(len(index) / len(found.requests)),
            percent(float(np.mean(outcome.utilization))),
            "" if last is None else duration(last.p50),
            "" if last is None else duration(last.p90),
            "" if outcome.cost_usd is None else money(outcome.cost_usd / max(outcome.span_s, 1e-12) * 3600.0),
        ])  # fmt: skip
    return fitted(["model", "machine", "of requests", "at work", "time p50", "p90", "per hour"], rows, width, left=(1,))


def document(found: Cascade, slo: Slo) -> dict[str, Any]:
    """The same as JSON knows it: what users saw, and the document of every model under ``models``."""
    done = int(found.completed.sum())
    span = max(found.span_s, 1e-12)
    part = found.attainment(slo)
    return {
        "kind": found.kind,
        "requests": {"total": len(found.requests), "completed": done, "failed": len(found.requests) - done},
        **{name: summary_document(found.summary(name)) for name, _ in LATENCIES},
        "throughput": {"requests_per_s": done / span},
        "goodput": {"requests_per_s": part * len(found.requests) / span, "attainment": part},
        "span_s": span,
        "devices": sum(outcome.devices for outcome in found.outcomes),
        "energy_j": found.energy_j,
        "cost_usd": found.cost_usd,
        "models": [document_of_one(outcome) for outcome in found.outcomes],
        "assumptions": assumptions(found),
        "citations": list(found.citations),
    }
