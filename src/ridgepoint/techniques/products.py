"""Products with weights: which ops they are, what part of the ledger's weights they hold, how both are changed together.

Linear layers are what compression methods touch: the projections of attention and feed-forward parts (experts too). Embedding,
head and router stay as they are, as they do in every published recipe; of a network all products with weights count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import Model
from ridgepoint.models.state import weight_bytes
from ridgepoint.numeric import Num
from ridgepoint.ops import Conv, Gemm, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.tasks.layout import execution, resolve_formats
from ridgepoint.tasks.networks import formats_of
from ridgepoint.techniques.rewrite import labelled, scaled_entries, with_ops
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Mix, Op, Pipeline, Repeat, Seq, Work

_LINEAR = ("attention", "feed", "experts")
"""Entries of ``weight_bytes`` that linear layers hold."""
_NO_WEIGHTS = ("*.scores", "*.values", "*.matmul", "*.scores.grad_*", "*.values.grad_*")
_WIDE = ("*.router", "*.router.grad_*")


def is_linear(given: Scenario) -> Callable[[Op], bool]:
    """Which ops of the scenario are products of linear layers with their weights (drafts and other helpers are not)."""
    tokens = isinstance(given.model, Model)
    kinds = Gemm if tokens else (Gemm, Conv)

    def check(op: Op) -> bool:
        inside = op.label.startswith(("layers.", "encoder.layers.")) and not labelled(op, *_WIDE) if tokens else True
        return isinstance(op, kinds) and inside and not labelled(op, *_NO_WEIGHTS)

    return check


def with_linear(built: Built, given: Scenario, change: Callable[[Any], Work], *phases: str) -> Built:
    """``built`` with ``change`` made to the products of linear layers."""
    linear = is_linear(given)

    def rule(op: Any) -> Work:
        return change(op) if linear(op) else op

    return with_ops(built, rule, *phases)


def linear_format(given: Scenario) -> str:
    """The format that the linear layers' weights are stored in.

    >>> from ridgepoint.scenario import scenario
    >>> linear_format(scenario("llama-3.1-8b", "h100-sxm"))
    'bf16'
    """
    if isinstance(given.model, Model):
        return resolve_formats(given.model, given.plan)[0].weight("default")
    return formats_of(given.model, given.plan)[1]


def inputs_format(given: Scenario) -> str:
    """The format that the linear layers' products read their inputs in."""
    if isinstance(given.model, Model):
        return resolve_formats(given.model, given.plan)[0].gemm_inputs("feed")
    return formats_of(given.model, given.plan)[0]


def linear_parts(given: Scenario, built: Built) -> dict[str, Num]:
    """Bytes of the linear layers' weights on the fullest device by component, and of all other weights as ``other``."""
    if not isinstance(given.model, Model):
        return {"linear": built.ledger["weights"], "other": 0.0}
    run, _ = execution(given.model, given.plan, built.layout, training=False)
    sizes = weight_bytes(given.model, run, built.layout.pp)
    other = sum((size for name, size in sizes.items() if name not in _LINEAR), 0.0)
    return {name: sizes[name] for name in _LINEAR if name in sizes} | {"other": other}


def with_weight_bytes(built: Built, given: Scenario, ratio: Num | dict[str, Num]) -> Built:
    """``built`` with the stored bytes of the linear layers multiplied: one ratio, or one by component (``attention``,
    ``feed``, ``experts``).
    """
    parts = linear_parts(given, built)
    linear = sum((size for name, size in parts.items() if name != "other"), 0.0)
    ratios = ratio if isinstance(ratio, dict) else dict.fromkeys(parts, ratio)
    kept = sum((size * ratios.get(name, 1.0) for name, size in parts.items() if name != "other"), 0.0)
    whole = linear + parts["other"]
    return scaled_entries(built, (kept + parts["other"]) / whole, "weights")


TABLES = Parameter("tables", False, "embedding and output head are stored in few bits as well")


def with_narrow_tables(built: Built, given: Scenario, fmt: str) -> Built:
    """``built`` with embedding and output head stored in ``fmt``; products with the head unpack it."""

    def rule(op: Any) -> Work:
        return replace(op, weights=fmt) if isinstance(op, Gemm) and op.label == "head.logits" else op

    assert isinstance(given.model, Model)
    run, _ = execution(given.model, given.plan, built.layout, training=False)
    sizes = weight_bytes(given.model, run, built.layout.pp)
    tables, whole = sizes["tables"], sum(sizes.values(), 0.0)
    fewer = FORMATS[fmt].bytes / FORMATS[run.formats.weight("embedding")].bytes
    return scaled_entries(with_ops(built, rule), 1.0 - tables / whole * (1.0 - fewer), "weights")


