"""Tables of machines: the list, and a comparison of a few."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgepoint.machines.machine import Machine
from ridgepoint.machines.ridge import facts, rates
from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.text import gigabytes, money, number, ratio
from ridgepoint.units import si

_LABELS, _COLUMN = 24, 22
"""Characters that the words and one machine take in a comparison."""
Facts = Mapping[str, float | str | None]


def machine_list(machines: Sequence[Facts], width: int) -> Table:
    """One line per device."""
    rows: list[list[Cell]] = [
        [
            Text(str(m["name"]), style="bold"),
            str(m["title"]) if width >= 110 else "",
            str(m["kind"]),
            _cell(m["flop_per_s"], lambda v: si(v, "FLOP/s")),
            _cell(m["memory_bytes"], gigabytes),
            _cell(m["memory_bytes_per_s"], lambda v: si(v, "B/s")),
            _cell(m["ridge_flop_per_byte"], number),
            _cell(m["tdp_w"], lambda v: f"{number(v)} W"),
            _cell(m["usd_per_hour"], lambda v: f"{v:,.2f}"),
        ]
        for m in machines
    ]
    titles = ["machine", "", "kind", "16-bit peak", "memory", "bandwidth", "ridge", "power", "$/h"]
    return fitted(titles, rows, width, wordy=(0, 1), left=(2,))


def comparison(machines: Sequence[Machine], width: int) -> Group:
    """Devices beside each other, each figure with its ratio to the first device's; as many tables as the width needs."""
    room = max(2, (width - _LABELS) // _COLUMN)
    first, others = machines[0], list(machines[1:])
    parts: list[RenderableType] = []
    for start in range(0, max(len(others), 1), room - 1):
        parts += [Text(""), _comparison([first, *others[start : start + room - 1]], width)]
    return Group(*parts[1:])


def _comparison(machines: Sequence[Machine], width: int) -> Table:
    lines = _comparison_lines(machines)
    rows: list[list[Cell]] = [
        [label, *(_against(values[0], value, show) for value in values)]
        for label, values, show in lines
        if any(value is not None for value in values)
    ]
    return fitted(["per device", *(m.device.name for m in machines)], rows, width, wordy=(0,))


Line = tuple[str, list[float | None], Callable[[float], str]]


def _comparison_lines(machines: Sequence[Machine]) -> list[Line]:
    peaks = [{fmt: rate for _, fmt, rate in rates(m)} for m in machines]
    formats = list(dict.fromkeys(fmt for peak in peaks for fmt in peak))
    known = [facts(m) for m in machines]

    def column(name: str) -> list[float | None]:
        return [None if (v := f[name]) is None else float(v) for f in known]

    lines: list[Line] = [(fmt, [peak.get(fmt) for peak in peaks], lambda v: si(v, "FLOP/s")) for fmt in formats]
    lines += [
        ("memory", column("memory_bytes"), gigabytes),
        ("bandwidth", column("memory_bytes_per_s"), lambda v: si(v, "B/s")),
        ("ridge, 16 bit", column("ridge_flop_per_byte"), lambda v: f"{number(v)} FLOP/B"),
    ]
    lines += _link_lines(machines)
    lines += [
        ("power limit", column("tdp_w"), lambda v: f"{number(v)} W"),
        ("16 bit per watt", _over(column("flop_per_s"), column("tdp_w")), lambda v: si(v, "FLOP/J")),
        ("price per hour", column("usd_per_hour"), money),
        ("16 bit per dollar", _over(column("flop_per_s"), column("usd_per_hour"), 3600.0), lambda v: si(v, "FLOP/$")),
        (
            "bytes moved per dollar",
            _over(column("memory_bytes_per_s"), column("usd_per_hour"), 3600.0),
            lambda v: si(v, "B/$"),
        ),
    ]
    return lines


def _link_lines(machines: Sequence[Machine]) -> list[Line]:
    scopes = {"node": "link in the node", "cluster": "link to other nodes", "host": "link to the host"}
    found = {label: [machine.link(scope) for machine in machines] for scope, label in scopes.items()}
    return [
        (label, [None if link is None else float(link[1].bandwidth) for link in links], lambda v: si(v, "B/s"))
        for label, links in found.items()
    ]


def _over(above: list[float | None], below: list[float | None], scale: float = 1.0) -> list[float | None]:
    return [scale * a / b if a is not None and b else None for a, b in zip(above, below, strict=True)]


def _against(first: float | None, value: float | None, show: Callable[[float], str]) -> Text:
    if value is None:
        return Text("–", style="dim")
    text = Text(show(value))
    return text.append(f" {ratio(value / first):>6}", style="dim") if first and value != first else text.append(" " * 7)


def _cell(value: float | str | None, show: Callable[[float], str]) -> Cell:
    return show(value) if isinstance(value, int | float) else Text("–", style="dim")
