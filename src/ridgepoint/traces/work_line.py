"""An estimate as a time line: its work laid out span after span, for Perfetto.

What a work does not say is drawn plainly: what is expected (``Mix``) and what waits for the slowest copy (``Slowest``) are
stretched to the time that they count, works side by side that share a resource are stretched until all of them fit, and
repetitions that would be too many are drawn once and then all others together. So the whole is as long as the estimate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ridgepoint.cost.combine import combine
from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.kernels.demand import Timing, settle
from ridgepoint.kernels.unknown import rules_of
from ridgepoint.ops import Gemm
from ridgepoint.traces.perfetto import Event, Span, device_events, document, host_event
from ridgepoint.traces.products import operands
from ridgepoint.traces.schedule_line import kind as pass_kind
from ridgepoint.traces.schedule_line import pass_span
from ridgepoint.training.timeline import simulated
from ridgepoint.work import Mix, Op, Overlap, Pipeline, Repeat, Seq, Slowest, Work, ops

MOST = 30_000
"""Spans of a trace, about: viewers keep all of them in memory."""
LAUNCH = "launch"
ON_HOST = ("host", "delay")
STREAMS = {"collective": "communication", "transfer": "copies", "storage": "storage"}
"""Kinds of op that do not run on the stream of the kernels."""


def estimate_trace(est: Estimate, most: int = MOST) -> Event:
    """The trace of one scenario, of one device for all; the stages of a pipeline are a device each.

    Errors: ``bad_option`` for a sweep.
    """
    if est.shape != ():
        raise RidgepointError(
            "bad_option", "a trace is drawn of one scenario, not of a sweep", "choose one point of it"
        )
    given = est.scenario
    line = _Line(est)
    line.place(est.cost.work, 0.0, 1.0, 1.0, most, 0)
    numbers = sorted({span.device for span in line.spans} | {0})
    titles = {n: given.machine.device.title + (f", stage {n}" if len(numbers) > 1 else "") for n in numbers}
    about = {
        "writer": "Ridgepoint",
        "model": given.model.name,
        "machine": given.machine.name,
        "task": given.task.name,
        "time_s": float(est.time_s),
        "devices": float(est.devices),
    }
    events = [*device_events(line.spans, titles), *line.host]
    return document(events, [given.machine.device.title] * (numbers[-1] + 1), about)


@dataclass
class _Line:
    """What has been laid out so far."""

    est: Estimate
    spans: list[Span] = field(default_factory=list)
    host: list[Event] = field(default_factory=list)
    _timings: dict[int, Timing] = field(default_factory=dict)
    _seconds: dict[int, float] = field(default_factory=dict)

    def place(self, work: Work, start: float, scale: float, runs: float, room: float, device: int) -> float:
        """Lay ``work`` out from ``start``, ``scale`` times as long, as ``runs`` executions in about ``room`` spans; its end."""
        if scale <= 0.0:
            return start
        if isinstance(work, Op):
            return self._op(work, start, scale, runs, device)
        rooms = _rooms(work, room)
        if isinstance(work, Seq):
            for part, own in zip(work.parts, rooms, strict=True):
                start = self.place(part, start, scale, runs, own, device)
            return start
        if isinstance(work, Repeat):
            return self._repeat(work, start, scale, runs, room, device)
        if isinstance(work, Mix):
            for (p, case), own in zip(work.cases, rooms, strict=True):
                start = self.place(case, start, scale * float(p), runs * float(p), own, device)
            return start
        end = start + scale * self.seconds(work)
        if isinstance(work, Slowest):
            alone = self.seconds(work.body)
            self.place(work.body, start, scale * self.seconds(work) / alone if alone else 0.0, runs, room, device)
        elif isinstance(work, Overlap):
            longest = max((self.seconds(part) for part in work.parts), default=0.0)
            stretch = self.seconds(work) / longest if longest else 0.0
            for part, own in zip(work.parts, rooms, strict=True):
                self.place(part, start, scale * stretch, runs, own, device)
        elif isinstance(work, Pipeline):
            self._pipeline(work, start, scale, runs, room)
        return end

    def seconds(self, work: Work) -> float:
        """What a part of the work takes alone."""
        found = self._seconds.get(id(work))
        if found is None:
            found = self._seconds[id(work)] = float(combine(work, self._timing).time_s)
        return found

    def _timing(self, op: Op) -> Timing:
        found = self._timings.get(id(op))
        if found is None:
            found = self._timings[id(op)] = settle(self.est.cost.demands[id(op)])
        return found

    def _op(self, op: Op, start: float, scale: float, runs: float, device: int) -> float:
        timing = self._timing(op)
        end = start + scale * float(timing.time_s)
        name = op.label or op.kind
        if end <= start:
            return end
        if op.kind in ON_HOST:
            self.host.append(host_event(name, start, end, runs))
            return end
        launch = scale * float(timing.critical_s.get(LAUNCH, 0.0))
        stream = STREAMS.get(op.kind, "compute")
        told = dict(self._told(op, timing, runs))
        self.spans.append(Span(name, start, end, device, stream, op.kind, op.label, runs, launch, told))
        return end

    def _told(self, op: Op, timing: Timing, runs: float) -> Iterator[tuple[str, Any]]:
        rules = rules_of(op)
        yield "flop", runs * float(rules.flop(op))
        yield "bytes", runs * float(rules.read_bytes(op) + rules.write_bytes(op))
        if isinstance(op, Gemm):
            yield "Input Dims", operands(*(float(np.max(size)) for size in (op.batch, op.m, op.n, op.k)))
        waits = {name: float(t) for name, t in timing.critical_s.items() if float(t) > 0.0}
        if waits:
            yield "bound by", max(waits, key=lambda name: waits[name])

    def _repeat(self, work: Repeat, start: float, scale: float, runs: float, room: float, device: int) -> float:
        whole = int(work.count)
        drawn = whole if whole * _size(work.body) <= room else min(whole, 1)
        for _ in range(drawn):
            start = self.place(work.body, start, scale, runs, room / (drawn + 1), device)
        rest = float(work.count) - drawn
        return (
            self.place(work.body, start, scale * rest, runs * rest, room / (drawn + 1), device) if rest > 0.0 else start
        )

    def _pipeline(self, work: Pipeline, start: float, scale: float, runs: float, room: float) -> None:
        """Every pass of the simulated schedule; its ops where there is room for them."""
        stages = [stage for stage in work.stages for _ in range(round(float(stage.count)))]
        line = simulated(work, self.seconds)
        # Repeated layers are drawn at least twice: once, and the others together.
        detailed = 2.0 * len(line.spans) * sum(1 for _ in ops(work)) / len(work.stages) <= room
        for span in line.spans:
            stage, which = stages[span.stage], pass_kind(span.work)
            part = {"forward": stage.forward, "backward": stage.backward, "weights": stage.weight_gradient}[which]
            drawn = pass_span(span, start, scale)
            if detailed and part is not None:
                share = scale * (span.end_s - span.start_s) / (self.seconds(part) or 1.0)
                self.place(part, drawn.start_s, share, runs * share, room / len(line.spans), span.stage)
            else:
                self.spans.append(replace(drawn, runs=runs))
        if work.closing is not None:
            for number in range(len(stages)):
                begin = max(s.start_s for s in line.of_stage(number) if not s.work.weights)
                self.place(work.closing, start + scale * begin, scale, runs, room / len(stages), number)


def _rooms(work: Work, room: float) -> list[float]:
    """``room`` divided among the parts of a work by their size."""
    sizes = [_size(part) for part in work.children()]
    return [room * size / (sum(sizes) or 1.0) for size in sizes]


def _size(work: Work) -> float:
    """Spans of a work that is drawn with all its repetitions."""
    if isinstance(work, Op):
        return 1.0
    inside = sum(map(_size, work.children()))
    if isinstance(work, Pipeline):
        return inside * float(work.microbatches)
    return inside * max(float(work.count), 1.0) if isinstance(work, Repeat) else inside
