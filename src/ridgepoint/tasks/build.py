"""From model, machine, task and plan to what an estimate needs: works, ledger, layout, and what had to be assumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, cast

import numpy as np

from ridgepoint.cost.ledger import Ledger
from ridgepoint.errors import RidgepointError
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.attention import unfused
from ridgepoint.models.execution import Execution
from ridgepoint.models.networks.network import Network
from ridgepoint.models.pieces import is_one
from ridgepoint.numeric import Num
from ridgepoint.ops import Attention
from ridgepoint.plan import Plan
from ridgepoint.tasks import Decode, Forward, Generate, Prefill, Sample, Task, Train
from ridgepoint.tasks.activations import micro_batch_words, recompute_words
from ridgepoint.tasks.inference import (
    appended,
    decode_work,
    forward_work,
    generate_parts,
    has_host,
    input_length,
    prefill_work,
    with_host,
)
from ridgepoint.tasks.layout import Layout, complete, execution
from ridgepoint.tasks.lengths import Batching, attend, batching
from ridgepoint.tasks.memory import TOKEN_BUDGET, ledger
from ridgepoint.tasks.networks import build_network
from ridgepoint.tasks.planned import resolved
from ridgepoint.tasks.trained import device_parameters
from ridgepoint.tasks.training import step_work
from ridgepoint.tasks.updates import gradient_words, shown_stage
from ridgepoint.work import Op, Repeat, Seq, Work, mapped


@dataclass(frozen=True)
class Phase:
    """A part of a run that is launched in one way: ``work`` of one device, ``count`` times.

    ``role``: ``first`` leads to the first token, ``next`` happens for every further token of a sequence (``count`` is then
    per token and may be fractional), ``""`` is anything else. ``captured``: the host starts it as one graph; ``eager``: an
    interpreter starts its kernels. ``appended``: keys and values join the cache by a copy of all of it: what the
    cache holds over what attention reads of it (0: they are written in place).
    """

    name: str
    work: Work
    count: Num = 1.0
    role: str = ""
    captured: bool = False
    eager: bool = False
    appended: Num = 0.0

    def hosted(self, machine: Machine) -> Work:
        """All of it beside the host that launches it."""
        work = appended(self.work, self.appended) if np.any(np.asarray(self.appended) > 0.0) else self.work
        return times(self.count, with_host(work, machine, self.captured, self.eager))


@dataclass(frozen=True)
class Built:
    """One scenario (or a sweep of them) made concrete: phases in order, of which the ``next`` ones repeat ``steps`` times.

    ``tokens`` and ``samples`` are what the whole machine produces in the time of ``work``.
    """

    machine: Machine
    phases: tuple[Phase, ...]
    ledger: Ledger
    layout: Layout
    tokens: Num
    samples: Num
    steps: Num = 1.0
    assumptions: tuple[str, ...] = field(default=())

    @cached_property
    def work(self) -> Work:
        """Everything that happens, host included."""
        return self._joined([p.hosted(self.machine) for p in self.phases])

    @cached_property
    def device(self) -> Work:
        """The work of one device without the host that launches it: its physical limit is the run's."""
        return self._joined([times(p.count, p.work) for p in self.phases])

    @cached_property
    def ttft(self) -> Work | None:
        """What must happen before the first token is there."""
        return self._in_role("first")

    @cached_property
    def tpot(self) -> Work | None:
        """What happens for one further token of every sequence."""
        return self._in_role("next")

    def _joined(self, works: list[Work]) -> Work:
        once = [w for w, p in zip(works, self.phases, strict=True) if p.role != "next"]
        again = [w for w, p in zip(works, self.phases, strict=True) if p.role == "next"]
        return _one_after_the_other([*once, *([times(self.steps, _one_after_the_other(again))] if again else [])])

    def _in_role(self, role: str) -> Work | None:
        found = [p.hosted(self.machine) for p in self.phases if p.role == role]
        return _one_after_the_other(found) if found else None


def times(count: Num, work: Work) -> Work:
    """``work`` repeated, or itself where it happens once."""
    return work if is_one(count) else Repeat(count, work)


