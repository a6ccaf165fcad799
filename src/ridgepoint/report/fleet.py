"""A fleet as a page for the terminal and as a JSON document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgepoint.document import plain
from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.terminal import notes, section
from ridgepoint.report.text import count, money, number, percent, plural
from ridgepoint.serving.fleet import ServePlan
from ridgepoint.serving.mix import Fleet, Member
from ridgepoint.serving.offers import Offer
from ridgepoint.units import duration

HOURS = 730.0
"""Hours of a month."""


def page(found: ServePlan, width: int) -> RenderableType:
    """The whole report for a terminal of ``width`` columns."""
    return Group(*_sections(found, width))


def _sections(found: ServePlan, width: int) -> Iterator[RenderableType]:
    goals = [("first token", found.slo.ttft_s), ("each further one", found.slo.tpot_s)]
    said = ", ".join(f"{name} in {duration(v)}" for name, v in goals if v is not None)
    text = Text.assemble((found.model.name, "bold"), f" · {number(found.rate)} requests/s · {said}")
    yield text.append(f" for {percent(found.attainment)} of requests")
    yield Text("")
    yield section(f"Cheapest fleet: {money(found.fleet.usd_per_hour)} per hour, "
                  f"{money(found.fleet.usd_per_hour * HOURS)} per month", _members(found, width - 2))  # fmt: skip
    yield Text("")
    yield _verdict(found)
    yield Text("")
    yield section("One device type alone", _singles(found, width - 2))
    yield Text("")
    yield section("Cost against latency", _front(found, width - 2))
    yield from notes("Left out", tuple(f"{r.device}: {r.why}" for r in found.refused), "yellow")
    yield from notes("Warnings", found.warnings, "yellow")
    yield from notes("Assumptions", assumptions(found), "dim")


def _members(found: ServePlan, width: int) -> Table:
    rows: list[list[Cell]] = [
        [
            member.offer.device,
            Text(f"{member.count}", style="bold"),
            degrees(member.offer),
            percent(member.load),
            money(member.usd_per_hour),
            _sizes(found, member),
        ]
        for member in found.fleet.members
    ]
    return fitted(["machine", "replicas", "each", "load", "per hour", "serves"], rows, width, wordy=(5,), left=(0, 2))


def degrees(offer: Offer) -> str:
    """Devices of a replica, its degrees and formats; pools where prompts are read apart."""
    layout, stated = offer.layout, offer.formats
    said = [f"{name} {layout[name]}" for name in ("tp", "pp", "dp", "ep") if layout[name] > 1]
    pools = f"{layout['prefill']} prefill + {layout['decode']} decode" if "prefill" in layout else ""
    weights = stated.get("weights", "")
    kinds = [weights, f"with {stated['acts']} products" if stated.get("acts", weights) != weights else ""]
    kinds += [f"and {stated['kv']} cache" if "kv" in stated else ""]
    parts = (
        plural(offer.devices, "device"), pools, " ".join(said), " ".join(filter(None, kinds))
    )  # fmt: skip
    return ", ".join(filter(None, parts))


def _sizes(found: ServePlan, member: Member) -> str:
    """Mean sizes of what it serves, and the part of all requests."""
    shares = [b.share * part for b, part in zip(found.buckets, member.buckets, strict=True)]
    total = sum(shares)
    if total <= 0.0:
        return "nothing: spare"
    prompt = sum(s * b.prompt for s, b in zip(shares, found.buckets, strict=True)) / total
    output = sum(s * b.output for s, b in zip(shares, found.buckets, strict=True)) / total
    return f"{percent(total)}, mean {count(round(prompt))} + {count(round(output))} tokens"


def _verdict(found: ServePlan) -> Text:
    checked, best = found.fleet.verified, found.best_single
    text = Text("")
    if checked is not None:
        text.append(f"Simulated: {percent(checked.attainment)} of {checked.requests:,} requests keep the goals", "bold")
        text.append(
            f"; p90 of first token {duration(checked.ttft_p90_s)}, of further ones {duration(checked.tpot_p90_s)}."
        )
    if best is not None and best.fleet is not None:
        saved = 1.0 - found.fleet.usd_per_hour / best.fleet.usd_per_hour
        verb = f"The mix saves {percent(saved)} against" if saved > 1e-9 else "No mix is cheaper than"
        text.append(f"\n{verb} the best single type, {best.device} at {money(best.fleet.usd_per_hour)} per hour.")
    return text


def _singles(found: ServePlan, width: int) -> Table:
    rows: list[list[Cell]] = []
    for single in found.singles:
        if single.fleet is None:
            rows.append([single.device, "–", single.why])
        else:
            made = ", ".join(f"{m.count} × {degrees(m.offer)}" for m in single.fleet.members)
            rows.append([single.device, money(single.fleet.usd_per_hour), f"{made}{_kept(single.fleet)}"])
    return fitted(["machine", "per hour", ""], rows, width, wordy=(2,), left=(0,))


def _kept(fleet: Fleet) -> str:
    return f"; {percent(fleet.verified.attainment)} within the goals" if fleet.verified is not None else ""


def _front(found: ServePlan, width: int) -> Table:
    rows: list[list[Cell]] = []
    for factor, fleet in found.front:
        goals = [value * factor for value in (found.slo.ttft_s, found.slo.tpot_s) if value is not None]
        said = ", ".join(duration(g) for g in goals)
        cost = "not kept" if fleet is None else money(fleet.usd_per_hour)
        rows.append([f"{factor:g} × the goals", said, cost, "" if fleet is None else _made_of(fleet)])
    return fitted(["", "", "per hour", ""], rows, width, wordy=(3,), left=(0, 1))


def _made_of(fleet: Fleet) -> str:
    """Devices of each type."""
    devices: dict[str, int] = {}
    for member in fleet.members:
        devices[member.offer.device] = devices.get(member.offer.device, 0) + member.count * member.offer.devices
    return ", ".join(f"{count} × {name}" for name, count in devices.items())


def assumptions(found: ServePlan) -> tuple[str, ...]:
    """What the plan rests on."""
    said = [
        f"rates of replicas by the steady-state model of open arrivals, of which {found.fleet.fill:.0%} is used; the rest is "
        "room for bursts, as much as the simulation needed",
        "requests go to device types by their size, and to the least loaded replica of a type; prefixes are not shared",
        "hourly prices of the catalogue; cost against latency by the model alone; mixes within 1% of the cheapest that use "
        "fewer kinds of replica are preferred",
    ]
    if any("prefill" in m.offer.layout for m in found.fleet.members):
        said.append(
            "pools for prompts and decoding are a group within a node; caches cross the link between its devices"
        )
    if any(m.offer.formats for m in found.fleet.members):
        said.append("narrower formats may change answers: check them on your task")
    if found.spare:
        said.append(f"{found.spare} spare replica(s) of every type in use")
    engine = found.fleet.members[0].offer.deployment.software
    return (*said, f"engine {engine.title}: host times {engine.provenance.kind} ({engine.provenance.source})")


def document(found: ServePlan) -> dict[str, Any]:
    """The answer as JSON knows it (design §10)."""
    best = found.best_single
    return {
        "model": found.model.name,
        "slo": {**asdict(found.slo), "attainment": found.attainment},
        "rate_per_s": plain(found.rate),
        "fleet": [_member(found, member) for member in found.fleet.members],
        "cost_usd_per_hour": plain(found.fleet.usd_per_hour),
        "verified": _verified(found.fleet),
        "best_single": None if best is None or best.fleet is None else best.device,
        "alternatives": [
            {
                "machine": single.device,
                "cost_usd_per_hour": None if single.fleet is None else plain(single.fleet.usd_per_hour),
                "fleet": [] if single.fleet is None else [_member(found, m) for m in single.fleet.members],
                "verified": None if single.fleet is None else _verified(single.fleet),
                "reason": single.why,
            }
            for single in found.singles
        ],
        "front": [
            {
                "goals": factor,
                "cost_usd_per_hour": None if fleet is None else plain(fleet.usd_per_hour),
                "fleet": [] if fleet is None else [_member(found, m) for m in fleet.members],
            }
            for factor, fleet in found.front
        ],
        "buckets": [asdict(bucket) for bucket in found.buckets],
        "refused": [asdict(refused) for refused in found.refused],
        "warnings": list(found.warnings),
        "assumptions": list(assumptions(found)),
        "citations": list(found.citations),
    }


def _member(found: ServePlan, member: Member) -> dict[str, Any]:
    return {
        "machine": member.offer.device,
        "count": member.count,
        "devices": member.count * member.offer.devices,
        "layout": member.offer.layout,
        "formats": member.offer.formats,
        "load": plain(member.load),
        "cost_usd_per_hour": plain(member.usd_per_hour),
        "buckets": [plain(part) for part in member.buckets],
        "rates_per_s": [plain(rate) for rate in member.offer.rates(found.slo).tolist()],
    }


def _verified(fleet: Fleet) -> dict[str, Any] | None:
    return None if fleet.verified is None else {name: plain(v) for name, v in asdict(fleet.verified).items()}
