"""What a search for serving layouts tries: degrees of one replica, number formats, and pools for prompts and for decoding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ridgepoint.errors import RidgepointError, nearest
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Experts, Model
from ridgepoint.plan import Plan

DEGREES = (1, 2, 4, 8, 16)
STAGES = (2, 4)
"""Pipeline stages that are tried beside tensor parallelism."""
SPLITS = ((1, 1), (1, 2), (2, 1), (1, 3), (3, 1))
"""Replicas that read prompts to replicas that decode."""
FORMATS: dict[str, dict[str, str]] = {
    "given": {},
    "bf16": {"weights": "bf16", "acts": "bf16"},
    "fp8": {"weights": "fp8", "acts": "fp8"},
    "int8": {"weights": "int8", "acts": "int8"},
    "nvfp4": {"weights": "nvfp4", "acts": "nvfp4"},
    "int4": {"weights": "int4", "acts": "bf16"},
}
"""Names of format choices and the plan that each means: weights and what products read."""
CACHE = "+kv8"
"""What a choice of formats ends with where keys and values are kept in 8 bits."""


@dataclass(frozen=True)
class Choice:
    """One way to run a replica: ``plan`` with all degrees, the devices of a replica, and of how many replicas of a group
    ``readers`` only read prompts (0: all do everything; a group is one replica then).
    """

    plan: Plan
    devices: int
    readers: int = 0
    decoders: int = 1

    @property
    def group(self) -> int:
        """Devices of a group."""
        return self.devices * (self.readers + self.decoders)


def choices(model: Model, plan: Plan, largest: int, splits: bool = True) -> Iterator[Choice]:
    """Every way to spread a replica, or two pools of replicas, over at most ``largest`` devices of a node.

    Tensor parallelism; pipelines of whole parts of the layers; for experts also data-parallel attention, alone and with
    tensor-parallel pairs, and whole experts beside tensor-parallel attention. What ``plan`` says is kept.

    >>> from ridgepoint.scenario import find
    >>> [(c.plan.tp, c.plan.pp, c.readers, c.decoders) for c in choices(find("llama-3.1-8b"), Plan(), 2)]
    [(1.0, 1.0, 0, 1), (1.0, 1.0, 1, 1), (2.0, 1.0, 0, 1), (1.0, 2.0, 0, 1)]
    """
    experts = any(isinstance(layer.feed, Experts) for layer, _ in model.main.layers)
    for devices in (d for d in DEGREES if d <= largest):
        for degrees in _degrees(devices, experts, model.main.depth):
            if any(getattr(plan, name) not in (None, value) for name, value in degrees.items()):
                continue
            whole = Choice(replace(plan, **degrees), devices)  # type: ignore[arg-type]
            yield whole
            if not splits or degrees["dp"] > 1.0 or degrees["pp"] > 1.0:
                continue
            for readers, decoders in SPLITS:
                if devices * (readers + decoders) <= largest:
                    both = replace(whole.plan, dp=float(readers + decoders))
                    yield replace(whole, plan=both, readers=readers, decoders=decoders)


def _degrees(devices: int, experts: bool, depth: int) -> Iterator[dict[str, float]]:
    one = {"tp": 1.0, "pp": 1.0, "dp": 1.0, "ep": 1.0}
    yield one | {"tp": float(devices)}
    for stages in STAGES:
        if devices % stages == 0 and depth % stages == 0:
            yield one | {"tp": float(devices // stages), "pp": float(stages)}
    if not experts or devices == 1:
        return
    yield one | {"dp": float(devices), "ep": float(devices)}
    yield one | {"tp": float(devices), "ep": float(devices)}
    if devices > 2:
        yield one | {"tp": 2.0, "dp": float(devices // 2), "ep": float(devices)}


def formats(plan: Plan, names: tuple[str, ...], machine: Machine) -> list[Plan]:
    """``plan`` in every choice of formats that the machine computes in, without doubles; ``given`` leaves it as it is.

    Activations narrower than the machine computes in stay in 16 bits: weights alone are narrow there.

    Errors: ``unknown_format`` with the nearest name.
    """
    found: list[Plan] = []
    for name in names:
        base = name.removesuffix(CACHE)
        if base not in FORMATS:
            close = nearest(base, FORMATS, count=1)
            hint = f"did you mean {close[0]}?" if close else "use " + ", ".join((*FORMATS, f"each also with {CACHE}"))
            raise RidgepointError("unknown_format", f"unknown choice of formats '{name}'", hint)
        chosen = dict(FORMATS[base])
        if "acts" in chosen and machine.arithmetic(chosen["acts"]).format in ("fp16", "bf16", "fp32"):
            chosen["acts"] = "bf16"
        if name.endswith(CACHE):
            chosen["kv"] = "fp8"
        made = replace(plan, **chosen)  # type: ignore[arg-type]
        found += [] if made in found else [made]
    return found
