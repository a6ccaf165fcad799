"""What a platform must have, as a page for the terminal and as a JSON document."""

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
from ridgepoint.report.text import count, gigabytes, money
from ridgepoint.serving.require import Requirement
from ridgepoint.units import duration, si

SHOWN, NEAREST = 10, 5


def page(found: Requirement, width: int, every: bool = False) -> RenderableType:
    """The whole report for a terminal of ``width`` columns; ``every`` lists all machines."""
    return Group(*_sections(found, width, every))


def _sections(found: Requirement, width: int, every: bool) -> Iterator[RenderableType]:
    goal = found.goal
    text = Text.assemble(
        (found.model.name, "bold"), f" for {count(goal.users)} user{'s' * (goal.users != 1)} at once · "
    )
    text.append(f"prompt {count(goal.prompt)}, output {count(goal.output)} · ")
    yield text.append(f"first token in {duration(goal.ttft_s)}, each further one in {duration(goal.tpot_s)}")
    yield Text("")
    yield section("A platform must have, in all", _platform(found, width - 2))
    yield Text("")
    met = found.candidates if every else found.candidates[:SHOWN]
    if met:
        more = len(found.candidates) - len(met)
        title = "Catalogue machines that do" + (f" ({more} more with --all)" if more else "")
        yield section(title, _met(met, width - 2))
    else:
        yield Text("No machine of the catalogue does, however many there are.", style="yellow")
    missed = found.missed if every else found.missed[: (NEAREST if met else SHOWN)]
    if missed:
        rest = len(found.missed) - len(missed)
        yield Text("")
        title = "Machines that do not, nearest first" + (f" ({rest} more with --all)" if rest else "")
        yield section(title, fitted(["", ""], [[m.machine, m.why] for m in missed], width - 2, wordy=(1,), left=(0, 1)))
    yield from notes("Warnings", found.warnings, "yellow")
    yield from notes("Assumptions", found.assumptions, "dim")


def _platform(found: Requirement, width: int) -> Table:
    least, balanced = found.least, found.balanced
    rows: list[list[Cell]] = [
        ["", "least", "balanced", ""],
        [
            "arithmetic",
            Text(si(least.flop_per_s, "FLOP/s"), style="bold"),
            Text(si(balanced.flop_per_s, "FLOP/s"), style="bold"),
            f"{si(found.prefill_flop, 'FLOP')} per prompt",
        ],
        [
            "memory bandwidth",
            Text(si(least.bytes_per_s, "B/s"), style="bold"),
            Text(si(balanced.bytes_per_s, "B/s"), style="bold"),
            f"{gigabytes(found.decode_bytes)} per token of all users",
        ],
        [
            "memory",
            Text(gigabytes(found.capacity_bytes), style="bold"),
            "",
            f"{gigabytes(found.weight_bytes)} of weights, {gigabytes(found.cache_bytes)} of caches",
        ],
    ]
    remark = "per device and direction, one replica for all users"
    rows += [[f"link, {n} devices", Text(si(found.links[n], "B/s"), style="bold"), "", remark] for n in (2, 8)]
    return fitted(["", "", "", ""], rows, width, wordy=(3,), left=(0, 1, 2))


def _met(rows: Any, width: int) -> Table:
    cells: list[list[Cell]] = [
        [
            c.machine,
            Text(f"{c.devices:,}", style="bold"),
            f"{c.replicas} × tp {c.tp}",
            f"{c.users_per_replica:.1f}",
            duration(c.ttft_s),
            duration(c.tpot_s),
            money(c.usd_per_hour) if c.usd_per_hour is not None else "",
            c.binding,
        ]
        for c in rows
    ]
    titles = ["machine", "devices", "replicas", "users each", "TTFT", "TPOT", "per hour", "bound by"]
    return fitted(titles, cells, width, wordy=(7,), left=(0,))


def document(found: Requirement) -> dict[str, Any]:
    """The answer as JSON knows it."""
    raw = {
        "model": found.model.name,
        "goal": asdict(found.goal),
        "platform": {
            "flop_per_s": {"least": found.least.flop_per_s, "balanced": found.balanced.flop_per_s},
            "bytes_per_s": {"least": found.least.bytes_per_s, "balanced": found.balanced.bytes_per_s},
            "capacity_gb": found.capacity_bytes / 1e9,
            "weights_gb": found.weight_bytes / 1e9,
            "kv_gb": found.cache_bytes / 1e9,
            "link_bytes_per_s": {str(n): rate for n, rate in found.links.items()},
        },
        "prefill_flop": found.prefill_flop,
        "decode_flop": found.decode_flop,
        "decode_bytes": found.decode_bytes,
    }
    return _plain(raw) | {
        "machines": [{name: plain(value) for name, value in asdict(c).items()} for c in found.candidates],
        "missed": [asdict(m) for m in found.missed],
        "warnings": list(found.warnings),
        "assumptions": list(found.assumptions),
        "citations": list(found.citations),
    }


def _plain(table: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) if isinstance(value, dict) else plain(value) for name, value in table.items()}
