"""Which parameters lie on a device, which of them are trained, and what that leaves of the backward pass (design §1).

Adapters (Hu et al. 2021) add A (k × r) and B (r × n) beside a frozen product (k × n): the backward pass loses the gradients
of the frozen weights and gains those of A and B; gradients of the inputs stay, for the layers below need them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import Model
from ridgepoint.models.backward import backward
from ridgepoint.models.execution import Execution, Tokens
from ridgepoint.models.pieces import is_one
from ridgepoint.models.state import OF_TOKENS, end_tables, stack_bytes, weight_bytes
from ridgepoint.models.transformer import layer_work
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Gemm
from ridgepoint.plan import Plan
from ridgepoint.tasks.layout import Layout
from ridgepoint.tasks.updates import Trained
from ridgepoint.work import Op, Repeat, Seq, Work, mapped

_FORMAT_OF = {"tables": "embedding"}
_WITHOUT_ADAPTERS = (".router", "head.logits", "head.projection", "embedding.projection")
LORA = ".lora_"
"""In the labels of adapters' products."""


def stored_bytes(model: Model, run: Execution, layout: Layout, plan: Plan) -> dict[str, Num]:
    """Stored weights on the fullest device by component; a vocabulary-parallel head divides its tables among the stages."""
    if layout.apart:
        return _of_stage(model, run, layout, plan)
    if layout.end:
        return _of_end(model, run, layout, plan)
    found = weight_bytes(model, run, layout.pp)
    if plan.vocab_parallel:
        found["tables"] = weight_bytes(model, run, 1.0)["tables"] / layout.pp
    return found


def _of_stage(model: Model, run: Execution, layout: Layout, plan: Plan) -> dict[str, Num]:
    """Stored weights of the stage that is looked at: its layers, the embedding on the first one, the head on the last."""
    whole = weight_bytes(model, run, 1.0)
    tables, other = whole.pop("tables"), whole.pop("other", 0.0)
    found = {name: size * layout.share(model.main.depth) for name, size in whole.items()}
    first, last = end_tables(model, run)
    stages = len(layout.layers)
    if plan.vocab_parallel:
        own = tables / stages
    else:
        own = first * (layout.stage == 0) + last * (layout.stage == stages - 1 and stages > 1)
        own = tables if stages == 1 else own
    return {**found, "tables": own, **({"other": other} if np.any(np.asarray(other) > 0.0) else {})}


def _of_end(model: Model, run: Execution, layout: Layout, plan: Plan) -> dict[str, Num]:
    """Stored weights of the first or the last of equal stages."""
    found: dict[str, Num] = {}
    for stack in filter(None, (model.encoder, model.decoder)):
        for name, size in stack_bytes(stack, run).items():
            found[name] = found.get(name, 0.0) + size * layout.share(stack.depth)
    whole = weight_bytes(model, run)
    own = end_tables(model, run)[0 if layout.end == "first" else 1]
    if plan.vocab_parallel:
        own = whole["tables"] / layout.pp
    tables = plain(np.where(np.asarray(layout.pp) > 1.0, own, whole["tables"]))
    return {**found, "tables": tables, **({"other": whole["other"]} if "other" in whole else {})}


def device_parameters(model: Model, run: Execution, layout: Layout, plan: Plan) -> Trained:
    """Weights on the fullest device, as numbers: stored bytes over the bytes of their formats."""
    found = _by_component(model, run, layout, plan)
    experts = found.pop("experts", 0.0)
    return Trained(sum(found.values(), 0.0), experts)


def _by_component(model: Model, run: Execution, layout: Layout, plan: Plan) -> dict[str, Num]:
    return numbers_of(stored_bytes(model, run, layout, plan), run)


def numbers_of(stored_sizes: Mapping[str, Num], run: Execution) -> dict[str, Num]:
    """Bytes of weights by component as numbers of weights."""
    formats = dict(run.formats.weights)
    found: dict[str, Num] = {}
    for name, size in stored_sizes.items():
        stored = formats.get(_FORMAT_OF.get(name, name), formats["default"])
        found[name] = size / FORMATS[run.formats.stream if name in ("norms", "other") else stored].bytes
    return found