def _one_after_the_other(works: list[Work]) -> Work:
    return works[0] if len(works) == 1 else Seq(*works)


def build(model: Model | Network, machine: Machine, task: Task, plan: Plan) -> Built:
    """Works, ledger and assumptions of a scenario."""
    if isinstance(model, Network):
        return _network(model, machine, task, plan)
    if isinstance(task, Sample):
        raise RidgepointError("bad_task", f"{model.name} is no diffusion model", "use --task generate or forward")
    if getattr(task, "inputs", None):
        raise RidgepointError("bad_size", f"{model.name} has no input sizes of its own", "give batch and lengths alone")
    training = isinstance(task, Train)
    layout = complete(model, machine, plan, training)
    run, notes = execution(model, plan, layout, training)
    if isinstance(task, Train):
        plan = resolved(model, machine, run, layout, task, plan)
    drawn = batching(model, machine, run, layout, task, plan) if isinstance(task, Train) else None
    if isinstance(task, Train):
        parts = _train(model, run, layout, task, plan, drawn)
    else:
        parts = _BUILDERS[type(task)](model, run, layout, task, plan)
    said = () if drawn is None else (drawn.words,)
    return Built(
        machine,
        ledger=ledger(model, machine, run, layout, task, plan),
        layout=layout,
        assumptions=(
            *layout.assumptions,
            *notes,
            *model.notes,
            *_two_stacks(model, task),
            *_conventions(machine, task, plan, run),
            *said,
        ),
        **parts,
    )


OWN_KERNELS = ("*.select_*", "*index_scores")
"""Scores that choose what is attended to: no part of the model's attention, and kernels of their own in any engine."""


def with_unfused_attention(built: Built, fused_elementwise: bool) -> Built:
    """``built`` with every attention as three kernels: scores, softmax, weighted sum. Absorbed latent attention stays."""

    def rule(op: Op) -> Work:
        stays = not isinstance(op, Attention) or op.latent or any(fnmatchcase(op.label, own) for own in OWN_KERNELS)
        return op if stays else unfused(cast(Attention, op), fused_elementwise)

    return replace(built, phases=tuple(replace(p, work=mapped(p.work, rule)) for p in built.phases))


def _captured(plan: Plan, default: bool) -> bool:
    return default if plan.graph_capture is None else plan.graph_capture


def _network(net: Network, machine: Machine, task: Task, plan: Plan) -> Built:
    """A network's run: one phase, those of a sampler, or a captured pass over tokens."""
    run = build_network(net, machine, task, plan)
    captured = _captured(plan, isinstance(task, Decode))
    role = {"prefill": "first", "decode": "next"}
    eager = not plan.compiled
    phases = tuple(Phase(name, work, count, role.get(name, ""), captured, eager) for name, work, count in run.parts)
    batch = task.sizes()["batch"]
    each = {"prefill": getattr(task, "prompt", 0.0), "decode": 1.0}.get(task.name, 0.0)
    return Built(machine, phases, run.ledger, run.layout, batch * each, batch, assumptions=run.assumptions)


def _prefill(model: Model, run: Execution, layout: Layout, task: Prefill, plan: Plan) -> dict[str, Any]:
    work = prefill_work(model, run, layout, task.batch, task.prompt)
    phase = Phase("prefill", work, role="first", captured=_captured(plan, False), eager=not plan.compiled)
    return {"phases": (phase,), "tokens": task.batch * task.prompt, "samples": task.batch}


def _decode(model: Model, run: Execution, layout: Layout, task: Decode, plan: Plan) -> dict[str, Any]:
    source = input_length(model, task.context)
    work = decode_work(model, run, layout, task.batch, task.context, source, 1.0 + plan.speculated)
    return {"phases": (_steps(work, plan),), "tokens": task.batch, "samples": task.batch}


def _steps(work: Work, plan: Plan) -> Phase:
    captured, copies = _captured(plan, True), 1.0 if plan.appended_cache else 0.0
    return Phase("decode", work, 1.0, "next", captured, not plan.compiled, copies)


