"""Feed-forward parts as work: dense, and mixtures of experts on any number of expert-parallel ranks."""

from __future__ import annotations

import numpy as np

from ridgepoint.cost.order_statistics import expected_maximum
from ridgepoint.formats import FORMATS
from ridgepoint.kernels.expert_libraries import expert_library
from ridgepoint.models.architecture import Experts, FeedForward
from ridgepoint.models.execution import Execution, Tokens
from ridgepoint.models.expert_training import clamp, one_by_one, permute, weighted_bias
from ridgepoint.models.pieces import activation, pointwise, projection, quantize, quantized_before, sum_over_ranks
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Collective, Gemm, Stream
from ridgepoint.work import Seq, Work


def dense(feed: FeedForward, hidden: int, tokens: Tokens, run: Execution, at: str) -> Work:
    """Up (and gate) projection, nonlinearity, down projection, sum over ranks."""
    rows = run.rows(tokens)
    gate: list[Work] = []
    if feed.receptance:
        gate = [
            pointwise(run, f"{at}.shift", rows * hidden, reads=2.0, writes=2.0, flop=6.0),
            projection(run, "feed", f"{at}.receptance", rows, hidden / run.cut.tp, hidden),
            pointwise(run, f"{at}.gate", rows * hidden / run.cut.tp, reads=2.0, flop=5.0, special=1.0),
        ]
    return Seq(
        *gate,
        *_two_projections(run, at, rows, hidden, feed.width / run.cut.tp, feed.gated, feed.composed),
        sum_over_ranks(run, f"{at}.all_reduce", rows, hidden),
    )


def _two_projections(
    run: Execution, at: str, rows: Num, hidden: int, width: Num, gated: bool, composed: str = ""
) -> list[Work]:
    up = f"{at}.gate_up" if gated else f"{at}.up"
    return [
        projection(run, "feed", up, rows, (2.0 if gated else 1.0) * width, hidden),
        activation(run, f"{at}.activation", rows * width, gated, composed),
        projection(run, "feed", f"{at}.down", rows, hidden, width),
    ]


UNEVEN = 0.5
"""Squared coefficient of variation of how often experts are picked when a model serves: traffic of one kind has favourites,
whatever training balanced. Fitted to TPOT of serving rows (aiconfigurator-silicon, mlenergy; 0.5 to 1 fit about alike)."""


def touched_experts(count: Num, top_k: Num, tokens: Num, uneven: Num = 0.0) -> Num:
    """Experts that at least one of ``tokens`` tokens picks, in expectation: E·(1 − (1 − k/E)^T) under uniform routing.

    Where popularity varies from expert to expert (gamma-distributed, squared coefficient of variation ``uneven`` = s > 0), an
    expert stays untouched with the negative binomial's (1 + T·((1 − k/E)^−s − 1))^(−1/s), which is the same for one token.

    >>> round(float(touched_experts(8.0, 2.0, 1.0)), 3), round(float(touched_experts(8.0, 2.0, 16.0)), 3)
    (2.0, 7.92)
    >>> round(float(touched_experts(8.0, 2.0, 1.0, 1.0)), 3), round(float(touched_experts(8.0, 2.0, 16.0, 1.0)), 3)
    (2.0, 6.737)
    """
    missed = np.maximum(1.0 - top_k / count, _LEAST_MISSED)
    s = np.maximum(uneven, _LEAST_UNEVEN)
    by_chance = (1.0 - top_k / count) ** tokens
    untouched = np.where(np.asarray(uneven) > 0.0, (1.0 + tokens * (missed**-s - 1.0)) ** (-1.0 / s), by_chance)
    return plain(count * (1.0 - untouched))


_LEAST_MISSED, _LEAST_UNEVEN = 1e-12, 1e-3


