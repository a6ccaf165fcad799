"""A training plan on the terminal: the best layouts, why the first one wins, what the run takes."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ridgepoint.plan import RANK_ORDERS
from ridgepoint.report.headline import SAID, verdict
from ridgepoint.report.memory import memory_table, memory_text
from ridgepoint.report.schedule import pipeline_page
from ridgepoint.report.table import Cell, fitted
from ridgepoint.report.text import bar, count, flow, gigabytes, money, number, percent, plural, ratio, resource
from ridgepoint.tasks.activations import recompute_words
from ridgepoint.tasks.updates import sharing
from ridgepoint.training.answer import FASTER, TrainPlan
from ridgepoint.training.layouts import LaidOut
from ridgepoint.training.scaling import Point
from ridgepoint.training.schedule import TimeLine
from ridgepoint.units import duration, si

_SCHEDULES = {"1f1b": "1F1B", "zero_bubble": "ZB-H1", "zero_bubble_2": "ZB-H2", "gpipe": "GPipe"}
_LEAST_S = 0.0005
"""Part of a step below which a difference between two layouts is not worth words."""


def page(found: TrainPlan, width: int, line: TimeLine | None = None) -> RenderableType:
    """The whole answer, at most ``width`` characters wide, with the best layout's schedule where it is given."""
    parts: list[RenderableType] = [_headline(found), Text(""), _layouts(found, width), Text("")]
    parts += [_takes(found, width), Text("")]
    parts += [_figures(found, width), Text(""), *_sentences(found, width), Text("")]
    if line is not None:
        parts += [pipeline_page(found.best.estimate, width, line), Text("")]
    for name, title in (("strong", "Same batch on other machines"), ("weak", "Batch that grows with the machine")):
        if name in found.scaling:
            parts += [Text(title, "bold"), _curve(found.scaling[name], width), Text("")]
    parts += [Text("Memory of the fullest device", "bold"), memory_table(found.best.estimate, width)]
    parts.append(memory_text(found.best.estimate))
    for title, notes in (("Warnings", found.best.estimate.warnings), ("Assumptions", found.best.estimate.assumptions)):
        if notes:
            parts += [Text(""), Text(title, "bold")]
            parts += [Text(flow(["•", *text.split()], width - 2)) for text in notes]
    return Group(*parts)


def _headline(found: TrainPlan) -> Text:
    text = Text.assemble((found.model.name, "bold"), " on ", (found.machine.name, "bold"), " · ", ("train", "bold"))
    text.append(f" · {batch_words(found)}\n")
    many = f"{found.searched:,} layouts searched, {found.fitting:,} fit; the best of each kind for {found.objective}"
    return text.append(many, "dim")


def batch_words(found: TrainPlan) -> str:
    """The batch of a step: sequences and tokens, or samples."""
    size = float(found.task.batch)
    if found.unit == "samples":
        return f"batch {count(size)}"
    tokens = size * float(found.task.seq)
    return f"batch {count(size)} × {count(float(found.task.seq))} = {count(tokens)} tokens"


def _layouts(found: TrainPlan, width: int) -> Table:
    titles = ["", "devices", "tp", "pp", "dp", "ep", "cp", "order", "ZeRO", "mb", "remat", "schedule"]
    titles += ["step", "MFU", "GB", "bubble", "links", "energy" if found.objective == "energy" else "cost"]
    rows = [_row(found, i, layout) for i, layout in enumerate(found.layouts)]
    return fitted(titles, rows, width, wordy=(), left=(7, 10, 11))


def _row(found: TrainPlan, place: int, layout: LaidOut) -> list[Cell]:
    plan, degrees, est = layout.plan, layout.estimate.built.layout, layout.estimate

    def degree(name: str) -> str:
        value = float(getattr(degrees, name))
        everywhere = all(float(getattr(other.estimate.built.layout, name)) == 1.0 for other in found.layouts)
        return "" if everywhere else f"{value:g}"

    price = "" if est.cost_usd is None else money(float(est.cost_usd))
    if found.objective == "energy":
        price = "" if est.energy_j is None else si(float(est.energy_j), "J")
    return [
        Text(f"{place + 1}", "bold" if place == 0 else "dim"),
        "" if len({float(other.estimate.devices) for other in found.layouts}) == 1 else f"{est.devices:g}",
        *(degree(name) for name in ("tp", "pp", "dp", "ep", "cp")),
        "" if all(other.plan.rank_order == RANK_ORDERS[0] for other in found.layouts) else plan.rank_order,
        sharing(plan),
        f"{float(plan.micro_batch or 1.0):g}",
        recompute_words(plan).replace("full ", ""),
        _schedule(layout),
        Text(duration(layout.step_time_s), "bold"),
        percent(layout.mfu),
        number(layout.memory_bytes / 1e9),
        percent(layout.bubble),
        percent(layout.exposed_communication),
        price,
    ]


