"""One machine on a page: every value with its source, ridge points, the roofline, what real kernels reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgepoint.machines.coefficients import Coefficients
from ridgepoint.machines.description import Source, numbers, provenance
from ridgepoint.machines.machine import Machine
from ridgepoint.machines.ridge import levels, rates, ridges
from ridgepoint.report.roofline import roofline
from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.terminal import INDENT, notes, section
from ridgepoint.report.text import money, number, plural
from ridgepoint.units import si

_UNITS = {
    "bandwidth": "B/s",
    "memory_bandwidth": "B/s",
    "clock": "Hz",
    "tdp": "W",
    "idle": "W",
    "latency": "s",
}
_BYTES = ("capacity", "memory")
_WIDEST_PICTURE = 84


def machine_page(machine: Machine, width: int) -> RenderableType:
    """The whole page."""
    return Group(*_sections(machine, width - INDENT))


def _sections(machine: Machine, width: int) -> Iterator[RenderableType]:
    device = machine.device
    yield Text.assemble((machine.name, "bold"), f" · {device.title}")
    about = [device.vendor, device.kind, f"family {device.family}", str(device.released or "")]
    counted = f"{machine.devices:,} devices in {plural(machine.nodes, 'node')}" if machine.devices > 1 else ""
    yield Text(" · ".join(word for word in (*about, counted) if word), style="dim")
    if others := [name for name in (device.name, *device.aliases) if name != machine.name]:
        yield Text(("also: " if machine.devices == 1 else "each: ") + ", ".join(others), style="dim")
    if device.note:
        yield Text(device.note, style="dim")
    yield Text("")
    picture = roofline(
        [(fmt, rate) for _, fmt, rate in rates(machine)], machine.memory_bytes_per_s, min(width, _WIDEST_PICTURE)
    )
    yield section(
        f"Roofline over {machine.resource_label(machine.main_memory)}", Text("\n".join(picture), no_wrap=True)
    )
    yield Text("")
    yield section("Ridge points (FLOP per byte)", ridge_table(machine, width))
    yield Text("")
    yield section("Sheet", sheet_table(machine, width))
    yield Text("")
    yield section("What real kernels reach", coefficient_table(machine.coefficients, width))
    yield from notes("Coefficients", coefficient_lines(machine.coefficients), "dim")
    yield from notes("Sources", tuple(_source_line(key, s) for key, s in device.sources.items()), "dim")


def ridge_table(machine: Machine, width: int) -> Table:
    """Formats by memory levels."""
    named = [name for name, _ in levels(machine)]
    found = {(r.format, r.level): r for r in ridges(machine)}
    rows: list[list[Cell]] = [
        [fmt, si(rate, _rate_unit(fmt)), *(number(found[fmt, level].flop_per_byte) for level in named)]
        for _, fmt, rate in rates(machine)
    ]
    titles = ["format", "peak", *(machine.device.memory[level].label for level in named)]
    return fitted(titles, rows, width, wordy=(0,))


def sheet_table(machine: Machine, width: int) -> Table:
    """Every value on the sheet, and the key of the document that it comes from."""
    device = machine.device
    keys = {source: key for key, source in device.sources.items()}
    rows: list[list[Cell]] = []
    for path, value in numbers(device):
        source = provenance(device, path)
        key = "" if source is None else keys.get(source, f"{source.title}, {source.date}")
        rows.append([path, value_text(path, value), Text(key, style="dim")])
    return fitted(["value", "", "source"], rows, width, wordy=(0, 2))


def _rate_unit(name: str) -> str:
    return "OP/s" if name.startswith("int") else "FLOP/s"


def value_text(path: str, value: float) -> str:
    """A value of the sheet with its unit, which its path tells.

    >>> value_text("memory.hbm.bandwidth", 3.35e12), value_text("engines.matrix.rates.bf16", 989.4e12)
    ('3.35 TB/s', '989 TFLOP/s')
    >>> value_text("engines.matrix.rates.int8", 1979e12), value_text("chip.kinds.0.rate", 50.08e9)
    ('1.98 POP/s', '50.1 GFLOP/s')
    >>> value_text("chip.multiprocessors", 132.0), value_text("price.usd_per_hour", 3.99)
    ('132', '$3.99')
    """
    last = path.rpartition(".")[2]
    if ".rates." in path or last == "rate":
        return si(value, _rate_unit(last))
    if last in _UNITS:
        return si(value, _UNITS[last])
    if last in _BYTES:
        return si(value, "B")
    return money(value) if path.startswith("price.") else f"{value:,g}"


def coefficient_table(coefficients: Coefficients, width: int) -> Table:
    """Table by table: where it comes from, its spread, its values."""
    rows: list[list[Cell]] = []
    for name in coefficients.__struct_fields__:
        table = getattr(coefficients, name)
        origin = table.provenance
        rows.append(
            [
                name,
                origin.kind,
                f"±{100 * table.spread:.0f} %",
                f"{origin.rows:,}" if origin.rows else "",
                origin.source,
            ]
        )
    return fitted(["kernels", "", "spread", "rows", "from"], rows, width, wordy=(0, 4), left=(1,))


def coefficient_lines(coefficients: Coefficients) -> tuple[str, ...]:
    """The values of every table, one line each."""
    tables: dict[str, dict[str, Any]] = msgspec.to_builtins(coefficients)
    return tuple(
        f"{name}: " + ", ".join(_value(k, v) for k, v in table.items() if k not in ("spread", "provenance"))
        for name, table in tables.items()
    )


def _value(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return f"{key} " + " ".join(f"{k}={v:.4g}" for k, v in value.items())
    return f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"


def _source_line(key: str, source: Source) -> str:
    return (
        f"{key}: {source.title}"
        + (f", {source.date}" if source.date else "")
        + (f", {source.url}" if source.url else "")
    )
