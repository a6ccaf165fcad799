"""What happens to gradients and parameters between the passes of a training step: exchange, gathering, update (design §1).

Sources: Rajbhandari et al. 2020 (ZeRO), Rajbhandari et al. 2021 (ZeRO-Infinity), Shazeer and Stern 2018 (factored second
moments), Zhao et al. 2024 (GaLore), Stich 2019 and Douillard et al. 2023 (local updates).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.execution import Execution
from ridgepoint.models.pieces import is_one
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Collective, Gemm, Host, Stream, Transfer
from ridgepoint.plan import Plan
from ridgepoint.tasks.layout import Layout
from ridgepoint.work import Mix, Overlap, Repeat, Seq, Work

MOMENT_BYTES = {"adam": 8.0, "adam8bit": 2.0, "adafactor": 0.0, "lion": 4.0, "sgd": 4.0}
"""Bytes per parameter of what an optimizer keeps besides master weights. Adafactor's row and column sums are two numbers
per row and column: nothing beside the matrix.
"""
_TIER = {"host": "host", "nvme": "storage"}
"""Where a plan offloads to → the tier of a transfer."""


@dataclass(frozen=True)
class Trained:
    """Weights on one device, as numbers: those that all its replicas hold, and routed experts, of which there are fewer
    copies where expert-parallel ranks reach over several attention replicas.
    """

    dense: Num
    experts: Num = 0.0

    @property
    def total(self) -> Num:
        """All of them."""
        return self.dense + self.experts

    def sharded(self, layout: Layout) -> Num:
        """One device's part where all copies of a weight share its states (ZeRO)."""
        (mine, _), (own, _) = spans(layout, "shards"), spans(layout, "shards", pooled(layout))
        return self.dense / mine + self.experts / own


def copies(layout: Layout) -> Num:
    """Devices that hold the same weights: data-parallel replicas and context-parallel ranks."""
    return layout.dp * layout.cp


def pooled(layout: Layout) -> Num:
    """Attention replicas that hold one set of experts together."""
    return plain(np.maximum(layout.ep / np.asarray(layout.tp, dtype=float), 1.0))


def spans(layout: Layout, which: str, apart: Num = 1.0) -> tuple[Num, Num]:
    """(ranks, stride) of a group among the copies of weights that every ``apart``-th replica holds: ``all`` of them, the
    ``shards`` that share states, or the ``groups`` of those (hybrid sharding: one rank of each).

    >>> hybrid = Layout(2.0, 1.0, 32.0, 1.0, 1.0, shards=8.0)
    >>> spans(hybrid, "all"), spans(hybrid, "shards"), spans(hybrid, "groups")
    ((32.0, 2.0), (8.0, 2.0), (4.0, 16.0))
    """
    among = plain(np.maximum(copies(layout) / np.asarray(apart, dtype=float), 1.0))
    stride = layout.copy_stride * apart
    if which == "all" or layout.shards is None:
        return (1.0, stride) if which == "groups" else (among, stride)
    share = plain(np.clip(np.asarray(layout.shards) / apart, 1.0, among))
    return (share, stride) if which == "shards" else (plain(among / np.asarray(share)), stride * share)


def at_stage(plan: Plan, stage: float, there: Num, below: Num) -> Num:
    """``there`` from that ZeRO stage on, ``below`` before it."""
    if isinstance(plan.zero_stage, float):
        return there if plan.zero_stage >= stage else below
    return plain(np.where(np.asarray(plan.zero_stage) >= stage, there, below))


def ever(plan: Plan, stage: float) -> bool:
    """Whether any point of the sweep is at that ZeRO stage or beyond."""
    return bool(np.any(np.asarray(plan.zero_stage) >= stage))


def shown_stage(plan: Plan) -> str:
    """The ZeRO stage, or the stages of a sweep, for reports."""
    low, high = np.min(plan.zero_stage), np.max(plan.zero_stage)
    found = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return found if plan.shard_group is None else f"{found} in groups of {np.max(plan.shard_group):g}"


def sharing(plan: Plan) -> str:
    """The stage of one plan in few characters, with the group that shares: for tables.

    >>> sharing(Plan(zero_stage=3, shard_group=8)), sharing(Plan())
    ('3/8', '0')
    """
    group = "" if plan.shard_group is None else f"/{float(plan.shard_group):g}"
    return f"{float(plan.zero_stage):g}{group}"


