"""Every layout of a training step that could run: parallel degrees, micro-batches, ZeRO stages and the groups that share
states, recomputation, schedules, order of ranks (design §10).

A layout is one value per axis. Axes that the caller fixes keep their value; the others take all values that divide what they
must: heads, layers, experts, devices and the batch. Names (of schedules, of orders) cannot be an array, so that a space has one
``Sweep`` of arrays for each of them.

>>> from ridgepoint.machines.catalog import find_machine
>>> from ridgepoint.models.catalog import find_model
>>> space = sweeps(find_model("llama-3.1-8b"), find_machine("8xh100-sxm"), batch=64, seq=8192, fixed={"cp": 1})
>>> sum(s.size for s in space) > 1000, {s.schedule for s in space} == {"1f1b", "interleaved", "zero_bubble"}
(True, True)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Experts, Model
from ridgepoint.numeric import Array
from ridgepoint.plan import Plan
from ridgepoint.tasks.layout import takes
from ridgepoint.training.divisors import divisors
from ridgepoint.training.neighbours import in_order, orders, with_shards
from ridgepoint.training.refused import no_layout, not_possible

AXES = ("tp", "pp", "cp", "dp", "ep", "micro_batch", "zero_stage", "recomputed_layers", "chunks", "shard_group")
"""The fields of a plan that a sweep gives as arrays."""
CHOSEN = ("schedule", "sequence_parallel", "rank_order")
"""The fields that a sweep holds."""
SCHEDULES = ("1f1b", "interleaved", "zero_bubble")
RECOMPUTED = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Parts of the layers that recompute."""
SHORTEST_SLICE = 256.0
"""Tokens of a sequence that a context-parallel rank holds at least."""
MOST_CHUNKS = 16
LARGEST_TP = 64


def base_plan(fixed: Mapping[str, Any]) -> Plan:
    """The plan that every layout starts from: what is fixed and is neither an axis nor a choice of the space.

    Errors: ``bad_plan`` for an unknown field.
    """
    known = {f.name for f in fields(Plan)}
    for name in fixed:
        if name not in known:
            raise RidgepointError("bad_plan", f"a plan has no field '{name}'", "fields: " + ", ".join(sorted(known)))
    Plan(**fixed)  # what is wrong with a value is said here, not by the space
    return Plan(**{name: value for name, value in fixed.items() if name not in (*AXES, *CHOSEN, "recompute")})


@dataclass(frozen=True, eq=False)
class Sweep:
    """Layouts of one schedule and one order of ranks: an array of one length for each axis."""

    schedule: str
    sequence_parallel: bool
    axes: Mapping[str, Array]
    recompute: str = "full"
    rank_order: str = "tp-cp-dp-pp"

    @property
    def size(self) -> int:
        """How many."""
        return int(self.axes["tp"].size)

    def plan(self, points: slice | NDArray[np.int64] | int) -> dict[str, Any]:
        """Fields of a plan for some of the layouts, or for one."""
        found: dict[str, Any] = {name: values[points] for name, values in self.axes.items()}
        if np.all(found.get("shard_group", np.inf) >= found["dp"] * found["cp"]):
            found["shard_group"] = None  # all copies share: nothing to say
        return {
            **found,
            "recompute": self.recompute,
            "schedule": self.schedule,
            "sequence_parallel": self.sequence_parallel,
            "rank_order": self.rank_order,
        }


def sweeps(
    model: Model,
    machine: Machine,
    batch: int,
    seq: int,
    fixed: Mapping[str, Any] | None = None,
    devices: int = 0,
    hybrid: bool = True,
) -> list[Sweep]:
    """The whole space on ``devices`` of the machine (all of them by default), one sweep per schedule, way of sequence
    parallelism and order of ranks; ``hybrid`` ones share states among some copies of the weights too.

    Errors: ``bad_plan`` where a fixed degree leaves nothing, with the values that would.
    """
    given = {name: value for name, value in (fixed or {}).items() if value is not None}
    rule = str(given.get("recompute", "full"))
    grid = _grid(model, devices or machine.devices, batch, seq, given)
    found = []
    for schedule in (given["schedule"],) if "schedule" in given else SCHEDULES:
        for sequence in (given["sequence_parallel"],) if "sequence_parallel" in given else (True, False):
            rows = _of_schedule(grid, model, batch, schedule, given)
            if not sequence and "sequence_parallel" not in given:
                rows = {name: values[rows["tp"] > 1.0] for name, values in rows.items()}
            for order in orders(machine, given):
                placed = in_order(rows, order, machine, given)
                if hybrid or "shard_group" in given:
                    placed = with_shards(placed, order, machine, given)
                if placed["tp"].size:
                    again = rule if rule in ("selective", "sqrt") else "full"
                    found.append(Sweep(schedule, sequence, placed, again, order))
    if not found:
        raise no_layout(model, devices or machine.devices, batch, given)
    return found


