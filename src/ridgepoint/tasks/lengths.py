"""Sequences of different lengths: how they are put into batches, what of it is useful, how uneven ranks become (design §1).

``padded``: every sequence is filled up to the task's length. ``longest``: every micro-batch is filled up to its longest one.
``packed``: sequences are put one behind the other into rows of the task's length and attend to themselves only.

Lengths are drawn from a distribution (with a fixed seed) and cut at the task's length. A row of packed sequences has the
products of a full row, and the attention of sequences of E[L²]/E[L] tokens, which makes the same number of pairs. Replicas
wait for the slowest at the exchange of gradients, with ZeRO-3 in every micro-batch already: the expected maximum of so many
sums of micro-batches (``cost/order_statistics.py``), whose seconds are those of the machine at each length.

Sources: Krell et al. 2021 (packing), Dao 2023 (attention over packed sequences), Wang et al. 2025 (imbalance of packed rows).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.cost.order_statistics import expected_maximum
from ridgepoint.errors import RidgepointError
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.execution import Execution, Tokens
from ridgepoint.numeric import Num
from ridgepoint.ops import Attention, Gemm
from ridgepoint.plan import DEGREES, Plan
from ridgepoint.tasks import Train
from ridgepoint.tasks.layout import Layout, is_sweep
from ridgepoint.tasks.training import micro_batch, passes
from ridgepoint.tasks.updates import at_stage
from ridgepoint.units import parse_count
from ridgepoint.work import Op, Work, mapped

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SHAPES = {
    "fixed": "fixed:LENGTH",
    "lognormal": "lognormal:MEAN[:COEFFICIENT OF VARIATION]",
    "normal": "normal:MEAN:STANDARD DEVIATION",
    "uniform": "uniform:LOW:HIGH",
    "exponential": "exponential:MEAN",
    "quantiles": "quantiles:LEAST:…:MOST",
}
NEEDED = {"fixed": 1, "lognormal": 1, "normal": 2, "uniform": 2, "exponential": 1, "quantiles": 2}
MOST_VALUES = {"quantiles": 1001}
DRAWN = 16384
"""Sequences that a distribution is judged by."""
SUMS, MOST_TOGETHER = 2048, 256
"""Sums of micro-batches that are drawn at least, and micro-batches of each at most."""
_OF_LAYOUTS = ("micro_batch", "zero_stage", "recomputed_layers", "chunks", "shard_group")
"""Fields that a sweep over layouts gives as arrays besides the degrees."""
POINTS = 9
"""Lengths at which the machine's time is evaluated; between them it is interpolated."""


def draw(spec: str, count: int, rng: np.random.Generator) -> Ints:
    """Token counts: a number, or a distribution of ``SHAPES`` (at least 1 token each).

    >>> draw("2k", 2, np.random.default_rng(0))
    array([2048, 2048])

    ``quantiles`` are equally far apart in probability, as a trace's are printed; between them lengths are equally likely.

    >>> sorted(draw("quantiles:1:11:1k", 4, np.random.default_rng(0)).tolist())
    [1, 2, 6, 288]

    Errors: ``bad_length`` with the known shapes.
    """
    name, values = _read(spec)
    drawn: Floats
    if name == "fixed":
        drawn = np.full(count, values[0])
    elif name == "lognormal":
        spread = np.log1p((values[1] if len(values) > 1 else 1.0) ** 2)
        drawn = rng.lognormal(np.log(values[0]) - spread / 2.0, np.sqrt(spread), count)
    elif name == "normal":
        drawn = rng.normal(values[0], values[1], count)
    elif name == "uniform":
        drawn = rng.uniform(values[0], values[1] + 1.0, count)
    elif name == "quantiles":
        drawn = np.interp(rng.random(count), np.linspace(0.0, 1.0, len(values)), values)
    else:
        drawn = rng.exponential(values[0], count)
    return np.maximum(np.floor(drawn) if name == "uniform" else np.rint(drawn), 1.0).astype(np.int64)


def _read(spec: str) -> tuple[str, list[float]]:
    parts = str(spec).split(":")
    try:
        if parts[0] not in SHAPES:
            parts = ["fixed", *parts]
        name, values = parts[0], [parse_count(part) for part in parts[1:]]
        most = MOST_VALUES.get(name, SHAPES[name].count(":"))
        good = NEEDED[name] <= len(values) <= most and all(v > 0.0 for v in values)
        good = good and (name != "quantiles" or values == sorted(values))
    except RidgepointError:
        good = False
    if not good:
        raise RidgepointError("bad_length", f"'{spec}' is not understood", "write " + ", ".join(SHAPES.values()))
    return name, values


