"""Pipeline schedules, simulated exactly: which stage works on which micro-batch when (design §2).

A schedule fixes the order of each stage's passes. A pass starts when the stage is free and its input has arrived;
messages leave when the pass ends and go one after the other over a link of their own per direction, beside the
computation. This is the oracle of the closed forms in ``cost/pipeline.py`` and the base of planners that need the time
line itself.

>>> line = simulate([1.0, 1.0], [2.0, 2.0], microbatches=3, schedule="1f1b")
>>> line.makespan_s, line.idle_s(0), line.peak_in_flight(0)
(12.0, 3.0, 2.0)
>>> print(line.sketch())
0 1 . . 0 0 2 1 1 . 2 2
. 0 0 0 1 1 1 2 2 2 . .
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ridgepoint.errors import RidgepointError


@dataclass(frozen=True)
class Pass:
    """The forward or backward pass of one micro-batch through one of the model chunks of a stage."""

    microbatch: int
    chunk: int = 0
    backward: bool = False
    weights: bool = False
    """The gradient of the weights, where a schedule tells it from the rest of the backward pass: nobody waits for it."""


@dataclass(frozen=True)
class Span:
    """A pass on its stage, from start to end."""

    stage: int
    work: Pass
    start_s: float
    end_s: float


@dataclass(frozen=True)
class TimeLine:
    """All passes of one step, in the order in which each stage does them."""

    spans: tuple[Span, ...]
    stages: int
    chunks: int

    @property
    def makespan_s(self) -> float:
        """From the first start to the last end."""
        return max(span.end_s for span in self.spans)

    def of_stage(self, stage: int) -> list[Span]:
        """What one stage does, in order."""
        return [span for span in self.spans if span.stage == stage]

    def idle_s(self, stage: int) -> float:
        """Time of the step in which the stage does nothing: its part of the bubble."""
        return self.makespan_s - sum(span.end_s - span.start_s for span in self.of_stage(stage))

    def peak_in_flight(self, stage: int) -> float:
        """Most micro-batches whose activations the stage holds at once; a chunk holds 1/chunks of a micro-batch's."""
        held = peak = 0
        spans = self.of_stage(stage)
        split = any(span.work.weights for span in spans)
        for span in spans:
            if not span.work.backward:
                held += 1
            elif span.work.weights == split:
                held -= 1
            peak = max(peak, held)
        return peak / self.chunks

    def sketch(self, step_s: float = 1.0) -> str:
        """One line per stage with the micro-batch that it works on in every ``step_s``; a dot where it is idle."""
        count = round(self.makespan_s / step_s)
        lines = [["."] * count for _ in range(self.stages)]
        for span in self.spans:
            for i in range(round(span.start_s / step_s), round(span.end_s / step_s)):
                lines[span.stage][i] = str(span.work.microbatch)
        return "\n".join(" ".join(line) for line in lines)


def forward_order(stage: int, stages: int, microbatches: int, chunks: int) -> list[Pass]:
    """Forward passes only (inference)."""
    return [Pass(i) for i in range(microbatches)]


def gpipe_order(stage: int, stages: int, microbatches: int, chunks: int) -> list[Pass]:
    """All forward passes, then all backward passes, last micro-batch first (Huang et al. 2019)."""
    passes = [Pass(i) for i in range(microbatches)]
    return passes + [Pass(p.microbatch, backward=True) for p in reversed(passes)]


def one_f_one_b_order(stage: int, stages: int, microbatches: int, chunks: int) -> list[Pass]:
    """As many forward passes as stages follow, then one forward and one backward in turn (Narayanan et al. 2019)."""
    return _in_turn(
        [Pass(i) for i in range(microbatches)],
        [Pass(i, backward=True) for i in range(microbatches)],
        warm_up=stages - stage - 1,
    )


