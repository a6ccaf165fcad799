"""Charts as files of their own: SVG with its colours and fonts inside, PNG and PDF drawn from it (extra ``report``).

A file stands in slides and papers, so that it is on white whatever the reader's theme.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.util import find_spec
from pathlib import Path

from ridgepoint.errors import RidgepointError, nearest
from ridgepoint.files import write_whole
from ridgepoint.report.html import style
from ridgepoint.report.palette import paint
from ridgepoint.report.picture import Picture
from ridgepoint.report.svg import INK, QUIET, element, pixel

KINDS = (".svg", ".png", ".pdf")
DRAWN = KINDS[1:]
"""Kinds that a library draws from the SVG."""
INSTALL = "pip install 'ridgepoint[report]', or write an .svg"
WIDTH, MARGIN = 900.0, 24.0
_INSIDE = WIDTH - 2.0 * MARGIN
_LETTER, _LINE = 6.4, 18.0
"""Pixels of a letter and of a line of 12-pixel text."""
SHARPNESS = 2.0
"""Pixels of a PNG per pixel of the chart."""


@dataclass(frozen=True)
class Wanted:
    """One file: the chart that it shows, or all where none is named."""

    name: str
    path: Path


def wanted(said: Sequence[str]) -> list[Wanted]:
    """What ``[NAME=]FILE`` says, checked before anything is computed.

    Errors: ``bad_option`` for an ending that is not in ``KINDS``; ``missing_extra`` where nothing draws that kind.

    >>> wanted(["roofline=a.svg", "all.svg"])
    [Wanted(name='roofline', path=PosixPath('a.svg')), Wanted(name='', path=PosixPath('all.svg'))]
    """
    found = []
    for text in said:
        name, equals, file = text.rpartition("=")
        path = Path(file)
        if path.suffix not in KINDS or (equals and not name):
            raise RidgepointError(
                "bad_option",
                f"--chart is '{text}'",
                "write it like chart.svg or roofline=chart.png; .svg, .png and .pdf",
            )
        if path.suffix in DRAWN and find_spec("vl_convert") is None:
            raise RidgepointError("missing_extra", f"a {path.suffix} needs vl-convert-python", INSTALL)
        found.append(Wanted(name, path))
    return found


def chosen(pictures: Sequence[Picture], name: str) -> list[Picture]:
    """The charts of that name; all where it is empty.

    Errors: ``unknown_chart`` with the nearest name.
    """
    found = [p for p in pictures if not name or p.name == name]
    if found:
        return found
    known = list(dict.fromkeys(p.name for p in pictures))
    if not known:
        raise RidgepointError("unknown_chart", "there is nothing to draw here", "--html writes the page")
    close = nearest(name, known, count=1)
    hint = f"did you mean {close[0]}?" if close else "use one of " + ", ".join(known)
    raise RidgepointError("unknown_chart", f"there is no chart '{name}' here", hint)


def write_pictures(pictures: Sequence[Picture], title: str, path: Path) -> None:
    """Write charts one below the other under a title; the file is there whole or not at all.

    Errors: ``bad_file``; ``missing_extra`` for a PNG or PDF without the extra.
    """
    svg = picture_svg(pictures, title)
    write_whole(path, svg if path.suffix == ".svg" else _drawn(svg, path.suffix))


def _drawn(svg: str, kind: str) -> bytes:
    try:
        import vl_convert
    except ImportError as error:
        raise RidgepointError("missing_extra", f"a {kind} needs {error.name}", INSTALL) from None
    found: bytes = vl_convert.svg_to_pdf(svg) if kind == ".pdf" else vl_convert.svg_to_png(svg, scale=SHARPNESS)
    return found


def picture_svg(pictures: Sequence[Picture], title: str) -> str:
    """One SVG of its own with charts one below the other, each with its title, colours and caption."""
    body, down = [_text(title, MARGIN, 34.0, font_size=18, font_weight=600)], 46.0
    for picture in pictures:
        drawn, down = _placed(picture, down, len(pictures) > 1 or picture.title != title)
        body += drawn
    height = down + MARGIN / 2.0
    rules = element("style", _rules())
    back = element("rect", width="100%", height="100%", fill="#ffffff")
    return element(
        "svg", f"<title>{escape(title)}</title>", rules, back, *body, xmlns="http://www.w3.org/2000/svg", width=pixel(WIDTH),
        height=pixel(height), viewBox=f"0 0 {pixel(WIDTH)} {pixel(height)}", font_family=_FONTS, font_size=12, role="img",
    )  # fmt: skip


_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"


def _placed(picture: Picture, down: float, headed: bool) -> tuple[list[str], float]:
    """A picture's elements from ``down`` on, and where it ends."""
    body = []
    if headed:
        body.append(_text(picture.title, MARGIN, down + 20.0, font_size=14, font_weight=600))
        down += 30.0
    found = re.match(r'<svg [^>]*?height="([\d.]+)"', picture.svg)
    height = float(found[1]) if found else 0.0
    place = {"x": pixel(MARGIN), "y": pixel(down + 4.0), "width": pixel(_INSIDE), "height": pixel(height)}
    body.append(element("svg", picture.svg, **place, overflow="visible"))
    down += height + 14.0
    for row in _rows(picture.colours):
        body += row_of(row, down)
        down += _LINE
    for said in textwrap.wrap(picture.caption, int(_INSIDE / _LETTER)):
        body.append(_text(said, MARGIN, down + 12.0, fill=QUIET))
        down += _LINE
    return body, down + 14.0


def _rows(colours: Sequence[tuple[str, str]]) -> Iterator[list[tuple[float, str, str]]]:
    """Entries of a legend as (position, colour, words), as many in a row as there is room for."""
    row: list[tuple[float, str, str]] = []
    across = MARGIN
    for colour, said in colours:
        wide = 16.0 + _LETTER * len(said) + 18.0
        if row and across + wide > WIDTH - MARGIN:
            yield row
            row, across = [], MARGIN
        row.append((across, colour, said))
        across += wide
    if row:
        yield row


def row_of(row: Iterable[tuple[float, str, str]], down: float) -> list[str]:
    """A row of a legend: a square of each colour, and its words."""
    drawn = []
    for across, colour, said in row:
        drawn.append(element("rect", x=pixel(across), y=pixel(down + 2.0), width=10, height=10, rx=2, **paint(colour)))
        drawn.append(_text(said, across + 16.0, down + 12.0))
    return drawn


def _text(said: str, across: float, down: float, **more: object) -> str:
    return element("text", escape(said), x=pixel(across), y=pixel(down), **{"fill": INK, **more})


@cache
def _rules() -> str:
    """The style sheet's rules for charts, with the light theme's colours in place of its variables.

    >>> "var(" in _rules(), ".rp-memory { fill: #0072b2; }" in _rules()
    (False, True)
    """
    sheet = style()
    first = sheet[sheet.index("{") : sheet.index("}")]
    values = dict(re.findall(r"(--[\w-]+): *([^;]+);", first))
    charts = sheet.partition("/* Charts */")[2]
    kept = re.findall(r"\.rp ([^{}]*)(\{[^}]*\})", charts)
    rules = "\n".join(f"{selector}{body}" for selector, body in kept if ":" not in selector and ">" not in selector)
    return re.sub(r"var\((--[\w-]+)\)", lambda name: values[name[1]], rules).replace(", .rp ", ", ")
