"""What a reader must know before using an estimate: it does not fit, a resource is guessed, part of the work is unknown."""

from __future__ import annotations

import numpy as np

from ridgepoint.cost.ledger import Ledger
from ridgepoint.machines.coefficients import table_origin
from ridgepoint.models.architecture import Experts, LatentAttention, Model
from ridgepoint.models.networks.network import Network
from ridgepoint.numeric import Num
from ridgepoint.plan import Plan
from ridgepoint.scenario import Scenario
from ridgepoint.tasks import Train
from ridgepoint.tasks.layout import Layout
from ridgepoint.tasks.training import micro_batch

_SMALLER = {False: "shorten the context, narrow --kv, or raise --tp", True: "make its input smaller"}
"""What a sequence of a transformer, or a sample of a network, may be spared."""
_BEHIND = {"host": "the host's memory", "nvme": "storage"}


def cautions(given: Scenario, ledger: Ledger, layout: Layout, largest_batch: Num | None) -> tuple[str, ...]:
    """One sentence per thing to know, most important first."""
    said: list[str] = []
    if not np.all(ledger.fits):
        said.append(_does_not_fit(given, ledger, layout, largest_batch))
    limit = given.model.max_context if isinstance(given.model, Model) else 0
    longest = _longest_context(given) if limit else 0.0
    if longest > limit:
        said.append(f"{longest:,.0f} tokens of context exceed the {limit:,} that {given.model.name} was made for")
    idle = float(np.max(np.asarray(layout.dp) - np.asarray(given.task.batch)))
    if idle > 0:
        said.append(
            f"the batch is smaller than the {np.max(layout.dp):g} data-parallel replicas: {idle:g} of them stay idle"
        )
    if isinstance(given.task, Train):
        said += _filled_up(given.task, given.plan, layout) if isinstance(given.model, Model) else []
        said += _without_effect(given, layout)
    said += _guessed_tables(given)
    return tuple(said)


def _filled_up(task: Train, plan: Plan, layout: Layout) -> list[str]:
    """Where equal micro-batches of all replicas are more than the batch: those that wait for them compute as long."""
    size, count = micro_batch(task, plan, layout)
    batch, computed, copies = np.broadcast_arrays(*map(np.asarray, (task.batch, size * count * layout.dp, layout.dp)))
    more = np.where(batch >= copies, computed - batch, 0.0)
    at = np.unravel_index(int(np.argmax(more)), more.shape)
    if not more[at] > 1e-6:
        return []
    return [
        f"a step takes as long as one of {computed[at]:g} sequences, not {batch[at]:g}: equal micro-batches on all replicas "
        "are more than the batch (take a batch that --dp times --micro-batch divides)"
    ]


def _without_effect(given: Scenario, layout: Layout) -> list[str]:
    """Settings of a training step that change nothing as the others are: whoever made them expects something else."""
    plan, set_ = given.plan, given.plan.given()
    one_stage, one_part = (not np.any(np.asarray(n) > 1.0) for n in (layout.pp, layout.cp))
    alone = not np.any(np.asarray(layout.dp * layout.cp) > 1.0)
    interleaved, chunked = plan.schedule == "interleaved", bool(np.any(np.asarray(plan.chunks) > 1.0))
    stages = "there is one pipeline stage (raise --pp)"
    copies = "there is one copy of the weights (raise --dp)"
    scores = "fused attention keeps no scores (use --recompute full, or --no-fused-attention)"
    idle = (
        ("schedule", one_stage, stages),
        (
            "schedule",
            not one_stage and interleaved and not chunked,
            "with one chunk per stage it is 1f1b (add --chunks 2)",
        ),
        ("chunks", one_stage, stages),
        ("chunks", not one_stage and not interleaved, "the schedule is not interleaved (add --schedule interleaved)"),
        ("stages", one_stage, stages),
        ("vocab_parallel", one_stage, stages),
        ("context_exchange", one_part, "sequences are not divided (raise --cp)"),
        ("padding", plan.lengths is None, "all sequences are as long as --seq (add --lengths)"),
        ("lora_rank", plan.trainable != "lora", "no adapters are trained (add --trainable lora)"),
        ("recomputed_layers", plan.recompute == "none", "nothing runs again (add --recompute full)"),
        ("recompute", plan.recompute == "selective" and plan.fused_attention, scores),
        ("exchange_period", alone, copies),
        ("gradient_bytes", alone, copies),
    )
    return [f"--{name.replace('_', '-')} has no effect: {why}" for name, holds, why in idle if holds and name in set_]


