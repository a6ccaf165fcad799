"""Work: what must be done, free of any machine (design §2).

A work is an operation or a combination of works. Building one runs no cost model: works are frozen values, and every
numeric field is a float or a NumPy array, so that one tree stands for one scenario or for a million.

>>> from ridgepoint.ops import Delay
>>> step = Seq(Delay(seconds=1.0, label="a"), Repeat(3, Delay(seconds=2.0, label="b")), label="step")
>>> print(tree(step))
step: Seq
├─ a: Delay(seconds=1)
└─ Repeat(3)
   └─ b: Delay(seconds=2)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.numeric import Num, as_num


@dataclass(frozen=True, kw_only=True)
class Work:
    """Anything that must be done. ``label`` is a dotted component name (``layers.attention.qkv``)."""

    label: str = ""

    def children(self) -> tuple[Work, ...]:
        """The works that this one combines."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Op(Work):
    """One kernel, transfer, collective, host task or storage access. Its kind picks the rules that give it meaning."""

    kind: ClassVar[str] = ""


Counted = tuple[Op, Num]
"""An op and how often it runs."""


@dataclass(frozen=True, init=False)
class Several(Work):
    """Base of the constructors that list their parts: ``Seq(a, b, …)``, ``Overlap(a, b, …)``."""

    parts: tuple[Work, ...]

    def __init__(self, *parts: Work, label: str = "") -> None:
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "label", label)

    def children(self) -> tuple[Work, ...]:
        """The works that it combines."""
        return self.parts


@dataclass(frozen=True, init=False)
class Seq(Several):
    """One after the other; time is the sum."""


@dataclass(frozen=True, init=False)
class Overlap(Several):
    """At the same time, sharing resources; time is the larger of any child and of any resource's summed busy time."""


@dataclass(frozen=True)
class Repeat(Work):
    """``body``, ``count`` times in a row; ``count`` may be fractional (an expected number)."""

    count: Num
    body: Work

    def __post_init__(self) -> None:
        _refuse_unless(self.count, "Repeat.count", minimum=0.0)

    def children(self) -> tuple[Work, ...]:
        """The works that it combines."""
        return (self.body,)


@dataclass(frozen=True, init=False)
class Mix(Work):
    """One of several works, each with its probability; time is the expected value."""

    cases: tuple[tuple[Num, Work], ...]

    def __init__(self, *cases: tuple[Num, Work], label: str = "") -> None:
        total = sum((np.asarray(p, dtype=float) for p, _ in cases), np.zeros(()))
        for p, _ in cases:
            _refuse_unless(p, "Mix probability", minimum=0.0)
        if not np.allclose(total, 1.0, atol=1e-9):
            raise RidgepointError("bad_work", f"the probabilities of a Mix must sum to 1, not {np.ravel(total)[0]:g}")
        object.__setattr__(self, "cases", cases)
        object.__setattr__(self, "label", label)

    def children(self) -> tuple[Work, ...]:
        """The works that it combines."""
        return tuple(work for _, work in self.cases)


@dataclass(frozen=True)
class Slowest(Work):
    """``count`` copies of ``body`` that wait for the slowest; ``spread`` is the coefficient of variation of one copy."""

    count: Num
    body: Work
    spread: Num

    def __post_init__(self) -> None:
        _refuse_unless(self.count, "Slowest.count", minimum=1.0)
        _refuse_unless(self.spread, "Slowest.spread", minimum=0.0)

    def children(self) -> tuple[Work, ...]:
        """The works that it combines."""
        return (self.body,)


@dataclass(frozen=True)
class Stage:
    """``count`` equal pipeline stages: what one does with one micro-batch, forward and (in training) backward.

    ``send`` is the hand-over of one micro-batch to the neighbour, in either direction. ``weight_gradient`` is the part of the
    backward pass that no other stage waits for (zero-bubble schedules move it into the bubble); ``backward`` is then the rest.
    """

    count: Num
    forward: Work
    backward: Work | None = None
    send: Work | None = None
    weight_gradient: Work | None = None

    def __post_init__(self) -> None:
        _refuse_unless(self.count, "Stage.count", minimum=0.0)

    def works(self) -> tuple[Work, ...]:
        """The works of one micro-batch on one such stage."""
        return tuple(w for w in (self.forward, self.backward, self.weight_gradient, self.send) if w is not None)