def _takes(found: TrainPlan, width: int) -> Table:
    """What each layout takes: the interval of its step, its rate and energy, days and money of the run where it is said."""
    rows: list[list[Cell]] = []
    for place, layout in enumerate(found.layouts):
        est, run = layout.estimate, found.run(layout)
        low, high = est.interval_s
        rows.append(
            [
                Text(f"{place + 1}", "bold" if place == 0 else "dim"),
                duration(layout.step_time_s),
                f"{duration(float(low))} – {duration(float(high))}",
                number(layout.amount / layout.step_time_s),
                "" if est.energy_j is None else si(float(est.energy_j), "J"),
                number(run["days"] or 0.0) if run else "",
                "" if not run or run["energy_j"] is None else number(run["energy_j"] / 3.6e9),
                "" if not run or run["cost_usd"] is None else money(run["cost_usd"]),
            ]
        )
    titles = ["", "step", "90 % interval", f"{found.unit}/s", "energy", "days of the run", "MWh", "cost of the run"]
    return fitted(titles, rows, width, wordy=())


def _schedule(layout: LaidOut) -> str:
    if float(layout.estimate.built.layout.pp) == 1.0:
        return "–"
    if layout.plan.schedule == "interleaved":
        return f"1F1B ×{float(layout.plan.chunks):g}"
    return _SCHEDULES.get(layout.plan.schedule, layout.plan.schedule)


def _curve(points: list[Point], width: int) -> Table:
    best = max((p.tokens_per_s_per_device or 0.0 for p in points), default=0.0)
    rows: list[list[Cell]] = []
    for p in points:
        if p.step_time_s is None or p.tokens_per_s_per_device is None or p.plan is None:
            rows.append([count(float(p.devices)), count(float(p.batch)), "–", "–", "nothing fits or divides", ""])
            continue
        degrees = " ".join(f"{name} {p.plan[name]:g}" for name in ("tp", "pp", "dp", "ep", "cp") if p.plan[name] > 1.0)
        rate = p.tokens_per_s_per_device
        rows.append(
            [
                count(float(p.devices)),
                count(float(p.batch)),
                duration(p.step_time_s),
                number(rate),
                Text(bar(rate / best, 16), style="cyan"),
                degrees,
            ]
        )
    return fitted(["devices", "batch", "step", "tokens/s each", "", "layout"], rows, width, wordy=(5,), left=(4,))


def _figures(found: TrainPlan, width: int) -> Table:
    rows: list[list[Cell]] = [
        [label, Text(figure, style="bold"), Text(remark, style="dim")] for label, figure, remark in _lines(found)
    ]
    return fitted(["", "", ""], rows, width, wordy=(2,), left=(0, 1))


def _lines(found: TrainPlan) -> Iterator[tuple[str, str, str]]:
    best = found.best
    est, run = best.estimate, found.run(best)
    low, high = est.interval_s
    yield "Time per step", duration(best.step_time_s), f"90 % interval {duration(low)} – {duration(high)}"
    yield "Physical limit", duration(float(est.bound_s)), f"of this layout; headroom {ratio(float(est.headroom))}"
    rate = best.amount / best.step_time_s
    each = number(rate / float(est.devices))
    yield "Throughput", f"{number(rate)} {found.unit}/s", f"{each} per device"
    if est.power_w is not None:
        yield "Power", si(float(est.power_w), "W"), plural(round(float(est.devices)), "device")
    if run:
        assert run["days"] is not None
        words = (
            f"{number(run['steps'] or 0.0)} steps; {number(run['days_without_failures'] or 0.0)} days without failures"
        )
        yield "Whole run", f"{number(run['days'])} days", words
        if run["cost_usd"] is not None:
            yield "Cost", money(run["cost_usd"]), f"{money(float(est.cost_usd / est.time_s) * 3600.0)} per hour"
        if run["energy_j"] is not None:
            yield "Energy", f"{number(run['energy_j'] / 3.6e9)} MWh", ""