def chance_imbalance(rows_per_rank: Num, ranks: Num, uneven: Num = 0.0) -> Num:
    """Rows of the busiest of ``ranks`` expert ranks over the mean when routing is random (a binomial's spread), and the
    popularity of ranks varies besides (``uneven``: its squared coefficient of variation).
    """
    spread = np.sqrt((1.0 - 1.0 / np.maximum(ranks, 1.0)) * (1.0 / np.maximum(rows_per_rank, 1.0) + uneven))
    return np.minimum(1.0 + expected_maximum(ranks) * spread, np.maximum(ranks, 1.0))


def most_touched(touched: Num, here: Num, ranks: Num) -> Num:
    """Experts touched on the rank that has most, of ``here`` on each with ``touched`` in the mean: the others wait for it.

    >>> round(float(most_touched(8.0, 96.0, 4.0)), 2), float(most_touched(8.0, 96.0, 1.0))
    (10.41, 8.0)
    """
    part = np.minimum(touched / here, 1.0)
    spread = np.sqrt(here * part * (1.0 - part) * (1.0 - 1.0 / np.maximum(ranks, 1.0)))
    return plain(np.minimum(touched + expected_maximum(ranks) * spread, here))


def experts(feed: Experts, hidden: int, tokens: Tokens, run: Execution, at: str) -> Work:
    """Router, dispatch, grouped products over the experts that any token picked, combination, shared expert.

    With ``ep`` > ``tp`` the tokens of several attention replicas meet at the experts by an all-to-all.
    """
    cut, rows = run.cut, run.rows(tokens)
    pooled = rows * cut.pooled_replicas
    here = feed.count / cut.ep
    expert_rows = pooled * feed.top_k / cut.ep
    touched = _touched(feed, pooled, here, run)
    parts: list[Work] = [
        projection(run, "router", f"{at}.router", rows, feed.count, hidden),
        _top_k(feed, rows, run, at),
    ]
    if feed.hidden:
        parts.append(projection(run, "feed", f"{at}.latent_down", rows, feed.hidden / cut.tp, hidden))
    parts += _exchange(feed, hidden, rows, run, f"{at}.dispatch")
    parts += _grouped(feed, hidden, pooled, expert_rows, touched, run, at)
    parts += _exchange(feed, hidden, rows, run, f"{at}.combine")
    if feed.hidden:
        parts.append(projection(run, "feed", f"{at}.latent_up", rows, hidden, feed.hidden / cut.tp))
    if feed.shared_width:
        parts += _two_projections(run, f"{at}.shared", rows, hidden, feed.shared_width / cut.tp, feed.gated)
    parts.append(sum_over_ranks(run, f"{at}.all_reduce", rows, hidden))
    return Seq(*parts)


def _uneven(run: Execution) -> Num:
    """How unevenly experts are picked: training balances them, and a stated factor stands for everything."""
    by_chance = np.asarray(run.expert_imbalance, dtype=float) <= 0.0
    return plain(np.where(by_chance & (not run.training), UNEVEN, 0.0))


def _touched(feed: Experts, pooled: Num, here: Num, run: Execution) -> Num:
    """Experts with rows on a rank: of all ranks' mean in training, where every expert has some, and where routing is stated."""
    uneven = _uneven(run)
    mean = np.minimum(touched_experts(feed.count, feed.top_k, pooled, uneven) / run.cut.ep, here)
    return plain(np.where(np.asarray(uneven) > 0.0, most_touched(mean, here, run.cut.ep), mean))


def _top_k(feed: Experts, rows: Num, run: Execution, at: str) -> Stream:
    width = 4.0
    return Stream(
        read_bytes=rows * feed.count * width,
        write_bytes=rows * feed.top_k * 2.0 * width,
        flop=4.0 * rows * feed.count,
        special=rows * feed.count,
        pattern="softmax",
        rows=rows,
        launches=_route_launches(run),
        label=f"{at}.top_k",
    )


def _route_launches(run: Execution) -> float:
    """Kernels that pick experts and sort tokens by them; a library's count includes the conversion, which is apart here."""
    if not run.expert_library:
        return 2.0
    return expert_library(run.expert_library).launches - (1.0 if _narrow(run) else 0.0)