def gradient_bytes(plan: Plan) -> Num:
    """Bytes per parameter of a kept gradient: as the plan says, by the ZeRO stage where it does not (``Plan.gradients``), and
    fp32 where the step is computed in it.

    Megatron-LM adds bf16 gradients up in fp32 unless told otherwise (``--grad-reduce-in-bf16``). DeepSpeed keeps those of the
    model's format (``get_data_types`` of its engine). FSDP2 keeps fp32 shards of the weights, which are the master weights too,
    and fp32 shards of the gradients: 4 + 4 bytes where 16-bit weights, gradients and master weights are 2 + 2 + 4.

    >>> gradient_bytes(Plan()), gradient_bytes(Plan(zero_stage=3)), gradient_bytes(Plan(zero_stage=3, gradients="fp32"))
    (4.0, 2.0, 4.0)
    """
    stream = plan.acts if plan.acts is not None and FORMATS[plan.acts].bits >= 16 else plan.weights
    if plan.gradients == "fp32" or (stream is not None and FORMATS[stream].bytes == 4.0):
        return 4.0
    return 2.0 if plan.gradients == "16bit" else at_stage(plan, 2.0, 2.0, 4.0)


def gradient_words(plan: Plan) -> str:
    """In what gradients are kept, and where they are exchanged in something else: for reports.

    >>> gradient_words(Plan(zero_stage=1)), gradient_words(Plan(zero_stage=3, gradient_bytes=4))
    ('gradients kept in fp32', 'gradients kept in 16 bit, exchanged in 4 bytes')
    """
    names = {2.0: "16 bit", 4.0: "fp32"}
    kept = " or ".join(names[width] for width in sorted(set(np.ravel(gradient_bytes(plan)).tolist())))
    sent = "" if plan.gradient_bytes is None else f", exchanged in {np.min(plan.gradient_bytes):g} bytes"
    return f"gradients kept in {kept}{sent}"


def exchanged_bytes(plan: Plan) -> Num:
    """Bytes per parameter of a communicated gradient: those that are kept, unless the plan compresses them."""
    return gradient_bytes(plan) if plan.gradient_bytes is None else plan.gradient_bytes


def _among_copies(
    operation: str, trained: Trained, width: Num, layout: Layout, label: str, on: Num = 1.0, which: str = "all"
) -> Work:
    """A collective over copies of the weights (``spans``); the routed experts have their own group where it is smaller. Between
    groups go shards. It happens where ``on`` is 1.
    """
    group = np.asarray(pooled(layout), dtype=float)
    apart = group > 1.0
    together = plain(np.where(apart, trained.dense, trained.total))

    def one(size: Num, step: Num, name: str, needed: Any) -> Work:
        ranks, stride = spans(layout, which, step)
        part = size / spans(layout, "shards", step)[0] if which == "groups" else size
        wanted = plain(np.where(needed & (np.asarray(on) > 0.0), ranks, 1.0))
        return Collective(operation=operation, bytes=part * width, ranks=wanted, stride=stride, label=name)

    every = one(together, 1.0, label, True)
    if not np.any(apart):
        return every
    return Seq(every, one(trained.experts, plain(group), f"{label}.experts", apart))


def gradient_exchange(layout: Layout, plan: Plan, trained: Trained) -> Work:
    """All-reduce of the gradients over all copies of the weights, or reduce-scatter where optimizer states are sharded; in
    groups of shards (hybrid sharding) and then an all-reduce of each shard among the groups (Zhao et al. 2023).

    Zeroth-order steps exchange one number.
    """
    if plan.trainable == "zeroth_order":
        trained = Trained(1.0)
    label, width = "data_parallel.gradients", exchanged_bytes(plan)
    sharded = at_stage(plan, 1.0, 1.0, 0.0)
    steps = [("all_reduce", 1.0 - sharded, "all"), ("reduce_scatter", sharded, "shards")]
    steps += [("all_reduce", sharded, "groups")] if layout.shards is not None else []
    ways = [
        _among_copies(operation, trained, width, layout, label, on, which)
        for operation, on, which in steps
        if np.any(np.asarray(on) > 0.0)
    ]
    exchange = ways[0] if len(ways) == 1 else Seq(*ways)
    return _narrowed(exchange, plan, trained)


