"""One step of a serving engine as work: decode tokens and pieces of prompts that pass through the model together.

Everything that depends only on how many tokens pass (projections, feed-forward parts, norms, reductions over ranks) is
done once for all of them, so that weights are read once; what depends on contexts (attention, scans, the expansion of
latent keys) is done by decode tokens and by prompts apart. Which is which is not listed by hand: an op is shared when it
comes out equal whether the same tokens are decoded or read, and at any context.

With pipeline stages or data-parallel attention the tokens of a step are divided into ``lanes``: groups that go through
the stages one behind the other, or ranks that run side by side and meet at the experts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import FORMATS
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.execution import Execution, Tokens
from ridgepoint.models.transformer import decoder_of, embed, logits, sample, stack_work
from ridgepoint.numeric import Num
from ridgepoint.ops import Collective, Gemm
from ridgepoint.plan import Plan
from ridgepoint.tasks.layout import Layout, complete, execution
from ridgepoint.tasks.trained import LORA, with_adapters
from ridgepoint.work import Op, Repeat, Seq, Work, mapped, occurrences

_PROBE = 64.0
"""Tokens of the probes that tell shared ops from others: whole under every parallel degree in use."""


@dataclass(frozen=True)
class Passes:
    """The passes of one model replica: builds the parts of a step for one lane."""

    model: Model
    machine: Machine
    run: Execution
    layout: Layout

    @property
    def pooled(self) -> float:
        """Data-parallel attention ranks that meet at the experts: they step together and are one replica."""
        return float(self.run.cut.pooled_replicas)

    @property
    def lanes(self) -> float:
        """Parts that the tokens of a step are divided into."""
        return float(self.layout.pp) * self.pooled

    def shared(self, tokens: Num) -> Work:
        """What ``tokens`` tokens of a lane do whatever their contexts, hand-overs between pipeline stages included."""
        here = Tokens(tokens, 1.0, _PROBE, decode=True)
        work = Seq(embed(self.model, self.run.rows(here), self.run), self._layers(here))
        return Seq(only(work, self._is_shared), *self._hand_overs(here))

    def decoding(self, sequences: Num, context: Num, new: Num = 1.0) -> Work:
        """What ``sequences`` of a lane that decode ``new`` tokens each at a mean ``context`` do by themselves."""
        return self._own(Tokens(sequences, new, context, decode=True))

    def reading(self, tokens: Num, past: Num, prompts: Num = 1.0) -> Work:
        """What ``prompts`` prompts of which ``tokens`` tokens each are read after ``past`` earlier ones do by themselves."""
        return self._own(Tokens(prompts, tokens, tokens + past))

    def choosing(self, sequences: Num) -> Work:
        """Logits and the choice of a token for ``sequences`` of a lane."""
        return Seq(logits(self.model, sequences, self.run), sample(self.model, sequences, self.run))

    def adapting(self, tokens: Num, adapters: Num, rank: float) -> Work:
        """What low-rank ``adapters`` beside the dense products do for ``tokens`` tokens of a lane, a group for each."""
        layers = only(self._layers(Tokens(tokens, 1.0, _PROBE, decode=True)), self._is_shared)
        beside = only(with_adapters(layers, self.run, rank), lambda op: LORA in op.label)

        def grouped(op: Op) -> Work:
            assert isinstance(op, Gemm)
            return replace(op, m=np.maximum(op.m / adapters, 1.0), batch=op.batch * adapters, grouped=True)

        return mapped(beside, grouped)

    def _own(self, tokens: Tokens) -> Work:
        return only(self._layers(tokens), lambda op: not self._is_shared(op))

    def _layers(self, tokens: Tokens) -> Work:
        return stack_work(decoder_of(self.model), tokens, self.run, "layers")

    def _is_shared(self, op: Op) -> bool:
        return op.label in self._shared_labels

    @cached_property
    def _shared_labels(self) -> frozenset[str]:
        probes = [Tokens(_PROBE, 1.0, c, decode=True) for c in (1024.0, 3072.0)]
        probes += [Tokens(1.0, _PROBE, c) for c in (1024.0, 3072.0)]
        found = [_by_label(self._layers(tokens)) for tokens in probes]
        same = {name for name, ops in found[0].items() if all(other.get(name) == ops for other in found[1:])}
        return frozenset({*same, *_by_label(embed(self.model, _PROBE, self.run))})

    def _hand_overs(self, tokens: Tokens) -> list[Work]:
        if float(self.layout.pp) == 1.0:
            return []
        message = Collective(
            operation="send_recv",
            bytes=self.run.rows(tokens) * self.model.hidden * FORMATS[self.run.formats.stream].bytes,
            ranks=2.0,
            stride=self.layout.tp * self.layout.cp * self.layout.dp,
            label="pipeline.send",
        )
        return [Repeat(self.layout.pp, message)]


def passes(model: Model, machine: Machine, plan: Plan, fused: bool = True) -> tuple[Passes, tuple[str, ...]]:
    """The passes of ``model`` under ``plan``, and what had to be assumed. Degrees must be numbers, not arrays.

    Errors: ``bad_plan`` for sweeps, ``bad_task`` for models that generate nothing or read with an encoder.
    """
    decoder_of(model)
    if model.encoder is not None:
        raise RidgepointError(
            "bad_task",
            f"{model.name} reads its prompt with an encoder, which request-by-request serving does not cover",
            "use `ridgepoint analyze --task generate`",
        )
    if any(isinstance(getattr(plan, f.name), np.ndarray) for f in fields(plan)):
        raise RidgepointError("bad_plan", "a plan to serve holds an array", "give one number per degree")
    if plan.speculated:
        raise RidgepointError(
            "bad_plan",
            "plan.speculated is for single steps",
            "say it as a Speculation with its acceptance (--speculate)",
        )
    layout = complete(model, machine, plan, False)
    run, notes = execution(model, replace(plan, fused_attention=plan.fused_attention and fused), layout, False)
    return Passes(model, machine, run, layout), (*layout.assumptions, *notes, *model.notes)


def only(work: Work, keeps: Callable[[Op], bool]) -> Work:
    """``work`` without the ops that ``keeps`` refuses.

    >>> from ridgepoint.ops import Delay
    >>> from ridgepoint.work import ops
    >>> both = Seq(Delay(seconds=1.0, label="a"), Repeat(3.0, Delay(seconds=2.0, label="b")))
    >>> [op.label for op in ops(only(both, lambda op: op.label == "b"))]
    ['b']
    """
    if isinstance(work, Op):
        return work if keeps(work) else Seq()
    if isinstance(work, Repeat):
        return Repeat(work.count, only(work.body, keeps))
    if isinstance(work, Seq):
        return Seq(*(only(part, keeps) for part in work.parts))
    raise RidgepointError("bad_work", f"a pass holds a {type(work).__name__}, which cannot be divided")


def _by_label(work: Work) -> dict[str, list[tuple[Any, ...]]]:
    """Label → kind, count and fields of every op that has it."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for op, count in occurrences(work):
        values = tuple(_brief(getattr(op, f.name)) for f in fields(op))
        found.setdefault(op.label, []).append((type(op).__name__, _brief(count), *values))
    return found


def _brief(value: Any) -> Any:
    return round(float(value), 6) if isinstance(value, float | int | np.ndarray) else value
