"""Anatomy of a model: what each part holds, computes and reads for one token at batch 1, free of any machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ridgepoint.kernels.unknown import rules_of
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.models.parameters import parameters
from ridgepoint.models.state import cache_bytes
from ridgepoint.ops import Attention, Scan
from ridgepoint.plan import Plan
from ridgepoint.tasks.inference import decode_work, forward_work, input_length
from ridgepoint.tasks.layout import Layout, execution
from ridgepoint.tasks.networks import forward_tape
from ridgepoint.work import Mix, Op, Repeat, Work

SINGLE = Layout(1.0, 1.0, 1.0, 1.0, 1.0)
_PARTS = {
    "layers.attention": "attention",
    "layers.cross_attention": "cross attention",
    "layers.linear_attention": "linear attention",
    "layers.ssm": "state space",
    "layers.feed": "feed-forward",
    "layers.experts": "experts",
    "layers.shared_expert": "experts",
    "layers.router": "experts",
    "layers.latent": "experts",
    "layers.norm": "norms",
    "final_norm": "norms",
    "head": "head",
    "layers.cross": "cross attention",
    "layers.delta": "linear attention",
    "layers.mamba": "state space",
    "layers.moe": "experts",
}


@dataclass
class Part:
    """One row: ``flop`` and ``bytes`` (weights, cache and activations) of one token, or of one sample of a network."""

    name: str
    parameters: float = 0.0
    flop: float = 0.0
    bytes: float = 0.0

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.flop / self.bytes if self.bytes > 0.0 else 0.0


@dataclass(frozen=True)
class State:
    """What a sequence keeps: bytes per token (of a short sequence), bytes whatever its length, and bytes at ``context``."""

    per_token_bytes: float
    fixed_bytes: float
    context: float
    bytes: float


def parts(model: Model, context: float) -> list[Part]:
    """The parts of a transformer: one decode step at batch 1 that attends to ``context`` tokens; of an encoder-only model
    one token's share of a pass over ``context`` tokens.

    >>> from ridgepoint.models.catalog import find_model
    >>> {p.name: round(p.flop / p.parameters, 2) for p in parts(find_model("llama-3.1-8b"), 1.0) if p.parameters > 1e9}
    {'attention': 2.0, 'feed-forward': 2.0}
    """
    found: dict[str, Part] = {}
    for label, count in parameters(model).items():
        _part(found, part_name(label)).parameters += count
    run, _ = execution(model, Plan(), SINGLE, training=False)
    if model.decoder is not None:
        work, tokens = decode_work(model, run, SINGLE, 1.0, context, input_length(model, context)), 1.0
    else:
        work, tokens = forward_work(model, run, SINGLE, 1.0, context), context
    for op, count in counted(work, 1.0):
        label = op.label if model.decoder is not None else op.label.removeprefix("encoder.")
        name = "attention over context" if isinstance(op, Attention) else part_name(label)
        _add(_part(found, "recurrence" if isinstance(op, Scan) else name), op, count / tokens)
    return list(found.values())


def network_parts(net: Network) -> list[Part]:
    """The parts of a network for one sample of its usual size, by the first word of their labels."""
    tape = forward_tape(net, Plan(), 1.0, {}, net.tasks[0] if net.tasks else "forward")
    found: dict[str, Part] = {}
    for label, count in tape.parameters.items():
        _part(found, label.partition(".")[0]).parameters += count
    for op, count in counted(tape.work, 1.0):
        _add(_part(found, op.label.partition(".")[0]), op, count)
    return list(found.values())


def state(model: Model, context: float) -> State:
    """What one sequence of ``context`` tokens keeps in the cache; an encoder–decoder's input is as long, unless it is padded.

    >>> from ridgepoint.models.catalog import find_model
    >>> state(find_model("llama-3.1-8b"), 8192.0).per_token_bytes
    131072.0
    """
    run, _ = execution(model, Plan(), SINGLE, training=False)

    def kept(tokens: float) -> float:
        return float(cache_bytes(model, 1.0, tokens, run, 1.0, input_length(model, tokens)))

    fixed = kept(0.0)
    return State(kept(1.0) - fixed, fixed, context, kept(context))


def part_name(label: str) -> str:
    """The part that a component of parameters or of work belongs to.

    >>> part_name("layers.moe.experts.down"), part_name("encoder.layers.feed.up"), part_name("embedding.positions")
    ('experts', 'encoder feed-forward', 'embedding')
    """
    if label.startswith("encoder."):
        return "encoder " + part_name(label.removeprefix("encoder."))
    words = label.split(".")
    if words[0] == "layers":
        return _PARTS.get(".".join(words[:2]), words[1])
    if words[0] == "other":
        return " ".join(words[1:]).replace("_", " ")
    return _PARTS.get(words[0], words[0])


def _part(found: dict[str, Part], name: str) -> Part:
    return found.setdefault(name, Part(name))


def _add(part: Part, op: Op, count: float) -> None:
    rules = rules_of(op)
    part.flop += count * float(rules.flop(op))
    part.bytes += count * float(rules.read_bytes(op) + rules.write_bytes(op))


def counted(work: Work, count: float) -> Iterator[tuple[Op, float]]:
    """Every op of ``work`` with how often it runs, ``count`` times the whole."""
    if isinstance(work, Op):
        yield work, count
    elif isinstance(work, Repeat):
        yield from counted(work.body, count * float(work.count))
    elif isinstance(work, Mix):
        for probability, case in work.cases:
            yield from counted(case, count * float(probability))
    else:
        for child in work.children():
            yield from counted(child, count)