def _does_not_fit(given: Scenario, ledger: Ledger, layout: Layout, largest_batch: Num | None) -> str:
    need, usable = float(np.max(ledger.total_bytes)), ledger.usable_bytes
    behind = _tiers_that_lack_room(ledger)
    if need <= usable and behind:
        return f"does not fit: {behind}; keep less there, divide states further (--zero, --tp, --pp), or use more nodes"
    said = [f"does not fit: needs {need / 1e9:,.1f} GB of the {usable / 1e9:,.1f} GB that may be used per device"]
    weights = float(np.max(ledger["weights"]))
    some_fit = largest_batch is not None and np.any(np.asarray(largest_batch) >= 1)
    if some_fit and largest_batch is not None:
        said.append(f"the largest batch that fits is {np.max(largest_batch):g}")
    if _copies_latents(given, layout):
        degree = f"{np.max(layout.tp):g}"
        said.append(
            f"every tensor-parallel rank copies the latent cache: --tp 1 --dp {degree} --ep {degree} divides it"
        )
    elif isinstance(given.task, Train):
        said.append("raise --zero, --tp or --pp, use --recompute full or a smaller --micro-batch")
    elif weights > usable and isinstance(given.model, Network):
        said.append("the weights alone are more: use narrower --weights, or a device with more memory")
    elif weights > usable:
        parts = int(np.ceil(weights * float(np.max(layout.tp * layout.pp)) / usable))
        said.append(f"the weights alone need tp × pp of at least {parts}, or narrower --weights")
    elif not some_fit:
        said.append(f"not even one sequence fits: {_SMALLER[isinstance(given.model, Network)]}")
    return "; ".join([*said, behind] if behind else said)


def _tiers_that_lack_room(ledger: Ledger) -> str:
    """What a device keeps in a tier behind its memory, where its share of that tier is smaller."""
    needs = {tier: (float(np.max(ledger.kept_in(tier))), room) for tier, room in ledger.rooms.items()}
    return "; ".join(
        f"{_BEHIND.get(tier, tier)} would hold {need / 1e9:.1f} GB of the {room / 1e9:.1f} GB that are there per device"
        for tier, (need, room) in needs.items()
        if need > room
    )


def _copies_latents(given: Scenario, layout: Layout) -> bool:
    """Whether latent attention with experts runs tensor parallel, which copies its cache to every rank."""
    if not isinstance(given.model, Model) or not np.any(np.asarray(layout.tp) > 1.0):
        return False
    layers = [layer for layer, _ in given.model.main.layers]
    latent = any(isinstance(layer.mixer, LatentAttention) for layer in layers)
    return latent and any(isinstance(layer.feed, Experts) for layer in layers)


def _longest_context(given: Scenario) -> float:
    sizes = given.task.sizes()
    read = sizes.get("context", sizes.get("prompt", sizes.get("seq", 0.0)))
    if isinstance(given.model, Model) and given.model.encoder is not None and "prompt" in sizes:
        read = 0.0  # the encoder reads the prompt
    return float(np.max(read + sizes.get("output", 0.0)))


def _guessed_tables(given: Scenario) -> list[str]:
    """Whether the kernel tables come from other architectures' measurements."""
    device = given.machine.device
    if table_origin(device, "gemm") != "generic" and given.machine.coefficients.gemm.provenance.kind == "fitted":
        return []
    return [
        f"nobody measured {device.name} or its architecture ({device.family}): kernel coefficients are those of other "
        "machines, and the interval is wide on purpose"
    ]
