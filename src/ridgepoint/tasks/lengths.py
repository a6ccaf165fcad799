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

from dataclasses import dataclass, replace

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
from ridgepoint.plan import Plan
from ridgepoint.tasks import Train
from ridgepoint.tasks.layout import Layout, is_sweep
from ridgepoint.tasks.training import micro_batch, passes
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
    have replicas wait as long for the slowest.
    """

    seq: float
    attended: float
    useful: float
    spread: float
    words: str


def batching(
    model: Model, machine: Machine, run: Execution, layout: Layout, task: Train, plan: Plan
) -> Batching | None:
    """What the plan's lengths make of a step; None where every sequence is as long as the task says.

    Errors: ``bad_plan`` for a sweep, context parallelism, and packed rows with unfused attention; ``bad_length``.
    """
    if plan.lengths is None:
        return None
    if is_sweep(layout, task, plan):
        raise RidgepointError("bad_plan", "lengths are drawn for one scenario at a time", "give single values")
    if plan.padding == "packed" and (not plan.fused_attention or float(layout.cp) > 1.0):
        raise RidgepointError(
            "bad_plan",
            "packed sequences need the fused kernel of one device's attention",
            "use --fused-attention without --cp, or --padding longest",
        )
    seq = float(task.seq)
    lengths = np.minimum(draw(plan.lengths, DRAWN, np.random.default_rng(0)), seq).astype(float)
    size, count = (float(v) for v in micro_batch(task, plan, layout))
    rows = {"padded": _padded, "longest": _longest, "packed": _packed}[plan.padding](lengths, seq, int(size))
    seconds = _seconds(model, machine, run, task, plan, size, rows)
    together = 1 if float(np.max(plan.zero_stage)) >= 3.0 else round(count)
    waits = slowest_of(seconds, together, float(layout.dp))
    spread = (waits - 1.0) / float(expected_maximum(float(layout.dp))) if float(layout.dp) > 1.0 else 0.0
    computed, attended, useful = rows.computed.mean(), rows.pairs.sum() / rows.computed.sum(), rows.useful
    words = (
        f"lengths {plan.lengths}, {plan.padding}: {useful:.0%} of the computed tokens are data; "
        f"the slowest replica takes {waits - 1.0:.1%} longer than the mean"
    )
    return Batching(float(computed), float(attended), float(useful), spread, words)


def slowest_of(seconds: Floats, together: int, ranks: float) -> float:
    """Expected maximum over ``ranks`` sums of ``together`` values drawn from ``seconds``, over the mean sum.

    Of the sorted sums x_i, i = 1 … N, the largest of n draws is x_i with probability (i/N)ⁿ − ((i − 1)/N)ⁿ.

    >>> slowest_of(np.array([1.0, 1.0]), 4, 8.0)
    1.0
    >>> round(slowest_of(np.array([0.0, 1.0]), 1, 2.0), 1)  # 3/4 over 1/2
    1.5
    """
    rng = np.random.default_rng(1)
    many = min(together, MOST_TOGETHER)
    draws = rng.choice(seconds, size=(max(DRAWN // many, SUMS), many)) if many > 1 else seconds[:, None]
    mean = float(np.mean(seconds))
    # More micro-batches than are drawn: their sum varies less by the square root of how many more.
    sums = mean + (draws.mean(axis=1) - float(draws.mean())) * np.sqrt(many / together)
    upper = np.arange(1, len(sums) + 1) / len(sums)
    weights = upper**ranks - (upper - 1.0 / len(sums)) ** ranks
    return float(np.sort(sums) @ weights / mean)


@dataclass(frozen=True)
class _Rows:
    """One value per micro-batch: tokens of each of its rows that are computed, and pairs of one row (Σ L² of what attends)."""

    computed: Floats
    pairs: Floats
    useful: float


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
    model: Model, machine: Machine, run: Execution, task: Train, plan: Plan, size: float, rows: _Rows
) -> Floats:
    """Seconds of one layer's passes over every drawn micro-batch, from the machine's at ``POINTS`` of their range."""
    attended = rows.pairs / rows.computed
    varies = rows.computed if plan.padding != "packed" else attended
    grid = np.unique(np.linspace(varies.min(), varies.max(), POINTS))
    taken = []
    for value in grid:
        seq = float(value) if plan.padding != "packed" else float(task.seq)
        work = passes(model, run, Tokens(size, seq, seq, keep=seq), plan, "middle", 1.0 / model.main.depth)
        whole = [attend(part, seq, float(value)) if plan.padding == "packed" else part for part in work]
        taken.append(sum(float(evaluate(part, machine).time_s) for part in whole))
    return np.interp(varies, grid, taken)


def attend(work: Work, seq: Num, attended: float) -> Work:
    """``work`` in which rows of ``seq`` tokens attend within ``attended`` tokens only: as many tokens, fewer pairs."""

    def rule(op: Op) -> Work:
        if isinstance(op, Gemm) and ".attention.scores" in op.label:
            raise RidgepointError("bad_plan", "packed sequences need fused attention", "use --fused-attention")
        if not isinstance(op, Attention) or float(np.max(op.q_len)) != float(np.max(seq)) or ".cross" in op.label:
            return op
        return replace(op, batch=op.batch * seq / attended, q_len=attended, kv_len=attended)

    return mapped(work, rule)