def has_tables(given: Scenario, values: Values) -> str:
    """A condition: where tables shall be quantized, the model is one of tokens."""
    wanted = values["tables"] and not isinstance(given.model, Model)
    return f"{given.model.name} has no embedding and head that are told apart" if wanted else ""


def divided(share: Num, changed: Work, rest: Work) -> Work:
    """An op of equal layers of which ``share`` became ``changed`` and the others are ``rest``, in expectation."""
    if isinstance(share, float) and share in (0.0, 1.0):
        return changed if share else rest
    return Seq(Repeat(share, changed), Repeat(1.0 - share, rest))


def weights_of(op: Gemm | Conv) -> Num:
    """Weights that the product reads, as numbers.

    >>> weights_of(Gemm(m=1.0, n=4.0, k=8.0)), weights_of(Conv(batch=1, c_in=8, c_out=4, h=7, w=7, kh=3, kw=3))
    (32.0, 288.0)
    """
    if isinstance(op, Conv):
        return op.c_in / op.groups * op.c_out * op.kh * op.kw
    return op.k * op.n * op.batch


def summed(work: Work, of: Callable[[Any], Num]) -> Num:
    """``of`` every op of ``work``, times how often one device runs it."""
    if isinstance(work, Op):
        return of(work)
    if isinstance(work, Repeat):
        return work.count * summed(work.body, of)
    if isinstance(work, Mix):
        return sum((p * summed(case, of) for p, case in work.cases), 0.0)
    if isinstance(work, Pipeline):
        return sum((count * summed(part, of) for count, part in work.runs()), 0.0)
    return sum((summed(child, of) for child in work.children()), 0.0)


def component(op: Op) -> str:
    """The entry of the weights that a product of a token layer belongs to."""
    if ".experts." in op.label:
        return "experts"
    return "feed" if any(part in op.label for part in (".feed.", ".shared.", ".moe.")) else "attention"


def weight_ratios(built: Built, given: Scenario, change: Callable[[Any], Work]) -> dict[str, Num]:
    """Weights after ``change`` over those before, by component (one, ``linear``, for a network).

    Components are kept apart, for a step reads all of the attention's weights and only some of the experts'.
    """
    linear, tokens = is_linear(given), isinstance(given.model, Model)

    def totals(changed: bool) -> dict[str, Num]:
        found: dict[str, Num] = {}
        for name in _LINEAR if tokens else ("linear",):

            def held(op: Any, name: str = name) -> Num:
                if not linear(op) or (tokens and component(op) != name):
                    return 0.0
                made = change(op) if changed else op
                return summed(made, lambda new: weights_of(new) if linear(new) else 0.0)

            found[name] = sum((summed(phase.work, held) for phase in built.phases), 0.0)
        return found

    before, after = totals(changed=False), totals(changed=True)
    return {name: after[name] / size for name, size in before.items() if anywhere(size)}


def pass_over(op: Gemm, label: str, values: Num, read: str, write: str, flop_per_value: Num) -> Stream:
    """A kernel that turns ``values`` of one format into another in front of a product."""
    return Stream(
        read_bytes=values * FORMATS[read].bytes,
        write_bytes=values * FORMATS[write].bytes,
        flop=values * flop_per_value,
        pattern="quantize",
        label=f"{op.label}.{label}",
    )


def narrower_than_now(parameter: str) -> Callable[[Scenario, Values], str]:
    """A condition: the format that the parameter names takes fewer bits than the linear layers' weights do now."""

    def cannot(given: Scenario, values: Values) -> str:
        present = linear_format(given)
        if FORMATS[str(values[parameter])].bits >= FORMATS[present].bits:
            return f"the linear layers' weights are stored in {present} already"
        return ""

    return cannot


def wide_weights(given: Scenario, values: Values) -> str:
    """A condition: the linear layers' weights are stored in 16 bits or more."""
    present = linear_format(given)
    return "" if FORMATS[present].bits >= 16.0 else f"the linear layers' weights are stored in {present} already"


def anywhere(flags: Any) -> bool:
    """Whether something holds at any point of a sweep."""
    return bool(np.any(np.asarray(flags)))
