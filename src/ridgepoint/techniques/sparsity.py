"""Zeros in the weights: unstructured (loaded sparse, computed dense) and N:M (skipped by engines made for it)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.numeric import Num
from ridgepoint.ops import Gemm, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Decode, Forward, Generate, Prefill, Train
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.conditions import every, infers, task_is, transformer
from ridgepoint.techniques.products import (
    inputs_format,
    linear_format,
    linear_parts,
    weight_ratios,
    with_linear,
    with_weight_bytes,
)
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, with_phases
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Seq, Work


def coded_ratio(sparsity: Num, bits: float, coding: str, index_bits: Num = 16.0) -> Num:
    """Bytes of sparse weights over dense ones: values that are left plus what says where they are.

    bitmap: (1 − s) + 1/bits;   index: (1 − s) · (1 + index_bits/bits)

    >>> coded_ratio(0.5, 16.0, "bitmap"), round(coded_ratio(0.8, 16.0, "index"), 3)
    (0.5625, 0.4)
    """
    left = 1.0 - sparsity
    return left + 1.0 / bits if coding == "bitmap" else left * (1.0 + index_bits / bits)


@technique(
    "unstructured-sparsity",
    title="sparse weights, loaded packed and multiplied dense",
    mechanism=("unstructured_sparsity", "kernel_fusion"),
    papers=(
        "flash-llm", "sparse-llama-cs3", "sparamx", "sparse-finetuning-squarehead", "train-large-then-compress", "evopress",
    ),
    quality="50 % costs little without training; 70–80 % needs sparse fine-tuning or pretraining",
    grade="near",
    cannot=every(transformer, infers),
    parameters=(
        Parameter("sparsity", 0.7, "part of the linear layers' weights that is zero", 0.0, 0.99),
        Parameter("coding", "bitmap", "a bit per weight, or a position per weight that is left", choices=("bitmap", "index")),
        Parameter("index_bits", 16.0, "bits of a position", 1.0, 64.0),
        Parameter("skipped", 0.0, "part of the products with zeros that is not carried out (0: computed dense)", 0.0, 1.0),
        Parameter("unpack_operations", 2.0, "simple operations that put one dense value in place", 0.0, 100.0),
    ),
    occupies=("weight coding",),
)  # fmt: skip
def unstructured_sparsity(given: Scenario, values: Values) -> Scenario:
    """Weights are stored without their zeros and unpacked on chip: bytes fall by ``coded_ratio``, the arithmetic stays dense.

    A decode step gains what its weight traffic falls; a prefill gains nothing (``skipped`` is for engines that leave zeros
    out: CPU kernels with long vectors, Cerebras). Fewer bits per value make the positions weigh more: with 4-bit weights a
    bitmap costs a quarter of the dense bytes.

    >>> import ridgepoint as rp
    >>> def time(task, *apply):
    ...     return rp.estimate("llama-2-7b", on="h100-sxm", task=task, apply=apply).time_s
    >>> one, long = rp.Decode(batch=1, context=512), rp.Prefill(batch=8, prompt=2048)
    >>> time(one) / time(one, "unstructured-sparsity:sparsity=0.7") > 1.4
    True
    >>> time(long) / time(long, "unstructured-sparsity:sparsity=0.7") < 1.05
    True
    """
    return edited(given, "unstructured-sparsity", _loaded_sparse, values)


def _loaded_sparse(built: Built, given: Scenario, values: Values) -> Built:
    bits = FORMATS[linear_format(given)].bits
    ratio = coded_ratio(values["sparsity"], bits, values["coding"], values["index_bits"])
    computed = 1.0 - values["sparsity"] * values["skipped"]

    def change(op: Gemm) -> Work:
        unpacking = op.unpack_flop + values["unpack_operations"]
        return replace(op, stored=op.stored * ratio, computed=op.computed * computed, unpack_flop=unpacking)

    return with_weight_bytes(with_linear(built, given, change), given, ratio)


def nm_ratio(n: float, m: float, bits: float) -> float:
    """Bytes of N:M sparse weights over dense ones: N of M values, each with log2(M) bits for its place.

    >>> nm_ratio(2.0, 4.0, 16.0), nm_ratio(2.0, 4.0, 8.0)
    (0.5625, 0.625)
    """
    return n / m * (1.0 + float(np.log2(m)) / bits)


def _engine_skips(given: Scenario, values: Values) -> str:
    """The matrix engine skips the zeros of this pattern: 2:4 where the sheet states a factor, nothing else."""
    device = given.machine.device
    arithmetic = given.machine.arithmetic(inputs_format(given))
    engine = device.engines.get(arithmetic.engine)
    if engine is None or not engine.structured_sparsity:
        return f"{device.name} has no engine that skips N:M zeros; unstructured-sparsity saves the bytes alone"
    if float(values["n"]) / float(values["m"]) != 1.0 / engine.structured_sparsity or values["m"] > 4.0:
        return f"{device.name} skips 2:4 zeros only, not {values['n']:g}:{values['m']:g}"
    return ""


@technique(
    "n-m-sparsity",
    title="N of M weights kept, zeros skipped by the matrix engine",
    mechanism=("nm_sparsity",),
    papers=("armor-2-4", "bdwp-sat"),
    quality="2:4 costs a few points without retraining; wrappers or sparse training recover most",
    grade="near",
    cannot=every(transformer, task_is(Prefill, Decode, Generate, Forward, Train), _engine_skips),
    parameters=(
        Parameter("n", 2.0, "values kept", 1.0, 16.0, whole=True, one_value=True),
        Parameter("m", 4.0, "out of so many neighbours", 2.0, 32.0, whole=True, one_value=True),
        Parameter("wrapper", 0.0, "block size of dense block-diagonal factors on both sides of each matrix (0: none)",
                  0.0, 4096.0, whole=True, one_value=True),
    ),
    occupies=("weight coding",),
)  # fmt: skip
def n_m_sparsity(given: Scenario, values: Values) -> Scenario:
    """Of every M weights N are kept: N/M of the multiply-adds and, for 16 bits at 2:4, 0.5625 of the bytes.

    Only engines built for it skip the zeros (sparse tensor cores: 2:4). ``wrapper`` adds two block-diagonal products of that
    block size to each layer (ARMOR): 2·b·(rows in + rows out) weights each. In training two of the three products are sparse
    (forward and the input's gradient), weights stay dense in memory, and a pass picks the N largest once a step (BDWP).

    >>> import ridgepoint as rp
    >>> def time(task, *apply):
    ...     return rp.estimate("llama-2-7b", on="a100-sxm-80gb", task=task, apply=apply).time_s
    >>> long = rp.Prefill(batch=4, prompt=2048)
    >>> time(long) / time(long, "n-m-sparsity") > 1.2
    True
    >>> time(long, "n-m-sparsity") < time(long, "n-m-sparsity:wrapper=128") < time(long)
    True
    """
    return edited(given, "n-m-sparsity", _skipping, values)


def _skipping(built: Built, given: Scenario, values: Values) -> Built:
    kept, block = values["n"] / values["m"], values["wrapper"]
    trains = isinstance(given.task, Train)
    ratio = nm_ratio(values["n"], values["m"], FORMATS[linear_format(given)].bits)

    def change(op: Gemm) -> Work:
        if op.label.endswith(".grad_weight"):
            return op
        sparse = replace(op, computed=op.computed * kept, stored=op.stored * ratio)
        return Seq(_diagonal(op, op.k, block, "in"), sparse, _diagonal(op, op.n, block, "out")) if block else sparse

    changed = with_linear(built, given, change)
    if trains:
        return _with_selection(changed, given)

    def dense_parts(op: Gemm) -> Work:
        return Seq(op, _diagonal(op, op.k, block, "in"), _diagonal(op, op.n, block, "out")) if block else op

    # The wrappers' dense weights come on top of the sparse ones.
    ratios = weight_ratios(built, given, dense_parts)
    return with_weight_bytes(changed, given, {name: whole - 1.0 + ratio for name, whole in ratios.items()})


def _diagonal(op: Gemm, width: Num, block: Num, side: str) -> Gemm:
    """The product with ``width``/``block`` dense blocks on the diagonal."""
    return replace(op, n=block, k=block, batch=op.batch * width / block, label=f"{op.label}.wrapper_{side}", stored=1.0,
                   shared_input=False)  # fmt: skip


def _with_selection(built: Built, given: Scenario) -> Built:
    """A pass over the linear layers' weights that keeps the largest, once a step."""
    size = sum((part for name, part in linear_parts(given, built).items() if name != "other"), 0.0)
    values = size / FORMATS[linear_format(given)].bytes
    choose = Stream(read_bytes=size, write_bytes=size, flop=4.0 * values, pattern="quantize", label="n_m.select")
    return with_phases(built, lambda phase: replace(phase, work=Seq(choose, phase.work)), "train")
