"""A simulation as a page for the terminal: latencies, rates, what limits it, how it went over time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.terminal import indented, notes, section
from ridgepoint.report.text import count, flow, money, number, percent, plural, resource
from ridgepoint.serving.deployment import Deployment
from ridgepoint.serving.outcome import Outcome, Slo
from ridgepoint.serving.series import series, shares_over_time
from ridgepoint.units import duration, si

BARS = " ▁▂▃▄▅▆▇█"
PLOT = 60
MAIN, MOST_SHARES, MOST_EVENTS = 0.1, 3, 12
"""Resources whose share is drawn over time: from which share on, how many; events that are listed."""
LATENCIES = (
    ("ttft_s", "Time to first token"),
    ("tpot_s", "Time per further token"),
    ("latency_s", "Time in all"),
)
LATENCY_TITLES = ("", "mean", "p50", "p90", "p99", "95 % interval of p90")


def page(found: Outcome, width: int) -> RenderableType:
    """The whole report for a terminal of ``width`` columns."""
    return Group(*_sections(found, width))


def _sections(found: Outcome, width: int) -> Iterator[RenderableType]:
    yield _headline(found)
    yield Text("")
    yield indented(_latencies(found, width - 2))
    yield Text("")
    yield indented(_results(found, width - 2))
    if found.shares:
        yield Text("")
        yield _summary(found, width)
    yield Text("")
    yield section("Over time", _plots(found, width - 2))
    if found.events:
        yield Text("")
        yield section("Replicas", _events(found, width - 2))
    yield from notes("Warnings", found.warnings, "yellow")
    yield from notes("Assumptions", found.deployment.assumptions, "dim")


def _headline(found: Outcome) -> Text:
    given = found.deployment
    load, how = subjects(found)
    text = Text.assemble((given.model.name, "bold"), " on ", (given.machine_name, "bold"))
    text.append(f" · {load}\n")
    return text.append(how, style="dim")


def subjects(found: Outcome) -> tuple[str, str]:
    """What came, and what served it, in words."""
    given, requests = found.deployment, found.requests
    rate = f" · {number(requests.rate)} requests/s" if requests.rate else ""
    pools = f", {given.prefill_replicas} of them read prompts" if given.prefill_replicas else ""
    if given.reading is not None:
        pools = f" decode, {_replicas(given.reading)} of {given.reading.machine.device.name} read prompts"
    prompts, outputs = (count(round(float(c.mean()))) for c in (requests.prompt, requests.output))
    return f"{requests.source} · {len(requests):,} requests{rate}", (
        f"{given.engine}, {_replicas(given)}{pools}; prompts {prompts}, outputs {outputs} tokens in the mean"
    )


def _replicas(given: Deployment) -> str:
    """How many replicas of how many devices, with the degrees of one."""
    layout, each = given.passes.layout, given.devices_per_replica
    degrees = " ".join(f"{n} {getattr(layout, n):g}" for n in ("tp", "pp", "ep", "cp") if getattr(layout, n) > 1)
    said = f"{plural(given.replicas, 'replica')} of {plural(each, 'device')}"
    return f"{said} ({degrees})" if degrees else said


def _latencies(found: Outcome, width: int) -> Table:
    rows: list[list[Cell]] = [
        [title, *(Text(figure, style="bold") for figure in figures), Text(beside, style="dim")]
        for title, *figures, beside in latency_rows(found)
    ]
    if not rows:
        return fitted([""], [["no request was completed"]], width)
    return fitted(LATENCY_TITLES, rows, width)


def latency_rows(found: Outcome) -> Iterator[tuple[str, ...]]:
    """Rows of ``LATENCY_TITLES``; none where no request was completed."""
    for name, title in LATENCIES:
        one = found.summary(name)
        if one is not None:
            interval = one.interval.get("p90")
            beside = f"{duration(interval[0])} – {duration(interval[1])}" if interval else ""
            yield title, *map(duration, (one.mean, one.p50, one.p90, one.p99)), beside
    gaps = found.token_gap_s
    if gaps is not None:
        yield "Gap between tokens", *(duration(gaps[q]) for q in ("mean", "p50", "p90", "p99")), ""


def _results(found: Outcome, width: int) -> Table:
    rows: list[list[Cell]] = [
        [label, Text(figure, style="bold"), Text(remark, style="dim")] for label, figure, remark in facts(found)
    ]
    return fitted(["", "", ""], rows, width, wordy=(2,), left=(0, 1))


def facts(found: Outcome) -> Iterator[tuple[str, str, str]]:
    """(label, figure, what to know about it), most important first."""
    yield (
        "Throughput",
        f"{number(found.requests_per_s)} requests/s",
        f"{number(found.tokens_per_s)} tokens/s over {duration(found.span_s)}",
    )
    if found.slo:
        yield (
            "Goodput",
            f"{number(found.goodput_per_s)} requests/s",
            f"{percent(found.attainment)} of requests {goals(found.slo)}",
        )
    queue = found.queue
    yield (
        "Queue",
        f"{number(queue.mean)} waiting in the mean",
        f"at most {count(queue.largest)}; {_growth(queue.growth_per_s)}",
    )
    busy = found.utilization
    spread = f"from {percent(min(busy))} to {percent(max(busy))}" if len(busy) > 1 else ""
    yield "Replicas at work", percent(float(np.mean(busy))), spread
    mean, most = found.cache_use
    yield (
        "KV cache in use",
        percent(mean),
        f"at most {percent(most)} of {found.cache.size} a replica; {found.put_back:,} put back",
    )
    cached = float(found.columns["cached_tokens"].sum())
    if cached:
        yield (
            "Prefix cache",
            percent(cached / float(found.requests.prompt[found.completed].sum())),
            "of prompt tokens found",
        )
    yield from _below(found)
    tokens = max(float(found.requests.output[found.completed].sum()), 1.0)
    if found.energy_j is not None:
        power = si(found.energy_j / max(found.span_s, 1e-12), "W")
        yield (
            "Power",
            power,
            f"{si(found.energy_j / tokens, 'J')} per token, {plural(found.devices, 'device')}",
        )
    if found.cost_usd is not None:
        hourly = money(found.cost_usd / max(found.span_s, 1e-12) * 3600.0)
        yield "Cost", f"{money(1e6 * found.cost_usd / tokens)} per million tokens", f"{hourly} per hour"


def _below(found: Outcome) -> Iterator[tuple[str, str, str]]:
    """Tiers of the cache, adapters, failures and scaling, where there are any."""
    read = max(float(found.requests.prompt[found.completed].sum()), 1.0)
    for name, tokens in found.fetched.items():
        yield f"Fetched from {name}", percent(tokens / read), "of prompt tokens, over the link"
    if found.deployment.adapters is not None:
        loaded = sum(replica.slots.loaded for replica in found.replicas if replica.slots is not None)
        names = len(np.unique(found.columns["adapter"][found.columns["adapter"] >= 0]))
        yield "Adapters", f"{loaded:,} loads", f"{names:,} different ones were asked for"
    if found.deployment.failures is not None:
        again = int(found.columns["restarted"].sum())
        failed = sum(event.what == "failed" for event in found.events)
        yield "Failures", f"{failed:,} of replicas", f"{again:,} requests began again"
    if found.deployment.scaling is not None:
        mean = sum(found.on_s) / max(found.span_s, 1e-12)
        yield "Replicas switched on", number(mean), f"in the mean, of {len(found.replicas)}"


def goals(slo: Slo) -> str:
    """The goals that requests are to keep, in words."""
    named = (("TTFT", slo.ttft_s), ("TPOT", slo.tpot_s), ("latency", slo.latency_s))
    return "with " + ", ".join(f"{name} ≤ {duration(value)}" for name, value in named if value is not None)


def _growth(per_s: float) -> str:
    return "steady" if abs(per_s) < 1e-3 else f"{'grew' if per_s > 0 else 'shrank'} by {number(abs(per_s))} per second"


def _summary(found: Outcome, width: int) -> Text:
    given = found.deployment
    words = [f"{percent(s)} {resource(given.resource_label(r))}" for r, s in found.shares.items() if s >= 0.02]
    ends = ["," for _ in words[1:]] + ["."]
    text = Text(flow(["Busy time:", *(word + end for word, end in zip(words, ends, strict=True))], width))
    text.stylize("bold", 0, len("Busy time:") + 1 + len(words[0]))
    return text


def _plots(found: Outcome, width: int) -> Table:
    over_time = series(found, bins=min(PLOT, max(20, width - 40)))
    titles = {
        "arrivals_per_s": "arrivals per second",
        "waiting": "waiting",
        "decoding": "decoding",
        "tokens_per_s": "tokens per second",
        "cache": "KV cache in use",
        "busy": "replicas at work",
        "put_back_per_s": "put back per second",
        "replicas_on": "replicas switched on",
        "power_w": "power",
    }
    dull = {name for name in ("put_back_per_s", "replicas_on", "power_w") if not np.ptp(over_time[name]) > 0.0}
    rows: list[list[Cell]] = []
    for name, title in titles.items():
        if name in dull:
            continue
        values = over_time[name]
        most, part = float(values.max()), name in ("cache", "busy")
        top = percent(most) if part else si(most, "W") if name == "power_w" else number(most)
        rows.append([title, Text(line(values, 1.0 if part else most), style="cyan"), f"up to {top}"])
    rows += _shares(found, len(over_time["end_s"]))
    return fitted(["", "", ""], rows, width, wordy=(0,), left=(1, 2))


def _shares(found: Outcome, bins: int) -> Iterator[list[Cell]]:
    """The part of the replicas' time that each of the main resources is responsible for, over time."""
    table = shares_over_time(found, bins)
    for name in [n for n, share in found.shares.items() if share >= MAIN and n in table][:MOST_SHARES]:
        values = table[name]
        label = resource(found.deployment.resource_label(name))
        yield [label, Text(line(values, 1.0), style="magenta"), f"limits up to {percent(float(values.max()))}"]


def _events(found: Outcome, width: int) -> Table:
    """What befell replicas, the first of it."""
    rows: list[list[Cell]] = [
        [duration(event.time_s), f"replica {event.replica}", event.what] for event in found.events[:MOST_EVENTS]
    ]
    more = len(found.events) - MOST_EVENTS
    if more > 0:
        rows.append(["…", "", f"and {more:,} more: --json has all"])
    return fitted(["", "", ""], rows, width, left=(1, 2))


def line(values: np.ndarray, most: float) -> str:
    """Values as a row of bars whose full height is ``most``.

    >>> line(np.array([0.0, 1.0, 2.0]), 2.0)
    ' ▄█'
    """
    if most <= 0.0:
        return " " * len(values)
    eighths = np.clip(np.ceil(values / most * 8.0 - 1e-9), 0, 8).astype(int)
    return "".join(BARS[e] for e in eighths)
