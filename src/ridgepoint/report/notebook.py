"""What notebooks show of an estimate or a sweep: the report's main parts, with their style, in a box of their own."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import numpy as np

from ridgepoint.advice.advice import Advice
from ridgepoint.estimates import Estimate
from ridgepoint.report.charts import share_picture, time_picture
from ridgepoint.report.html import folded, notes, style, table
from ridgepoint.report.html_advice import remedy_sections
from ridgepoint.report.html_estimate import head, memory_figure
from ridgepoint.report.html_sweep import charts, sweep_head
from ridgepoint.report.text import percent
from ridgepoint.search.result import Sweep
from ridgepoint.units import duration


def boxed(parts: Iterable[str]) -> str:
    """Parts of a report for the inside of another page, on a ground of their own: notebooks have themes of their own."""
    return f'<div class="rp rp-boxed"><style>{style()}</style>{"".join(parts)}</div>'


def estimate_html(est: Estimate) -> str:
    """One scenario: verdict, figures, what limits it, where the time goes, memory. A sweep: its ranges."""
    if est.shape:
        return boxed(_ranges(est))
    return boxed(
        (
            *head(est),
            notes("Warnings", est.warnings),
            share_picture(est).html,
            memory_figure(est),
            folded("Where the time goes", time_picture(est).html),
        )
    )


def _ranges(est: Estimate) -> Iterable[str]:
    given = est.scenario
    shape = " × ".join(map(str, est.shape))
    yield f"<h1>{escape(given.model.name)} on {escape(given.machine.name)}</h1>"
    yield f'<p class="rp-sub">{given.task.name}, {shape} points</p>'
    names, counts = np.unique(np.asarray(est.bottleneck), return_counts=True)
    rows = [
        ("time", duration(float(np.min(est.time_s))), duration(float(np.max(est.time_s)))),
        ("physical limit", duration(float(np.min(est.bound_s))), duration(float(np.max(est.bound_s)))),
        ("fits", percent(float(np.mean(est.memory.fits))), ""),
    ]
    rows += [(f"bottleneck {n}", percent(c / counts.sum()), "") for n, c in zip(names, counts, strict=True)]
    yield table(("", "least", "most"), rows)


def sweep_html(found: Sweep) -> str:
    """A sweep: its best points and a chart of its times."""
    return boxed((*sweep_head(found), notes("Warnings", found.warnings), *charts(found, "time_s")))


def advice_html(found: Advice) -> str:
    """Advice: the scenario's verdict, what would help one after the other, and the rest for those who open it."""
    first, *others = remedy_sections(found)
    return boxed((*head(found.baseline), first, folded("Everything that would help", *others)))
