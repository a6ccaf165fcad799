"""Inline SVG: elements, logarithmic axes, text. Charts are fluid: positions across are per cent of the width, positions down
are pixels, so that text keeps its size on a phone and in print. Colours are classes of ``style.css`` with fallbacks.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from dataclasses import dataclass

INK, QUIET, LINE = "#1b1f24", "#57606a", "#d0d7de"
"""Fallback colours of text, remarks and lines where no style sheet is."""


def element(name: str, *children: str, **attributes: object) -> str:
    """An element; a trailing underscore of an attribute's name is dropped, others become hyphens; values are escaped.

    >>> element("text", "a &lt; b", x="5%", class_="rp-q", font_size=12)
    '<text x="5%" class="rp-q" font-size="12">a &lt; b</text>'
    >>> element("line", x1=0)
    '<line x1="0"/>'
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(children)
    return f"<{name}{said}>{inside}</{name}>" if inside or name in ("svg", "g", "text", "title") else f"<{name}{said}/>"


def words(x: float, y: float, said: str, anchor: str = "start", css: str = "rp-ink", **more: object) -> str:
    """Text at ``x`` per cent and ``y`` pixels."""
    fill = {"rp-ink": INK, "rp-quiet": QUIET}.get(css)
    anchor_ = None if anchor == "start" else anchor
    return element("text", html.escape(said), x=at(x), y=pixel(y), text_anchor=anchor_, class_=css, fill=fill, **more)


def line(x1: float, y1: float, x2: float, y2: float, css: str = "rp-line", **more: object) -> str:
    """A line; across in per cent, down in pixels."""
    stroke = {"rp-line": LINE, "rp-grid": LINE, "rp-edge": "#ffffff"}.get(css, QUIET)
    ends = {"x1": at(x1), "y1": pixel(y1), "x2": at(x2), "y2": pixel(y2)}
    return element("line", **ends, class_=css, stroke=stroke, **more)


def titled(said: str, *children: str, focus: bool = True) -> str:
    """A group that shows ``said`` under the pointer, is read aloud, and takes the focus unless it is one of very many."""
    stop = 0 if focus else None
    name = element("title", html.escape(said))
    return element("g", name, *children, tabindex=stop, role="img", aria_label=said, class_="rp-mark")


def told(said: str, *children: str) -> str:
    """As ``titled`` for one of many marks whose chart says what they show: under the pointer only, without the focus."""
    return element(
        "g", element("title", html.escape(said)), *children, aria_hidden="true", data_said=said, class_="rp-mark"
    )


def chart(height: float, label: str, *children: str) -> str:
    """A fluid chart of ``height`` pixels; ``label`` says what it shows to those who do not see it."""
    return element(
        "svg",
        *children,
        width="100%",
        height=pixel(height),
        role="group",
        aria_label=label,
        class_="rp-chart",
        font_size=12,
        font_family="system-ui, sans-serif",
    )


def at(share: float) -> str:
    """A position across.

    >>> at(12.3456), at(50.0)
    ('12.35%', '50%')
    """
    return f"{share:.2f}".rstrip("0").rstrip(".") + "%"


def pixel(value: float) -> str:
    """A length down the page."""
    return f"{value:.1f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Scale:
    """Values ``low`` to ``high``, logarithmic, on positions ``start`` to ``end``.

    >>> across = Scale(1.0, 100.0, 0.0, 50.0)
    >>> across(10.0), list(across.decades())
    (25.0, [1.0, 10.0, 100.0])
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Position of a value."""
        span = math.log(self.high / self.low) or 1.0
        return self.start + (self.end - self.start) * math.log(max(value, 1e-300) / self.low) / span

    def decades(self) -> Iterator[float]:
        """Powers of ten within."""
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        return (10.0**exponent for exponent in range(first, last + 1))

    def ticks(self) -> list[float]:
        """Powers of ten within; with their doubles and quintuples where they are few.

        >>> Scale(15.0, 300.0, 0.0, 1.0).ticks()
        [20.0, 50.0, 100.0, 200.0]
        """
        found = list(self.decades())
        if len(found) > 2:
            return found
        first = math.floor(math.log10(self.low))
        steps = [m * 10.0**e for e in range(first, first + 4) for m in (1.0, 2.0, 5.0)]
        return [m for m in steps if self.low <= m <= self.high]