def _narrow(run: Execution) -> bool:
    """Whether the experts' products read a narrower format than what lies between the layers."""
    return FORMATS[run.formats.gemm_inputs("experts")].bits < FORMATS[run.formats.stream].bits


def _exchange(feed: Experts, hidden: int, rows: Num, run: Execution, label: str) -> list[Work]:
    """All-to-all between attention replicas and expert ranks: every token goes to its ``top_k`` experts' ranks."""
    cut = run.cut
    if np.all(np.asarray(cut.pooled_replicas) <= 1.0):
        return []
    copies = np.minimum(float(feed.top_k), cut.ep)
    size = rows / cut.tp * copies * (feed.hidden or hidden) * FORMATS[run.formats.stream].bytes
    ranks = np.where(np.asarray(cut.pooled_replicas) > 1.0, cut.ep, 1.0)
    return [Collective(operation="all_to_all", bytes=size, ranks=plain(ranks), fanout=float(feed.top_k), label=label)]


def _grouped(
    feed: Experts, hidden: int, pooled: Num, expert_rows: Num, touched: Num, run: Execution, at: str
) -> list[Work]:
    """Grouped up and down products with the nonlinearity between, weighted sum back into token order. The products gather
    their rows themselves, as fused expert kernels do; in training the rows are put in order first, for the backward pass
    needs them.
    """
    width, inner = feed.width / run.cut.expert_slices, feed.hidden or hidden
    inputs, stored = run.formats.gemm_inputs("experts"), FORMATS[run.formats.stream].bytes
    given = np.asarray(run.expert_imbalance, dtype=float)
    by_chance = chance_imbalance(expert_rows, run.cut.ep, _uneven(run) * run.cut.ep / feed.count)
    imbalance = plain(np.where(given > 0.0, given, by_chance))

    def product(label: str, n: Num, k: Num) -> Gemm:
        return Gemm(
            m=expert_rows / touched,
            n=n,
            k=k,
            batch=touched,
            acts=inputs,
            weights=run.formats.weight("experts"),
            out=run.formats.stream,
            grouped=True,
            imbalance=imbalance,
            label=label,
        )

    both = (2.0 if feed.gated else 1.0) * width
    # Rows that are worked on beside the products: other ranks' choices too, where the library keeps places for them.
    every = pooled * feed.top_k if expert_library(run.expert_library).keeps else expert_rows
    zeros = (every - expert_rows) * (both + inner)
    combine = Stream(
        read_bytes=every * inner * stored,
        write_bytes=(every * inner / feed.top_k + zeros) * stored,
        flop=2.0 * every * inner,
        label=f"{at}.weighted_sum",
    )
    narrow = _narrow(run)
    rows = expert_rows if run.training else pooled
    cast = [quantize(run, f"{at}.quantize", rows * inner, inputs)] if narrow else []
    alone = narrow and not quantized_before(run, f"{at}.shared.down")
    recast = [quantize(run, f"{at}.quantize", every * width, inputs)] if alone else []
    up = product(f"{at}.experts.{'gate_up' if feed.gated else 'up'}", both, inner)
    nonlinear: list[Work] = [activation(run, f"{at}.experts.activation", every * width, feed.gated)]
    down: list[Work] = [*recast, product(f"{at}.experts.down", inner, width)]
    if not run.training:
        return [*cast, up, *nonlinear, *down, combine]
    if feed.bias and feed.gated:
        nonlinear.insert(0, clamp(expert_rows * both, run, f"{at}.experts.activation.clamp"))
    if feed.bias:
        down.append(weighted_bias(expert_rows * inner, run, f"{at}.experts.bias"))
    parts = [*cast, up, *nonlinear, *down]
    return [
        permute(expert_rows * inner, run, f"{at}.permute"),
        one_by_one(parts, touched, inputs, feed.bias, f"{at}.experts"),
        combine,
    ]
