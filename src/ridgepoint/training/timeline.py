"""The pipeline of an estimated step, pass by pass: real times of its stages on the simulator, and memory over the step."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ridgepoint.cost.combine import combine
from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.kernels.demand import settle
from ridgepoint.models.architecture import Model
from ridgepoint.models.execution import Tokens
from ridgepoint.tasks import Train
from ridgepoint.tasks.activations import of_micro_batch
from ridgepoint.tasks.layout import execution
from ridgepoint.tasks.memory import stage_ledgers
from ridgepoint.tasks.planned import resolved
from ridgepoint.tasks.stages import sizes
from ridgepoint.tasks.training import micro_batch
from ridgepoint.training.layouts import LaidOut
from ridgepoint.training.schedule import TimeLine, simulate
from ridgepoint.work import Pipeline, Work, walk


def has_pipeline(est: Estimate) -> bool:
    """Whether a step has several stages, whose schedule can be shown."""
    return isinstance(est.scenario.task, Train) and any(isinstance(node, Pipeline) for node in walk(est.work))


def timeline(layout: LaidOut | Estimate) -> TimeLine:
    """The schedule of a step: every stage's passes with their expected times.

    Errors: ``bad_plan`` where there is only one stage.
    """
    est = layout.estimate if isinstance(layout, LaidOut) else layout
    pipelines = [node for node in walk(est.work) if isinstance(node, Pipeline)]
    if not pipelines:
        raise RidgepointError("bad_plan", "one pipeline stage has no schedule to show", "fix --pp to at least 2")
    (pipeline,) = pipelines
    demands = est.cost.demands
    return simulated(pipeline, lambda part: float(combine(part, lambda op: settle(demands[id(op)])).time_s))


def simulated(pipeline: Pipeline, seconds: Callable[[Work], float]) -> TimeLine:
    """The schedule of a pipeline, pass by pass, whose parts take ``seconds`` alone; one stage per device."""

    def each(name: str) -> list[float]:
        parts = [(getattr(stage, name), round(float(stage.count))) for stage in pipeline.stages]
        return [time for part, n in parts for time in [0.0 if part is None else seconds(part)] * n]

    return simulate(
        each("forward"),
        None if pipeline.schedule == "forward" else each("backward"),
        microbatches=round(float(pipeline.microbatches)),
        schedule=pipeline.schedule,
        chunks=round(float(pipeline.chunks)),
        send_s=each("send"),
        weights_s=each("weight_gradient"),
    )


@dataclass(frozen=True)
class StageMemory:
    """One stage's memory over the step: entries that stay, and all bytes from each moment on."""

    stays: Mapping[str, float]
    start_s: tuple[float, ...]
    bytes: tuple[float, ...]

    @property
    def peak_bytes(self) -> float:
        """The most at any moment."""
        return max(self.bytes)

    def most_bytes(self, end_s: float, stretches: int) -> list[float]:
        """The most in each of so many equal stretches of the time until ``end_s``.

        >>> StageMemory({}, (0.0, 1.0, 1.5, 3.0), (2.0, 5.0, 3.0, 1.0)).most_bytes(4.0, 4)
        [2.0, 5.0, 3.0, 1.0]
        """
        edges = [end_s * number / stretches * (1.0 - 1e-12) for number in range(stretches + 1)]
        first = [bisect_right(self.start_s, edge * (1.0 + 2e-12)) - 1 for edge in edges[:-1]]
        behind = [bisect_left(self.start_s, edge) for edge in edges[1:]]
        return [max(self.bytes[a : max(b, a + 1)]) for a, b in zip(first, behind, strict=True)]


@dataclass(frozen=True)
class MemoryLine:
    """Memory of every stage over the step, beside what a device may use and has."""

    stages: tuple[StageMemory, ...]
    end_s: float
    usable_bytes: float
    capacity_bytes: float

    @property
    def fullest(self) -> int:
        """The stage with the highest peak."""
        return max(range(len(self.stages)), key=lambda stage: self.stages[stage].peak_bytes)

    @property
    def peak_bytes(self) -> float:
        """The highest peak of all stages."""
        return self.stages[self.fullest].peak_bytes

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "peak_gb": self.peak_bytes / 1e9,
            "fullest_stage": self.fullest,
            "stages": [
                {
                    "peak_gb": one.peak_bytes / 1e9,
                    "stays_gb": {name: size / 1e9 for name, size in one.stays.items()},
                    "start_s": list(one.start_s),
                    "gb": [size / 1e9 for size in one.bytes],
                }
                for one in self.stages
            ],
        }


def memory_line(layout: LaidOut | Estimate, line: TimeLine) -> MemoryLine:
    """Memory over the simulated ``line`` of a step: a micro-batch's activations stay on a stage from the begin of its forward
    pass to the end of the backward pass that last needs them; what is recomputed lives during a backward pass.

    Errors: ``bad_plan`` where activations are offloaded, which lie elsewhere for most of the step.
    """
    est = layout.estimate if isinstance(layout, LaidOut) else layout
    scenario, task = est.scenario, est.scenario.task
    assert isinstance(scenario.model, Model)
    assert isinstance(task, Train)
    if scenario.plan.offload_activations != "none" or scenario.plan.trainable == "zeroth_order":
        raise RidgepointError("bad_plan", "activations do not stay on the device here", "see the ledger")
    degrees = est.built.layout
    run, _ = execution(scenario.model, scenario.plan, degrees, True)
    plan = resolved(scenario.model, scenario.machine, run, degrees, task, scenario.plan)
    size, count = micro_batch(task, plan, degrees)
    tokens = Tokens(size, task.seq, task.seq, keep=task.seq)
    ledgers = stage_ledgers(scenario.model, scenario.machine, run, degrees, task, plan)
    layers = sizes(scenario.model, plan, degrees.pp)
    found = []
    for stage, ledger in enumerate(ledgers):
        view = replace(degrees, layers=layers, stage=stage)
        kept, again = of_micro_batch(scenario.model, run, view, tokens, count, plan)
        stays = {name: float(v) for name, v in ledger.entries.items() if name != "activations"}
        at_hand = max(float(again) - stays["logits"], 0.0)  # layers run again when the logits are gone
        found.append(_of_stage(line, stage, stays, float(kept), at_hand))
    return MemoryLine(tuple(found), line.makespan_s, ledgers[0].usable_bytes, ledgers[0].capacity_bytes)


def _of_stage(line: TimeLine, stage: int, stays: Mapping[str, float], kept: float, again: float) -> StageMemory:
    spans = line.of_stage(stage)
    split = any(span.work.weights for span in spans)
    changes: list[tuple[float, int, float]] = []
    for order, span in enumerate(spans):
        if not span.work.backward:
            changes.append((span.start_s, order, kept / line.chunks))
            continue
        if again:
            changes += [(span.start_s, order, again), (span.end_s, order, -again)]
        if span.work.weights == split:
            changes.append((span.end_s, order, -kept / line.chunks))
    live = sum(stays.values())
    starts, lives = [0.0], [live]
    for time, _, change in sorted(changes):
        live += change
        if time == starts[-1]:
            lives[-1] = live
        else:
            starts.append(time)
            lives.append(live)
    return StageMemory(stays, tuple(starts), tuple(lives))
