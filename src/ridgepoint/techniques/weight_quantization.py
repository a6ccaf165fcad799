"""Weights in fewer bits, products in 16: weight-only quantization, mixed widths, look-up tables, entropy codes.

A decode step reads every weight once for a few rows, so its time follows the stored bytes; a prefill computes as much as
before and unpacks besides.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.numeric import Num
from ridgepoint.ops import Conv, Gemm, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.conditions import every, generates, infers, transformer
from ridgepoint.techniques.products import (
    TABLES,
    divided,
    has_tables,
    linear_format,
    narrower_than_now,
    pass_over,
    wide_weights,
    with_linear,
    with_narrow_tables,
    with_weight_bytes,
)
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, with_plan
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Seq, Work

NARROW = (
    "int8",
    "int7",
    "int6",
    "int5",
    "int4",
    "int3",
    "int2",
    "int1",
    "ternary",
    "nf4",
    "fp4",
    "mxfp4",
    "nvfp4",
    "mxfp6",
)
_GROUP = Parameter("group", 128.0, "weights that share one 16-bit scale", 1.0, 65536.0, whole=True)


@technique(
    "weight-only-quantization",
    title="weights in few bits, products in 16",
    mechanism=("weight_quantization", "binary_network"),
    papers=(
        "gptq", "tilus", "xfastertransformer", "peqa", "l4q", "ptq-impact-llm-study", "slm-ecommerce-quant", "efficientllm",
        "quamba2", "train-large-then-compress", "smallthinker", "bold",
    ),
    quality="8 bits and good 4-bit methods are reported as nearly lossless (int4: 3–5 % accuracy); 3 bits and fewer cost more",
    grade="near",
    cannot=every(infers, narrower_than_now("format"), has_tables),
    parameters=(
        Parameter("format", "int4", "what a weight is stored in", choices=NARROW),
        Parameter("fused", True, "weights are unpacked inside the product; otherwise by a kernel that writes them in 16 bits"),
        TABLES,
    ),
    occupies=("weight format",),
)  # fmt: skip
def weight_only_quantization(given: Scenario, values: Values) -> Scenario:
    """Linear layers keep each weight in ``format``: bytes fall by bits/16, and so does what a decode step reads.

    Products still run in 16 bits, and each tile of rows unpacks its weights on the vector engine: a prefill gains nothing.
    Embedding, head and router stay wide (``tables`` narrows the first two). Without a fused kernel (``fused`` false, as in
    bitsandbytes' first int8 and in GPTQ on old GPUs) a pass writes 16-bit copies before each product: memory is saved and
    time is lost.

    >>> import ridgepoint as rp
    >>> def time(task, *apply):
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply).time_s
    >>> one, long = rp.Decode(batch=1, context=1024), rp.Prefill(batch=4, prompt=4096)
    >>> time(one) / time(one, "weight-only-quantization") > 1.8, time(long) / time(long, "weight-only-quantization") < 1.02
    (True, True)
    >>> time(one, "weight-only-quantization:format=int8,fused=false") > time(one)
    True
    """
    changed = with_plan(given, weights=values["format"])
    as_planned = values["fused"] and not values["tables"]
    return changed if as_planned else edited(changed, "weight-only-quantization", _beyond_the_plan, values)


def _beyond_the_plan(built: Built, given: Scenario, values: Values) -> Built:
    narrow = with_narrow_tables(built, given, values["format"]) if values["tables"] else built
    return narrow if values["fused"] else _unfused(narrow, given, values)


def _unfused(built: Built, given: Scenario, values: Values) -> Built:
    def change(op: Gemm | Conv) -> Work:
        if not isinstance(op, Gemm) or op.weights != values["format"]:
            return op
        unpack = pass_over(op, "dequantize", op.k * op.n * op.batch, op.weights, op.acts, 2.0)
        return Seq(unpack, replace(op, weights=op.acts))

    return assumed(with_linear(built, given, change), "weights are unpacked by a kernel of its own before each product")


@technique(
    "mixed-bit-weights",
    title="a bit width per layer, or per part of a matrix",
    mechanism=("weight_quantization",),
    papers=("evopress", "ffsplit"),
    quality="better than one width of the same mean: layers (or neurons) that matter keep more bits; search decides which",
    grade="near",
    cannot=every(transformer, infers, narrower_than_now("high")),
    parameters=(
        Parameter("low", "int2", "the narrow format", choices=NARROW),
        Parameter("high", "int4", "the format of what matters", choices=NARROW),
        Parameter("share", 0.5, "part of the linear layers' weights in the narrow format", 0.0, 1.0),
        Parameter("inside", False, "every matrix is split between both formats, so that each product becomes two"),
    ),
    occupies=("weight format",),
)
def mixed_bit_weights(given: Scenario, values: Values) -> Scenario:
    """A ``share`` of the linear layers' weights is stored in ``low``, the rest in ``high``: bytes are their weighted mean.

    Whole layers differ (EvoPress), so that each product is one of two kinds; with ``inside`` each matrix is split by
    output columns (FFSplit's precise neurons beside compressed ones) and takes two kernels.

    >>> import ridgepoint as rp
    >>> def weights(*apply: str) -> float:
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task="decode", apply=apply).memory["weights"]
    >>> two, four = weights("weight-only-quantization:format=int2"), weights("weight-only-quantization:format=int4")
    >>> abs(weights("mixed-bit-weights:low=int2,high=int4,share=0.5") / ((two + four) / 2) - 1) < 1e-9
    True
    """
    return edited(with_plan(given, weights=values["high"]), "mixed-bit-weights", _mixed, values)


def _mixed(built: Built, given: Scenario, values: Values) -> Built:
    share, low = values["share"], values["low"]

    def change(op: Gemm) -> Work:
        narrow = replace(op, weights=low)
        if not values["inside"]:
            return divided(share, narrow, op)
        return Seq(replace(narrow, n=op.n * share), replace(op, n=op.n * (1.0 - share), label=f"{op.label}.precise"))

    ratio = 1.0 - share + share * FORMATS[low].bits / FORMATS[values["high"]].bits
    return with_weight_bytes(with_linear(built, given, change), given, ratio)


@technique(
    "entropy-coded-weights",
    title="weights entropy-coded, decoded on the way into the product",
    mechanism=("entropy_coding", "weight_quantization"),
    papers=("qmoe",),
    quality="the code is lossless, and so is the whole of 16-bit weights; narrower formats lose what they lose (QMoE's ternary "
    "experts: a minor loss in a mixture of 1.6 trillion parameters; unknown in others)",
    grade="near",
    cannot=every(transformer, infers, wide_weights),
    parameters=(
        Parameter("decoded", "bf16", "what the codes stand for", choices=(*NARROW, "fp8", "bf16")),
        Parameter("entropy", 0.7, "mean code length over the bits of the decoded format", 0.01, 1.0),
        Parameter("decode_operations", 8.0, "simple operations that decode one weight", 0.0, 1000.0),
    ),
    occupies=("weight format", "weight coding"),
)
def entropy_coded_weights(given: Scenario, values: Values) -> Scenario:
    """Weights lie in memory as codes of ``entropy`` times the bits of ``decoded``; each tile of rows decodes them anew.

    bytes = parameters · bits(decoded) · entropy / 8. QMoE's 0.8 bits per weight are ternary values (1.58 bits) at an entropy
    of 0.51; lossless codes of 16-bit weights (their exponents hardly vary) reach about 0.7. Holds for any batch: where
    arithmetic binds, decoding comes on top.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=1), apply=apply)
    >>> coded = run("entropy-coded-weights")
    >>> coded.memory["weights"] < 0.8 * run().memory["weights"], coded.time_s < run().time_s
    (True, True)
    >>> run("entropy-coded-weights:decode_operations=200").time_s > coded.time_s
    True
    """
    return edited(with_plan(given, weights=values["decoded"]), "entropy-coded-weights", _coded, values)


def _coded(built: Built, given: Scenario, values: Values) -> Built:
    entropy, operations = values["entropy"], values["decode_operations"]

    def change(op: Gemm) -> Work:
        return replace(op, stored=op.stored * entropy, unpack_flop=op.unpack_flop + operations)

    return with_weight_bytes(with_linear(built, given, change), given, entropy)


_TABLE_COLUMNS = 2048.0
"""Outputs that one thread block computes from the tables that it builds (LUT-GEMM's tiles)."""


def lookup_flop(m: Num, n: Num, k: Num, bits: Num, inputs: Num) -> Num:
    """Operations of a look-up product: tables of all 2^µ sign sums of µ inputs, then a look-up and an addition per group.

    tables = m · k/µ · 2^µ · ⌈n/2048⌉,   sums = 2 · bits · m · n · k/µ        (Park et al., LUT-GEMM)

    >>> bool(lookup_flop(1.0, 12288.0, 12288.0, 3.0, 8.0) < 2.0 * 12288.0**2)
    True
    """
    tables = m * k / inputs * 2.0**inputs * np.ceil(n / _TABLE_COLUMNS)
    result: Num = tables + 2.0 * bits * m * n * k / inputs
    return result


@technique(
    "look-up-table-products",
    title="products by look-up in tables of partial sums, without unpacking",
    mechanism=("weight_quantization", "kernel_fusion"),
    papers=("lut-gemm", "sail-lut-gemv"),
    quality="that of the weights' bit width (3 bits: small loss with good quantization)",
    grade="near",
    cannot=every(transformer, generates, wide_weights),
    parameters=(
        Parameter("bits", 3.0, "binary digits of a weight", 1.0, 8.0),
        Parameter("inputs", 8.0, "activations that one table is built for", 2.0, 12.0, whole=True),
        _GROUP,
    ),
    occupies=("weight format", "weight coding", "product kernel"),
)
def look_up_table_products(given: Scenario, values: Values) -> Scenario:
    """Weights are sums of ``bits`` scaled signs; a decode step adds table entries instead of unpacking and multiplying.

    bytes = parameters · bits · (1 + 16/group) / 8, operations of a decode product as in ``lookup_flop``, on the vector
    engine: cheap for one row, growing with every further one, so that large batches lose. A prefill unpacks into ordinary
    products. The processing-in-memory form (SAIL) needs its own machine file.

    >>> import ridgepoint as rp
    >>> def time(batch: float, *apply: str) -> float:
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=batch), apply=apply).time_s
    >>> lut = "look-up-table-products:bits=3"
    >>> time(1, lut) < time(1), time(256, lut) > time(256)
    (True, True)
    """
    return edited(given, "look-up-table-products", _looked_up, values)


def _looked_up(built: Built, given: Scenario, values: Values) -> Built:
    bits = values["bits"] * (1.0 + 16.0 / values["group"])
    ratio = bits / FORMATS[linear_format(given)].bits

    def decoding(op: Gemm) -> Work:
        weights = op.k * op.n * op.batch * bits / 8.0
        left = op.m * op.k * (1.0 if op.shared_input else op.batch) * FORMATS[op.acts].bytes
        return Stream(
            read_bytes=weights + left,
            write_bytes=op.m * op.n * op.batch * FORMATS[op.out].bytes,
            flop=op.batch * lookup_flop(op.m, op.n, op.k, values["bits"], values["inputs"]),
            label=op.label,
        )

    def unpacked(op: Gemm) -> Work:
        packed = isinstance(op, Gemm)
        return (
            replace(op, stored=op.stored * ratio, unpack_flop=op.unpack_flop + 2.0 * values["bits"]) if packed else op
        )

    steps = tuple(phase.name for phase in built.phases if phase.role == "next")
    others = tuple(phase.name for phase in built.phases if phase.role != "next")
    changed = with_linear(built, given, decoding, *steps)
    if others:
        changed = with_linear(changed, given, unpacked, *others)
    return with_weight_bytes(changed, given, ratio)
