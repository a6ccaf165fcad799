"""The flow of a captured training step: its kernels with their seconds on a machine, every layer of its stacks written out.

A captured stack holds three of its equal layers, of which the middle one stands for all but two (``capture/stacks.py``). What
one of them hands to the next is a result of the middle layer that the last one reads where it reads, in the middle layer's
place, one of the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ridgepoint.errors import RidgepointError
from ridgepoint.models.networks.captured.graph import Graph, Span
from ridgepoint.models.networks.captured.kernels import Evaluation
from ridgepoint.training.remat.flow import Flow, Step
from ridgepoint.work import Op, Repeat

Seconds = Callable[[Op], float]
NOT_MOVED = ("input", "parameter", "cache", "gradient")
"""Roles of tensors that lie where they are whatever is recomputed: gradients of weights are the ledger's own entry."""


def captured_flow(at: Evaluation, seconds: Seconds) -> Flow:
    """The flow of a captured pass at the sizes of ``at``, on the machine that ``seconds`` asks.

    Errors: ``bad_task`` for a pass without a backward pass, ``bad_work`` where a stack hands over more than can be told apart.
    """
    graph = at.graph
    if graph.backward < 0:
        raise RidgepointError(
            "bad_task", "a forward pass keeps nothing for later", "capture the model with --task train"
        )
    return _Writer(at, seconds).written()


@dataclass
class _Writer:
    """Writes the steps of a graph one after the other; ``made`` is the step of each tensor, by the run of its span."""

    at: Evaluation
    seconds: Seconds
    steps: list[Step] = field(default_factory=list)
    made: dict[tuple[int, int], int] = field(default_factory=dict)
    outputs: set[int] = field(default_factory=set)
    held: dict[int, float] = field(default_factory=dict)

    def written(self) -> Flow:
        """The flow."""
        graph = self.at.graph
        members = [group for _, group in self.at.runs()]
        ops = _ops(self.at)
        turn = None
        layers = _Layers(self.at, members)
        position = 0
        while position < len(members):
            if turn is None and members[position][0] >= graph.turn:
                turn = len(self.steps)
            span = _span_of(graph, members[position][0])
            if span is None:
                self._write(members[position], ops[position], None, 0, layers)
                position += 1
                continue
            stop = next((i for i in range(position, len(members)) if members[i][0] >= span.stop), len(members))
            turns = range(round(span.times))
            for number in turns if span.start < graph.turn else reversed(turns):
                for i in range(position, stop):
                    self._write(members[i], ops[i], span, number, layers)
            position = stop
        held = sum(float(self.at.tensor_bytes(t)) for t, tensor in enumerate(graph.tensors) if tensor.role == "input")
        turn = len(self.steps) if turn is None else turn
        return Flow(tuple(self.steps), turn, frozenset(self.outputs), held + sum(self.held.values()))

    def _write(self, members: list[int], op: Op, span: Span | None, number: int, layers: _Layers) -> None:
        graph = self.at.graph
        kernels = [graph.kernels[i] for i in members]
        own = {t for kernel in kernels for t in kernel.writes}
        reads = []
        for kernel in kernels:
            for tensor, *_ in kernel.reads:
                step = None if tensor in own else self._step(tensor, span, number, layers)
                if step is None and tensor not in layers.written_at and graph.tensors[tensor].role == "activation":
                    step = self._given(tensor, members[0])
                if step is not None:
                    reads.append(step)
        inside = {t for t in own if layers.readers.get(t) == {members[0]} and graph.tensors[t].role == "activation"}
        size = sum(float(self.at.tensor_bytes(t)) for t in own - inside if graph.tensors[t].role not in NOT_MOVED)
        here = len(self.steps)
        self.steps.append(
            Step(kernels[-1].label or kernels[-1].call, self.seconds(op), size, tuple(dict.fromkeys(reads)))
        )
        for tensor in own:
            self.made[tensor, number if span is not None else 0] = here
            if graph.tensors[tensor].role == "output":
                self.outputs.add(here)

    def _given(self, tensor: int, reader: int) -> int | None:
        """A tensor that no kernel makes: the gradient that the backward pass begins with. Others are there from the start."""
        size = float(self.at.tensor_bytes(tensor))
        if reader < self.at.graph.turn:
            if tensor not in self.held:
                self.held[tensor] = size
            return None
        self.made[tensor, 0] = len(self.steps)
        self.steps.append(Step("gradient", 0.0, size))
        return self.made[tensor, 0]

    def _step(self, tensor: int, span: Span | None, number: int, layers: _Layers) -> int | None:
        """The step whose result ``tensor`` is, for a reader in run ``number`` of ``span``; None for what no step makes."""
        home = layers.home.get(tensor)
        if span is not None:
            carried = layers.handed(span).get(tensor)
            first = 0 if span.start < self.at.graph.turn else round(span.times) - 1
            before = number - 1 if first == 0 else number + 1
            if carried is not None and number != first:
                return self.made[carried, before]
            partner = layers.partner(span)
            if home is not None and home is partner:
                return self.made.get((tensor, number))
            # A layer's backward pass reads what its own forward pass was given.
            given = layers.handed(partner).get(tensor) if partner is not None else None
            if given is not None and number > 0:
                return self.made[given, number - 1]
        if home is None:
            return self.made.get((tensor, 0))
        if home is span:
            return self.made.get((tensor, number))
        last = round(home.times) - 1 if home.start < self.at.graph.turn else 0
        return self.made.get((tensor, last))


