"""Weight matrices as products of smaller ones: low rank, and structured matrices (Monarch, block tensor-train, …)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.numeric import Num
from ridgepoint.ops import Gemm, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.conditions import every, infers, transformer
from ridgepoint.techniques.products import weight_ratios, with_linear, with_weight_bytes
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import Rule, edited
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Seq, Work

FORMS = ("monarch", "btt", "block-diagonal", "kronecker")


def low_rank_share(n: Num, k: Num, rank: Num) -> Num:
    """Weights of an n × r times r × k product over those of the matrix: r·(n + k)/(n·k); it saves while r < nk/(n + k).

    >>> low_rank_share(4096.0, 4096.0, 1024.0), low_rank_share(4096.0, 4096.0, 2048.0)
    (0.5, 1.0)
    """
    return rank * (n + k) / (n * k)


def _replaced(built: Built, given: Scenario, change: Rule) -> Built:
    """Every linear layer's product changed, and the bytes of its weights with it."""
    return with_weight_bytes(with_linear(built, given, change), given, weight_ratios(built, given, change))


@technique(
    "low-rank-weights",
    title="weight matrices of low rank",
    mechanism=("low_rank",),
    papers=("greenformers", "ffsplit", "btt-compute-better-spent"),
    quality="attention matrices take it better than feed-forward ones; below half the rank it needs training",
    grade="changed",
    cannot=every(transformer, infers),
    parameters=(Parameter("rank", 0.25, "rank over the smaller side of each matrix", 0.001, 1.0),),
    occupies=("matrix form",),
    training_free=False,
)
def low_rank_weights(given: Scenario, values: Values) -> Scenario:
    """Each n × k matrix becomes two, of r·(n + k) weights: bytes and arithmetic fall while r < nk/(n + k), kernels double.

    A square matrix saves below half of its rank. Gains in decode and in prefill; short steps lose to the second kernel, and
    thin products fill an engine less well. Matrices that engines keep together (query, key and value) are factored together.

    >>> import ridgepoint as rp
    >>> def time(rank: float) -> float:
    ...     apply = [f"low-rank-weights:rank={rank}"] if rank else []
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=rp.Prefill(prompt=4096), apply=apply).time_s
    >>> time(0.25) < time(0) < time(1.0)
    True
    """
    return edited(given, "low-rank-weights", _low_rank, values)


def _low_rank(built: Built, given: Scenario, values: Values) -> Built:
    def change(op: Gemm) -> Work:
        rank = np.ceil(np.minimum(op.n, op.k) * values["rank"])
        inner = replace(op, n=rank, label=f"{op.label}.to_rank")
        outer = replace(op, k=rank, shared_input=False, label=f"{op.label}.from_rank")
        return Seq(inner, outer)

    return _replaced(built, given, change)


@technique(
    "structured-matrices",
    title="Monarch, block tensor-train and other structured matrices in place of dense ones",
    mechanism=("low_rank", "efficient_architecture"),
    papers=("btt-compute-better-spent", "armor-2-4"),
    quality="trained from scratch with scaled initialisation, BTT matches dense layers of several times the compute",
    grade="changed",
    cannot=every(transformer, infers),
    parameters=(
        Parameter("form", "btt", "kind of matrix", choices=FORMS),
        Parameter("rank", 2.0, "rank of the block tensor-train", 1.0, 1024.0),
        Parameter("blocks", 8.0, "blocks of Monarch factors and of block-diagonal matrices", 1.0, 4096.0),
        Parameter("fused", False, "the permutation between both factors costs no pass of its own"),
    ),
    occupies=("matrix form",),
    training_free=False,
)
def structured_matrices(given: Scenario, values: Values) -> Scenario:
    """Each n × k matrix becomes block-diagonal factors with a permutation between them; bytes and arithmetic fall together.

    weights of an n × k matrix: Monarch with b blocks min(n, k)·(n + k)/b; BTT of rank r: r·(k√n + n√k), that is 2r·d^1.5 for
    d × d; block-diagonal nk/b; Kronecker 2√(nk). The factors are batched products of small blocks, which engines run at a
    smaller part of their peak, and the permuted intermediate passes through memory unless it is ``fused``.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=rp.Prefill(prompt=4096), apply=apply)
    >>> btt = run("structured-matrices:form=btt,rank=2")
    >>> fewer = sum(run().cost.flop.values()) / sum(btt.cost.flop.values())
    >>> bool(1.0 < run().time_s / btt.time_s < fewer)
    True
    """
    return edited(given, "structured-matrices", _structured, values)


def _structured(built: Built, given: Scenario, values: Values) -> Built:
    form, blocks, rank = values["form"], values["blocks"], values["rank"]

    def change(op: Gemm) -> Work:
        if form == "block-diagonal":
            return _blocks(op, "blocks", blocks, op.k / blocks, op.n / blocks)
        if form == "kronecker":
            rows_k, rows_n = np.sqrt(op.k), np.sqrt(op.n)
            first = replace(op, m=op.m * rows_k, n=rows_n, k=rows_k, label=f"{op.label}.first")
            second = replace(op, m=op.m * rows_n, n=rows_n, k=rows_k, shared_input=False, label=f"{op.label}.second")
            return Seq(first, *_permuted(op, op.m * rows_k * rows_n, values), second)
        if form == "monarch":
            inner = np.minimum(op.n, op.k)
            first = _blocks(op, "first", blocks, op.k / blocks, inner / blocks)
            second = _blocks(op, "second", blocks, inner / blocks, op.n / blocks)
            return Seq(first, *_permuted(op, op.m * inner, values), second)
        into, out = np.sqrt(op.k), np.sqrt(op.n)
        first = _blocks(op, "first", into, into, rank * out)
        second = _blocks(op, "second", out, rank * into, out)
        return Seq(first, *_permuted(op, op.m * rank * into * out, values), second)

    return _replaced(built, given, change)


def _blocks(op: Gemm, name: str, count: Num, k: Num, n: Num) -> Gemm:
    """``count`` blocks of k × n in place of the matrix."""
    return replace(op, k=k, n=n, batch=op.batch * count, shared_input=False, label=f"{op.label}.{name}")


def _permuted(op: Gemm, values_between: Num, values: Values) -> list[Work]:
    """The pass that reorders what lies between two factors."""
    if values["fused"]:
        return []
    size = values_between * op.batch * FORMATS[op.out].bytes
    return [Stream(read_bytes=size, write_bytes=size, pattern="copy", label=f"{op.label}.permute")]