def interleaved_order(stage: int, stages: int, microbatches: int, chunks: int) -> list[Pass]:
    """1F1B over ``chunks`` model chunks per stage, in groups of a micro-batch per stage (Narayanan et al. 2021).

    Errors: ``bad_plan`` where the micro-batches do not come in whole groups.
    """
    if chunks == 1:
        return one_f_one_b_order(stage, stages, microbatches, chunks)
    if microbatches % stages:
        raise RidgepointError(
            "bad_plan",
            f"interleaved stages take micro-batches in groups of {stages}, not {microbatches}",
            f"use a multiple of {stages} micro-batches, or the 1f1b schedule",
        )
    forward: list[Pass] = []
    backward: list[Pass] = []
    for first in range(0, microbatches, stages):
        group = range(first, first + stages)
        forward += [Pass(i, chunk) for chunk in range(chunks) for i in group]
        backward += [Pass(i, chunk, backward=True) for chunk in reversed(range(chunks)) for i in group]
    return _in_turn(forward, backward, warm_up=2 * (stages - stage - 1) + (chunks - 1) * stages)


def zero_bubble_order(stage: int, stages: int, microbatches: int, chunks: int) -> list[Pass]:
    """ZB-H1 (Qi et al. 2023): 1F1B's activations; gradients of weights come later the later the stage."""
    return _delayed(microbatches, warm_up=stages - stage, delay=stage)


def zero_bubble_2_order(stage: int, stages: int, microbatches: int, chunks: int) -> list[Pass]:
    """ZB-H2: about twice the activations fill the wait for the first gradient."""
    return _delayed(microbatches, warm_up=2 * (stages - stage) - 1, delay=2 * stage)


def _delayed(microbatches: int, warm_up: int, delay: int) -> list[Pass]:
    """``warm_up`` forward passes, then in turn a backward pass, the gradient of weights of ``delay`` micro-batches before, and
    a forward pass.
    """
    first = min(warm_up, microbatches)
    passes = [Pass(i) for i in range(first)]
    for i in range(microbatches):
        passes.append(Pass(i, backward=True))
        if i >= delay:
            passes.append(Pass(i - delay, backward=True, weights=True))
        if first + i < microbatches:
            passes.append(Pass(first + i))
    left = range(max(microbatches - delay, 0), microbatches)
    return passes + [Pass(i, backward=True, weights=True) for i in left]


def _in_turn(forward: list[Pass], backward: list[Pass], warm_up: int) -> list[Pass]:
    warm_up = min(warm_up, len(forward))
    pairs = zip(forward[warm_up:], backward, strict=False)
    return [*forward[:warm_up], *(p for pair in pairs for p in pair), *backward[len(forward) - warm_up :]]


Order = Callable[[int, int, int, int], list[Pass]]
ORDERS: dict[str, Order] = {
    "forward": forward_order,
    "gpipe": gpipe_order,
    "1f1b": one_f_one_b_order,
    "interleaved": interleaved_order,
    "zero_bubble": zero_bubble_order,
    "zero_bubble_2": zero_bubble_2_order,
}
SPLIT = ("zero_bubble", "zero_bubble_2")
"""Schedules that tell the gradient of the weights from the rest of the backward pass."""
"""Schedule → the order of one stage's passes, given (stage, stages, micro-batches, chunks)."""


