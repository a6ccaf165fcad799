"""Each token its own amount of work: layers that most tokens go around, shared layers run again, small and large parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Gemm, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.techniques.conditions import every, infers, transformer
from ridgepoint.techniques.products import linear_parts, with_weight_bytes
from ridgepoint.techniques.reductions import (
    fewer_keys,
    fewer_tokens,
    layer_rule,
    parted,
    sometimes,
    step_rows,
    thinned,
)
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, labelled, scaled_entries, with_entries, with_phases
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Seq, Work, mapped


def _by_role(built: Built, given: Scenario, prompt: Any, step: Any) -> Built:
    """``step`` on the layers of decode steps, ``prompt`` on those of all other phases."""

    def change(phase: Phase) -> Phase:
        return replace(phase, work=layer_rule(given, step if phase.role == "next" else prompt)(phase.work))

    return with_phases(built, change)


def router(op: Any) -> Work:
    """A score per token, read off what the layer's first product reads."""
    if not isinstance(op, Gemm) or not labelled(op, "*.qkv", "*.down", "*.in_projection"):
        return Seq()
    if op.label.endswith(".down") and ".attention." not in op.label:
        return Seq()
    return Stream(
        read_bytes=2.0 * op.m * op.k, write_bytes=4.0 * op.m, flop=2.0 * op.m * op.k, rows=op.m, pattern="norm",
        launches=2.0, label="layers.router",
    )  # fmt: skip


@technique(
    "mixture-of-depths",
    title="layers that most tokens go around",
    mechanism=("adaptive_compute", "layer_skip", "token_reduction"),
    papers=("gamma-mod",),
    quality="γ-MoD: 1.5 % of accuracy at more than 90 % of the layers converted",
    grade="changed",
    cannot=every(transformer),
    parameters=(
        Parameter("converted", 0.5, "part of the layers that have a router", 0.0, 1.0),
        Parameter("keep", 0.25, "part of the tokens that such a layer takes", 0.0, 1.0),
    ),
    occupies=("depth", "tokens"),
    training_free=False,
)
def mixture_of_depths(given: Scenario, values: Values) -> Scenario:
    """In ``converted`` layers a router takes ``keep`` of the tokens; the others go around: 1 − f + f · keep of the work.

    Prefill and training gain in proportion (attention with the square, among the tokens taken). A decode step of b tokens
    reads a converted layer's weights with probability 1 − (1 − keep)^b. Tokens that go around leave no keys and values.

    >>> import ridgepoint as rp
    >>> def time(task: rp.Task, *apply: str) -> float:
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=task, apply=apply).time_s
    >>> def gain(task: rp.Task) -> float:
    ...     return time(task) / time(task, "mixture-of-depths")
    >>> gain(rp.Prefill(batch=8)) > 1.4 > 1.2 > gain(rp.Decode(batch=64, context=64))
    True
    """
    return edited(given, "mixture-of-depths", _depths, values)


def _depths(built: Built, given: Scenario, values: Values) -> Built:
    share, keep, rows = values["converted"], values["keep"], step_rows(given, built.layout)

    def prompt(op: Op) -> Work:
        return Seq(parted(1.0 - share, op, fewer_tokens(op, keep)), sometimes(share, router(op)))

    def step(op: Op) -> Work:
        taken = fewer_keys(op, lambda length: length * keep)
        return Seq(parted(1.0 - share, op, thinned(taken, keep, rows)), sometimes(share, router(op)))

    changed = _by_role(built, given, prompt, step)
    kept = 1.0 - share + share * keep
    return scaled_entries(changed, kept, "kv", "activations") if "kv" in built.ledger.entries else changed


@technique(
    "mixture-of-recursions",
    title="one stack of shared layers, run as often as each token needs",
    mechanism=("adaptive_compute", "kv_compression", "efficient_architecture", "parameter_sharing"),
    papers=("mixture-of-recursions",),
    quality="another model, trained as such: unknown beyond the paper's sizes (135 M to 1.7 B)",
    grade="changed",
    cannot=every(transformer, infers),
    parameters=(
        Parameter("recursions", 3.0, "times that the shared layers can run; they are 1/recursions of the depth", 1.0, 16.0,
                  whole=True, one_value=True),
        Parameter("last", 0.33, "part of the tokens that runs the last recursion (the part falls evenly to it)", 0.0, 1.0),
    ),
    neutral={"recursions": 1.0, "last": 1.0},
    occupies=("depth", "weights"),
    training_free=False,
)  # fmt: skip
def mixture_of_recursions(given: Scenario, values: Values) -> Scenario:
    """L layers become L/R shared ones, run up to R times; recursion r takes a part of the tokens that falls evenly to ``last``.

    Weights of the layers shrink by R. Their traffic does not: each recursion reads them again, because a stack is larger
    than a cache. Work follows the mean depth; only active tokens keep keys and values (recursion-wise caching). Decode
    steps read a recursion's weights if any of their tokens is active.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("llama-3.2-1b", on="h100-sxm", task=rp.Prefill(batch=16, prompt=2048), apply=apply)
    >>> whole, shared = run(), run("mixture-of-recursions")
    >>> shared.time_s < whole.time_s, shared.memory["weights"] < 0.7 * whole.memory["weights"]
    (True, True)
    """
    return edited(given, "mixture-of-recursions", _recursions, values)


