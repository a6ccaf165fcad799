"""Weights and activations in few bits: products run in the narrow format, and something must make the activations narrow.

What comes on top of the cheaper products is stated as kernels: quantization of the inputs (fused into the kernel in front
where engines do that), block rotations, scales; in training quantization of every operand.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ridgepoint.formats import FORMATS, multiply_format
from ridgepoint.numeric import Num
from ridgepoint.ops import Gemm
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.conditions import every, infers, trains, transformer
from ridgepoint.techniques.products import (
    TABLES,
    has_tables,
    inputs_format,
    linear_format,
    pass_over,
    with_linear,
    with_narrow_tables,
)
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, labelled, with_ops, with_plan
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Seq, Work


def _multiplies(given: Scenario, values: Values) -> str:
    """The machine has the arithmetic of the product, so that more than bytes is saved."""
    acts = str(values.get("acts", values.get("format")))
    weights = str(values.get("weights", values.get("format")))
    note = given.machine.arithmetic(multiply_format(acts, weights)).note
    return f"{note}; weight-only-quantization saves the bytes alone" if note else ""


def _narrower(given: Scenario, values: Values) -> str:
    acts = str(values.get("acts", values.get("format")))
    present = inputs_format(given)
    narrow = FORMATS[acts].bits < FORMATS[present].bits
    return "" if narrow else f"products read their inputs in {present} already"


@technique(
    "weight-activation-quantization",
    title="weights and activations quantized, products in the narrow format",
    mechanism=("weight_quantization", "activation_quantization"),
    papers=(
        "quamba2", "dopq-vit", "adalog", "qrid", "quantization-whitepaper", "sparse-llama-cs3", "train-large-then-compress",
        "sparamx", "deepseek-v3-insights",
    ),
    quality="W8A8 and FP8 are reported within about 1 %; 4-bit activations need rotations or outlier handling",
    grade="near",
    cannot=every(infers, _narrower, _multiplies, has_tables),
    parameters=(
        Parameter("weights", "fp8", "what a weight is stored in", choices=("fp8", "int8", "fp8_block", "mxfp8", "int4", "fp4")),
        Parameter("acts", "fp8", "what products read their inputs in", choices=("fp8", "int8", "mxfp8", "int4", "fp4")),
        TABLES,
    ),
    occupies=("weight format", "input format"),
)  # fmt: skip
def weight_activation_quantization(given: Scenario, values: Values) -> Scenario:
    """Weights are stored and inputs are read in few bits (W8A8, W4A8, FP8): bytes fall and products run at the narrow rate.

    Inputs are quantized on the way in, with scales, by the kernel in front where engines fuse that and by one of its own
    otherwise; attention and everything between stays in 16 bits; ``tables``
    stores embedding and head in few bits too. In networks that convolve, whole feature maps are narrow.
    Helps decode by bytes and prefill by rate. A machine without the arithmetic saves bytes only: it is refused here.

    >>> import ridgepoint as rp
    >>> def gain(machine: str, prompt: float, quantized: str) -> float:
    ...     task = rp.Prefill(batch=1, prompt=prompt)
    ...     before, after = (rp.estimate("llama-3.1-8b", on=machine, task=task, apply=a).time_s for a in ([], [quantized]))
    ...     return before / after
    >>> gain("h100-sxm", 8192, "weight-activation-quantization") > 1.25
    True
    >>> gain("a100-sxm-80gb", 8192, "weight-activation-quantization:weights=int8,acts=int8") > 1.25
    True
    """
    changed = with_plan(given, weights=values["weights"], acts=values["acts"])
    return edited(changed, "weight-activation-quantization", _narrow_tables, values) if values["tables"] else changed


def _narrow_tables(built: Built, given: Scenario, values: Values) -> Built:
    return with_narrow_tables(built, given, values["weights"])


def rotation_flop(block: float) -> float:
    """Additions per value of a Hadamard rotation in blocks: log2 of the block (fast transform).

    >>> rotation_flop(128.0), rotation_flop(1.0)
    (7.0, 0.0)
    """
    return float(np.log2(np.maximum(block, 1.0)))


@technique(
    "microscaling",
    title="FP4 and other block-scaled formats, with rotations",
    mechanism=("weight_quantization", "activation_quantization", "kernel_fusion"),
    papers=("mr-gptq", "fp4-design-space"),
    quality="NVFP4 loses little; MXFP4 needs rotations and error-correcting rounding to come near (MR-GPTQ)",
    grade="near",
    cannot=every(transformer, infers, _narrower, _multiplies),
    parameters=(
        Parameter("format", "nvfp4", "block-scaled format", choices=("nvfp4", "mxfp4", "mxfp6", "mxfp8")),
        Parameter("rotation", 0.0, "values per Hadamard block that inputs are rotated in before they are quantized (0: none)",
                  0.0, 4096.0, whole=True, one_value=True),
        Parameter("fused", True, "rotation and quantization are one kernel; otherwise the rotation writes 16 bits first"),
    ),
    occupies=("weight format", "input format"),
)  # fmt: skip
def microscaling(given: Scenario, values: Values) -> Scenario:
    """Weights and inputs are 4 to 8 bits with a scale per 16 or 32 values; rotations spread outliers before rounding.

    bits per value = 4 + 8/32 (MXFP4), 4 + 8/16 (NVFP4). A rotated input passes through memory once more in front of every
    product (log2(block) additions a value), which no kernel in front can do across its values. The layer's gain approaches
    the ratio of peak rates for many rows; embedding, head, attention and the passes between do not take part.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     task = rp.Prefill(batch=1, prompt=8192)
    ...     return rp.estimate("llama-3.1-8b", on="b200-sxm", task=task, apply=apply).time_s
    >>> plain, rotated = time("microscaling:format=mxfp4"), time("microscaling:format=mxfp4,rotation=128")
    >>> plain < rotated < time(), rotated < time("microscaling:format=mxfp4,rotation=128,fused=false")
    (True, True)
    """
    changed = with_plan(given, weights=values["format"], acts=values["format"])
    return edited(changed, "microscaling", _rotated, values) if values["rotation"] > 1.0 else changed


def _rotated(built: Built, given: Scenario, values: Values) -> Built:
    to = values["format"]
    adds = rotation_flop(values["rotation"])

    def change(op: Gemm) -> Work:
        if op.acts != to:
            return op
        inputs = op.m * op.k * (1.0 if op.shared_input else op.batch)
        if values["fused"]:
            return Seq(pass_over(op, "rotate_quantize", inputs, op.out, to, adds + 4.0), op)
        rotate = pass_over(op, "rotate", inputs, op.out, op.out, adds)
        return Seq(rotate, pass_over(op, "quantize_rotated", inputs, op.out, to, 4.0), op)

    def without(op: Any) -> Work:
        return Seq() if labelled(op, "layers.*.quantize", "encoder.layers.*.quantize") else op

    # The quantizing passes that are there already become part of the rotated ones.
    return with_linear(with_ops(built, without), given, change)


def _sixteen_bits(given: Scenario, values: Values) -> str:
    present = linear_format(given)
    return "" if FORMATS[present].bits == 16.0 else f"training runs in {present} already"


@technique(
    "low-precision-training",
    title="training products in FP8 or FP4",
    mechanism=("low_precision_training", "activation_quantization"),
    papers=("fp4-design-space", "fp8-and-back", "deepseek-v3-insights"),
    quality="FP8 trains close to bf16 with care (some find it not robust: restarts cost runs); FP4 is research",
    grade="near",
    cannot=every(trains, transformer, _sixteen_bits, _multiplies),
    parameters=(
        Parameter("format", "fp8", "what both operands of a product are rounded to",
                  choices=("fp8", "mxfp8", "mxfp6", "mxfp4", "nvfp4")),
        Parameter("rotation", 0.0, "values per Hadamard block that operands are rotated in (0: none)",
                  0.0, 4096.0, whole=True, one_value=True),
        Parameter("stochastic", False, "gradients are rounded stochastically"),
        Parameter("wide_weight_gradient", False, "the products of weight gradients stay in 16 bits"),
    ),
    occupies=("weight format", "input format"),
)  # fmt: skip
def low_precision_training(given: Scenario, values: Values) -> Scenario:
    """The three products of a linear layer's step run in ``format``; weights, gradients and optimizer states stay as they were.

    Each operand of each product is read in 16 bits and written narrow once, with its scale (4 operations a value), a
    rotation (log2 of the block) and stochastic rounding (a random number, about 8 operations, for gradients). Pays where
    products are large; a small layer loses to its passes. Restarts from instability are not included.

    >>> import ridgepoint as rp
    >>> def step(*apply: str, machine: str = "8xh100-sxm") -> float:
    ...     task, plan = rp.Train(batch=8, seq=4096), rp.Plan(tp=8, micro_batch=1)
    ...     return rp.estimate("llama-3.1-70b", on=machine, task=task, plan=plan, apply=apply).time_s
    >>> step("low-precision-training") < step("low-precision-training:rotation=128,stochastic=true") < step()
    True
    """
    return edited(given, "low-precision-training", _trained_narrow, values)


def _trained_narrow(built: Built, given: Scenario, values: Values) -> Built:
    to, adds = values["format"], rotation_flop(values["rotation"]) + 4.0

    def operand(op: Gemm, name: str, count: Num, gradient: bool) -> Work:
        return pass_over(
            op, f"quantize_{name}", count, op.acts, to, adds + (8.0 if gradient and values["stochastic"] else 0.0)
        )

    def change(op: Gemm) -> Work:
        back = op.label.endswith((".grad_input", ".grad_weight"))
        if values["wide_weight_gradient"] and op.label.endswith(".grad_weight"):
            return op
        left = operand(op, "left", op.m * op.k * op.batch, back)
        right = operand(op, "right", op.k * op.n * op.batch, op.label.endswith(".grad_weight"))
        return Seq(left, right, replace(op, acts=to, weights=to))

    said = "every operand of a training product is quantized by a kernel of its own, once for each product"
    return assumed(with_linear(built, given, change), said)