def _sentences(found: TrainPlan, width: int) -> Iterator[Text]:
    first = Text(flow(verdict(found.best.estimate), width))
    first.stylize("bold", 0, len("Bottleneck:"))
    yield first
    for label, phrases in _told(found):
        text = Text(flow([label, *phrases], width))
        text.stylize("bold", 0, len(label))
        yield text


def _told(found: TrainPlan) -> Iterator[tuple[str, list[str]]]:
    """What is said of the plan besides its best layout's verdict: a label and its phrases."""
    for label, phrases in (
        ("Links:", _links(found)),
        ("Twice as fast:", _sensitivity(found)),
        ("The runner-up:", _runner_up(found)),
        ("Critical batch:", _critical(found)),
        ("Failures:", _failures(found)),
    ):
        if phrases:
            yield label, phrases


def sentences(found: TrainPlan) -> Iterator[str]:
    """The same as plain sentences, with the verdict."""
    yield " ".join(verdict(found.best.estimate))
    yield from (" ".join([label, *phrases]) for label, phrases in _told(found))


def _label(found: TrainPlan, name: str) -> str:
    return resource(found.machine.resource_label(name))


def _links(found: TrainPlan) -> list[str]:
    """Which group of ranks lies on which links, under the best layout's order."""
    phrases = []
    for group in found.best.groups:
        names = " and ".join(_link(found, name) for name in group.links)
        inside = f" ({group.local} in a node)" if len(group.links) > 1 else ""
        phrases.append(f"{group.name} {group.ranks} on {names}{inside},")
    if not phrases:
        return []
    several = found.best.plan.rank_order if found.machine.nodes > 1 else ""
    return [*phrases[:-1], phrases[-1].rstrip(",") + (f" (ranks in the order {several})." if several else ".")]


def _link(found: TrainPlan, name: str) -> str:
    return _label(found, name).removesuffix(" bandwidth")


def _sensitivity(found: TrainPlan) -> list[str]:
    gains = [f"{_label(found, r)} {ratio(gain)}," for r, gain in found.sensitivity.items() if gain - 1.0 >= SAID / 4.0]
    return [*gains[:-1], gains[-1].rstrip(",") + f" ({FASTER:g} × the rate, same layout)."] if gains else []


def _runner_up(found: TrainPlan) -> list[str]:
    if len(found.layouts) < 2:
        return []
    one, two = found.layouts[:2]
    worse = {"time": "slower", "cost": "dearer", "energy": "more energy"}[found.objective]
    phrases = [f"{percent(found.behind)} {worse};" if found.behind > 0.0005 else f"as good for {found.objective};"]
    if two.estimate.devices != one.estimate.devices:
        return [*phrases, f"{duration(two.step_time_s)} per step on {two.estimate.devices:g} devices."]
    differences = [
        f"{'+' if s > 0 else '−'}{duration(abs(s))} {_label(found, r)},"
        for r, s in found.runner_up.items()
        if abs(s) >= _LEAST_S * one.step_time_s
    ][:5]
    phrases += differences
    return [*phrases[:-1], phrases[-1].rstrip(",;") + "."]


def _critical(found: TrainPlan) -> list[str]:
    one = found.critical_batch
    if one is None:
        return []
    over = percent(one.more_tokens - 1.0)
    return [
        f"{count(round(one.tokens, -5))} tokens at a loss of {one.loss:.2f} (Kaplan et al. 2020);",
        f"this batch needs {over} more tokens than a small one",
        f"and {ratio(one.more_steps)} the steps of a large one.",
    ]


def _failures(found: TrainPlan) -> list[str]:
    one = found.goodput
    return [
        f"one in {duration(one.mtbf_s)};",
        f"a checkpoint of {gigabytes(one.checkpoint_bytes)} every {duration(one.interval_s)},",
        "written in the background;"
        if one.background
        else f"which stops the training for {duration(one.checkpoint_s)};",
        "more than 99.9 % of the time is useful."
        if one.fraction > 0.9995
        else f"{100.0 * one.fraction:.1f} % of the time is useful.",
    ]
