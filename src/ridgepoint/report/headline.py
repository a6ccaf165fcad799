"""The top of the page: what was asked, what it takes, and one sentence on why."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from ridgepoint.cost.utilization import arithmetic_utilization, memory_utilization
from ridgepoint.document import has_tokens, sizes
from ridgepoint.estimates import Estimate
from ridgepoint.kernels.rules import BOUND
from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.text import count, flow, money, number, percent, ratio, resource
from ridgepoint.units import duration, si

_TIME = {
    "prefill": "Time to first token",
    "decode": "Time per step",
    "generate": "Time in all",
    "train": "Time per step",
    "forward": "Time",
    "sample": "Time",
}
SAID = 0.02
"""Shares below this are not worth words."""


def headline(est: Estimate) -> Text:
    """Model, machine, task and plan in two lines."""
    (model, machine, task), said = subjects(est)
    text = Text.assemble((model, "bold"), " on ", (machine, "bold"), " · ", (task, "bold"), f" · {said}\n")
    return text.append(devices(est) + _techniques(est), style="dim")


def subjects(est: Estimate) -> tuple[tuple[str, str, str], str]:
    """(model, machine, task), and the sizes in words."""
    given = est.scenario
    said = " · ".join(f"{name} {count(float(value))}" for name, value in sizes(given).items())
    return (given.model.name, given.machine.name, given.task.name), said


def devices(est: Estimate) -> str:
    """Titles of model and machine, and the parallel layout."""
    given = est.scenario
    many = f"{given.machine.devices} × " if given.machine.devices > 1 else ""
    return f"{given.model.title or given.model.name}, {many}{given.machine.device.title}{_layout(est)}"


def _techniques(est: Estimate) -> str:
    applied = est.scenario.techniques
    return "\nwith " + ", ".join(applied) if applied else ""


def _layout(est: Estimate) -> str:
    layout = est.built.layout
    degrees = [
        f"{name} {getattr(layout, name):g}" for name in ("tp", "pp", "dp", "ep", "cp") if getattr(layout, name) > 1
    ]
    return ", " + " ".join(degrees) if degrees else ""


def results(est: Estimate, width: int) -> Table:
    """Time and its interval, the limit, rates, energy and money: a label, the figure, what to know about it."""
    rows: list[list[Cell]] = [
        [label, Text(figure, style="bold"), Text(remark, style="dim")] for label, figure, remark in result_rows(est)
    ]
    return fitted(["", "", ""], rows, width, wordy=(2,), left=(0, 1))


def result_rows(est: Estimate) -> Iterator[tuple[str, str, str]]:
    """(label, figure, what to know about it), most important first."""
    low, high = est.interval_s
    name = est.scenario.task.name
    if est.mode == BOUND:
        yield _TIME[name], duration(est.time_s), "physical limit: peak rates, each byte once, no latency"
    else:
        yield _TIME[name], duration(est.time_s), f"90 % interval {duration(low)} – {duration(high)}"
        yield "Physical limit", duration(est.bound_s), f"headroom {ratio(est.headroom)}"
    if name == "generate":
        yield "First token", duration(est.ttft_s), "TTFT: prefill of the whole batch"
        yield "Each further token", duration(est.tpot_s), "TPOT: mean over the growing context"
    yield "Throughput", *_rates(est)
    yield "Utilization", *_utilization(est)
    yield from _bills(est)


def _rates(est: Estimate) -> tuple[str, str]:
    if not has_tokens(est):
        return f"{number(est.samples_per_s)} samples/s", ""
    sequences = float(est.samples_per_s * est.time_s)
    remark = f"{number(est.samples_per_s)} sequences/s"
    if est.tpot_s is not None:
        remark = f"{number(1.0 / est.tpot_s)} tokens/s per sequence" if sequences > 1 else ""
    return f"{number(est.tokens_per_s)} tokens/s", remark


def _utilization(est: Estimate) -> tuple[str, str]:
    memory = resource(est.scenario.machine.resource_label(est.scenario.machine.main_memory))
    used = percent(float(memory_utilization(est.cost)))
    return f"{percent(float(arithmetic_utilization(est.cost)))} of arithmetic peak", f"{used} of {memory}"


def _bills(est: Estimate) -> Iterator[tuple[str, str, str]]:
    if est.energy_j is not None:
        devices = f", {est.devices:g} devices" if est.devices > 1 else ""
        pieces, unit = (1.0, "step") if est.scenario.task.name == "train" else made(est)
        yield "Power", si(float(est.power_w), "W"), f"{si(float(est.energy_j) / pieces, 'J')} per {unit}{devices}"
    if est.cost_usd is not None:
        pieces, unit = made(est)
        each = f"{money(1e6 * float(est.cost_usd) / pieces)} per million {unit}s"
        yield "Cost", each, f"{money(float(est.cost_usd / est.time_s) * 3600.0)} per hour"


def made(est: Estimate) -> tuple[float, str]:
    """What the run produces: tokens, or samples where there are none."""
    if has_tokens(est):
        return float(est.tokens_per_s * est.time_s), "token"
    return float(est.samples_per_s * est.time_s), "sample"


def summary(est: Estimate, width: int) -> Text:
    """The bottleneck in one sentence."""
    phrases = verdict(est)
    text = Text(flow(phrases, width))
    text.stylize("bold", 0, len(phrases[0]) + 1 + len(phrases[1]) - 1)
    return text


def verdict(est: Estimate) -> list[str]:
    """The bottleneck as phrases of one sentence: the resources with a share worth words, and what the first one's end gives."""
    machine = est.scenario.machine
    words = [f"{percent(s)} {resource(machine.resource_label(r))}" for r, s in est.shares.items() if s >= SAID]
    first = resource(machine.resource_label(est.bottleneck))
    ends = ["," for _ in words[1:]] + ["."]
    phrases = ["Bottleneck:", *(word + end for word, end in zip(words, ends, strict=True))]
    phrases.append(f"Infinitely fast {first} would give {ratio(float(est.limits[est.bottleneck]))}.")
    return phrases