def learned(model: Model, run: Execution, layout: Layout, plan: Plan) -> Trained:
    """The parameters that gradients and optimizer states are kept for, on the fullest device.

    Errors: ``bad_plan`` for frozen layers on several pipeline stages, of which some would idle.
    """
    if plan.trainable == "lora":
        return Trained(adapter_parameters(model, run, layout, plan) * plan.trained_layers)
    if is_one(plan.trained_layers):
        return device_parameters(model, run, layout, plan)
    if not is_one(layout.pp):
        raise RidgepointError(
            "bad_plan",
            "trained_layers below 1 leaves pipeline stages without a backward pass",
            "use one pipeline stage (pp = 1), or train all layers",
        )
    found = _by_component(model, run, layout, plan)
    part = plan.trained_layers
    table = (
        model.embedding.vocab / run.cut.table_slices * (model.embedding.width or model.hidden)
        if model.embedding.head
        else 0.0
    )
    layers = sum((n for name, n in found.items() if name not in ("tables", "experts", "other")), 0.0)
    return Trained(layers * part + table, found.get("experts", 0.0) * part)


def adapter_parameters(model: Model, run: Execution, layout: Layout, plan: Plan) -> Num:
    """Parameters of the adapters on the fullest device: r·(k + n) at every product that has one."""
    one = Tokens(1.0, 1.0, 1.0)
    total: Num = 0.0
    for stack in filter(None, (model.encoder, model.decoder)):
        for layer, count in stack.layers:
            work = layer_work(layer, stack.hidden, one, run, stack.causal, "l", 1.0)
            total = total + layout.share(stack.depth) * count * _adapters(work, plan.lora_rank)
    return total


def _adapters(work: Work, rank: Num) -> Num:
    if isinstance(work, Repeat):
        return work.count * _adapters(work.body, rank)
    if isinstance(work, Gemm):
        return rank * (work.k + work.n) * work.batch if has_adapter(work) else 0.0
    return sum((_adapters(child, rank) for child in work.children()), 0.0)


def has_adapter(op: Op) -> bool:
    """Whether an adapter lies beside a product: at all dense projections of the layers; routed experts, router and head
    have none.
    """
    return isinstance(op, Gemm) and not op.grouped and not op.label.endswith((*OF_TOKENS, *_WITHOUT_ADAPTERS))


def with_adapters(work: Work, run: Execution, rank: Num) -> Work:
    """``work`` with an adapter of ``rank`` beside every product that has one; the sum is fused into the second."""
    stream = run.formats.stream

    def rule(op: Op) -> Work:
        if not isinstance(op, Gemm) or not has_adapter(op):
            return op
        wide = replace(op, acts=stream, weights=stream, out=stream)
        down = replace(wide, n=rank, label=f"{op.label}{LORA}a")
        up = replace(wide, k=rank, label=f"{op.label}{LORA}b")
        return Seq(op, down, up)

    return mapped(work, rule)


def is_weight_gradient(op: Op) -> bool:
    """Whether an op of a backward pass is the gradient of a weight, which no other layer waits for."""
    base = op.label.removesuffix(".grad_weight")
    return base != op.label and not base.endswith(OF_TOKENS)


def only(work: Work, keep: bool) -> Work:
    """The gradients of weights in a backward pass (``keep``), or all the rest."""
    return mapped(work, lambda op: op if is_weight_gradient(op) is keep else Seq())


def backward_pass(work: Work, plan: Plan) -> Work:
    """The backward pass of ``work`` under what is trained: frozen weights have no gradients."""
    if plan.trainable == "zeroth_order":
        return Seq()
    back = backward(work)
    if plan.trainable == "full":
        return back
    return mapped(back, lambda op: Seq() if is_weight_gradient(op) and LORA not in op.label else op)


def any_frozen(plan: Plan) -> bool:
    """Whether some parameters are not trained at some point of the sweep."""
    return plan.trainable != "full" or bool(np.any(np.asarray(plan.trained_layers) < 1.0))
