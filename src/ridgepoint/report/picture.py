"""A chart with what explains it: the same picture stands in pages, in notebooks and in files of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ridgepoint.report.html import figure, scrolled
from ridgepoint.report.svg_bars import legend


@dataclass(frozen=True)
class Picture:
    """A chart: the name by which it is asked for, its title, the drawing, (colour, words) of its legend, what to say below."""

    name: str
    title: str
    svg: str
    colours: Sequence[tuple[str, str]] = ()
    caption: str = ""
    wide: bool = False
    """Whether it scrolls on a screen that is too narrow for it."""

    @property
    def html(self) -> str:
        """The chart with its legend and caption."""
        drawn = scrolled(self.svg) if self.wide else self.svg
        return figure(drawn, self.caption, legend(self.colours) if self.colours else "")
