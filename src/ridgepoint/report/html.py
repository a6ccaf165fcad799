"""HTML pages: one file each, with its style and charts inside and nothing from elsewhere.

What all reports share is here: the page, sections, figures, tables, notes. ``html_estimate`` and ``html_sweep`` and
``validation`` say what stands in them.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from importlib import resources
from importlib.metadata import version

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""A page may load nothing and run nothing, whatever a name in it says."""
_LEFT = ' class="l"'
_UNIT = 3
"""Letters of a unit that stands with its number."""


@cache
def style() -> str:
    """The style sheet of reports, of the local page and of notebooks."""
    return (resources.files("ridgepoint.report") / "style.css").read_text("utf-8")


def html_page(title: str, body: Iterable[str], command: str = "") -> str:
    """A whole page: ``body`` in the middle, the command that made it, version and date at the end."""
    said = "".join(body)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{style()}</style></head>\n"
        f'<body class="rp"><main>{said}{_made(command)}</main></body></html>\n'
    )


def _made(command: str) -> str:
    number = version("ridgepoint")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    made = section("Made with", f"<pre>{escape(command)}</pre>") if command else ""
    return f'{made}<footer>Ridgepoint {escape(number)}, <time datetime="{today}">{today}</time></footer>'


def section(title: str, *content: str) -> str:
    """A part of a page under a title."""
    return f"<section><h2>{escape(title)}</h2>{''.join(content)}</section>\n"


def figure(svg: str, caption: str = "", *below: str) -> str:
    """A chart with what is to be said below it."""
    said = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{svg}{''.join(below)}{said}</figure>"


def scrolled(content: str) -> str:
    """What is too wide for a phone scrolls in a box of its own."""
    return f'<div class="rp-scroll">{content}</div>'


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """A table of text; the columns ``left`` are words, the others figures."""

    def cells(tag: str, row: Sequence[str]) -> str:
        scope = ' scope="col"' if tag == "th" else ""
        return "".join(
            f"<{tag}{scope}{_LEFT if i in left else ''}>{escape(cell)}</{tag}>" for i, cell in enumerate(row)
        )

    head = f"<thead><tr>{cells('th', titles)}</tr></thead>" if any(titles) else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return scrolled(f"<table>{head}<tbody>{body}</tbody></table>")


def facts(rows: Iterable[tuple[str, str, str]]) -> str:
    """Key figures: label, figure, remark. Of a figure in words the number stands out."""
    items = []
    for label, figure_, remark in rows:
        value, unit = _split(figure_)
        beside = f" <span>{escape(unit)}</span>" if unit else ""
        small = f"<small>{escape(remark)}</small>" if remark else ""
        items.append(f"<div><dt>{escape(label)}</dt><dd>{escape(value)}{beside}{small}</dd></div>")
    return f'<dl class="rp-facts">{"".join(items)}</dl>'


def _split(figure_: str) -> tuple[str, str]:
    """A figure with its short unit, and the words after it.

    >>> _split("19.1 ms"), _split("3 % of arithmetic peak"), _split("$0.663 per million tokens"), _split("1,670 tokens/s")
    (('19.1 ms', ''), ('3 %', 'of arithmetic peak'), ('$0.663', 'per million tokens'), ('1,670', 'tokens/s'))
    """
    number, _, rest = figure_.partition(" ")
    unit, _, more = rest.partition(" ")
    short = len(unit) <= _UNIT and unit not in ("of", "per")
    return (f"{number} {unit}".strip(), more) if short else (number, rest)


def folded(title: str, *content: str) -> str:
    """What is there for those who open it."""
    return f"<details><summary>{escape(title)}</summary>{''.join(content)}</details>"


def notes(title: str, lines: Sequence[str]) -> str:
    """Sentences under a title; nothing where there are none."""
    return section(title, listed(lines)) if lines else ""


def listed(lines: Sequence[str]) -> str:
    """Sentences as a list."""
    return '<ul class="rp-notes">' + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"
