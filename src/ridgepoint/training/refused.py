"""Why no layout has the given degrees: the first thing that does not divide, with the nearest values that would."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import gcd, prod
from typing import Any

from ridgepoint.errors import RidgepointError
from ridgepoint.models.architecture import Experts, Model
from ridgepoint.training.divisors import divisors

_PARTS = ("tp", "pp", "cp", "dp")
_REASONS = {
    "tp": "divides the heads of {model} and the {devices} devices",
    "pp": "divides the {devices} devices and leaves no stage of the {depth} layers of {model} empty",
    "cp": "divides the {devices} devices, and twice of which divides the sequence into parts of 256 tokens or more",
    "ep": "divides the experts of {model} (it has none: 1)",
    "zero_stage": "is 0, 1, 2 or 3",
}


def not_possible(name: str, wanted: int, valid: Iterable[int], model: Model, devices: int) -> RidgepointError:
    """The error for one degree that is no possible one, whatever the others are."""
    reason = _REASONS[name].format(model=model.name, devices=devices, depth=model.main.depth)
    return RidgepointError(
        "bad_plan",
        f"{name} = {wanted} is not possible here: use one that {reason}",
        "nearest: " + nearest(wanted, valid),
    )


def nearest(wanted: int, valid: Iterable[int], most: int = 6) -> str:
    """The valid values that are nearest to a wanted one, in order.

    >>> nearest(7, [1, 2, 4, 8, 16, 32, 64, 128])
    '1, 2, 4, 8, 16, 32'
    """
    return ", ".join(map(str, sorted(sorted(valid, key=lambda v: (abs(v - wanted), v))[:most])))


def no_layout(model: Model, devices: int, batch: int, given: Mapping[str, Any]) -> RidgepointError:
    """The error where every degree is possible by itself and no layout has them all."""
    fixed = {
        name: int(given[name]) for name in (*_PARTS, "ep", "micro_batch", "chunks", "shard_group") if name in given
    }
    if given.get("rank_order") == "tp-pp-dp" and (
        fixed.get("cp", 1) > 1 or fixed.get("ep", 1) > fixed.get("tp", devices)
    ):
        raise RidgepointError("bad_plan", *_ORDER)
    for check in (_experts, _devices, _shards, _batch, _micro_batch, _chunks):
        found = check(model, devices, batch, fixed)
        if found is not None:
            return RidgepointError("bad_plan", *found)
    return RidgepointError(
        "bad_plan",
        f"no layout of {model.name} on {devices} devices has the given degrees with a batch of {batch}",
        "give fewer of them, or a batch that the replicas divide",
    )


Found = tuple[str, str] | None
_ORDER = (
    "the rank order tp-pp-dp leaves no room for context parallelism, or for experts over several replicas",
    "use --rank-order tp-cp-dp-pp, or --cp 1 and an --ep of at most --tp",
)


def _shards(model: Model, devices: int, batch: int, fixed: Mapping[str, int]) -> Found:
    group = fixed.get("shard_group")
    if group is None or devices % group == 0:
        return None
    valid = [d for d in range(1, devices + 1) if devices % d == 0]
    return f"a shard group of {group} does not divide the {devices} devices", "nearest: " + nearest(group, valid)


def _experts(model: Model, devices: int, batch: int, fixed: Mapping[str, int]) -> Found:
    counts = [layer.feed.count for layer, _ in model.main.layers if isinstance(layer.feed, Experts)]
    ep = fixed.get("ep")
    if ep is None or not counts:
        return None
    if any(count % ep for count in counts):
        valid = divisors(min(counts))
        return f"ep = {ep} does not divide the {min(counts)} experts of {model.name}", f"nearest: {nearest(ep, valid)}"
    if devices % ep:
        valid = [d for d in divisors(devices) if all(count % d == 0 for count in counts)]
        return f"ep = {ep} does not divide the {devices} devices", f"nearest: {nearest(ep, valid)}"
    return None


def _devices(model: Model, devices: int, batch: int, fixed: Mapping[str, int]) -> Found:
    parts = {name: fixed[name] for name in _PARTS if name in fixed}
    used = prod(parts.values())
    if devices % used == 0 and (len(parts) < len(_PARTS) or used == devices):
        return None
    choices = []
    for name, value in parts.items():
        left = devices * value // used if devices * value % used == 0 else 0
        valid = (
            [left]
            if len(parts) == len(_PARTS)
            else [d for d in divisors(devices) if devices % (used // value * d) == 0]
        )
        if valid and valid != [0]:
            choices.append(f"--{name} {nearest(value, valid, 3).replace(', ', ' or ')}")
    said = " × ".join(f"{name} {value}" for name, value in parts.items()) + (f" = {used}" if len(parts) > 1 else "")
    relation = "does not divide" if len(parts) < len(_PARTS) else "is not"
    return f"{said} {relation} the {devices} devices", "with the others as they are: " + "; ".join(choices)


def _replicas(devices: int, fixed: Mapping[str, int]) -> list[int]:
    """Replicas that the given degrees leave possible."""
    if "dp" in fixed:
        return [fixed["dp"]]
    left = devices // prod(fixed.get(name, 1) for name in _PARTS)
    return [left] if all(name in fixed for name in _PARTS[:3]) else divisors(left)


def _batch(model: Model, devices: int, batch: int, fixed: Mapping[str, int]) -> Found:
    possible = _replicas(devices, fixed)
    if any(batch % dp == 0 for dp in possible):
        return None
    dp = min(possible)
    below = max(batch // dp * dp, dp)
    others = nearest(dp, divisors(gcd(batch, devices)), 3).replace(", ", " or ")
    return (
        f"{dp} replicas do not divide a batch of {batch} sequences",
        f"use --global-batch {below} or {below + dp}, or --dp {others}",
    )


def _micro_batch(model: Model, devices: int, batch: int, fixed: Mapping[str, int]) -> Found:
    micro = fixed.get("micro_batch")
    if micro is None:
        return None
    here = sorted({batch // dp for dp in _replicas(devices, fixed) if batch % dp == 0})
    if any(size % micro == 0 for size in here):
        return None
    valid = {d for size in here for d in divisors(size)}
    return (
        f"a micro-batch of {micro} does not divide the {here[-1]} sequences of a replica (of {batch} in all)",
        f"nearest: {nearest(micro, valid)}",
    )


def _chunks(model: Model, devices: int, batch: int, fixed: Mapping[str, int]) -> Found:
    chunks = fixed.get("chunks")
    if chunks is None:
        return None
    stages = [fixed["pp"]] if "pp" in fixed else [pp for pp in divisors(devices) if 1 < pp <= model.main.depth]
    sizes = {-(-model.main.depth // pp) for pp in stages}
    if any(layers % chunks == 0 for layers in sizes):
        return None
    valid = {d for layers in sizes for d in divisors(layers) if d > 1}
    hint = f"nearest: {nearest(chunks, valid)}" if valid else "use --schedule 1f1b"
    shown = " or ".join(f"{layers}" for layers in sorted(sizes))
    return f"{chunks} chunks do not divide the {shown} layers of a stage", hint
