"""The charts of an estimate: its roofline, where its time goes, what lies in memory."""

from __future__ import annotations

from collections.abc import Mapping

from ridgepoint.estimates import Estimate
from ridgepoint.report.components import Row, rows
from ridgepoint.report.memory import LABELS
from ridgepoint.report.palette import role
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


def roofline_chart(est: Estimate) -> str:
    """The roofline of one device with a mark per component."""
    machine = est.scenario.machine
    label = f"Roofline of {machine.device.title} with the components of {est.scenario.model.name}"
    return roofline_svg(roofline_of(est), lambda name: role(machine, name), label)


def time_chart(est: Estimate) -> str:
    """One bar per component, largest first, made of the resources that it waits for."""
    total = float(est.time_s)
    bars = [
        Bar(row.label, f"{percent(row.time_s / total)}  {duration(row.time_s)}", _parts(est, row.waits))
        for row in _rows(est)
    ]
    return stacked_svg(bars, "Where the time goes: components, by the resource that they wait for")


def share_chart(est: Estimate) -> str:
    """The whole time as one bar of resources."""
    waits = {name: float(share) * float(est.time_s) for name, share in est.shares.items()}
    bar = Bar("the whole", duration(float(est.time_s)), _parts(est, waits))
    return stacked_svg([bar], "The whole time by the resource that is responsible for it")


def _rows(est: Estimate) -> list[Row]:
    return rows(est.cost.components, float(est.time_s))


def _parts(est: Estimate, waits: Mapping[str, float]) -> list[Part]:
    machine, total = est.scenario.machine, float(est.time_s)
    order = [*est.shares, *(name for name in waits if name not in est.shares)]
    return [
        Part(
            name_of(est, name),
            waits[name],
            role(machine, name),
            f"{duration(waits[name])}, {percent(waits[name] / total)}",
        )
        for name in order
        if waits.get(name, 0.0) > 0.0
    ]


def resource_legend(est: Estimate, least: float = 0.001) -> list[tuple[str, str]]:
    """(colour, resource) of what has a share worth showing."""
    machine = est.scenario.machine
    return [(role(machine, name), name_of(est, name)) for name, share in est.shares.items() if float(share) >= least]


def _entries(est: Estimate) -> list[tuple[str, float, str]]:
    """(entry, bytes, colour) of what lies in memory."""
    more = iter((*_MORE, *_MORE))
    found = [(name, float(size)) for name, size in est.memory.entries.items() if float(size) > 0.0]
    return [(name, size, _MEMORY.get(name) or next(more, "launch")) for name, size in found]


def memory_chart(est: Estimate) -> str:
    """The ledger of the fullest device as a bar against what it holds."""
    ledger = est.memory
    parts = [Part(LABELS.get(name, name), size, colour, gigabytes(size)) for name, size, colour in _entries(est)]
    said = (f"usable {gigabytes(ledger.usable_bytes)}", f"capacity {gigabytes(ledger.capacity_bytes)}")
    label = f"Memory: {gigabytes(float(ledger.total_bytes))} of {gigabytes(ledger.usable_bytes)} that may be used"
    return memory_svg(parts, ledger.usable_bytes, ledger.capacity_bytes, said, label)


def memory_legend(est: Estimate) -> list[tuple[str, str]]:
    """(colour, entry with its size)."""
    return [(colour, f"{LABELS.get(name, name)} {gigabytes(size)}") for name, size, colour in _entries(est)]