def _grid(model: Model, devices: int, batch: int, seq: int, given: Mapping[str, Any]) -> dict[str, Array]:
    """Degrees, micro-batches, stages and recomputed parts, whatever the schedule."""
    rows: list[tuple[float, ...]] = []

    def values(name: str, valid: list[int]) -> list[int]:
        return _values(name, valid, given, model, devices)

    tps = values("tp", [d for d in divisors(devices) if d <= LARGEST_TP and takes(model, d)])
    pps = values("pp", [d for d in divisors(devices) if _stages_are_used(model.main.depth, d)])
    cps = values("cp", [d for d in divisors(devices) if d == 1 or _slices(seq, d)])
    for tp in tps:
        for pp in pps:
            for cp in cps:
                replica = tp * pp * cp
                if devices % replica:
                    continue
                dp = devices // replica
                if batch % dp or ("dp" in given and dp != int(given["dp"])):
                    continue
                for ep in _expert_degrees(model, tp, dp, given, devices):
                    rows += [(tp, pp, cp, dp, ep, micro) for micro in _micro_batches(batch // dp, given)]
    if not rows:
        return {name: np.zeros(0) for name in AXES}
    base = np.array(rows, dtype=float).T
    stages = np.array(values("zero_stage", [0, 1, 2, 3]), dtype=float)
    parts = np.array(_parts(given), dtype=float)
    count = base.shape[1]
    repeated = np.repeat(base, stages.size * parts.size, axis=1)
    grid = dict(zip(AXES[:6], repeated, strict=True))
    grid["zero_stage"] = np.tile(np.repeat(stages, parts.size), count)
    grid["recomputed_layers"] = np.tile(parts, count * stages.size)
    return _useful(grid, given)


def _useful(grid: dict[str, Array], given: Mapping[str, Any]) -> dict[str, Array]:
    """Without layouts that are others under another name (no copies to share states among) and those that engines do not
    have: gradients in shards need an exchange per micro-batch, which pipelines would pay each time.
    """
    alone = grid["dp"] * grid["cp"] == 1.0
    keep = np.ones(alone.size, dtype=bool)
    if "zero_stage" not in given:
        # What ZeRO-2 offloads leaves a device without replicas, too: its gradients.
        away = (grid["zero_stage"] == 2.0) & (given.get("offload_optimizer", "none") != "none")
        keep &= ~alone | (grid["zero_stage"] == 0.0) | away
        keep &= (grid["pp"] == 1.0) | (grid["zero_stage"] != 2.0)
    return {name: values[keep] for name, values in grid.items()}


def _of_schedule(
    grid: dict[str, Array], model: Model, batch: int, schedule: str, given: Mapping[str, Any]
) -> dict[str, Array]:
    """The rows that a schedule can run: stages only where there are several, interleaved ones in whole groups."""
    piped = grid["pp"] > 1.0
    if schedule == "1f1b" or ("schedule" in given and schedule != "interleaved"):
        return {**grid, "chunks": np.ones(piped.size)}
    rows = {name: values[piped] for name, values in grid.items()}
    if schedule != "interleaved":
        return {**rows, "chunks": np.ones(rows["pp"].size)}
    count = batch / rows["dp"] / rows["micro_batch"]
    layers = np.ceil(model.main.depth / rows["pp"])
    pieces: list[dict[str, Array]] = []
    for chunks in (int(given["chunks"]),) if "chunks" in given else range(2, MOST_CHUNKS + 1):
        keep = (count % rows["pp"] == 0) & (layers % chunks == 0)
        pieces.append(
            {**{name: v[keep] for name, v in rows.items()}, "chunks": np.full(np.count_nonzero(keep), chunks)}
        )
    return {name: np.concatenate([piece[name] for piece in pieces]).astype(float) for name in pieces[0]}


def _values(name: str, valid: list[int], given: Mapping[str, Any], model: Model, devices: int) -> list[int]:
    """The values of an axis: the given one where it is valid.

    Errors: ``bad_plan`` with the nearest valid ones.
    """
    if name not in given or given[name] is None:
        return valid
    wanted = int(given[name])
    if wanted in valid:
        return [wanted]
    raise not_possible(name, wanted, valid, model, devices)


def _slices(seq: int, cp: int) -> bool:
    """Whether ``cp`` ranks get two equal pieces of the sequence each, long enough."""
    return seq % (2 * cp) == 0 and seq / cp >= SHORTEST_SLICE


def _parts(given: Mapping[str, Any]) -> tuple[float, ...]:
    if given.get("recompute") == "none":
        return (0.0,)
    if "recomputed_layers" in given:
        return (float(given["recomputed_layers"]),)
    return (1.0,) if "recompute" in given else RECOMPUTED


def _stages_are_used(depth: int, pp: int) -> bool:
    """Whether whole layers, as evenly as they go, leave no stage empty."""
    return pp <= depth and -(-depth // pp) * (pp - 1) < depth


def _expert_degrees(model: Model, tp: int, dp: int, given: Mapping[str, Any], devices: int) -> list[int]:
    counts = {layer.feed.count for layer, _ in model.main.layers if isinstance(layer.feed, Experts)}
    if not counts:
        return _values("ep", [1], given, model, devices)
    valid = [
        ep
        for ep in divisors(min(counts))
        if (tp * dp) % ep == 0 and (ep % tp == 0 or tp % ep == 0) and all(count % ep == 0 for count in counts)
    ]
    wanted = given.get("ep")
    return valid if wanted is None else [ep for ep in valid if ep == int(wanted)]


def _micro_batches(here: int, given: Mapping[str, Any]) -> list[int]:
    wanted = given.get("micro_batch")
    return [d for d in divisors(here) if wanted is None or d == int(wanted)]


def fewer_devices(machine: Machine) -> Iterator[int]:
    """All devices, and halves of them as long as whole nodes (then whole devices) are left."""
    count = machine.devices
    while True:
        yield count
        if count % 2:
            return
        count //= 2
