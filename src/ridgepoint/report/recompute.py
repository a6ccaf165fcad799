"""A recomputation plan on the terminal: the plan beside the usual rules, and what runs again."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.text import bar, count, flow, gigabytes
from ridgepoint.training.remat.recompute import RecomputePlan
from ridgepoint.units import duration

MOST_ROWS = 12
_WORDS = {
    "none": "keep everything",
    "selective": "selective: attention scores",
    "sqrt": "√n: segments",
    "full": "full: every input alone",
    "planned": "planned",
}


def page(found: RecomputePlan, width: int) -> RenderableType:
    """The whole answer, at most ``width`` characters wide."""
    given = found.task.sizes()
    if not found.tokens:
        given = {name: value for name, value in given.items() if name != "seq"}
    sizes = " · ".join(f"{name} {count(float(value))}" for name, value in given.items())
    head = Text.assemble((found.model, "bold"), " on ", (found.machine, "bold"), f" · train · {sizes}\n")
    head.append(f"within {gigabytes(found.budget_bytes)} per device", "dim")
    none = found.way("none").time_s
    rows: list[list[Cell]] = [
        [
            Text(_WORDS.get(way.name, way.name), "bold" if way is found.best else ""),
            duration(way.time_s),
            f"{way.time_s / none - 1.0:+.1%}" if way.name != "none" else "",
            gigabytes(way.memory_bytes),
            Text("yes", "green") if way.fits else Text("no", "red"),
        ]
        for way in found.ways
    ]
    parts: list[RenderableType] = [head, Text("")]
    parts += [fitted(["way", "step", "longer", "memory", "fits"], rows, width, wordy=(0,), left=(0, 4)), Text("")]
    parts += [Text(flow(_said(found).split(), width)), Text("")]
    if found.again:
        parts += [Text("What runs again", "bold"), _again(found, width)]
    return Group(*parts)


def _said(found: RecomputePlan) -> str:
    if found.flow is None:
        return f"Runs again: {found.words.removeprefix('planned ').removeprefix('(').removesuffix(')')}."
    if found.method == "everything fits":
        return "Everything fits: nothing need run again."
    proof = "no order is faster" if found.proved else "not proved to be the fastest"
    bound = found.flow.bound_s
    if not found.proved and bound is not None:
        proof += f"; none is below {duration(bound)} of {duration(found.flow.best.time_s)} per micro-batch"
    return f"The plan: {found.words} run again, found by {found.method} ({proof})."


def _again(found: RecomputePlan, width: int) -> RenderableType:
    shown = found.again[:MOST_ROWS]
    longest = max(time for _, _, time, _ in shown)
    rows = [[name, count(round(many, 1)), duration(time), bar(time / longest, 8)] for name, many, time, _ in shown]
    rest = found.again[MOST_ROWS:]
    if rest:
        rows.append([f"other ({len(rest)} parts)", "", duration(sum(row[2] for row in rest)), ""])
    return fitted(["op", "runs", "time", ""], rows, width, wordy=(0,), left=(0, 3))
