"""Advice on a deployment as a page for the terminal and as a JSON document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgepoint.advice.evidence import evidence
from ridgepoint.advice.serving import Served, ServingAdvice, ServingRemedy
from ridgepoint.document import plain
from ridgepoint.report.advice import GRADES, PARTS, explained
from ridgepoint.report.headline import SAID
from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.terminal import INDENT, notes, section
from ridgepoint.report.text import count, flow, money, number, percent, plural, ratio, resource
from ridgepoint.serving.summary import plan_of
from ridgepoint.units import duration

_BETTER = {
    "throughput": "requests per second within the goals",
    "cost": "tokens per dollar within the goals",
    "latency": "sooner answered",
}


def page(found: ServingAdvice, width: int, top: int, combine: bool, everything: bool) -> RenderableType:
    """The whole page for a terminal of ``width`` columns."""
    return Group(*_sections(found, width, top, combine, everything))


def _sections(found: ServingAdvice, width: int, top: int, combine: bool, everything: bool) -> Iterator[RenderableType]:
    yield _headline(found)
    yield Text("")
    yield Text(flow([*_now(found), *_binds(found)], width))
    yield Text("")
    yield _remedies(found, width - INDENT, top)
    rows: list[list[Cell]] = [
        [r.name, ratio(found.gain(r.after)), GRADES[r.remedy.technique.grade], r.remedy.technique.presumes]
        for r in found.presuming[:PARTS]
        if r.after is not None
    ]
    if rows:
        yield Text("")
        table = fitted(["technique", "gain", "answers", "if"], rows, width - INDENT, wordy=(0, 3), left=(2,))
        yield section("What would help if the workload is like this", table)
    if combine and found.steps:
        yield Text("")
        yield section("Together", _together(found, width - INDENT))
    if everything:
        yield Text("")
        if found.useless:
            yield section("What applies and does not help", _table(found, found.useless, width - INDENT))
        yield from notes("What does not apply", tuple(f"{r.name}: {r.reason}" for r in found.refused), "dim")
    yield from notes("Assumptions", assumptions(found), "dim")


def _headline(found: ServingAdvice) -> Text:
    given, pace = found.given, found.baseline.pace
    text = Text.assemble((given.model.name, "bold"), " on ", (given.machine.name, "bold"), " · ", ("serve", "bold"))
    text.append(f" · prompt {count(pace.prompt)} · output {count(pace.output)}\n")
    layout = " ".join(
        f"{name} {plan_of(given)[name]:g}" for name in ("tp", "pp", "ep") if plan_of(given).get(name, 1) > 1
    )
    replicas = plural(given.replicas, "replica")
    said = ", ".join(filter(None, (given.engine, replicas, layout)))
    applied = found.baseline.estimate.scenario.techniques
    return text.append(said + (f"\nwith {', '.join(applied)}" if applied else ""), style="dim")


def _now(found: ServingAdvice) -> Iterator[str]:
    base = found.baseline
    goals = goal_words(found)
    if base.requests_per_s > 0.0:
        yield f"Now: {number(base.requests_per_s)} requests/s ({number(base.tokens_per_s)} tokens/s)"
        yield f"keep {goals};" if goals else "are the most;"
    else:
        first, each = float(base.loop.ttft_s[0]), float(base.loop.tpot_s[0])
        yield f"Now: nothing keeps {goals}: alone a request has its first token in {duration(first)},"
        yield f"each further one in {duration(each)};"
    yield _at_rate(base, found.rate)
    if base.usd_per_million is not None:
        yield f"{money(base.usd_per_million)} per million output tokens {'within the goals' if goals else 'then'}."
    yield f"A replica holds {count(base.capacity)} requests."


def goal_words(found: ServingAdvice) -> str:
    """The goals in words; empty where there are none."""
    goals = found.baseline.goals
    named = (("a first token in", goals.ttft_s), ("each further one in", goals.tpot_s))
    return ", ".join(f"{name} {duration(value)}" for name, value in named if value is not None)


def _at_rate(served: Served, rate: float) -> str:
    at = served.at(rate)
    if at is None:
        return f"{number(rate)} requests/s are more than it can take ({number(served.loop.most * served.replicas)})."
    return f"at {number(rate)} requests/s a first token takes {duration(at[0])}, each further one {duration(at[1])}."


def _binds(found: ServingAdvice) -> list[str]:
    """What requests wait for on the device, at the rate."""
    est = found.baseline.estimate
    place = _place(found.baseline, found.rate)
    machine = est.scenario.machine
    shares = sorted(((r, float(np.asarray(s)[place])) for r, s in est.shares.items()), key=lambda x: -x[1])
    words = [f"{percent(s)} {resource(machine.resource_label(r))}" for r, s in shares if s >= SAID]
    return ["The device waits for", *(f"{word}," for word in words[:-1]), f"{words[-1]}."]


def _place(served: Served, rate: float) -> int:
    """Position of the estimate whose number of requests under way is nearest to that at the rate."""
    counts = np.asarray(served.estimate.scenario.task.sizes()["batch"]) / served.replicas
    under_way = float(np.interp(rate / served.replicas, served.loop.rate, served.loop.concurrency))
    return int(np.argmin(np.abs(np.log(counts / max(under_way, 1.0)))))


def _remedies(found: ServingAdvice, width: int, top: int) -> RenderableType:
    shown = found.remedies[:top]
    title = f"What would help ({_BETTER[found.objective]}; {found.limits.quality} quality)"
    if not shown:
        return section(title, Text("nothing that is known here"))
    more = len(found.remedies) - len(shown)
    rest = [Text(f"{more} more: --top {len(found.remedies)}", style="dim")] if more else []
    named = [r.remedy.technique for r in shown[:PARTS]]
    return section(title, _table(found, shown, width), *rest, Text(""), *explained(named))


def _table(found: ServingAdvice, shown: Sequence[ServingRemedy], width: int) -> Table:
    titles = ["technique", "gain", "requests/s", "TTFT", "TPOT", "at once", "$ per M", "answers"]
    rows = [_row(found, r, r.after) for r in shown if r.after is not None]
    return fitted(titles, rows, width, wordy=(0,), left=(7,))


def _row(found: ServingAdvice, remedy: ServingRemedy, after: Served) -> list[Cell]:
    at, used = after.at(found.rate), remedy.remedy.technique
    gain = found.gain(after)
    return [
        Text(remedy.name, style="bold"),
        ratio(gain) if np.isfinite(gain) else "keeps",
        number(after.requests_per_s),
        "queues" if at is None else duration(at[0]),
        "queues" if at is None else duration(at[1]),
        count(after.capacity),
        "–" if after.usd_per_million is None else money(after.usd_per_million),
        GRADES[used.grade] + ("" if used.training_free else ", trained"),
    ]


def _together(found: ServingAdvice, width: int) -> Table:
    rows = [["now", "", *_figures(found, found.baseline)]]
    rows += [[f"+ {step.name}", ratio(step.gain), *_figures(found, step.after)] for step in found.steps]
    titles = ["one after the other", "gain", "requests/s", "TTFT", "TPOT"]
    return fitted(titles, rows, width, wordy=(0,))


def _figures(found: ServingAdvice, served: Served) -> list[str]:
    at = served.at(found.rate)
    times = ["queues"] * 2 if at is None else [duration(seconds) for seconds in at]
    return [number(served.requests_per_s), *times]


def assumptions(found: ServingAdvice) -> tuple[str, ...]:
    """What the advice rests on."""
    return (
        f"requests arrive at random; TTFT and TPOT are means at {number(found.rate)} requests/s, by the steady state of the "
        "deployment (ridgepoint simulate has percentiles)",
        "techniques change decode steps, the reading of prompts and what a request keeps; the engine's host times stay",
        *found.given.assumptions,
    )


def document(found: ServingAdvice) -> dict[str, Any]:
    """Baseline, remedies in order, what does not help or apply (design §10)."""
    given = found.given
    pace, goals = found.baseline.pace, found.baseline.goals
    return {
        "baseline": {
            "model": given.model.name,
            "machine": given.machine.name,
            "task": {"name": "serve", "prompt": plain(pace.prompt), "output": plain(pace.output)},
            "plan": {name: plain(v) if isinstance(v, float) else v for name, v in plan_of(given).items()},
            **_served(found, found.baseline),
        },
        "objective": found.objective,
        "quality": found.limits.quality,
        "goals": {"rate_per_s": plain(found.rate), "ttft_s": plain(goals.ttft_s), "tpot_s": plain(goals.tpot_s)},
        "remedies": [_remedy(found, r) for r in (*found.remedies, *found.presuming, *found.useless, *found.refused)],
        "waterfall": [
            {"technique": step.name, "gain_on_top": plain(step.gain), **_served(found, step.after)}
            for step in found.steps
        ],
        "assumptions": list(assumptions(found)),
        "citations": list(found.citations),
    }


def _served(found: ServingAdvice, served: Served) -> dict[str, Any]:
    at = served.at(found.rate)
    return {
        "requests_per_s": plain(served.requests_per_s),
        "tokens_per_s": plain(served.tokens_per_s),
        "ttft_s": None if at is None else plain(at[0]),
        "tpot_s": None if at is None else plain(at[1]),
        "most_requests_per_s": plain(served.loop.most * served.replicas),
        "requests_at_once": plain(served.capacity),
        "usd_per_million_tokens": plain(served.usd_per_million),
    }


def _remedy(found: ServingAdvice, remedy: ServingRemedy) -> dict[str, Any]:
    used, base = remedy.remedy.technique, found.baseline
    named = {
        "technique": used.name,
        "title": used.title,
        "parameters": {name: plain(value) for name, value in remedy.remedy.parameters.items()},
        "applies": remedy.after is not None,
        "reason": remedy.reason or None,
        "quality": used.quality,
        "grade": used.grade,
        "training_free": used.training_free,
        "presumes": used.presumes or None,
        "papers": list(used.papers),
        "evidence": evidence(used),
    }
    if remedy.after is None:
        names = (*_served(found, base), "gain", "speedup", "throughput_gain", "memory_ratio", "fits")
        return named | dict.fromkeys(names)
    after = remedy.after
    then, now = after.latency_s(found.rate), base.latency_s(found.rate)
    return named | {
        "gain": _finite(found.gain(after)),
        "speedup": _finite(now / then) if np.isfinite(now) and np.isfinite(then) else None,
        "throughput_gain": _finite(after.requests_per_s / base.requests_per_s) if base.requests_per_s else None,
        "memory_ratio": plain(float(np.max(after.estimate.memory.total_bytes / base.estimate.memory.total_bytes))),
        "fits": True,
        **_served(found, after),
    }


def _finite(value: float) -> Any:
    return plain(value) if np.isfinite(value) else None
