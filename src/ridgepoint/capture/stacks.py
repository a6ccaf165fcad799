"""Uniform stacks: of equal layers in a row only the first three are captured; the second stands for all but two of them.

A layer's kernels begin where its module (or, where several layers form a period, the first module of the period) is
entered, and end where the next one's begin: what a model's own loop does between layers belongs to the layer before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ridgepoint.capture.calls import Call
from ridgepoint.capture.extra import needed
from ridgepoint.models.networks.captured.graph import Span

KEPT = 3
LONGEST_PERIOD = 8


@dataclass(frozen=True)
class Run:
    """``count`` equal periods of ``period`` children of a module list, from child ``start`` on."""

    path: str
    start: int
    period: int
    count: int

    def child(self, number: int) -> int:
        """Position of the first child of a period, counted in the shortened list."""
        return self.start + number * self.period


def _runs(path: str, signatures: list[Any]) -> list[Run]:
    runs, at, removed = [], 0, 0
    while at < len(signatures):
        best = Run(path, at - removed, 1, 1)
        for period in range(1, LONGEST_PERIOD + 1):
            count = 1
            block = signatures[at : at + period]
            while signatures[at + count * period : at + (count + 1) * period] == block:
                count += 1
            if count > KEPT and count * period > best.count * best.period:
                best = Run(path, at - removed, period, count)
        if best.count > KEPT:
            runs.append(best)
            removed += (best.count - KEPT) * best.period
            at += best.count * best.period
        else:
            at += 1
    return runs


_POSITIONS = ("layer_idx", "layer_id", "layer_number", "block_idx", "idx", "index", "layer_index", "i", "block_index")


def _signature(module: Any) -> Any:
    """What makes two modules do the same: class, plain attributes, shapes of parameters, children."""
    plain = tuple(
        sorted(
            (name, value)
            for name, value in vars(module).items()
            if isinstance(value, int | float | str | bool) and name not in _POSITIONS and not name.startswith("_")
        )
    )
    shapes = tuple((name, tuple(p.shape), str(p.dtype)) for name, p in module._parameters.items() if p is not None)
    return type(module), plain, shapes, tuple((name, _signature(c)) for name, c in module.named_children())


@contextmanager
def shortened(module: Any) -> Iterator[list[Run]]:
    """The module with ``KEPT`` periods of every run, and the runs; everything is back in place afterwards."""
    runs: list[Run] = []
    whole: list[tuple[Any, dict[str, Any]]] = []
    try:
        _shorten(module, "", runs, whole)
        yield runs
    finally:
        for parent, children in reversed(whole):
            parent._modules.clear()
            parent._modules.update(children)


def _shorten(module: Any, path: str, runs: list[Run], whole: list[tuple[Any, dict[str, Any]]]) -> None:
    """Outer lists first, so that what is found inside is named as it then stands."""
    torch = needed("torch", "capturing a model")
    if isinstance(module, torch.nn.ModuleList | torch.nn.Sequential) and len(module) > KEPT:
        children = list(module._modules.values())
        found = _runs(path, [_signature(c) for c in children])
        if found:
            whole.append((module, dict(module._modules)))
            runs += found
            module._modules.clear()
            module._modules.update({str(i): c for i, c in enumerate(_kept(children, found))})
    for name, child in module.named_children():
        _shorten(child, f"{path}.{name}".lstrip("."), runs, whole)


def _kept(children: list[Any], found: list[Run]) -> list[Any]:
    kept: list[Any] = []
    taken = removed = 0
    for run in found:
        first = run.start + removed
        kept += children[taken : first + KEPT * run.period]
        taken = first + run.count * run.period
        removed += (run.count - KEPT) * run.period
    return kept + children[taken:]


def spans(calls: list[Call], runs: list[Run]) -> list[Span]:
    """Where the second period of every run begins and ends among the kernels, forward and backward."""
    raw_paths = [call.path for call in calls]
    turn = next((i for i, call in enumerate(calls) if call.backward), len(calls))
    found: list[Span] = []
    for run in runs:
        for begin, end, order in ((0, turn, (1, 2)), (turn, len(calls), (1, 0))):
            places = [_first(raw_paths, begin, end, run, period) for period in order]
            if None not in places and places[0] < places[1]:  # type: ignore[operator]
                found.append(Span(places[0], places[1], float(run.count - KEPT + 1)))  # type: ignore[arg-type]
    return sorted(_nested(found), key=lambda s: s.start)


def _first(paths: list[str], begin: int, end: int, run: Run, period: int) -> int | None:
    prefixes = tuple(f"{run.path}.{run.child(period) + i}".lstrip(".") for i in range(run.period))
    for at in range(begin, end):
        if any(paths[at] == p or paths[at].startswith(p + ".") for p in prefixes):
            return at
    return None


def _nested(found: list[Span]) -> list[Span]:
    """Runs inside runs: kernels run as often as both say."""
    edges = sorted({edge for span in found for edge in (span.start, span.stop)})
    pieces = []
    for start, stop in pairwise(edges):
        times = 1.0
        for span in found:
            if span.start <= start and stop <= span.stop:
                times *= span.times
        if times != 1.0:
            pieces.append(Span(start, stop, times))
    return pieces