class _Layers:
    """Which span makes a tensor, which spans are a layer's two passes, and what each hands from run to run.

    Kernels that run as one belong to the span of the first of them.
    """

    def __init__(self, at: Evaluation, members: list[list[int]]):
        graph = self.graph = at.graph
        self.first_of = {kernel: group[0] for group in members for kernel in group}
        self.home: dict[int, Span] = {}
        self.readers: dict[int, set[int]] = {}
        self.written_at: dict[int, int] = {}
        for position, kernel in enumerate(graph.kernels):
            span = _span_of(graph, self.first_of[position])
            for tensor in kernel.writes:
                self.written_at[tensor] = self.first_of[position]
                if span is not None:
                    self.home[tensor] = span
            for tensor, *_ in kernel.reads:
                self.readers.setdefault(tensor, set()).add(self.first_of[position])
        forward = [s for s in graph.spans if s.start < graph.turn]
        back = [s for s in graph.spans if s.start >= graph.turn]
        if [s.times for s in forward] != [s.times for s in reversed(back)] or any(s.times % 1.0 for s in graph.spans):
            raise RidgepointError(
                "bad_work", "the stacks of this capture are not the same forward and backward", "capture fewer layers"
            )
        self._pairs = dict(zip(map(id, back), reversed(forward), strict=True))
        self._handed: dict[int, dict[int, int]] = {}

    def partner(self, span: Span) -> Span | None:
        """The forward pass of a backward span's layer."""
        return self._pairs.get(id(span))

    def handed(self, span: Span) -> dict[int, int]:
        """Tensor that the first run of a span is given → the tensor of the run before that the others get in its place."""
        if id(span) not in self._handed:
            self._handed[id(span)] = self._found(span)
        return self._handed[id(span)]

    def _found(self, span: Span) -> dict[int, int]:
        graph = self.graph
        forward = span.start < graph.turn
        begin, end = (0, graph.turn) if forward else (graph.turn, len(graph.kernels))
        found = self._across(span)

        def within(tensor: int, low: int, high: int) -> bool:
            return any(low <= position < high for position in self.readers.get(tensor, ()))

        made = {t: p for t, p in self.written_at.items() if graph.tensors[t].role in ("activation", "output")}
        given = [t for t, p in made.items() if begin <= p < span.start and within(t, span.start, span.stop)]
        given = [t for t in given if not within(t, span.stop, end) and t not in found]
        left = [t for t, p in made.items() if span.start <= p < span.stop and within(t, span.stop, end)]
        for tensor in given:
            alike = [t for t in left if t not in found.values() and _same(graph, t, tensor)]
            if not alike:
                raise _unclear()
            found[tensor] = alike[0]
        return found

    def _across(self, span: Span) -> dict[int, int]:
        """A layer's first kernels may run as one with the end of the layer before: theirs, and those of the layer after."""
        kernels, first = self.graph.kernels, self.first_of
        early = [t for p in range(span.start, span.stop) if first[p] < span.start for t in kernels[p].writes]
        after = (p for p in range(span.stop, len(kernels)) if span.start <= first[p] < span.stop)
        late = [t for p in after for t in kernels[p].writes]
        if len(early) != len(late) or not all(_same(self.graph, a, b) for a, b in zip(early, late, strict=True)):
            raise _unclear()
        return dict(zip(early, late, strict=True))


def _unclear() -> RidgepointError:
    return RidgepointError(
        "bad_work", "what a layer of this stack hands to the next is not clear", "capture at most three of its layers"
    )


def _same(graph: Graph, one: int, other: int) -> bool:
    return (graph.tensors[one].elements, graph.tensors[one].format) == (
        graph.tensors[other].elements,
        graph.tensors[other].format,
    )


def _span_of(graph: Graph, position: int) -> Span | None:
    return next((span for span in graph.spans if span.start <= position < span.stop), None)


def _ops(at: Evaluation) -> list[Op]:
    forward, back = at.passes()
    parts = [*forward.children(), *(back.children() if back is not None else ())]
    found: list[Op] = []
    for part in parts:
        body = part.body if isinstance(part, Repeat) else part
        assert isinstance(body, Op)
        found.append(body)
    return found