@dataclass(frozen=True)
class Batching:
    """A step over drawn lengths: ``seq`` tokens of the rows that are computed, ``attended`` those that attend to each other,
    ``useful`` the part of the computed tokens that is data, ``spread`` the coefficient of variation of normal times that would
    have replicas wait as long for the slowest. Over a sweep of layouts they are arrays.
    """

    seq: Num
    attended: Num
    useful: Num
    spread: Num
    words: str = ""


def batching(
    model: Model, machine: Machine, run: Execution, layout: Layout, task: Train, plan: Plan
) -> Batching | None:
    """What the plan's lengths make of a step; None where every sequence is as long as the task says.

    Errors: ``bad_plan`` for a sweep over anything but layouts, context parallelism, and packed rows with unfused attention;
    ``bad_length``.
    """
    if plan.lengths is None:
        return None
    if plan.padding == "packed" and (not plan.fused_attention or np.any(np.asarray(layout.cp) > 1.0)):
        raise RidgepointError(
            "bad_plan",
            "packed sequences need the fused kernel of one device's attention",
            "use --fused-attention without --cp, or --padding longest",
        )
    if is_sweep(layout, task, plan):
        return _over_layouts(model, machine, run, layout, task, plan)
    size, count = (float(v) for v in micro_batch(task, plan, layout))
    rows = _rows(plan, float(task.seq), size)
    (seconds,) = _seconds(model, machine, run, task, plan, size, [rows])
    spread, waits = _spread(seconds, count, float(layout.dp), float(at_stage(plan, 3.0, 1.0, 0.0)))
    words = (
        f"lengths {plan.lengths}, {plan.padding}: {rows.useful:.0%} of the computed tokens are data; "
        f"the slowest replica takes {waits - 1.0:.1%} longer than the mean"
    )
    return Batching(rows.seq, rows.attended, rows.useful, spread, words)


def _over_layouts(model: Model, machine: Machine, run: Execution, layout: Layout, task: Train, plan: Plan) -> Batching:
    """The same for arrays of layouts: what differs is found once for all that share it.

    Errors: ``bad_plan`` for arrays of lengths, or of anything else that the time of a layer varies with.
    """
    varies = [f.name for f in fields(plan) if isinstance(getattr(plan, f.name), np.ndarray)]
    if np.ndim(task.seq) or np.ndim(task.batch) or not set(varies) <= {*DEGREES, *_OF_LAYOUTS}:
        raise RidgepointError("bad_plan", "lengths are drawn for one scenario at a time", "give single values")
    size, count = micro_batch(task, plan, layout)
    cut, apart = run.cut, at_stage(plan, 3.0, 1.0, 0.0)
    named = (size, cut.tp, cut.ep, cut.cp, plan.recomputed_layers, count, layout.dp, apart)
    shape = np.broadcast_shapes(*map(np.shape, named))
    table = np.stack([np.broadcast_to(np.asarray(v, dtype=float), shape).ravel() for v in named])
    kinds, member = np.unique(table, axis=1, return_inverse=True)
    layers, of = np.unique(kinds[:5], axis=1, return_inverse=True)
    rows = {float(one): _rows(plan, float(task.seq), float(one)) for one in np.unique(layers[0])}
    mine = replace(run, cut=replace(cut, tp=layers[1], ep=layers[2], cp=layers[3]))
    each = [rows[float(one)] for one in layers[0]]
    seconds = _seconds(model, machine, mine, task, replace(plan, recomputed_layers=layers[4]), layers[0], each)
    found = np.array(
        [
            (each[layer].seq, each[layer].attended, each[layer].useful, _spread(seconds[layer], *kinds[5:, kind])[0])
            for kind, layer in enumerate(of.ravel())
        ]
    ).T
    seq, attended, useful, spread = (row[member.ravel()].reshape(shape) for row in found)
    return Batching(seq, attended, useful, spread)


def _spread(seconds: Floats, count: float, replicas: float, each: float) -> tuple[float, float]:
    """(coefficient of variation, the slowest replica over the mean) of steps of ``count`` micro-batches, or of ``each`` one."""
    waits = slowest_of(seconds, 1 if each else round(count), replicas)
    return max(waits - 1.0, 0.0) / float(expected_maximum(replicas)) if replicas > 1.0 else 0.0, waits


def slowest_of(seconds: Floats, together: int, ranks: float) -> float:
    """Expected maximum over ``ranks`` sums of ``together`` values drawn from ``seconds``, over the mean sum.

    Of the sorted sums x_i, i = 1 … N, the largest of n draws is x_i with probability (i/N)ⁿ − ((i − 1)/N)ⁿ.

    >>> slowest_of(np.array([1.0, 1.0]), 4, 8.0)
    1.0
    >>> round(slowest_of(np.array([0.0, 1.0]), 1, 2.0), 1)  # 3/4 over 1/2
    1.5
    """
    many = min(together, MOST_TOGETHER)
    draws = seconds[_picked(len(seconds), many)] if many > 1 else seconds[:, None]
    mean = float(np.mean(seconds))
    # More micro-batches than are drawn: their sum varies less by the square root of how many more.
    sums = mean + (draws.mean(axis=1) - float(draws.mean())) * np.sqrt(many / together)
    upper = np.arange(1, len(sums) + 1) / len(sums)
    weights = upper**ranks - (upper - 1.0 / len(sums)) ** ranks
    return float(np.sort(sums) @ weights / mean)


