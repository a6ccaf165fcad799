"""A roofline in characters: attainable rate over arithmetic intensity, both axes logarithmic, drawn in Braille dots."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ridgepoint.units import si

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bits of a Braille cell by column and row."""
_AXIS = 12
"""Characters left of the picture."""


@dataclass(frozen=True)
class _Frame:
    """The picture's size in characters and the decades that it spans."""

    width: int
    height: int
    x: tuple[float, float]
    y: tuple[float, float]

    def column(self, intensity: float) -> float:
        """Dot column of an intensity."""
        low, high = map(math.log10, self.x)
        return (math.log10(intensity) - low) / (high - low) * (2 * self.width - 1)

    def row(self, rate: float) -> int:
        """Dot row of a rate, from the top."""
        low, high = map(math.log10, self.y)
        return round((high - math.log10(rate)) / (high - low) * (4 * self.height - 1))

    def intensity(self, column: int) -> float:
        """Intensity at a dot column."""
        low, high = map(math.log10, self.x)
        return float(10 ** (low + column / (2 * self.width - 1) * (high - low)))


def roofline(
    ceilings: Sequence[tuple[str, float]],
    bytes_per_s: float,
    width: int,
    height: int = 12,
    marks: Sequence[tuple[str, float, float]] = (),
) -> list[str]:
    """The lines of a picture at most ``width`` characters wide; ``ceilings`` are (label, operations per second).

    ``marks`` are (letter, operations per byte, operations per second); of two in one place the first is shown.

    >>> for line in roofline([("bf16", 989e12), ("fp32", 67e12)], 3.35e12, 60, height=4):
    ...     print(line)
       1 PFLOP/s ┤               ⣀⣠⡤⠖⠒⠒⠒⠒⠒⠒⠒ bf16  989 TFLOP/s
                 ┤         ⢀⣀⣤⠴⠖⠋⠉
     100 TFLOP/s ┤    ⣀⣠⡤⠶⠚⠛⠓⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒⠒ fp32  67.0 TFLOP/s
      10 TFLOP/s ┤⣠⠴⠖⠋⠉
                 └──────┴───────┴────────┴──
                        10      100      1,000  FLOP per byte
    """
    by_rate: dict[float, list[str]] = {}
    for label, rate in sorted(ceilings, key=lambda c: -c[1]):
        by_rate.setdefault(rate, []).append(label)
    labels = {rate: f"{', '.join(names)}  {si(rate, 'FLOP/s')}" for rate, names in by_rate.items()}
    room = max(len(text) for text in labels.values())
    frame = _frame(list(by_rate), bytes_per_s, max(width - _AXIS - room - 4, 16), height, marks)
    cells = _cells(frame, _points(frame, list(by_rate), bytes_per_s), marks)
    named: dict[int, str] = {}
    for rate, text in labels.items():
        line = frame.row(rate) // 4
        named[line] = f"{named[line]}, {text}" if line in named else text
    decades = {frame.row(mark) // 4: si(mark, "FLOP/s", 1) for mark in _decades(frame.y)}
    body = [f"{decades.get(i, ''):>{_AXIS}} ┤{cells[i]} {named.get(i, '')}".rstrip() for i in range(height)]
    return [*body, *_x_axis(frame)]


def _frame(
    rates: list[float], bytes_per_s: float, width: int, height: int, marks: Sequence[tuple[str, float, float]]
) -> _Frame:
    ridges = [rate / bytes_per_s for rate in rates]
    placed = [intensity for _, intensity, _ in marks]
    left, right = (
        min([min(ridges) / 10.0, *(p / 2.0 for p in placed)]),
        max([max(ridges) * 6.0, *(2.0 * p for p in placed)]),
    )
    bottom = min([left * bytes_per_s, *(rate / 2.0 for _, _, rate in marks)])
    return _Frame(width, height, (left, right), (bottom, max(rates) * 1.6))


def _points(frame: _Frame, rates: list[float], bytes_per_s: float) -> Iterable[tuple[int, int]]:
    top, before = max(rates), min(frame.row(frame.x[0] * bytes_per_s), 4 * frame.height - 1)
    for column in range(2 * frame.width):
        slope = frame.intensity(column) * bytes_per_s
        if slope <= top:
            row = frame.row(slope)
            yield from ((column, r) for r in range(min(row, before), max(row, before) + 1) if r >= 0)
            before = max(row - 1, 0)
        yield from ((column, frame.row(rate)) for rate in rates if slope >= rate)


def _cells(frame: _Frame, points: Iterable[tuple[int, int]], marks: Sequence[tuple[str, float, float]]) -> list[str]:
    bits = [[0] * frame.width for _ in range(frame.height)]
    for column, row in points:
        if row < 4 * frame.height:
            bits[row // 4][column // 2] |= _DOTS[column % 2][row % 4]
    cells = [[chr(0x2800 + b) if b else " " for b in line] for line in bits]
    for letter, intensity, rate in reversed(marks):
        row = min(max(frame.row(rate) // 4, 0), frame.height - 1)
        cells[row][min(max(int(frame.column(intensity) // 2), 0), frame.width - 1)] = letter
    return ["".join(line) for line in cells]


def _decades(span: tuple[float, float]) -> list[float]:
    first, last = math.ceil(math.log10(span[0])), math.floor(math.log10(span[1]))
    return [10.0**exponent for exponent in range(first, last + 1)]


def _x_axis(frame: _Frame) -> list[str]:
    ticks, words = ["─"] * frame.width, [" "] * (frame.width + 8)
    for mark in _decades(frame.x):
        at = int(frame.column(mark) // 2)
        ticks[at] = "┴"
        for offset, letter in enumerate(f"{mark:,g}"):
            words[at + offset] = letter
    return [f"{'':>{_AXIS}} └{''.join(ticks)}", f"{'':>{_AXIS}}  {''.join(words).rstrip()}  FLOP per byte"]
