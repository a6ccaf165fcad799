"""What a device type can serve: ways to run one replica and the highest rate of each kind of request within the goals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import find_device, find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.plan import Plan
from ridgepoint.serving.apart import Pools, apart_loop
from ridgepoint.serving.deployment import Deployment
from ridgepoint.serving.handover import transfer
from ridgepoint.serving.layouts import Choice, choices, formats
from ridgepoint.serving.loops import OpenLoop, Pace, open_loop
from ridgepoint.serving.operating import paces
from ridgepoint.serving.outcome import Slo
from ridgepoint.serving.workload import Requests

Floats = NDArray[np.float64]
LARGEST_NODE = 8


@dataclass(frozen=True)
class Bucket:
    """Requests of similar size: their part of all, mean prompt and output."""

    share: float
    prompt: float
    output: float


@dataclass(frozen=True)
class Space:
    """What is tried: the plan that is kept, the engine, names of format choices, and whether pools are divided."""

    plan: Plan = field(default_factory=Plan)
    engine: str = "vllm"
    formats: tuple[str, ...] = ("given",)
    splits: bool = True


@dataclass(frozen=True)
class Offer:
    """One way to run one replica, or one group of pools, on a device type. ``curves``: rate against latency, per bucket
    (None: does not fit).
    """

    deployment: Deployment
    choice: Choice
    usd_per_hour: float
    curves: tuple[OpenLoop | None, ...]

    @property
    def devices(self) -> int:
        """Devices of a replica, or of a group of pools."""
        return self.choice.group

    @property
    def device(self) -> str:
        """Name of the device type."""
        return self.deployment.machine.device.name

    @property
    def layout(self) -> dict[str, int]:
        """Degrees of one replica; ``prefill`` and ``decode`` replicas of a group where they are apart."""
        given = self.deployment
        found = given.passes.layout
        degrees = {name: int(getattr(found, name)) for name in ("tp", "pp", "dp", "ep")}
        if not given.prefill_replicas:
            return degrees
        return degrees | {"dp": 1, "prefill": given.prefill_replicas, "decode": given.replicas - given.prefill_replicas}

    @property
    def formats(self) -> dict[str, str]:
        """Formats that the plan states."""
        plan = self.deployment.plan
        named = (("weights", plan.weights), ("acts", plan.acts), ("kv", plan.kv))
        return {name: value for name, value in named if value is not None}

    def rates(self, slo: Slo) -> Floats:
        """Requests of each bucket per second that it serves within the goals; 0 where it cannot."""
        return np.array([0.0 if curve is None else curve.most_within(slo.ttft_s, slo.tpot_s) for curve in self.curves])


@dataclass(frozen=True)
class Refused:
    """A device type without an offer, and why."""

    device: str
    why: str


def buckets_of(requests: Requests, prompts: int = 3, outputs: int = 3) -> tuple[tuple[Bucket, ...], NDArray[np.int64]]:
    """Buckets at quantiles of prompt and output lengths, and the bucket of every request.

    Lengths are weighted by their tokens, so that the few long requests, which take most of the work, get buckets of their own.
    """
    rows = np.searchsorted(_edges(requests.prompt, prompts), requests.prompt, side="left")
    columns = np.searchsorted(_edges(requests.output, outputs), requests.output, side="left")
    cells = rows * outputs + columns
    names, group = np.unique(cells, return_inverse=True)
    found = []
    for i in range(len(names)):
        mine = group == i
        found.append(
            Bucket(
                float(mine.mean()),
                max(1.0, round(float(requests.prompt[mine].mean()))),
                max(2.0, round(float(requests.output[mine].mean()))),
            )
        )
    return tuple(found), group


def _edges(lengths: NDArray[np.int64], parts: int) -> Floats:
    ordered = np.sort(lengths)
    heavy = np.cumsum(ordered) / ordered.sum()
    return np.unique([ordered[np.searchsorted(heavy, (i + 1) / parts)] for i in range(parts - 1)]).astype(float)


def offers_of(
    model: Model,
    devices: tuple[str, ...],
    buckets: tuple[Bucket, ...],
    space: Space,
    tell: Callable[[int, int], None] | None = None,
) -> tuple[list[Offer], list[Refused]]:
    """Every choice of layout and formats on every device type that can hold the model, and the types that have none.

    Errors: unknown names of devices and formats.
    """
    found: list[Offer] = []
    refused: list[Refused] = []
    for i, name in enumerate(devices):
        device = find_device(name)
        if device.price is None or device.price.usd_per_hour is None:
            refused.append(Refused(name, "its sheet states no price"))
            continue
        mine, why = offers_on(model, find_machine(device.name), buckets, space)
        found += mine
        if not mine:
            refused.append(Refused(name, why))
        if tell is not None:
            tell(i + 1, len(devices))
    return found, refused


def offers_on(model: Model, machine: Machine, buckets: tuple[Bucket, ...], space: Space) -> tuple[list[Offer], str]:
    """The choices of one device type, and why the last one failed. ``machine`` is one device of it."""
    link = machine.link("node")
    largest = int((link[1].devices if link is not None else 1) or LARGEST_NODE)
    found: list[Offer] = []
    why = "no layout fits"
    for plan in formats(space.plan, space.formats, machine):
        timed: dict[Plan, list[Pace | None]] = {}
        for choice in choices(model, plan, largest, space.splits):
            try:
                offer = offer_of(model, machine, choice, buckets, space.engine, timed)
            except RidgepointError as error:
                if error.kind not in ("does_not_fit", "bad_plan", "no_arithmetic", "bad_machine"):
                    raise
                why = why if choice.plan.pp != 1.0 else error.message
                continue
            if offer is not None:
                found.append(offer)
    return found, why


def offer_of(
    model: Model, machine: Machine, choice: Choice, buckets: tuple[Bucket, ...], engine: str,
    timed: dict[Plan, list[Pace | None]], cap_w: float | None = None,
) -> Offer | None:  # fmt: skip
    """The offer of a choice on one device ``machine``, each capped to ``cap_w`` watts; None where no bucket fits. Step times of
    equal replicas are computed once (``timed``).

    Errors: ``does_not_fit`` and those of plans and machines.
    """
    plan = replace(choice.plan, dp=_dp(choice))
    one = Deployment(model, _node(machine, choice.devices), plan, engine, power_cap_w=cap_w)
    if one.plan not in timed:
        timed[one.plan] = paces(one, [(bucket.prompt, bucket.output) for bucket in buckets])
    known = timed[one.plan]
    if not any(known):
        one.cache(max(bucket.prompt + bucket.output for bucket in buckets))  # says why
        return None
    given = one
    if choice.readers:
        given = replace(one, machine=_node(machine, choice.group), plan=choice.plan, prefill_replicas=choice.readers)
    curves = tuple(None if pace is None else _curve(given, choice, pace) for pace in known)
    price = machine.device.price
    hourly = 0.0 if price is None else float(price.usd_per_hour or 0.0)
    return Offer(given, choice, hourly * choice.group, curves)


def _dp(choice: Choice) -> float:
    """Data-parallel ranks of one replica: those of its attention."""
    return 1.0 if choice.readers else float(choice.plan.dp or 1.0)


def _node(machine: Machine, devices: int) -> Machine:
    """A node of that many devices, or the device alone."""
    name = f"{devices}x{machine.name}" if devices > 1 else machine.name
    return replace(machine, name=name, devices_per_node=devices)


def _curve(given: Deployment, choice: Choice, pace: Pace) -> OpenLoop:
    if not choice.readers:
        return open_loop(pace)
    per_token, start = transfer(given, given.cache(pace.prompt + pace.output))
    pools = Pools(choice.readers, choice.decoders, per_token * pace.prompt + start, int(given.model.main.depth))
    return apart_loop(pace, pools)


def worthwhile(offers: list[Offer], rates: Floats) -> list[int]:
    """Positions of the offers that the integer program chooses among: of every device type those that serve some bucket best
    per dollar, and the cheapest one that serves all buckets that the type can.
    """
    each = rates / np.array([max(offer.usd_per_hour, 1e-9) for offer in offers])[:, None]
    kept: set[int] = set()
    for device in dict.fromkeys(offer.device for offer in offers):
        mine = np.array([i for i, offer in enumerate(offers) if offer.device == device])
        served = np.flatnonzero(rates[mine].max(axis=0) > 0.0)
        if not served.size:
            continue
        kept |= {int(mine[k]) for k in np.argmax(each[mine][:, served], axis=0)}
        able = [int(i) for i in mine if np.all(rates[i, served] > 0.0)]
        kept |= {min(able, key=lambda i: (offers[i].usd_per_hour, -float(each[i].sum())))} if able else set()
    return sorted(kept)


def replicated(offer: Offer, count: int) -> Deployment:
    """``count`` replicas, or groups of pools, of an offer as one deployment."""
    given = offer.deployment
    name = f"{count}x{offer.devices}x{offer.device}" if count > 1 else given.machine.name
    machine: Machine = replace(given.machine, nodes=count, name=name)
    if (given.plan.pp or 1.0) != 1.0:
        # Ranks count replicas before stages; neighbours of a pipeline stay within a node only if all are one node.
        machine = replace(machine, nodes=1, devices_per_node=offer.devices * count)
    plan = replace(given.plan, dp=float(given.plan.dp or 1.0) * count)
    return replace(given, machine=machine, plan=plan, prefill_replicas=given.prefill_replicas * count)