def active(recursions: float, last: Num) -> list[Num]:
    """Part of the tokens in each recursion, from all of them evenly down to ``last``.

    >>> active(3.0, 0.5)
    [1.0, 0.75, 0.5]
    """
    steps = int(recursions)
    return [1.0] if steps == 1 else [1.0 - (1.0 - last) * r / (steps - 1.0) for r in range(steps)]


def _recursions(built: Built, given: Scenario, values: Values) -> Built:
    parts, rows = active(values["recursions"], values["last"]), step_rows(given, built.layout)
    each = 1.0 / len(parts)

    def route(op: Op) -> Work:
        return router(op) if len(parts) > 1 else Seq()

    def prompt(op: Op) -> Work:
        return Seq(*(sometimes(each, fewer_tokens(op, share)) for share in parts), sometimes(1.0 - each, route(op)))

    def step(op: Op) -> Work:
        taken = [
            thinned(fewer_keys(op, lambda length, s=share: length * s), share, rows)  # type: ignore[misc]
            for share in parts
        ]
        return Seq(*(sometimes(each, work) for work in taken), sometimes(1.0 - each, route(op)))

    mean = sum(parts, 0.0) * each
    changed = with_weight_bytes(_by_role(built, given, prompt, step), given, each)
    return scaled_entries(changed, mean, "kv")


@technique(
    "routed-feed-forward",
    title="a small feed-forward part beside each large one; tokens take either, or none",
    mechanism=("adaptive_compute", "layer_skip", "routing_cascade"),
    papers=("duo-llm", "adaptive-computation-modules", "versatileffn"),
    quality="unknown; an oracle's routing is better than learned ones (Duo-LLM)",
    grade="changed",
    cannot=every(transformer, infers),
    parameters=(
        Parameter("skip", 0.2, "part of the tokens that go around a feed-forward part", 0.0, 1.0),
        Parameter("small", 0.4, "part of the tokens that take the small one", 0.0, 1.0),
        Parameter("width", 0.25, "width of the small one over that of the large", 0.0, 1.0),
        Parameter("nested", False, "the small one is a slice of the large one's weights, not one of its own"),
    ),
    occupies=("feed forward",),
    training_free=False,
)  # fmt: skip
def routed_feed_forward(given: Scenario, values: Values) -> Scenario:
    """A token's feed-forward work is skip · 0 + small · width + (1 − skip − small) · 1 of the large one's.

    The router scores every token; tokens are gathered by choice, so that products stay dense but become more and smaller.
    A decode step of b tokens reads each of the two if any token takes it. The small parts are weights besides, unless they
    are slices of the large ones (learners of ACM, VersatileFFN's sub-experts).

    >>> import ridgepoint as rp
    >>> def time(task: rp.Task, *apply: str) -> float:
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=task, apply=apply).time_s
    >>> long, batch = rp.Prefill(batch=8), rp.Decode(batch=64)
    >>> time(long, "routed-feed-forward") < time(long), time(batch, "routed-feed-forward") > time(batch)
    (True, True)
    """
    return edited(given, "routed-feed-forward", _routed, values)


def _routed(built: Built, given: Scenario, values: Values) -> Built:
    few = values["small"]
    large = plain(np.maximum(1.0 - values["skip"] - few, 0.0))
    width, rows = values["width"], step_rows(given, built.layout)

    def narrow(op: Any) -> Work:
        if isinstance(op, Gemm):
            side = "k" if op.label.endswith(".down") else "n"
            op = replace(op, **{side: getattr(op, side) * width})
        elif labelled(op, "*.activation"):
            op = fewer_tokens(op, width)
        return mapped(op, lambda part: replace(part, label=f"{part.label}.small"))

    def prompt(op: Op) -> Work:
        if not labelled(op, "*.feed.*"):
            return op
        return Seq(fewer_tokens(op, large), mapped(narrow(op), lambda part: fewer_tokens(part, few)), _sorted(op))

    def step(op: Op) -> Work:
        if not labelled(op, "*.feed.*"):
            return op
        return Seq(thinned(op, large, rows), thinned(narrow(op), few, rows), _sorted(op))

    changed = _by_role(built, given, prompt, step)
    extra = 0.0 if values["nested"] else linear_parts(given, built).get("feed", 0.0) * width
    return with_entries(changed, weights=built.ledger["weights"] + extra)


def _sorted(op: Any) -> Work:
    """Scores and a gather of the tokens by their choice, beside the first product of a feed-forward part."""
    if not isinstance(op, Gemm) or not labelled(op, "*.gate_up", "*.up"):
        return Seq()
    size = 2.0 * op.m * op.k
    return Stream(
        read_bytes=2.0 * size, write_bytes=size, flop=4.0 * op.m * op.k, pattern="gather", launches=3.0,
        label="layers.feed.router",
    )  # fmt: skip
