"""A plan of a graph of calls on the terminal: every call's layout and time, memory phase by phase, what binds the iteration."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.text import bar, flow, number, percent, ratio, resource
from ridgepoint.training.graph.planner import FASTER, GraphPlan, Planned
from ridgepoint.units import duration

SAID = 0.02
"""Shares below this are not worth words."""


def page(found: GraphPlan, width: int) -> RenderableType:
    """The whole answer, at most ``width`` characters wide."""
    parts: list[RenderableType] = [_headline(found), Text(""), _calls(found, width), Text("")]
    parts += [*_sentences(found, width), Text(""), Text("Memory of the fullest device, call by call", "bold")]
    parts += [_memory(found, width), Text(""), Text("Assumptions", "bold")]
    parts += [Text(flow(["•", *text.split()], width - 2)) for text in found.assumptions if "--dp" not in text]
    return Group(*parts)


def _headline(found: GraphPlan) -> Text:
    members = ", ".join(f"{name} {member.model.name}" for name, member in found.graph.members.items())
    text = Text.assemble((found.machine.name, "bold"), f" · {members}\n")
    time, rate = duration(found.time_s), number(found.tokens_per_s)
    text.append(f"{time} per iteration", "bold").append(f", {rate} new tokens/s\n")
    return text.append(f"{found.searched:,} combinations of layouts tried, {found.fitting:,} fit", "dim")


def _calls(found: GraphPlan, width: int) -> Table:
    titles = ["call", "devices", "tp", "pp", "dp", "ep", "cp", "ZeRO", "mb", "times", "moves", "time", "", "binds"]
    longest = max(planned.end_s - planned.start_s for planned in found.calls)
    rows = [_row(found, planned, longest) for planned in found.calls]
    return fitted(titles, rows, width, wordy=(0, 13), left=(12,))


def _row(found: GraphPlan, planned: Planned, longest: float) -> list[Cell]:
    one, training = planned.candidate, planned.call.kind == "train"
    plan, est = one.estimate.scenario.plan, one.estimate
    whole = planned.end_s - planned.start_s

    def degree(name: str) -> str:
        everywhere = all(other.candidate.degree(name) == 1 for other in found.calls)
        return "" if everywhere else str(one.degree(name))

    return [
        Text(planned.call.name, "bold" if planned in found.critical else ""),
        str(planned.machine.devices) if found.graph.groups else "",
        *(degree(name) for name in ("tp", "pp", "dp", "ep", "cp")),
        str(one.stage) if training else "–",
        f"{float(plan.micro_batch or 1):g}" if training else "–",
        f"{one.times}×" if one.times > 1 else "",
        duration(planned.move_s) if planned.move_s else "",
        Text(duration(one.time_s), "bold"),
        Text(bar(whole / longest, 12), style="cyan"),
        resource(planned.machine.resource_label(est.bottleneck)) + f" {percent(float(est.shares[est.bottleneck]))}",
    ]


def _sentences(found: GraphPlan, width: int) -> Iterator[Text]:
    label = found.machine.resource_label

    def named(name: str) -> str:
        return "moves of parameters" if name == "moves" else resource(label(name))

    shares = [f"{percent(share)} {named(n)}," for n, share in found.shares.items() if share >= SAID]
    gains = [f"{named(n)} {ratio(gain)}," for n, gain in found.sensitivity.items() if gain - 1.0 >= SAID / 4.0]
    path = " → ".join(planned.call.name for planned in found.critical)
    largest = max(found.critical, key=lambda planned: planned.end_s - planned.start_s)
    part = percent((largest.end_s - largest.start_s) / found.time_s)
    said = (
        ("What the iteration waits for:", [*shares[:-1], shares[-1].rstrip(",") + "."] if shares else []),
        (
            "Twice as fast:",
            [*gains[:-1], gains[-1].rstrip(",") + f" ({FASTER:g} × the rate, same plan)."] if gains else [],
        ),
        ("One after the other:", [f"{path}; {largest.call.name} takes {part}."]),
    )
    for start, phrases in said:
        if phrases:
            text = Text(flow([start, *" ".join(phrases).split()], width))
            text.stylize("bold", 0, len(start))
            yield text


def _memory(found: GraphPlan, width: int) -> Table:
    rows: list[list[Cell]] = []
    for planned in found.calls:
        kept = sum(size for name, size in planned.memory.items() if name.endswith(" keeps"))
        own = sorted(
            ((size, name) for name, size in planned.memory.items() if not name.endswith(" keeps")), reverse=True
        )
        largest = ", ".join(f"{name} {number(size / 1e9)}" for size, name in own[:3])
        rows.append(
            [
                planned.call.name,
                number(kept / 1e9) if kept else "–",
                number((planned.memory_bytes - kept) / 1e9),
                number(planned.memory_bytes / 1e9),
                Text(bar(planned.memory_bytes / found.usable_bytes, 16), style="cyan"),
                largest,
            ]
        )
    rows.append(["usable", "", "", number(found.usable_bytes / 1e9), "", ""])
    return fitted(["call", "kept GB", "own GB", "GB", "", "most of its own"], rows, width, wordy=(0, 5), left=(4,))
