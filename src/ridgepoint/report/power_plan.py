"""What a power budget serves, as a page for the terminal and as a JSON document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgepoint.document import plain
from ridgepoint.report.fleet import degrees
from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.terminal import notes, section
from ridgepoint.report.text import money, number, percent
from ridgepoint.serving.power_plan import FILL, Capped, OnDevice, PowerPlan
from ridgepoint.units import duration, si


def page(found: PowerPlan, width: int) -> RenderableType:
    """The whole report for a terminal of ``width`` columns."""
    return Group(*_sections(found, width))


def _sections(found: PowerPlan, width: int) -> Iterator[RenderableType]:
    goals = [("first token", found.slo.ttft_s), ("each further one", found.slo.tpot_s)]
    said = ", ".join(f"{name} in {duration(v)}" for name, v in goals if v is not None)
    text = Text.assemble((found.model.name, "bold"), " · ", (si(found.budget_w, "W"), "bold"), f" · {said}")
    yield text.append(f" for {percent(found.attainment)} of requests")
    yield Text("")
    yield section("What the budget serves", _table(found, width - 2))
    yield Text("")
    yield _verdict(found.found[0])
    yield from notes("Left out", tuple(f"{r.device}: {r.why}" for r in found.refused), "yellow")
    yield from notes("Assumptions", assumptions(found), "dim")


def _table(found: PowerPlan, width: int) -> Table:
    shown = [given for on in found.found for given in ((on.best,) if on.best is on.full else (on.best, on.full))]
    rows: list[list[Cell]] = [
        [
            Text(given.offer.device, style="bold"),
            "none" if given.cap == 1.0 else percent(given.cap),
            f"{given.devices:,}",
            f"{given.replicas:,} × {degrees(given.offer)}",
            number(given.rate),
            si(given.drawn_w * given.replicas, "W"),
            money(given.usd_per_hour),
        ]
        for given in shown
    ]
    titles = ["machine", "cap", "devices", "replicas", "requests/s", "devices draw", "per hour"]
    return fitted(titles, rows, width, wordy=(3,), left=(0, 3))


def _verdict(on: OnDevice) -> Text:
    best, full = on.best, on.full
    text = Text(f"{on.device} serves most: {number(best.rate)} requests/s on {best.devices:,} devices", "bold")
    if best is full:
        return text.append("; no cap serves more than full power.")
    gained = best.rate / full.rate - 1.0
    return text.append(f" capped to {percent(best.cap)}, {percent(gained)} more than {full.devices:,} at full power.")


def assumptions(found: PowerPlan) -> tuple[str, ...]:
    """What the answer rests on."""
    engine = found.found[0].best.offer.deployment.software
    return (
        f"a server is provisioned with its devices' limits and {found.rest:.2f} W per watt of them for the rest (DGX H100: "
        "10.2 kW for eight devices of 700 W), which no cap lowers; cooling is not part of the budget",
        f"rates by the steady state, of which {FILL:.0%} or less is used, as one simulated replica showed; the mix of sizes "
        "is the one given",
        "under a cap the clock falls until full load fits; main memory and links keep their rates",
        f"engine {engine.title}: host times {engine.provenance.kind} ({engine.provenance.source})",
    )


def document(found: PowerPlan) -> dict[str, Any]:
    """The answer as JSON knows it."""
    return {
        "model": found.model.name,
        "budget_w": plain(found.budget_w),
        "slo": {**asdict(found.slo), "attainment": found.attainment},
        "machines": [
            {"machine": on.device, "best": _capped(on.best), "uncapped": _capped(on.full)} for on in found.found
        ],
        "refused": [asdict(refused) for refused in found.refused],
        "assumptions": list(assumptions(found)),
        "citations": list(found.citations),
    }


def _capped(given: Capped) -> dict[str, Any]:
    return {
        "cap": given.cap,
        "replicas": given.replicas,
        "devices": given.devices,
        "layout": given.offer.layout,
        "formats": given.offer.formats,
        "requests_per_s": plain(given.rate),
        "attainment": plain(given.attainment),
        "provisioned_w": plain(given.provisioned_w * given.replicas),
        "drawn_w": plain(given.drawn_w * given.replicas),
        "cost_usd_per_hour": plain(given.usd_per_hour),
    }