def simulate(
    forward_s: Sequence[float],
    backward_s: Sequence[float] | None = None,
    *,
    microbatches: int,
    schedule: str = "forward",
    chunks: int = 1,
    send_s: float | Sequence[float] = 0.0,
    weights_s: Sequence[float] | None = None,
) -> TimeLine:
    """The time line of one step.

    ``forward_s`` and ``backward_s`` are each stage's seconds per micro-batch, all its chunks together. ``send_s`` is
    the seconds of one message to the next stage or back; one number, or one per stage (the last stage's joins it to the
    first one, which only interleaved schedules use). ``weights_s`` is the part of the backward pass that no other stage
    waits for (besides ``backward_s``); only zero-bubble schedules put it elsewhere.

    >>> simulate([1.0, 3.0, 1.0], microbatches=4, send_s=0.5).makespan_s  # 5 + 2 · 0.5 + 3 · 3
    15.0

    Errors: ``bad_plan`` for an unknown schedule, or counts that it cannot take.
    """
    stages = len(forward_s)
    if schedule not in ORDERS:
        raise RidgepointError("bad_plan", f"unknown pipeline schedule '{schedule}'", "use one of " + ", ".join(ORDERS))
    if stages < 1 or microbatches < 1 or chunks < 1:
        raise RidgepointError("bad_plan", "a pipeline needs at least one stage, micro-batch and chunk")
    chunks = chunks if schedule == "interleaved" else 1
    backward_s = backward_s if backward_s is not None else [0.0] * stages
    weights_s = weights_s if weights_s is not None else [0.0] * stages
    sends = [send_s] * stages if isinstance(send_s, int | float) else list(send_s)
    if not len(backward_s) == len(sends) == len(weights_s) == stages:
        raise RidgepointError("bad_plan", f"{stages} stages need as many backward and send times")
    orders = [ORDERS[schedule](stage, stages, microbatches, chunks) for stage in range(stages)]
    if schedule not in SPLIT:
        backward_s, weights_s = [b + w for b, w in zip(backward_s, weights_s, strict=True)], [0.0] * stages
    seconds = [(f / chunks, b / chunks, w / chunks) for f, b, w in zip(forward_s, backward_s, weights_s, strict=True)]
    return TimeLine(tuple(_run(orders, seconds, sends, chunks)), stages, chunks)


def _run(
    orders: list[list[Pass]], seconds: list[tuple[float, float, float]], sends: list[float], chunks: int
) -> list[Span]:
    """Every pass at its earliest time; each turn of the loop advances every stage as far as its inputs have arrived."""
    stages = len(orders)
    arrived: dict[tuple[int, Pass], float] = {(0, p): 0.0 for p in orders[0] if p.chunk == 0 and not p.backward}
    free, done = [0.0] * stages, [0] * stages
    link_free: dict[tuple[int, bool], float] = {}
    spans: list[Span] = []
    while any(done[s] < len(orders[s]) for s in range(stages)):
        before = len(spans)
        for stage in range(stages):
            while done[stage] < len(orders[stage]) and (stage, orders[stage][done[stage]]) in arrived:
                work = orders[stage][done[stage]]
                start = max(free[stage], arrived[stage, work])
                end = start + seconds[stage][work.backward + work.weights]
                spans.append(Span(stage, work, start, end))
                free[stage], done[stage] = end, done[stage] + 1
                if work.weights:
                    continue
                if work.backward:
                    arrived[stage, replace(work, weights=True)] = end
                target = _next(stage, work, stages, chunks)
                if target is not None:
                    arrived[target] = _send(stage, target[0], work.backward, end, sends, link_free)
        if len(spans) == before:
            raise AssertionError("the schedule waits for itself")
    return spans


def _next(stage: int, work: Pass, stages: int, chunks: int) -> tuple[int, Pass] | None:
    """Where a pass's result goes: the next stage, the next chunk on the first stage, or back; the last turns around."""
    level = work.chunk * stages + stage
    if work.backward:
        level -= 1
    elif level + 1 < chunks * stages:
        level += 1
    else:
        return stage, Pass(work.microbatch, work.chunk, backward=True)
    return None if level < 0 else (level % stages, Pass(work.microbatch, level // stages, work.backward))


def _send(
    source: int, target: int, backward: bool, ready: float, sends: list[float], link_free: dict[tuple[int, bool], float]
) -> float:
    """When a message arrives that is ready to leave ``source``; messages of one direction share the link."""
    if source == target:
        return ready
    link = (target if backward else source, backward)
    start = max(ready, link_free.get(link, 0.0))
    link_free[link] = start + sends[link[0]]
    return link_free[link]