@lru_cache(maxsize=16)
def _picked(among: int, many: int) -> Ints:
    """Which micro-batches each of the drawn sums is made of."""
    return np.random.default_rng(1).integers(0, among, size=(max(DRAWN // many, SUMS), many))


@dataclass(frozen=True)
class _Rows:
    """One value per micro-batch: tokens of each of its rows that are computed, and pairs of one row (Σ L² of what attends)."""

    computed: Floats
    pairs: Floats
    useful: float

    @property
    def seq(self) -> float:
        """Tokens of a row that are computed, in the mean."""
        return float(self.computed.mean())

    @property
    def attended(self) -> float:
        """Tokens that attend to each other, in the mean over pairs."""
        return float(self.pairs.sum() / self.computed.sum())


def _rows(plan: Plan, seq: float, size: float) -> _Rows:
    """The micro-batches of ``size`` rows that the plan makes of its lengths."""
    lengths = np.minimum(_drawn(str(plan.lengths)), seq).astype(float)
    return {"padded": _padded, "longest": _longest, "packed": _packed}[plan.padding](lengths, seq, int(size))


@lru_cache(maxsize=4)
def _drawn(spec: str) -> Ints:
    return draw(spec, DRAWN, np.random.default_rng(0))


def _padded(lengths: Floats, seq: float, size: int) -> _Rows:
    many = max(len(lengths) // size, 1)
    return _Rows(np.full(many, seq), np.full(many, seq * seq), float(lengths.mean() / seq))


def _longest(lengths: Floats, seq: float, size: int) -> _Rows:
    batches = lengths[: len(lengths) // size * size].reshape(-1, size) if len(lengths) >= size else lengths[None, :]
    longest = batches.max(axis=1)
    return _Rows(longest, longest**2, float(batches.mean(axis=1).sum() / longest.sum()))


def _packed(lengths: Floats, seq: float, size: int) -> _Rows:
    """Sequences one behind the other; one that does not fit begins the next row, whose rest is padding."""
    pairs, filled, square, used = [], 0.0, 0.0, 0.0
    for length in lengths:
        if filled + length > seq:
            pairs.append(square)
            used += filled
            filled, square = 0.0, 0.0
        filled, square = filled + length, square + length * length
    if not pairs:  # all of them fit into one row
        pairs, used = [square], filled
    squares = np.array(pairs)
    batches = squares[: len(squares) // size * size].reshape(-1, size).mean(axis=1) if len(squares) >= size else squares
    return _Rows(np.full(len(batches), seq), batches, used / (len(pairs) * seq))


def _seconds(
    model: Model, machine: Machine, run: Execution, task: Train, plan: Plan, size: Num, rows: Sequence[_Rows]
) -> list[Floats]:
    """Seconds of one layer's passes over every drawn micro-batch, from the machine's at ``POINTS`` of their range: for each
    layout of the sweep that ``run``, ``plan`` and ``size`` are (one, without arrays), with the micro-batches of each.
    """
    packed = plan.padding == "packed"
    varies = [one.pairs / one.computed if packed else one.computed for one in rows]
    grid = np.stack([np.linspace(each.min(), each.max(), POINTS) for each in varies], axis=1)
    seq = float(task.seq) if packed else grid
    work = passes(model, run, Tokens(size, seq, seq, keep=seq), plan, "middle", 1.0 / model.main.depth)
    whole = [attend(part, seq, grid) if packed else part for part in work]
    taken = np.broadcast_to(sum((evaluate(part, machine).time_s for part in whole), 0.0), grid.shape)
    return [np.interp(each, at, t) for each, at, t in zip(varies, grid.T, taken.T, strict=True)]


def attend(work: Work, seq: Num, attended: Num) -> Work:
    """``work`` in which rows of ``seq`` tokens attend within ``attended`` tokens only: as many tokens, fewer pairs."""

    def rule(op: Op) -> Work:
        if isinstance(op, Gemm) and ".attention.scores" in op.label:
            raise RidgepointError("bad_plan", "packed sequences need fused attention", "use --fused-attention")
        if not isinstance(op, Attention) or float(np.max(op.q_len)) != float(np.max(seq)) or ".cross" in op.label:
            return op
        return replace(op, batch=op.batch * seq / attended, q_len=attended, kv_len=attended)

    return mapped(work, rule)