def _narrowed(exchange: Work, plan: Plan, trained: Trained) -> Work:
    """An exchange in fewer bytes than are kept: one pass narrows every gradient before it, one widens it after."""
    if plan.gradient_bytes is None or plan.trainable == "zeroth_order":
        return exchange
    kept, sent = trained.total * gradient_bytes(plan), trained.total * plan.gradient_bytes
    label = "data_parallel.compress"
    narrow = Stream(read_bytes=kept, write_bytes=sent, flop=2.0 * trained.total, pattern="quantize", label=label)
    widen = Stream(read_bytes=sent, write_bytes=kept, flop=trained.total, pattern="quantize", label=label)
    return Seq(narrow, exchange, widen)


def early_exchange(layout: Layout, plan: Plan, trained: Trained, microbatches: Num) -> Work:
    """What gradients in shards cost besides: each micro-batch but the last reduces its own, for a device keeps no whole
    gradient to add them to (ZeRO-2, ZeRO-3).
    """
    if not ever(plan, 2.0) or plan.trainable == "zeroth_order":
        return Seq()
    on = at_stage(plan, 2.0, 1.0, 0.0)
    label = "data_parallel.gradients"
    each = _among_copies("reduce_scatter", trained, exchanged_bytes(plan), layout, label, on, "shards")
    return Repeat(np.maximum(microbatches - 1.0, 0.0), each)


def sometimes(plan: Plan, work: Work, otherwise: Work) -> Work:
    """``work`` in every ``exchange_period``-th step, ``otherwise`` in the others: the mean step."""
    if is_one(plan.exchange_period):
        return work
    part = 1.0 / np.asarray(plan.exchange_period, dtype=float)
    return Mix((plain(part), work), (plain(1.0 - part), otherwise))


def parameter_gathers(run: Execution, layout: Layout, plan: Plan, weights: Trained, microbatches: Num) -> Work:
    """ZeRO: weights gathered once after the step (stages 1, 2), or before every forward and backward pass (stage 3)."""
    if not ever(plan, 1.0):
        return Seq()
    width = FORMATS[run.formats.stream].bytes
    on = at_stage(plan, 1.0, 1.0, 0.0)
    gather = _among_copies("all_gather", weights, width, layout, "data_parallel.parameters", on, "shards")
    passes = at_stage(plan, 3.0, 2.0 * microbatches, 1.0)
    return gather if is_one(passes) else Repeat(passes, gather)


def training_state(run: Execution, layout: Layout, plan: Plan, trained: Trained, hidden: Num = 1.0) -> dict[str, Num]:
    """Gradients and optimizer states on one device; ZeRO shares the states from stage 1 on, the gradients from stage 2.
    What is offloaded is not on the device: from stage 2 on gradients follow the states as they are made (Ren et al. 2021).
    """
    if plan.trainable == "zeroth_order":
        return {}
    whole, mine = trained.total, trained.sharded(layout)
    shared = mine if plan.offload_optimizer == "none" else 0.0
    found: dict[str, Num] = {"gradients": at_stage(plan, 2.0, shared, whole) * gradient_bytes(plan)}
    if plan.offload_optimizer == "none":
        found["optimizer"] = at_stage(plan, 1.0, mine, whole) * optimizer_bytes(run, plan, hidden)
    if np.any(np.asarray(plan.outer_bytes) > 0.0):
        found["outer optimizer"] = at_stage(plan, 1.0, mine, whole) * plan.outer_bytes
    return found


def optimizer_bytes(run: Execution, plan: Plan, hidden: Num = 1.0) -> Num:
    """Bytes per parameter of the optimizer's states: fp32 master weights, where the weights are narrower, and moments.

    With ``optimizer_rank`` r the moments of an h × n matrix (h ≤ n, h the hidden width) are r × n, and its projector h × r
    lies beside them in the stream's format (counted as if n = h, its largest).
    """
    if plan.optimizer == "none" or plan.trainable == "zeroth_order":
        return 0.0
    master = 4.0 if plan.master_weights and FORMATS[run.formats.stream].bytes < 4.0 else 0.0
    moments = MOMENT_BYTES[plan.optimizer]
    rank = np.asarray(plan.optimizer_rank, dtype=float)
    if not np.any(rank > 0.0):
        return master + moments
    part = np.minimum(rank / hidden, 1.0)
    low = part * (moments + FORMATS[run.formats.stream].bytes)
    return plain(master + np.where(rank > 0.0, np.minimum(low, moments), moments))


