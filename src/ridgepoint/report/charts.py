"""The charts of an estimate: its roofline, where its time goes, what lies in memory."""

from __future__ import annotations

from collections.abc import Mapping

from ridgepoint.estimates import Estimate
from ridgepoint.report.components import rows
from ridgepoint.report.memory import LABELS
from ridgepoint.report.palette import role, shades
from ridgepoint.report.picture import Picture
from ridgepoint.report.pipeline_pictures import pipeline_pictures
from ridgepoint.report.roofline_points import roofline_of
from ridgepoint.report.svg_bars import Bar, Part, memory_svg, stacked_svg
from ridgepoint.report.svg_roofline import roofline_svg
from ridgepoint.report.text import gigabytes, percent, resource
from ridgepoint.units import duration

_MEMORY = {
    "weights": "memory",
    "kv": "matrix",
    "activations": "cache",
    "optimizer": "link",
    "gradients": "vector",
    "runtime": "latency",
}
"""Colour of a ledger's entry; others follow in the order of ``_MORE``."""
_MORE = ("host", "tier", "launch")


def name_of(est: Estimate, resource_name: str) -> str:
    """How reports name a resource of the estimate's machine."""
    return resource(est.scenario.machine.resource_label(resource_name))


def pictures(est: Estimate) -> list[Picture]:
    """All charts of an estimate: ``shares``, ``roofline``, ``time``, ``memory``; of a step with several pipeline stages
    ``pipeline`` and ``pipeline_memory``.
    """
    usual = [share_picture(est), roofline_picture(est), time_picture(est), memory_picture(est)]
    return [*usual, *pipeline_pictures(est)]


def roofline_picture(est: Estimate) -> Picture:
    """The roofline of one device with a mark per component, how to read it, and what is not in it."""
    machine, found = est.scenario.machine, roofline_of(est)
    label = f"Roofline of {machine.device.title} with the components of {est.scenario.model.name}"
    caption = (
        "Filled marks are what is expected, larger ones take more of the time; rings above them are each component's "
        "physical limit, and the square is the whole. Colours are those of what each waits for."
    )
    if found.left_out:
        caption += f" Not shown, without arithmetic of their own or too small: {', '.join(found.left_out)}."
    svg = roofline_svg(found, lambda name: role(machine, name), label)
    colours: dict[str, list[str]] = {}
    for name in est.shares:
        if any(mark.bound_by == name for mark in found.marks):
            colours.setdefault(role(machine, name), []).append(name_of(est, name))
    key = [(colour, ", ".join(names)) for colour, names in colours.items()]
    return Picture("roofline", "Roofline of one device", svg, key, caption, wide=True)


def time_picture(est: Estimate) -> Picture:
    """One bar per component, largest first, made of the resources that it waits for."""
    total = float(est.time_s)
    bars = [
        Bar(row.label, f"{percent(row.time_s / total)}  {duration(row.time_s)}", _parts(est, row.waits))
        for row in rows(est.cost.components, total)
    ]
    svg = stacked_svg(bars, "Where the time goes: components, by the resource that they wait for")
    return Picture("time", "Where the time goes", svg, resource_legend(est))


def share_picture(est: Estimate) -> Picture:
    """The whole time as one bar of resources."""
    waits = {name: float(share) * float(est.time_s) for name, share in est.shares.items()}
    bar = Bar("the whole", duration(float(est.time_s)), _parts(est, waits))
    svg = stacked_svg([bar], "The whole time by the resource that is responsible for it")
    return Picture("shares", "What limits it", svg, resource_legend(est))


def _parts(est: Estimate, waits: Mapping[str, float]) -> list[Part]:
    total, colours = float(est.time_s), resource_colours(est)
    order = [*est.shares, *(name for name in waits if name not in est.shares)]
    return [
        Part(
            name_of(est, name),
            waits[name],
            colours.get(name) or role(est.scenario.machine, name),
            f"{duration(waits[name])}, {percent(waits[name] / total)}",
        )
        for name in order
        if waits.get(name, 0.0) > 0.0
    ]


def resource_colours(est: Estimate) -> dict[str, str]:
    """Resource → its colour in charts of this estimate; no two of them the same, as far as shades reach."""
    return shades((name, role(est.scenario.machine, name)) for name in est.shares)


def resource_legend(est: Estimate, least: float = 0.001) -> list[tuple[str, str]]:
    """(colour, resource) of what has a share worth showing."""
    colours = resource_colours(est)
    return [(colours[name], name_of(est, name)) for name, share in est.shares.items() if float(share) >= least]


def _entries(est: Estimate) -> list[tuple[str, float, str]]:
    """(entry, bytes, colour) of what lies in memory."""
    more = iter((*_MORE, *_MORE))
    found = [(name, float(size)) for name, size in est.memory.entries.items() if float(size) > 0.0]
    return [(name, size, _MEMORY.get(name) or next(more, "launch")) for name, size in found]


def memory_picture(est: Estimate) -> Picture:
    """The ledger of the fullest device as a bar against what it holds."""
    ledger, entries = est.memory, _entries(est)
    parts = [Part(LABELS.get(name, name), size, colour, gigabytes(size)) for name, size, colour in entries]
    said = (f"usable {gigabytes(ledger.usable_bytes)}", f"capacity {gigabytes(ledger.capacity_bytes)}")
    label = f"Memory: {gigabytes(float(ledger.total_bytes))} of {gigabytes(ledger.usable_bytes)} that may be used"
    svg = memory_svg(parts, ledger.usable_bytes, ledger.capacity_bytes, said, label)
    colours = [(colour, f"{LABELS.get(name, name)} {gigabytes(size)}") for name, size, colour in entries]
    return Picture("memory", "Memory of the fullest device", svg, colours)
