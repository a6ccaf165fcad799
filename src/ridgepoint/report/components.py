"""The rows of the table of components: labels for people, parts of one thing together, small ones folded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ridgepoint.cost.evaluate import Component

SMALL = 0.01
"""Share of the time below which a row is folded into the last one."""
MOST_ROWS = 16


@dataclass(frozen=True)
class Row:
    """One line: components that are shown together. Seconds, operations and bytes of all their runs."""

    label: str
    parts: int
    runs: float
    time_s: float
    own_s: float
    bound_s: float
    flop: float
    bytes: float
    waits: dict[str, float] = field(default_factory=dict)
    """Resource → seconds of the time that it is responsible for."""

    @property
    def bound_by(self) -> str:
        """The resource that it waits for most."""
        return max(self.waits, key=lambda r: self.waits[r], default="")

    @property
    def achieved(self) -> float:
        """Which part of its physical limit's speed it reaches."""
        return min(self.bound_s / self.own_s, 1.0) if self.own_s > 0.0 else 0.0


def rows(components: Iterable[Component], time_s: float) -> list[Row]:
    """What takes time, largest first; below ``SMALL`` together in a last row."""
    groups: dict[str, list[Component]] = {}
    taking = [c for c in components if float(c.critical_s) > 0.0]
    alone = all(c.label.startswith("encoder.") for c in taking)
    for component in taking:
        label = component.label.removeprefix("encoder.") if alone else component.label
        groups.setdefault(row_label(label), []).append(component)
    found = sorted((_row(label, members) for label, members in groups.items()), key=lambda r: -r.time_s)
    shown = [row for i, row in enumerate(found) if row.time_s >= SMALL * time_s and i < MOST_ROWS]
    rest = found[len(shown) :]
    if len(rest) == 1:
        return found
    return [*shown, _folded(rest)] if rest else shown


def row_label(label: str) -> str:
    """A component's name in the table: its layer's prefix dropped, gradients and conversions as one.

    >>> row_label("layers.attention.qkv"), row_label("layers.attention.attention")
    ('attention.qkv', 'attention')
    >>> row_label("layers.feed.down.grad_weight"), row_label("layers.attention.rotary_and_cache")
    ('feed.down backward', 'attention.rotary and cache')
    >>> row_label("layers.attention.output.quantize"), row_label("encoder.layers.norm")
    ('attention.quantize', 'encoder.norm')

    Names from a model's own code, where a star stands for equal modules, stay as they are written there:

    >>> row_label("layers.*.mlp.down_proj"), row_label("layers.*.mlp.down_proj.grad_input")
    ('layers.*.mlp.down_proj', 'layers.*.mlp.down_proj backward')
    """
    if "*" in label:
        name, _, last = label.rpartition(".")
        return f"{name} backward" if last.startswith("grad") else label
    parts = [part for part in label.split(".") if part != "layers"]
    backward = parts[-1].startswith("grad") and len(parts) > 1
    if backward:
        parts = parts[:-1]
    if parts[-1] == "quantize" and len(parts) > 2:
        parts = [*parts[:-2], "quantize"]
    if len(parts) > 1 and parts[-1] == parts[-2]:
        parts = parts[:-1]
    return ".".join(parts).replace("_", " ") + (" backward" if backward else "")


def _row(label: str, members: list[Component]) -> Row:
    waits: dict[str, float] = {}
    for component in members:
        for resource, seconds in component.critical_by_resource.items():
            waits[resource] = waits.get(resource, 0.0) + float(seconds)
    return Row(
        label=label,
        parts=1,
        runs=sum(float(c.count) for c in members),
        time_s=sum(float(c.critical_s) for c in members),
        own_s=sum(float(c.time_s) for c in members),
        bound_s=sum(float(c.bound_s) for c in members),
        flop=sum(float(c.flop) for c in members),
        bytes=sum(float(c.bytes) for c in members),
        waits=waits,
    )


def _folded(rest: list[Row]) -> Row:
    waits: dict[str, float] = {}
    for row in rest:
        for resource, seconds in row.waits.items():
            waits[resource] = waits.get(resource, 0.0) + seconds
    return Row(
        label=f"other ({len(rest)} parts)",
        parts=len(rest),
        runs=sum(r.runs for r in rest),
        time_s=sum(r.time_s for r in rest),
        own_s=sum(r.own_s for r in rest),
        bound_s=sum(r.bound_s for r in rest),
        flop=sum(r.flop for r in rest),
        bytes=sum(r.bytes for r in rest),
        waits=waits,
    )