def optimizer_step(run: Execution, layout: Layout, plan: Plan, trained: Trained, hidden: Num = 1.0) -> Work:
    """One pass over gradients, master weights and moments; the weights are written. Sharded from ZeRO-1 on.

    Offloaded states are updated where they are: gradients go to the host, its processor streams the states through its
    memory (to and from storage for ``nvme``), the new weights come back (Ren et al. 2021). With ``blocking_offload`` one
    after the other: a copy to another format that blocks is converted by the processor, in pageable memory (PyTorch's
    Copy.cu), which DeepSpeed's ZeRO-3 does with gradients and weights.
    """
    if plan.trainable == "zeroth_order":
        return _perturbations(run, trained)
    if plan.optimizer == "none":
        return Seq()
    mine = at_stage(plan, 1.0, trained.sharded(layout), trained.total)
    states, width = optimizer_bytes(run, plan, hidden), FORMATS[run.formats.stream].bytes
    before = _projections(run, plan, mine, hidden)
    if plan.offload_optimizer != "none":
        return Seq(*before, _updated_off_device(plan, mine, states, width))
    update = Stream(
        read_bytes=mine * (states + gradient_bytes(plan)),
        write_bytes=mine * (states + width),
        flop=12.0 * mine,
        special=mine,
        pattern="optimizer",
        label="optimizer",
    )
    return Seq(*before, update) if before else update


def _projections(run: Execution, plan: Plan, mine: Num, hidden: Num) -> list[Work]:
    """Gradients to the low rank, updates back: two products per matrix."""
    if not np.any(np.asarray(plan.optimizer_rank) > 0.0):
        return []
    rank = np.minimum(np.maximum(plan.optimizer_rank, 1.0), hidden)
    columns = np.maximum(mine / hidden, 1.0)
    stream = run.formats.stream
    down = Gemm(m=columns, n=rank, k=hidden, acts=stream, weights=stream, out=stream, label="optimizer.project")
    up = Gemm(m=columns, n=hidden, k=rank, acts=stream, weights=stream, out=stream, label="optimizer.project_back")
    return [down, up]


def _updated_off_device(plan: Plan, mine: Num, states: Num, width: float) -> Work:
    pinned = not plan.blocking_offload
    down = Transfer(bytes=mine * gradient_bytes(plan), direction="write", pinned=pinned, label="offload.gradients")
    update = Host(bytes=mine * (2.0 * states + gradient_bytes(plan) + width), label="offload.optimizer")
    up = Transfer(bytes=mine * width, direction="read", pinned=pinned, label="offload.weights")
    if plan.blocking_offload and plan.offload_optimizer == "host":
        before = Host(bytes=mine * (gradient_bytes(plan) + 4.0), label="offload.gradients.conversion")
        after = Host(bytes=mine * (4.0 + width), label="offload.weights.conversion")
        return Seq(down, before, update, after, up)
    if plan.offload_optimizer == "host":
        return Overlap(down, update, up)
    moved = mine * states
    read = Transfer(bytes=moved, tier="storage", direction="read", label="offload.states_in")
    write = Transfer(bytes=moved, tier="storage", direction="write", label="offload.states_out")
    return Overlap(down, read, update, write, up)


def moved_gradients(layout: Layout, plan: Plan, trained: Trained, count: Num) -> list[Work]:
    """Gradients that lie with the offloaded states: every micro-batch but the last brings the sum so far and takes its own away
    with it (ZeRO-2 and ZeRO-3; the last one's way is the update's).
    """
    if plan.offload_optimizer == "none" or plan.trainable != "full" or not ever(plan, 2.0):
        return []
    size = at_stage(plan, 2.0, trained.sharded(layout) * gradient_bytes(plan), 0.0)
    away = Transfer(bytes=size, direction="write", label="offload.gradients_out")
    back = Transfer(bytes=size, direction="read", label="offload.gradients_in")
    return [Repeat(np.maximum(count - 1.0, 0.0), Overlap(away, back))]


def _perturbations(run: Execution, trained: Trained) -> Work:
    """Weights moved to +ε, to −ε, back and along the estimated gradient, in place (Malladi et al. 2023)."""
    size = trained.total * FORMATS[run.formats.stream].bytes
    one = Stream(
        read_bytes=size,
        write_bytes=size,
        flop=4.0 * trained.total,
        special=2.0 * trained.total,
        pattern="optimizer",
        label="optimizer.perturb",
    )
    return Repeat(4.0, one)


def tier_of(place: str) -> str:
    """The tier of a transfer to where a plan offloads."""
    return _TIER[place]
