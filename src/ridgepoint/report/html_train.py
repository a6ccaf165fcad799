"""Training as HTML: a plan's layouts as one page, and a step's pipeline and its memory as sections of any report."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from ridgepoint.estimates import Estimate
from ridgepoint.report.html import folded, html_page, notes, section, table
from ridgepoint.report.html_estimate import body, grounds
from ridgepoint.report.pipeline_pictures import memory_of, memory_picture, passes_picture
from ridgepoint.report.text import gigabytes, money, number, percent
from ridgepoint.report.train_plan import batch_words, sentences
from ridgepoint.tasks.activations import recompute_words
from ridgepoint.tasks.updates import sharing
from ridgepoint.training.answer import TrainPlan
from ridgepoint.training.layouts import LaidOut
from ridgepoint.training.schedule import TimeLine
from ridgepoint.training.timeline import MemoryLine, has_pipeline, timeline
from ridgepoint.units import duration, si


def train_plan_page(found: TrainPlan, command: str = "") -> str:
    """The whole answer: layouts, why the first one wins, its pipeline and memory, what limits it."""
    best = found.best.estimate
    title = f"{found.model.name} on {found.machine.name}: training plan"
    head = [
        f"<h1>{escape(found.model.name)} on {escape(found.machine.name)}</h1>",
        f'<p class="rp-sub">train · {escape(batch_words(found))}'
        f"<br>{found.searched:,} layouts searched, {found.fitting:,} fit; the best of each kind for "
        f"{escape(found.objective)}</p>",
    ]
    parts = [section("Layouts", layouts_table(found)), notes("Why", list(sentences(found)))]
    return html_page(title, [*head, *parts, *pipeline_sections(best), *body(best), *grounds(best)], command)


def layouts_table(found: TrainPlan) -> str:
    """Every layout of the plan, best first."""
    titles: tuple[str, ...] = (
        "",
        "tp",
        "pp",
        "dp",
        "ep",
        "cp",
        "order",
        "ZeRO",
        "micro-batch",
        "recompute",
        "schedule",
    )
    titles += ("step", "90 % interval", "MFU", "memory", "bubble", "links", "energy", "cost")
    titles += ("days of the run", "cost of the run") if found.tokens is not None else ()
    return table(titles, [_layout(i, one, found) for i, one in enumerate(found.layouts)], left=(6, 9, 10))


def _layout(place: int, one: LaidOut, found: TrainPlan) -> list[str]:
    degrees, plan, est, run = one.estimate.built.layout, one.plan, one.estimate, found.run(one)
    low, high = est.interval_s
    piped = float(degrees.pp) > 1.0
    chunks = f" ×{float(plan.chunks):g}" if plan.schedule == "interleaved" else ""
    return [
        f"{place + 1}",
        *(f"{float(getattr(degrees, name)):g}" for name in ("tp", "pp", "dp", "ep", "cp")),
        plan.rank_order,
        sharing(plan),
        f"{float(plan.micro_batch or 1.0):g}",
        recompute_words(plan),
        f"{plan.schedule}{chunks}" if piped else "–",
        duration(one.step_time_s),
        f"{duration(float(low))} – {duration(float(high))}",
        percent(one.mfu),
        gigabytes(one.memory_bytes),
        percent(one.bubble),
        percent(one.exposed_communication),
        "" if est.energy_j is None else si(float(est.energy_j), "J"),
        "" if est.cost_usd is None else money(float(est.cost_usd)),
        *([number(run["days"] or 0.0), "" if run["cost_usd"] is None else money(run["cost_usd"])] if run else []),
    ]


def pipeline_sections(est: Estimate) -> Iterator[str]:
    """The schedule of a step with several stages, and its memory over time; nothing for others."""
    if not has_pipeline(est) or est.scenario.shape:
        return
    line = timeline(est)
    drawn = passes_picture(line)
    yield section(drawn.title, drawn.html, folded("Table", stages_table(line)))
    memory = memory_of(est, line)
    if memory is not None:
        drawn = memory_picture(memory)
        yield section(drawn.title, drawn.html, folded("Table", memory_rows(memory)))


def stages_table(line: TimeLine) -> str:
    """Busy and idle time of every stage."""
    rows = [
        (
            f"stage {stage}",
            duration(line.makespan_s - line.idle_s(stage)),
            duration(line.idle_s(stage)) if line.idle_s(stage) > 0.0 else "0",
            percent(line.idle_s(stage) / line.makespan_s),
            f"{line.peak_in_flight(stage):g}",
        )
        for stage in range(line.stages)
    ]
    return table(("", "busy", "idle", "idle share", "micro-batches in flight"), rows)


def memory_rows(memory: MemoryLine) -> str:
    """What stays on every stage, and its peak."""
    names = list(dict.fromkeys(name for one in memory.stages for name in one.stays))
    rows = [
        (f"stage {i}", *(gigabytes(one.stays.get(name, 0.0)) for name in names), gigabytes(one.peak_bytes))
        for i, one in enumerate(memory.stages)
    ]
    return table(("", *names, "peak"), rows)
