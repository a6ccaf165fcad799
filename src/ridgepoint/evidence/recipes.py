"""What training rows leave to the recipes that they were measured with.

Megatron Bridge's tables name model, layout and format; its performance recipes say what runs again in the backward pass,
whether the traffic between expert ranks runs beside the passes of another micro-batch, and how many further tokens the model
learns to predict (scripts/performance/configs and src/megatron/bridge/recipes, v0.3.1 and v0.4.0). Their routing is forced
to be even.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ridgepoint.evidence.rows import Rows
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Experts, LatentAttention, Model, SelfAttention
from ridgepoint.models.execution import Tokens
from ridgepoint.ops import Collective
from ridgepoint.plan import Plan
from ridgepoint.tasks.activations import chain, kinds_of
from ridgepoint.tasks.layout import complete, execution
from ridgepoint.work import Op, Overlap, Pipeline, Repeat, Seq, Stage, Work, mapped, walk


@dataclass(frozen=True)
class Recipe:
    """``again``: what labels of ops that run again begin with. ``beside``: expert traffic beside another micro-batch's passes.
    ``every_copy``: a plain all-to-all, which sends a row to each of its experts' ranks, not once to each of their nodes.
    ``further``: tokens after the next one that are predicted, by a layer and a pass through the head each.
    """

    again: tuple[str, ...] = ()
    beside: bool = False
    every_copy: bool = False
    further: int = 0


TAKEN = 20.0 / 132.0
"""Part of the multiprocessors that dispatch and combination hold where they run beside products (DeepSeek-AI 2024, section 3.2:
20 of an H800's 132)."""
_ACT = ("norm", "moe.experts.activation")
_UP = ("attention.query_up", "attention.key_value_up")
_MEGATRON_BRIDGE: dict[tuple[str, str], Recipe] = {
    ("deepseek-v3", ""): Recipe(_UP, further=1),
    ("deepseek-v3", "h100-sxm"): Recipe((*_UP, "feed."), further=1),
    ("gpt-oss-120b", "b200-sxm"): Recipe(_ACT),
    ("gpt-oss-120b", "gb200"): Recipe(_ACT, beside=True),
    ("gpt-oss-120b", "h100-sxm"): Recipe(_ACT, every_copy=True),
    ("qwen3-235b-a22b", "b200-sxm"): Recipe(every_copy=True),
    ("qwen3-235b-a22b", "b300-sxm"): Recipe(every_copy=True),
    ("qwen3-235b-a22b", "h100-sxm"): Recipe(beside=True, every_copy=True),
    ("nemotron-3-nano", "h100-sxm"): Recipe(("norm", "moe.", "attention.attention")),
    ("nemotron-3-super", ""): Recipe(further=2),
    ("nemotron-3-super", "b200-sxm"): Recipe(_ACT, further=2),
}
"""By model and machine; no machine: all others."""


def recipe_of(rows: Rows, model: Model) -> Recipe:
    """The recipe of the rows; nothing special where none is known."""
    known = _MEGATRON_BRIDGE if rows.text("source") == "megatron-bridge" else {}
    return known.get((model.name, rows.text("machine")), known.get((model.name, ""), Recipe()))


def with_further_tokens(model: Model, count: int) -> Model:
    """The model with ``count`` modules that predict further tokens: a layer of attention and experts, and the head once more
    (Gloeckle et al. 2024; DeepSeek-AI 2024, section 2.2).
    """
    if not count or model.decoder is None:
        return model
    layers = [layer for layer, _ in model.decoder.layers]
    expert = [layer for layer in layers if isinstance(layer.feed, Experts)][-1]
    attending = [layer for layer in layers if isinstance(layer.mixer, SelfAttention | LatentAttention)][-1]
    own = [expert] if expert.mixer is not None else [attending, expert]
    decoder = replace(model.decoder, layers=(*model.decoder.layers, *((layer, count) for layer in own)))
    embedding = replace(model.embedding, vocab=model.embedding.vocab * (1 + count))
    return replace(model, decoder=decoder, embedding=embedding)


def with_recomputation(plan: Plan, recipe: Recipe, model: Model, machine: Machine) -> Plan:
    """The plan in which the recipe's ops run again."""
    if not recipe.again:
        return plan
    run, _ = execution(model, plan, complete(model, machine, plan, True), True)
    stack = model.main
    again = [
        tuple(
            link.label
            for link in chain(layer, stack, run, Tokens(1.0, 1.0, 1.0))
            if link.label.startswith(recipe.again)
        )
        for layer in kinds_of(stack)
    ]
    return replace(plan, recompute="planned", recomputed=tuple(((1.0, ops),) for ops in again))


def as_run(device: Work, recipe: Recipe) -> Work:
    """The device's part of a step with the expert traffic that the recipe asks for."""
    if recipe.every_copy:
        device = mapped(device, lambda op: replace(op, fanout=0.0) if _between_experts(op) else op)
    return beside(device) if recipe.beside else device


def beside(work: Work) -> Work:
    """``work`` with the traffic between expert ranks beside the passes: that of one micro-batch under those of another
    (Megatron-LM's ``overlap_moe_expert_parallel_comm``).
    """
    if isinstance(work, Pipeline):
        return replace(work, stages=tuple(_overlapped(stage) for stage in work.stages))
    if isinstance(work, Repeat):
        return replace(work, body=beside(work.body))
    if isinstance(work, Overlap | Seq) and any(isinstance(part, Pipeline) for part in walk(work)):
        return type(work)(*(beside(part) for part in work.parts), label=work.label)
    return _split(work)


def _overlapped(stage: Stage) -> Stage:
    back = stage.backward
    return replace(stage, forward=_split(stage.forward), backward=None if back is None else _split(back))


def _split(work: Work) -> Work:
    def only(wanted: bool) -> Work:
        return mapped(work, lambda op: op if _between_experts(op) is wanted else Seq())

    traffic = only(True)
    return Overlap(Seq(only(False), Repeat(TAKEN, traffic)), Repeat(1.0 - TAKEN, traffic))


def _between_experts(op: Op) -> bool:
    return isinstance(op, Collective) and op.operation == "all_to_all"
