"""Mixtures of experts: where experts lie, in which format, how evenly and how often they are used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import Experts, Layer, Model
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Collective, Gemm, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.comm_overlap import with_beside
from ridgepoint.techniques.conditions import (
    every,
    has_experts,
    several_devices,
    wants,
)
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, only, with_entries, with_layers, with_ops, with_plan
from ridgepoint.techniques.technique import Condition, Parameter
from ridgepoint.work import Op, Seq, Work, walk


def with_experts(model: Model, **changes: object) -> Model:
    """``model`` with fields of its mixtures of experts set."""

    def change(layer: Layer) -> Layer:
        feed = layer.feed
        return replace(layer, feed=replace(feed, **changes)) if isinstance(feed, Experts) else layer  # type: ignore[arg-type]

    return with_layers(model, change)


def _experts(given: Scenario) -> Experts:
    assert isinstance(given.model, Model)
    return next(layer.feed for layer, _ in given.model.main.layers if isinstance(layer.feed, Experts))


def _all_exchanges(op: Op) -> bool:
    return isinstance(op, Collective) and op.operation == "all_to_all"


exchanges: Condition = wants(
    lambda g, _: g.plan.ep is not None and bool(np.any(np.asarray(g.plan.ep) > np.asarray(g.plan.tp or 1.0))),
    "no tokens are exchanged between expert ranks (--ep above --tp)",
)


@technique(
    "expert-parallel",
    title="experts divided among devices",
    mechanism=("expert_parallel", "moe"),
    papers=("sparsely-gated-moe", "deepseek-v3-insights"),
    quality="same results",
    grade="exact",
    cannot=every(has_experts, several_devices, wants(lambda g, _: g.plan.ep is None, "experts are divided already")),
    parameters=(Parameter("degree", 8.0, "expert-parallel ranks", 2.0, 1024.0, whole=True),),
    occupies=("expert layout",),
)
def expert_parallel(given: Scenario, values: Values) -> Scenario:
    """Each rank holds 1/ep of the experts whole, in place of a slice of each: products keep their width.

    Up to the tensor-parallel degree the sums over ranks stay as they are; beyond it, replicas exchange tokens all-to-all:
    rows · min(k, ep) · hidden values each way. Imbalance between ranks is counted (by chance, unless the plan says).

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     task, plan = rp.Decode(batch=8, context=1024), rp.Plan(tp=8)
    ...     return rp.estimate("mixtral-8x7b", on="8xh100-sxm", task=task, plan=plan, apply=apply)
    >>> float(run("expert-parallel:degree=8").built.layout.ep)
    8.0
    """
    return with_plan(given, ep=values["degree"])


@technique(
    "expert-placement-balanced",
    title="experts placed so that ranks get equal loads",
    mechanism=("moe_placement", "load_balancing"),
    papers=("moetuner", "moe-deployment-characterization"),
    quality="same results",
    grade="exact",
    cannot=every(
        has_experts, several_devices, wants(lambda g, _: g.plan.ep is not None, "experts are not divided (--ep)")
    ),
    parameters=(Parameter("imbalance", 1.0, "busiest rank's tokens over the mean that is left", 1.0, 64.0),),
    occupies=("expert balance",),
)
def expert_placement_balanced(given: Scenario, values: Values) -> Scenario:
    """The busiest rank gets ``imbalance`` times the mean in place of what chance (or the plan) gives it.

    A layer waits for its busiest rank, so its expert products shrink by the ratio of the two.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> float:
    ...     task, plan = rp.Prefill(batch=8, prompt=2048), rp.Plan(tp=8, ep=8, expert_imbalance=2.0)
    ...     return rp.estimate("mixtral-8x7b", on="8xh100-sxm", task=task, plan=plan, apply=apply).time_s
    >>> run("expert-placement-balanced") < run()
    True
    """
    return with_plan(given, expert_imbalance=values["imbalance"])


@technique(
    "expert-placement-affinity",
    title="experts that follow each other on the same device",
    mechanism=("moe_placement", "expert_parallel"),
    papers=("exflow", "speculative-moe", "moetuner"),
    quality="same results",
    grade="exact",
    cannot=every(has_experts, several_devices, exchanges),
    parameters=(
        Parameter("local", 0.5, "part of the tokens whose next expert is on their device", 0.0, 1.0),
        Parameter(
            "exchanges", 2.0, "all-to-alls per layer (1 where every rank keeps the context)", 1.0, 2.0, whole=True
        ),
    ),
    occupies=("expert exchange",),
    neutral={"local": 0.0, "exchanges": 2.0},
    presumes="routing has been measured and experts follow each other",
)
def expert_placement_affinity(given: Scenario, values: Values) -> Scenario:
    """Only 1 − local of each token's bytes crosses a link, in ``exchanges`` all-to-alls a layer in place of two.

    The share that stays is a property of the routing, measured by those who place: it is the paper's figure, not the time.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> float:
    ...     task, plan = rp.Prefill(batch=64, prompt=1024), rp.Plan(tp=1, dp=16, ep=16)
    ...     return rp.estimate("deepseek-v2-lite", on="2x8xa100-sxm-80gb", task=task, plan=plan, apply=apply).time_s
    >>> run("expert-placement-affinity:local=0.7") < run("expert-placement-affinity:local=0.2") < run()
    True
    """

    def rework(built: Built, given: Scenario, values: Values) -> Built:
        def change(op: Collective) -> Work:
            if op.operation != "all_to_all":
                return op
            if op.label.endswith(".combine"):
                return _scaled(op, (1.0 - values["local"]) * np.minimum(values["exchanges"] - 1.0, 1.0))
            return _scaled(op, 1.0 - values["local"])

        return with_ops(built, only(Collective, change))

    return edited(given, "expert-placement-affinity", rework, values)


def _scaled(op: Collective, part: Num) -> Collective:
    return replace(op, bytes=op.bytes * part, ranks=plain(np.where(np.asarray(part) > 0.0, op.ranks, 1.0)))


@technique(
    "expert-shortcut",
    title="experts fed one block early: all-to-alls beside attention",
    mechanism=("moe", "comm_overlap"),
    papers=("scmoe",),
    quality="changes the architecture: reported as equal or better after training with it",
    grade="changed",
    training_free=False,
    cannot=every(has_experts, several_devices, exchanges),
    occupies=("expert overlap",),
)
def expert_shortcut(given: Scenario, values: Values) -> Scenario:
    """The experts' input is the block before attention, so dispatch and combination run beside the dense computation.

    Cai et al. 2024. A layer takes the longer of its all-to-alls and everything else. The gain is at most the share of the
    all-to-alls.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> float:
    ...     task, plan = rp.Prefill(batch=64, prompt=1024), rp.Plan(tp=1, dp=16, ep=16)
    ...     return rp.estimate("deepseek-v2-lite", on="2x8xa100-sxm-80gb", task=task, plan=plan, apply=apply).time_s
    >>> run("expert-shortcut") < run()
    True
    """

    def rework(built: Built, given: Scenario, values: Values) -> Built:
        return with_beside(built, _all_exchanges)

    return edited(given, "expert-shortcut", rework, values)


@technique(
    "expert-capacity",
    title="experts padded to a fixed capacity",
    mechanism=("moe", "load_balancing"),
    papers=("megablocks", "dynamoe", "moe-deployment-characterization"),
    quality="tokens beyond the capacity are dropped",
    grade="changed",
    cannot=has_experts,
    parameters=(
        Parameter("factor", 2.0, "rows per expert over the mean", 1.0, 64.0),
        Parameter("one_hot", False, "tokens go to their places, and back, by products with a one-hot mask"),
    ),
    occupies=("expert rows",),
    neutral={"factor": 1.0},
)
def expert_capacity(given: Scenario, values: Values) -> Scenario:
    """Every expert computes ``factor`` times the mean of rows, padding included: what dropless kernels do away with.

    Gale et al. 2022. Grouped products, their nonlinearity and the exchanged buffers grow by the factor. With ``one_hot`` masks
    (GShard, fairseq) T tokens of width h and S = T·k·factor places cost two products of 2·T·S·h operations and a mask of T·S
    values: quadratic in the tokens.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> float:
    ...     return rp.estimate("mixtral-8x7b", on="8xh100-sxm", task=rp.Prefill(batch=4, prompt=2048), apply=apply).time_s
    >>> run("expert-capacity:factor=2") > run("expert-capacity:factor=1.25") > run()
    True
    """

    def rework(built: Built, given: Scenario, values: Values) -> Built:
        factor = values["factor"]

        def change(op: Op) -> Work:
            if isinstance(op, Gemm) and op.grouped:
                return replace(op, m=op.m * factor)
            if isinstance(op, Gemm) and values["one_hot"] and op.label.endswith(".router"):
                return Seq(op, *_by_masks(op, _experts(given).top_k * factor))
            if isinstance(op, Stream) and ".experts." in op.label:
                return replace(op, read_bytes=op.read_bytes * factor, write_bytes=op.write_bytes * factor)
            return replace(op, bytes=op.bytes * factor) if isinstance(op, Collective) and _all_exchanges(op) else op

        changed = with_ops(built, change)
        return _with_mask(changed, built, _experts(given).top_k * factor) if values["one_hot"] else changed

    return edited(given, "expert-capacity", rework, values)


def _by_masks(router: Gemm, places: Num) -> list[Work]:
    """Dispatch and combination as products of the tokens with a mask of ``places`` columns per token."""
    wide, slots = router.k, router.m * places
    plain_product = replace(router, weights=router.acts, out=router.acts)
    return [
        replace(plain_product, m=slots, n=wide, k=router.m, label=f"{router.label}.dispatch_mask"),
        replace(plain_product, m=router.m, n=wide, k=slots, label=f"{router.label}.combine_mask"),
    ]


def _with_mask(changed: Built, built: Built, places: Num) -> Built:
    """The mask and the padded places of one layer lie in memory."""
    found: Num = 0.0
    for phase in built.phases:
        for op in walk(phase.work):
            if isinstance(op, Gemm) and op.label.endswith(".router"):
                slots = op.m * places
                found = np.maximum(found, (op.m * slots + 2.0 * slots * op.k) * FORMATS[op.acts].bytes)
    return with_entries(changed, masks=plain(found))


@technique(
    "experts-per-token",
    title="fewer experts per token",
    mechanism=("moe", "adaptive_compute"),
    papers=("read-me", "dynamoe"),
    quality="falls with the experts left out; adaptive gates keep most of it",
    grade="changed",
    cannot=every(
        has_experts, wants(lambda g, v: v["count"] <= _experts(g).top_k, "a token visits no more than that already")
    ),
    parameters=(Parameter("count", 1.0, "experts that a token visits", 1.0, 64.0, whole=True, one_value=True),),
    occupies=("experts per token",),
)
def experts_per_token(given: Scenario, values: Values) -> Scenario:
    """Each token visits ``count`` experts: expert products fall with it, and at small batches so do the weights that are read.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> float:
    ...     return rp.estimate("mixtral-8x7b", on="8xh100-sxm", task=rp.Decode(batch=1, context=1024), apply=apply).time_s
    >>> run("experts-per-token:count=1") < run()
    True
    """
    assert isinstance(given.model, Model)
    return replace(given, model=with_experts(given.model, top_k=int(values["count"])))
