"""What the parts of a deployment mean together: which do not go with each other, and what all of them presume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ridgepoint.cost.energy import idle_w
from ridgepoint.errors import RidgepointError
from ridgepoint.models.architecture import Experts
from ridgepoint.models.feed import UNEVEN
from ridgepoint.serving.handover import checked_reading
from ridgepoint.serving.scheduling import STATIC, Scheduling
from ridgepoint.serving.sharing import checked as checked_share
from ridgepoint.units import duration

if TYPE_CHECKING:
    from ridgepoint.serving.deployment import Deployment


def checked(given: Deployment) -> Deployment:
    """``given``, if its parts go together.

    Errors: ``bad_plan``, ``bad_sharing``, ``bad_scaling``.
    """
    checked_reading(given)
    first, mixed, replicas = given.prefill_replicas, given.mixed_replicas, given.replicas
    if (first or mixed) and not (first >= 0 and mixed >= 0 and first + mixed < replicas):
        raise RidgepointError(
            "bad_plan",
            f"{first + mixed} of {replicas} replicas cannot read prompts for the others",
            "leave at least one of each kind: more devices, or a smaller --tp",
        )
    if first and given.rules.policy == STATIC:
        raise RidgepointError(
            "bad_plan",
            "--policy static and --prefill-replicas do not go together: static batches read and decode their requests "
            "themselves",
            "leave out one of them",
        )
    if mixed and not first:
        raise RidgepointError(
            "bad_plan", "mixed replicas help replicas that only read prompts", "add --prefill-replicas"
        )
    if given.sharing is not None:
        checked_share(given.sharing, given.machine)
        other = next((option for option, why in _beside_sharing(given) if why), None)
        if other is not None:
            raise RidgepointError(
                "bad_sharing",
                f"--sharing and {other} do not go together: {_SHARED[other]}",
                f"leave out one of --sharing and {other}",
            )
    if given.scaling is not None:
        if first:
            raise RidgepointError(
                "bad_scaling",
                "--autoscale and --prefill-replicas do not go together: the rule counts requests per replica that does "
                "everything, and says nothing of how many should read prompts",
                "leave out one of them",
            )
        if given.scaling.least > replicas:
            raise RidgepointError(
                "bad_scaling",
                f"at least {given.scaling.least} replicas are to be on, and the machine has {replicas}",
                f"use at most {replicas}, or a larger machine",
            )
    if given.adapters is not None and given.rules.policy == STATIC:
        raise RidgepointError(
            "bad_adapters",
            "--adapters and --policy static do not go together: a static batch is of one model",
            "leave out one of them",
        )
    if given.budget is not None:
        _checked_budget(given, given.budget.watts)
    if given.tiers is not None and (not given.rules.prefix_cache or given.rules.policy == STATIC):
        other = "--policy static" if given.rules.policy == STATIC else "--no-prefix-cache"
        raise RidgepointError(
            "bad_tiers",
            f"lower tiers of the cache and {other} do not go together: prefixes are what they keep, and none are kept",
            f"leave out --host-cache and --disk-cache, or {other}",
        )
    if np.any(np.asarray(given.plan.expert_imbalance) > 0.0) and not _routed(given):
        raise RidgepointError(
            "bad_plan", f"{given.model.name} has no experts with uneven loads", "leave out --expert-imbalance"
        )
    return given


_SHARED = {
    "--prefill-replicas": "replicas that only read prompts have no decoding to share a device with",
    "--power-budget": "the halves of a device have one clock, which is tabulated at its usual rate alone",
    "--policy static": "a static batch never reads prompts while others decode",
}
"""Why a shared device has none of these."""


def _beside_sharing(given: Deployment) -> tuple[tuple[str, bool], ...]:
    return (
        ("--prefill-replicas", given.prefill_replicas > 0),
        ("--power-budget", given.budget is not None),
        ("--policy static", given.rules.policy == STATIC),
    )


def _checked_budget(given: Deployment, watts: float) -> None:
    """Errors: ``bad_power_budget`` where the sheet states no power, or the devices draw more when they do nothing."""
    idle = idle_w(given.machine)
    if idle is None:
        raise RidgepointError(
            "bad_power_budget", f"the sheet of {given.machine.name} states no power limit", "give one: MACHINE@tdp=300W"
        )
    least = idle * given.replicas * given.devices_per_replica
    if watts <= least:
        raise RidgepointError(
            "bad_power_budget",
            f"{watts:,.0f} W is no more than the idle power of all devices",
            f"use more than {least:,.0f} W",
        )


def _routed(given: Deployment) -> bool:
    return any(isinstance(layer.feed, Experts) for layer, _ in given.model.main.layers)


def assumptions_of(given: Deployment) -> tuple[str, ...]:
    """What the deployment rests on that was not said."""
    rules = given.rules
    said = [note for part in given.parts for note in part.notes]
    said.append(
        f"engine {given.software.title}: host times {given.software.provenance.kind} ({given.software.provenance.source})"
    )
    said.append(_scheduler(rules))
    said.append("engines know neither output lengths nor stop early: a request makes exactly its output tokens")
    if _routed(given) and np.all(np.asarray(given.plan.expert_imbalance) <= 0.0):
        said.append(
            f"experts are picked unevenly (squared coefficient of variation {UNEVEN:g}, fitted to measured serving), and ranks "
            "wait for the busiest one"
        )
    if given.speculation is not None:
        said.append(
            f"{given.speculation.drafted} drafted tokens, {given.speculation.tokens_per_step:.2f} tokens a step in the mean"
            + ("" if given.speculation.draft else "; drafting itself costs nothing")
        )
    if given.readers:
        said.append("caches move layer by layer while the prompt is read; a replica sends one at a time")
    if given.reading is not None:
        said.append(
            f"caches leave {given.reading.machine.device.name} for {given.machine.device.name} between nodes, as fast as "
            "the slower end"
        )
    for part in (one for one in given.parts if one.power_cap_w is not None):
        where = "device" if given.reading is None else part.machine.device.name
        said.append(
            f"{part.power_cap_w:g} W per {where}: the clock falls to {part.frequency:.0%}, where full load fits; main "
            "memory and links keep their rates, and the whole dynamic power falls with the clock"
        )
    said += _conditions(given)
    return tuple(dict.fromkeys(said))


def _scheduler(rules: Scheduling) -> str:
    if rules.policy == STATIC:
        return (
            f"static batches of up to {rules.static_batch:,}, padded to their longest prompt and run to their longest "
            f"output; the first of an incomplete one waits {duration(rules.static_wait_s)}"
        )
    whole = "" if rules.chunked else ", prompts in one piece"
    return (
        f"scheduler {rules.policy}, admission {rules.admits}, {rules.token_budget:,} tokens a step, at most "
        f"{rules.max_sequences:,} sequences{whole}; the whole prompt must fit before it is begun"
    )


def _conditions(given: Deployment) -> list[str]:
    """What was said of sharing, tiers, adapters, failures, scaling and power."""
    said = []
    if given.mixed_replicas:
        some = "1 mixed replica takes" if given.mixed_replicas == 1 else f"{given.mixed_replicas} mixed replicas take"
        said.append(f"{some} prompts that queue and caches that find no room")
    if given.sharing is not None:
        said.append(
            f"prompts have {given.sharing:.0%} of the multiprocessors while others decode; decoding has the bandwidth that "
            "prompts of mean length leave; a half alone has the device"
        )
    if given.tiers:
        said.append("evicted prefixes are written below without delay, and fetched whenever they are found there")
    if given.adapters is not None:
        said.append(
            f"{given.adapters.count:,} adapters of rank {given.adapters.rank}, {given.adapter_bytes / 1e6:.1f} MB a device "
            f"each, {given.adapters.slots} at a time; a step waits {duration(given.adapter_load_s)} for each that it "
            "needs first"
        )
    if given.failures is not None:
        said.append(
            f"a device fails every {duration(given.failures.mtbf_s)} in the mean and takes its replica with it for "
            f"{duration(given.failures.repair_s)}; answers go on where they were after their prompt is read again"
        )
    if given.scaling is not None:
        rule = given.scaling
        said.append(
            f"{rule.target:g} requests per replica are aimed at, decided every {duration(rule.every_s)}; a replica "
            f"serves {duration(rule.start_s)} after its start, and is paid for from there; fewer only after "
            f"{duration(rule.patience_s)}"
        )
    if given.budget is not None:
        rules = given.budget
        said.append(
            f"power is looked at every {rules.every_s:g} s, clocks follow after {rules.delay_s:g} s: "
            f"{', '.join(f'{c:.0%}' for c in rules.clocks)} above {rules.first:.0%}, {rules.second:.0%} and 100% of "
            f"{rules.watts:,.0f} W; memory and links keep their rates"
        )
    return said
