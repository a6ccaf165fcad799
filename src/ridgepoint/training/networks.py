"""Layouts of a network's training step (vision, diffusion, audio …): replicas, ZeRO stages, micro-batches, recomputation.

Networks are not cut: every device runs whole samples. The space is small, so that each of its layouts is estimated in full.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.machines.machine import Machine
from ridgepoint.models.networks.network import Network
from ridgepoint.plan import Plan
from ridgepoint.scenario import Scenario
from ridgepoint.tasks.networks import forward_tape, network_layout
from ridgepoint.training.answer import measure
from ridgepoint.training.divisors import divisors
from ridgepoint.training.layouts import LaidOut
from ridgepoint.training.question import Question
from ridgepoint.training.refused import nearest
from ridgepoint.training.search import Progress
from ridgepoint.training.space import fewer_devices
from ridgepoint.training.when_nothing_fits import grown

OF_SEQUENCES = (
    "schedule",
    "chunks",
    "sequence_parallel",
    "context_exchange",
    "shard_group",
    "rank_order",
    "recomputed_layers",
)
"""Fields of a plan that mean nothing without a transformer's layers."""
RULES = ("none", "full", "sqrt")
CHANGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--optimizer adam8bit", {"optimizer": "adam8bit"}),
    ("--offload-optimizer host", {"offload_optimizer": "host"}),
)
MOST_DOUBLINGS = 4


def parameters_of(net: Network) -> float:
    """All parameters of a network."""
    return float(forward_tape(net, Plan(), 1.0, {}).total_parameters)


def network_plans(net: Network, machine: Machine, batch: int, fixed: Mapping[str, Any], devices: int) -> list[Plan]:
    """Every layout on so many devices: ZeRO stages, micro-batches that divide a replica's samples, rules of recomputation.

    Errors: ``bad_plan`` for fields that only transformers have, degrees that cannot be, a batch that replicas do not divide.
    """
    for name in OF_SEQUENCES:
        if fixed.get(name) is not None:
            option = "--" + name.replace("_", "-")
            raise RidgepointError("bad_plan", f"{option} means nothing for the network {net.name}", "leave it out")
    dp = float(network_layout(net, machine, Plan(dp=fixed.get("dp") or devices)).dp)
    if batch % dp:
        valid = [d for d in divisors(devices) if batch % d == 0]
        below = max(int(batch // dp * dp), int(dp))
        raise RidgepointError(
            "bad_plan",
            f"{dp:g} replicas do not divide a batch of {batch} samples",
            f"use --global-batch {below} or {below + int(dp)}, or --dp {nearest(int(dp), valid, 3).replace(', ', ' or ')}",
        )
    free = {
        name: value for name, value in fixed.items() if name not in ("dp", "zero_stage", "micro_batch", "recompute")
    }
    here = int(batch // dp)
    sizes = divisors(here) if fixed.get("micro_batch") is None else [int(fixed["micro_batch"])]
    if any(here % size for size in sizes):
        raise RidgepointError(
            "bad_plan",
            f"a micro-batch of {sizes[0]} does not divide the {here} samples of a replica (of {batch} in all)",
            f"nearest: {nearest(sizes[0], divisors(here))}",
        )
    stages = [fixed["zero_stage"]] if fixed.get("zero_stage") is not None else [0, 1, 2, 3] if dp > 1.0 else [0]
    rules = [fixed["recompute"]] if fixed.get("recompute") is not None else list(RULES)
    return [
        Plan(**free, dp=dp, zero_stage=stage, micro_batch=size, recompute=rule)
        for stage in stages
        for size in sizes
        for rule in rules
    ]


def best_of_network(net: Network, asked: Question, progress: Progress | None) -> tuple[tuple[LaidOut, ...], int, int]:
    """(the ``top`` layouts, best first; how many were tried; how many fit). For cost and energy devices may be left out.

    Errors: ``does_not_fit``; ``bad_plan``.
    """
    plans = _plans(net, asked)
    if asked.objective != "time" and asked.fixed.get("dp") is None:
        for devices in list(fewer_devices(asked.machine))[1:]:
            plans += network_plans(net, asked.machine, int(asked.task.batch), asked.fixed, devices)
    tried: list[LaidOut] = []
    for one in _laid_out(net, asked, plans):
        tried.append(one)
        if progress is not None:
            progress(len(tried), len(plans))
    fitting = [one for one in tried if asked.fits(one.needed_bytes)]
    if not fitting:
        _refuse(net, asked, tried)
    kinds: dict[tuple[Any, ...], LaidOut] = {}
    for one in sorted(fitting, key=lambda one: measure(one, asked.objective)):
        kinds.setdefault((one.plan.dp, one.plan.zero_stage, one.plan.recompute), one)
    return tuple(kinds.values())[: asked.top], len(tried), len(fitting)


def _plans(net: Network, asked: Question) -> list[Plan]:
    """Every layout on all devices."""
    return network_plans(net, asked.machine, int(asked.task.batch), asked.fixed, asked.machine.devices)


def _laid_out(net: Network, asked: Question, plans: list[Plan]) -> Iterator[LaidOut]:
    """Every layout, estimated."""
    for plan in plans:
        yield LaidOut(net, asked.task, Estimate(Scenario(net, asked.machine, asked.task, plan)))


def _refuse(net: Network, asked: Question, tried: list[LaidOut]) -> NoReturn:
    """Raise ``does_not_fit``, with the smallest change that would help."""
    least_bytes = min(one.needed_bytes for one in tried)
    remedies = [words for words, change in CHANGES if asked.fits(_least(net, asked.with_fields(change)))][:1]
    for power in range(1, MOST_DOUBLINGS + 1):
        larger = grown(asked.machine, 2**power)
        if larger is not None and asked.fits(_least(net, asked.on(larger))):
            remedies.append(f"{larger.devices} devices ({larger.name})")
            break
    raise RidgepointError(
        "does_not_fit",
        f"none of {len(tried)} layouts of {net.name} fits: the leanest needs {least_bytes / 1e9:.1f} GB of the "
        f"{asked.usable_bytes / 1e9:.1f} GB that may be used per device of {asked.machine.name}",
        "it would fit with " + ", or with ".join(remedies) if remedies else "use smaller samples, or another machine",
    )


def _least(net: Network, asked: Question) -> float:
    """Bytes of the leanest layout; infinity where there is none."""
    try:
        plans = _plans(net, asked)
    except RidgepointError:
        return float("inf")
    smallest = [plan for plan in plans if plan.micro_batch == min(float(p.micro_batch or 1.0) for p in plans)]
    return min(one.needed_bytes for one in _laid_out(net, asked, smallest))
