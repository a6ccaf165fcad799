"""An estimate as one HTML page, and as a part of a notebook or of the local page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from ridgepoint.estimates import Estimate
from ridgepoint.machines.description import numbers, provenance
from ridgepoint.report.charts import memory_picture, name_of, roofline_picture, share_picture, time_picture
from ridgepoint.report.components import rows
from ridgepoint.report.headline import devices, result_rows, subjects, verdict
from ridgepoint.report.html import facts, folded, html_page, listed, notes, section, table
from ridgepoint.report.limits import LEAST
from ridgepoint.report.memory import fit_words
from ridgepoint.report.sheet import value_text
from ridgepoint.report.text import count, number, percent, ratio
from ridgepoint.units import duration, si

_USED = (".rates.", ".bandwidth", ".capacity", "power.", "price.", "chip.")
"""Values of a machine's sheet that every estimate rests on."""


def estimate_page(est: Estimate, command: str = "", more: Sequence[str] = ()) -> str:
    """The whole report of one scenario. ``more`` are sections (``html.section``) that stand before the assumptions."""
    (model, machine, task), _ = subjects(est)
    return html_page(f"{model} on {machine}: {task}", [*head(est), *body(est), *more, *grounds(est)], command)


def head(est: Estimate) -> Iterator[str]:
    """What was asked, the verdict, the key figures."""
    (model, machine, task), said = subjects(est)
    yield f"<h1>{escape(model)} on {escape(machine)}</h1>"
    yield f'<p class="rp-sub">{escape(task)} · {escape(said)}<br>{escape(devices(est))}</p>'
    if est.scenario.techniques:
        yield f'<p class="rp-sub">with {escape(", ".join(est.scenario.techniques))}</p>'
    yield verdict_html(est)
    yield facts(result_rows(est))


def verdict_html(est: Estimate) -> str:
    """The sentence that says it all; a scenario that does not fit says that first."""
    fits, used, most = fit_words(est)
    label, figure_, _ = next(result_rows(est))
    first, *others = verdict(est)[1:-1]
    share, _, name = first.rstrip(".,").partition(" % ")
    time = f"<strong>{escape(label)} {escape(figure_)}, limited by {escape(name)}</strong>"
    also = " ".join(others).rstrip(".")
    beside = f": {escape(share)} % of the time{escape(f', then {also}' if also else '')}. "
    end = escape(f"That is {ratio(float(est.headroom))} the physical limit. {verdict(est)[-1]}")
    said = time + beside + end
    if est.memory.fits:
        return f'<p class="rp-verdict">{said}</p>'
    refused = f'<span class="rp-no">It {fits}</span>: {escape(used)}{escape(", " + most if most else "")}. '
    return f'<p class="rp-verdict rp-warn">{refused}If it did: {said}</p>'


def body(est: Estimate) -> Iterator[str]:
    """The charts and their tables."""
    yield notes("Warnings", est.warnings)
    yield section("What limits it", share_picture(est).html, limits_table(est))
    yield section("Roofline of one device", roofline_picture(est).html)
    yield section("Where the time goes", time_figure(est))
    yield section("Memory of the fullest device", memory_figure(est))


def time_figure(est: Estimate) -> str:
    """Where the time goes as bars, and as a table for those who open it."""
    return time_picture(est).html + folded("Table of components", components_table(est))


def memory_figure(est: Estimate) -> str:
    """The ledger as a bar, and whether it fits."""
    fits, used, most = fit_words(est)
    css = "rp-yes" if est.memory.fits else "rp-no"
    words = f'<p><strong class="{css}">{fits}</strong>: {escape(used)}{escape("; " + most if most else "")}</p>'
    return memory_picture(est).html + words


def limits_table(est: Estimate) -> str:
    """Every resource: its share, and the speed-up if it were infinitely fast."""
    found = [
        (name_of(est, name), percent(float(share)), ratio(float(est.limits[name])))
        for name, share in est.shares.items()
        if float(share) >= LEAST
    ]
    return table(("resource", "share of the time", "if infinitely fast"), found)


def components_table(est: Estimate) -> str:
    """Every component with its work and how near it comes to its limit."""
    found = [
        (
            row.label,
            count(round(row.runs, 1)),
            duration(row.time_s),
            percent(row.time_s / float(est.time_s)),
            si(row.flop, "FLOP") if row.flop else "",
            si(row.bytes, "B") if row.bytes else "",
            number(row.flop / row.bytes) if row.flop and row.bytes else "",
            percent(row.achieved),
            name_of(est, row.bound_by) if row.parts == 1 else "",
        )
        for row in rows(est.cost.components, float(est.time_s))
    ]
    titles = ("component", "runs", "time", "share", "operations", "bytes", "FLOP/B", "of its limit", "waits for")
    return table(titles, found, left=(0, 8))


def grounds(est: Estimate) -> Iterator[str]:
    """What the figures rest on."""
    yield notes("Assumptions", est.assumptions)
    yield section("Where the figures come from", machine_values(est), folded("Citations", listed(est.citations)))


def machine_values(est: Estimate) -> str:
    """The machine's figures, each with the document that it comes from."""
    device = est.scenario.machine.device
    found = []
    for path, value in numbers(device):
        source = provenance(device, path)
        if any(part in path for part in _USED):
            told = "" if source is None else ", ".join(str(p) for p in (source.title, source.date, source.url) if p)
            found.append((path, value_text(path, value), told))
    return folded(f"Figures of {device.title} and their sources", table(("value", "", "source"), found, left=(0, 2)))