@dataclass(frozen=True)
class Pipeline(Work):
    """Stages on different devices, filled by micro-batches.

    ``schedule`` is ``forward`` (no backward pass), ``gpipe``, ``1f1b``, ``interleaved`` with ``chunks`` model chunks per
    device, or ``zero_bubble`` (``zero_bubble_2``). ``closing`` is what a device does beside its last backward pass and must
    have done at the end (the exchange of gradients). The closed forms are in ``cost/pipeline.py``;
    ``training/schedule.py`` simulates the same schedules exactly.
    """

    stages: tuple[Stage, ...]
    microbatches: Num
    schedule: str = "forward"
    chunks: Num = 1.0
    closing: Work | None = None

    SCHEDULES: ClassVar[tuple[str, ...]] = (
        *("forward", "gpipe", "1f1b", "interleaved"),
        *("zero_bubble", "zero_bubble_2"),
    )

    def __post_init__(self) -> None:
        if not self.stages:
            raise RidgepointError("bad_work", "a Pipeline needs at least one stage")
        _refuse_unless(self.microbatches, "Pipeline.microbatches", minimum=1.0)
        _refuse_unless(self.chunks, "Pipeline.chunks", minimum=1.0)
        if self.schedule not in self.SCHEDULES:
            raise RidgepointError(
                "bad_work", f"unknown pipeline schedule '{self.schedule}'", "use one of " + ", ".join(self.SCHEDULES)
            )

    def children(self) -> tuple[Work, ...]:
        """The works that it combines."""
        last = () if self.closing is None else (self.closing,)
        return (*(work for stage in self.stages for work in stage.works()), *last)

    @property
    def messages(self) -> Num:
        """Messages that a stage sends per micro-batch: one a chunk, and as many back where there is a backward pass."""
        each = self.chunks if self.schedule == "interleaved" else 1.0
        return each * (1.0 if self.schedule == "forward" else 2.0)

    def runs(self) -> list[tuple[Num, Work]]:
        """Every work of the stages with how often one device does it in the whole step, in the mean over devices."""
        devices = sum((stage.count for stage in self.stages[1:]), self.stages[0].count)
        found = [
            ((self.messages if work is stage.send else 1.0) * self.microbatches * stage.count / devices, work)
            for stage in self.stages
            for work in stage.works()
        ]
        return found if self.closing is None else [*found, (1.0, self.closing)]


def _refuse_unless(value: Num, name: str, minimum: float) -> None:
    if not np.all(np.asarray(value) >= minimum):
        raise RidgepointError("bad_work", f"{name} must be a number of at least {minimum:g}, not {value}")


def walk(work: Work) -> Iterator[Work]:
    """``work`` and everything in it, depth first."""
    yield work
    for child in work.children():
        yield from walk(child)


def occurrences(work: Work, count: Num = 1.0) -> Iterator[Counted]:
    """Every op with how often one device runs it: weighted in a mix, the mean over devices in a pipeline."""
    if isinstance(work, Op):
        yield work, count
        return
    parts: list[tuple[Num, Work]]
    if isinstance(work, Repeat):
        parts = [(work.count, work.body)]
    elif isinstance(work, Mix):
        parts = list(work.cases)
    elif isinstance(work, Pipeline):
        parts = work.runs()
    else:
        parts = [(1.0, child) for child in work.children()]
    for times, part in parts:
        yield from occurrences(part, count * times)


def ops(work: Work) -> Iterator[Op]:
    """The operations in ``work``, in order, each once however often it repeats."""
    return (node for node in walk(work) if isinstance(node, Op))


def mapped(work: Work, rule: Callable[[Any], Work]) -> Work:
    """``work`` with every op replaced by ``rule(op)``, which may be any work; an empty ``Seq()`` removes the op."""
    if isinstance(work, Op):
        return rule(work)
    if isinstance(work, Several):
        return type(work)(*(mapped(part, rule) for part in work.parts), label=work.label)
    if isinstance(work, Repeat | Slowest):
        return replace(work, body=mapped(work.body, rule))
    if isinstance(work, Mix):
        return Mix(*((p, mapped(case, rule)) for p, case in work.cases), label=work.label)
    if isinstance(work, Pipeline):
        stages = tuple(_mapped_stage(stage, rule) for stage in work.stages)
        return replace(work, stages=stages, closing=work.closing and mapped(work.closing, rule))
    raise TypeError(f"no way to map {type(work).__name__}")


def _mapped_stage(stage: Stage, rule: Callable[[Any], Work]) -> Stage:
    names = ("forward", "backward", "send", "weight_gradient")
    changed: dict[str, Any] = {name: mapped(part, rule) for name in names if (part := getattr(stage, name)) is not None}
    return replace(stage, **changed)


def tree(work: Work) -> str:
    """``work`` as an indented tree, one node a line."""
    return "\n".join(_tree_lines(work, "", ""))


def _tree_lines(work: Work, first: str, rest: str) -> Iterator[str]:
    yield first + describe(work)
    children = work.children()
    for i, child in enumerate(children):
        last = i == len(children) - 1
        yield from _tree_lines(child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def describe(work: Work) -> str:
    """One line for one node: its label, constructor and fields that differ from the defaults."""
    name = f"{work.label}: " if work.label else ""
    shown = [f"{f.name}={_brief(getattr(work, f.name))}" for f in fields(work) if _is_shown(work, f.name, f.default)]
    if isinstance(work, Repeat):
        shown = [_brief(work.count)]
    if isinstance(work, Mix):
        shown = [_brief(p) for p, _ in work.cases]
    return name + type(work).__name__ + (f"({', '.join(shown)})" if shown else "")


def _is_shown(work: Work, name: str, default: object) -> bool:
    value = getattr(work, name)
    if name == "label" or isinstance(value, Work | tuple):
        return False
    return isinstance(value, np.ndarray) or value != default


def _brief(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"[{value.min():g}…{value.max():g}]" if value.size else "[]"
    if isinstance(value, bool | str):
        return str(value)
    return f"{as_num(value):g}"
