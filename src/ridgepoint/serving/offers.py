"""What a device type can serve: layouts of one replica and the highest rate of each kind of request within the goals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import find_device, find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Experts, Model
from ridgepoint.plan import Plan
from ridgepoint.serving.deployment import Deployment
from ridgepoint.serving.loops import OpenLoop, open_loop
from ridgepoint.serving.operating import operating
from ridgepoint.serving.outcome import Slo
from ridgepoint.serving.workload import Requests

Floats = NDArray[np.float64]
DEGREES = (1, 2, 4, 8, 16)
LARGEST_NODE = 8


@dataclass(frozen=True)
class Bucket:
    """Requests of similar size: their part of all, mean prompt and output."""

    share: float
    prompt: float
    output: float


@dataclass(frozen=True)
class Offer:
    """One layout of one replica on one device type. ``curves``: rate against latency, per bucket (None: does not fit)."""

    deployment: Deployment
    devices: int
    usd_per_hour: float
    curves: tuple[OpenLoop | None, ...]

    @property
    def device(self) -> str:
        """Name of the device type."""
        return self.deployment.machine.device.name

    @property
    def layout(self) -> dict[str, int]:
        """Degrees of one replica."""
        found = self.deployment.passes.layout
        return {name: int(getattr(found, name)) for name in ("tp", "pp", "dp", "ep")}

    def rates(self, slo: Slo) -> Floats:
        """Requests of each bucket per second that one replica serves within the goals; 0 where it cannot."""
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
    plan: Plan,
    engine: str,
    tell: Callable[[int, int], None] | None = None,
) -> tuple[list[Offer], list[Refused]]:
    """Every layout of every device type that can hold the model, and the types that have none.

    Errors: unknown device names.
    """
    found: list[Offer] = []
    refused: list[Refused] = []
    for i, name in enumerate(devices):
        device = find_device(name)
        if device.price is None or device.price.usd_per_hour is None:
            refused.append(Refused(name, "its sheet states no price"))
            continue
        mine, why = _of_device(model, device.name, buckets, plan, engine)
        found += mine
        if not mine:
            refused.append(Refused(name, why))
        if tell is not None:
            tell(i + 1, len(devices))
    return found, refused


def _of_device(
    model: Model, name: str, buckets: tuple[Bucket, ...], plan: Plan, engine: str
) -> tuple[list[Offer], str]:
    machine = find_machine(name)
    link = machine.link("node")
    largest = int((link[1].devices if link is not None else 1) or LARGEST_NODE)
    found: list[Offer] = []
    why = "no layout fits"
    for devices in (d for d in DEGREES if d <= largest):
        for layout in _layouts(model, plan, devices):
            try:
                one = replace(machine, name=f"{devices}x{name}" if devices > 1 else name, devices_per_node=devices)
                given = Deployment(model, one, layout, engine)
                curves = tuple(_curve(given, bucket) for bucket in buckets)
                if not any(curves):
                    given.cache(max(bucket.prompt + bucket.output for bucket in buckets))  # says why
            except RidgepointError as error:
                if error.kind not in ("does_not_fit", "bad_plan", "no_arithmetic", "bad_machine"):
                    raise
                why = error.message
                continue
            if any(curves):
                found.append(Offer(given, devices, float(machine.device.price.usd_per_hour or 0.0) * devices, curves))  # type: ignore[union-attr]
    return found, why


def _layouts(model: Model, plan: Plan, devices: int) -> list[Plan]:
    """Ways to spread one replica over ``devices``: tensor parallel; for experts also data-parallel attention."""
    if plan.tp is not None and float(plan.tp) != devices:
        return []
    found = [replace(plan, tp=float(devices), dp=1.0)]
    experts = any(isinstance(layer.feed, Experts) for layer, _ in model.main.layers)
    if experts and devices > 1 and plan.tp is None:
        found.append(replace(plan, tp=1.0, dp=float(devices), ep=float(devices)))
    return found


def _curve(given: Deployment, bucket: Bucket) -> OpenLoop | None:
    try:
        curve = operating(given, bucket.prompt, bucket.output)
    except RidgepointError as error:
        if error.kind != "does_not_fit":
            raise
        return None
    return open_loop(curve.pace) if curve.capacity >= 1.0 else None


def replicated(offer: Offer, count: int) -> Deployment:
    """``count`` replicas of an offer as one deployment."""
    given = offer.deployment
    machine: Machine = replace(
        given.machine, nodes=count, name=f"{count}x{offer.devices}x{offer.device}" if count > 1 else given.machine.name
    )
    plan = replace(given.plan, dp=float(given.plan.dp or 1.0) * count)
    return replace(given, machine=machine, plan=plan)
