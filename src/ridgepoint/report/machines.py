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


def machine_list(machines: Sequence[Facts], width: int) -> Group:
    """One line per machine, with the figures of one of its devices; where there is little room, fewer of them."""
    columns: list[tuple[str, Callable[[Facts], Cell], int]] = [
        ("machine", lambda m: Text(str(m["name"]), style="bold"), 0),
        ("", lambda m: str(m["title"]), 110),
        ("devices", _devices, 0),
        ("16-bit peak", lambda m: _cell(m["flop_per_s"], lambda v: si(v, "FLOP/s")), 0),
        ("memory", lambda m: _cell(m["memory_bytes"], gigabytes), 0),
        ("bandwidth", lambda m: _cell(m["memory_bytes_per_s"], lambda v: si(v, "B/s")), 0),
        ("ridge", lambda m: _cell(m["ridge_flop_per_byte"], number), 90),
        ("power", lambda m: _cell(m["tdp_w"], lambda v: f"{number(v)} W"), 96),
        ("$/h", lambda m: _cell(m["usd_per_hour"], lambda v: f"{v:,.2f}"), 0),
    ]
    shown = [(title, cell) for title, cell, least in columns if width >= least]
    rows = [[cell(m) for _, cell in shown] for m in machines]
    wordy = tuple(i for i, (title, _) in enumerate(shown) if title in ("machine", ""))
    table = fitted([title for title, _ in shown], rows, width, wordy=wordy, left=(len(wordy),))
    if all(float(m["devices"] or 1) <= 1 for m in machines):
        return Group(table)
    return Group(table, Text(""), Text("Where there are several devices, the figures are those of one.", style="dim"))


def _devices(m: Facts) -> str:
    """How many of which kind: ``gpu``, ``8 gpu``."""
    count = float(m["devices"] or 1)
    return f"{count:,.0f} {m['kind']}" if count > 1 else str(m["kind"])


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
