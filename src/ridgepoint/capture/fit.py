"""Formulas from captures at several sizes: the polynomial through exact points, checked at one point more.

Sizes of tensors are products of sizes of the input, so that few captures determine them: with degree d in each size, (d + 1)
values of it. Coefficients are exact fractions.

>>> polynomial(("batch", "seq"), [((1, 1), 3), ((2, 1), 4), ((1, 2), 5), ((2, 2), 6)], (1, 1))
'batch + 2*seq'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

import msgspec

from ridgepoint.models.networks.captured.formula import Size, value
from ridgepoint.models.networks.captured.graph import Graph, Kernel

Point = tuple[int, ...]


def polynomial(names: Sequence[str], points: Sequence[tuple[Point, float]], degrees: Point) -> Size:
    """The polynomial of the given degrees through values on a grid; a plain number where nothing varies."""
    values = [number for _, number in points]
    if all(number == values[0] for number in values):
        return float(values[0])
    axes = [sorted({point[axis] for point, _ in points}) for axis in range(len(names))]
    table = {point: Fraction(number).limit_denominator(10**6) for point, number in points}
    coefficients = dict(table)
    for axis, places in enumerate(axes):
        coefficients = _along(coefficients, axis, places)
    powers = [list(range(degree + 1)) for degree in degrees]
    terms = [(powers_, c) for powers_ in product(*powers) if (c := coefficients[powers_]) != 0]
    terms.sort(key=lambda term: (-sum(term[0]), tuple(-p for p in term[0])))
    return " + ".join(_term(names, at, c) for at, c in terms).replace("+ -", "- ")


def _along(values: dict[Point, Fraction], axis: int, places: list[int]) -> dict[Point, Fraction]:
    """Values on a grid → coefficients of powers, along one axis."""
    basis = _basis(tuple(places))
    result: dict[Point, Fraction] = {}
    for point, number in values.items():
        for power, weight in enumerate(basis[places.index(point[axis])]):
            at = (*point[:axis], power, *point[axis + 1 :])
            result[at] = result.get(at, Fraction(0)) + weight * number
    return result


def _basis(places: Point) -> list[list[Fraction]]:
    """Coefficients of the Lagrange polynomials over ``places``."""
    found = []
    for place in places:
        line = [Fraction(1)]
        for other in places:
            if other != place:
                scale = Fraction(1, place - other)
                shifted = [Fraction(0), *line]
                line = [s * scale - (line[i] * other * scale if i < len(line) else 0) for i, s in enumerate(shifted)]
        found.append(line)
    return found


def _term(names: Sequence[str], powers: Point, coefficient: Fraction) -> str:
    letters = "*".join(
        name if power == 1 else f"{name}**{power}" for name, power in zip(names, powers, strict=True) if power
    )
    number = f"{coefficient.numerator}"
    divided = f"/{coefficient.denominator}" if coefficient.denominator != 1 else ""
    if not letters:
        return number + divided
    sign = {"1": "", "-1": "-"}.get(number, f"{number}*")
    return sign + letters + divided


@dataclass(frozen=True)
class Sampled:
    """A graph that was captured at one point."""

    point: Point
    graph: Graph


class DifferentProgramsError(Exception):
    """Captures at different sizes ask for different calls."""


def fitted(names: Sequence[str], samples: Sequence[Sampled], degrees: Point) -> Graph:
    """One graph with formulas, of graphs that were captured on a grid.

    Errors: ``DifferentProgramsError`` where they do not have the same kernels.
    """
    first = samples[0].graph
    for sample in samples[1:]:
        if not _alike(first, sample.graph):
            raise DifferentProgramsError(_difference(first, sample.graph))
    at: dict[tuple[float, ...], Size] = {}

    def size(numbers: list[float]) -> Size:
        key = tuple(numbers)
        if key not in at:
            at[key] = polynomial(names, list(zip([s.point for s in samples], numbers, strict=True)), degrees)
        return at[key]

    graphs = [sample.graph for sample in samples]
    tensors = tuple(
        msgspec.structs.replace(t, elements=size([float(g.tensors[i].elements) for g in graphs]))
        for i, t in enumerate(first.tensors)
    )
    kernels = tuple(_kernel([g.kernels[i] for g in graphs], size) for i in range(len(first.kernels)))
    return msgspec.structs.replace(first, tensors=tensors, kernels=kernels)


def _kernel(kernels: list[Kernel], fit: Callable[[list[float]], Size]) -> Kernel:
    first = kernels[0]
    return msgspec.structs.replace(
        first,
        reads=tuple(
            (t, fit([float(k.reads[i][1]) for k in kernels]), part) for i, (t, _, part) in enumerate(first.reads)
        ),
        sizes={name: fit([float(k.sizes[name]) for k in kernels]) for name in first.sizes},
        space=fit([float(k.space) for k in kernels]),
    )


def _alike(a: Graph, b: Graph) -> bool:
    return len(a.kernels) == len(b.kernels) and len(a.tensors) == len(b.tensors) and a.spans == b.spans and all(
        _kind(x) == _kind(y) for x, y in zip(a.kernels, b.kernels, strict=True)
    )  # fmt: skip


def _kind(kernel: Kernel) -> tuple[object, ...]:
    reads = tuple((t, part) for t, _, part in kernel.reads)
    return kernel.kind, kernel.call, kernel.label, reads, kernel.writes, tuple(kernel.sizes), str(kernel.options)


def _difference(a: Graph, b: Graph) -> str:
    for x, y in zip(a.kernels, b.kernels, strict=False):
        if _kind(x) != _kind(y):
            return f"{x.call} ({x.label}) here, {y.call} ({y.label}) there"
    return f"{len(a.kernels)} kernels here, {len(b.kernels)} there"


def holds(graph: Graph, names: Sequence[str], check: Sampled) -> str:
    """Empty where the formulas give exactly what was captured at one point more; else the first that does not."""
    if not _alike(graph, check.graph):
        return _difference(graph, check.graph)
    sizes = {name: float(number) for name, number in zip(names, check.point, strict=True)}
    pairs: list[tuple[str, Size, Size]] = []
    for mine, there in zip(graph.tensors, check.graph.tensors, strict=True):
        pairs.append((f"a tensor of {mine.format}", mine.elements, there.elements))
    for x, y in zip(graph.kernels, check.graph.kernels, strict=True):
        what = f"{x.call} ({x.label})"
        pairs += [(what, x.sizes[n], y.sizes[n]) for n in x.sizes] + [(what, x.space, y.space)]
        pairs += [(what, a[1], b[1]) for a, b in zip(x.reads, y.reads, strict=True)]
    for what, formula, number in pairs:
        found = float(value(formula, sizes))
        if abs(found - float(number)) > 1e-9 * max(abs(found), 1.0):
            return f"{what}: {formula} gives {found:g}, captured {float(number):g}"
    return ""