def _generate(model: Model, run: Execution, layout: Layout, task: Generate, plan: Plan) -> dict[str, Any]:
    first, step = generate_parts(model, run, layout, task, 1.0 + plan.speculated)
    return {
        "phases": (
            Phase("prefill", first, role="first", captured=_captured(plan, False), eager=not plan.compiled),
            _steps(step, plan),
        ),
        "steps": np.maximum(task.output - 1.0, 0.0),
        "tokens": task.batch * task.output,
        "samples": task.batch,
    }


def _forward(model: Model, run: Execution, layout: Layout, task: Forward, plan: Plan) -> dict[str, Any]:
    phase = Phase(
        "forward",
        forward_work(model, run, layout, task.batch, task.seq),
        captured=_captured(plan, False),
        eager=not plan.compiled,
    )
    return {"phases": (phase,), "tokens": task.batch * task.seq, "samples": task.batch}


def _train(
    model: Model, run: Execution, layout: Layout, task: Train, plan: Plan, drawn: Batching | None = None
) -> dict[str, Any]:
    """One step; over ``drawn`` lengths its tokens are those that are data, and its samples rows."""
    weights = device_parameters(model, run, layout, plan)
    if drawn is None:
        work = step_work(model, run, layout, task, plan, weights)
        useful = task.batch * task.seq
    else:
        timed = replace(task, seq=np.ceil(drawn.seq))
        work = step_work(model, run, layout, timed, plan, weights, drawn.spread)
        work = attend(work, timed.seq, drawn.attended) if plan.padding == "packed" else work
        useful = task.batch * drawn.seq * drawn.useful
    phase = Phase("train", work, captured=_captured(plan, False), eager=not plan.compiled)
    return {"phases": (phase,), "tokens": useful, "samples": task.batch}


_BUILDERS: dict[type, Callable[..., dict[str, Any]]] = {
    Prefill: _prefill,
    Decode: _decode,
    Generate: _generate,
    Forward: _forward,
}


def _two_stacks(model: Model, task: Task) -> list[str]:
    """Which of an encoder–decoder's stacks reads what."""
    if model.encoder is None or model.decoder is None:
        return []
    if isinstance(task, Prefill | Generate):
        return ["the prompt is what the encoder reads; the decoder starts from one token"]
    if not isinstance(task, Decode):
        return ["encoder and decoder each read a sequence of this length"]
    padded = f"{model.padded_input:,} positions, which every input is padded to"
    return [f"cross-attention sees {padded if model.padded_input else 'an input as long as the context'}"]


def _conventions(machine: Machine, task: Task, plan: Plan, run: Execution) -> list[str]:
    """What the figures rest on, whatever the model: said with every estimate."""
    said = []
    if isinstance(task, Decode | Generate):
        captured = "in one captured graph" if _captured(plan, True) else "one by one from the host"
        launched = f"decode kernels are launched {captured}; " if has_host(machine) else ""
        said.append(f"{launched}scheduling and network time of a serving engine are not included")
    if isinstance(task, Prefill | Generate):
        captured = "in one captured graph" if _captured(plan, False) else "one by one from the host"
        launched = f"prefill kernels are launched {captured}; " if has_host(machine) else ""
        said.append(
            f"{launched}prefill computes logits for the last position of each prompt only; its activations in memory are "
            f"those of {TOKEN_BUDGET:,.0f} tokens at a time"
        )
    if not isinstance(task, Forward):
        said.append("causal attention counts exactly the query–key pairs that the mask allows")
    if isinstance(task, Train):
        said.append(
            f"micro-batch: {micro_batch_words(plan)}; optimizer {plan.optimizer}; ZeRO stage {shown_stage(plan)}; "
            f"{gradient_words(plan)}; recomputation {recompute_words(plan)}"
        )
        if isinstance(plan.stages, tuple):
            said.append("layers of the pipeline stages: " + ", ".join(f"{layers:g}" for layers in plan.stages))
    said.append(
        f"formats: products read {run.formats.inputs}, activations {run.formats.stream}, "
        + ", ".join(f"{name} weights {fmt}" for name, fmt in run.formats.weights).replace("default weights", "weights")
        + ("" if isinstance(task, Train | Forward) else f", KV cache {run.formats.kv}")
    )
    return said
