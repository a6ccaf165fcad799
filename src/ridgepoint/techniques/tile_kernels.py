"""Kernels nearer to the peak: better tiles, narrow accumulators, Fourier transforms as products."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from ridgepoint.machines.description import FlopPerSecond
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Gemm, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.conditions import every, infers
from ridgepoint.techniques.products import linear_format
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, labelled, with_ops, with_plan
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Repeat, Seq, Work, ops

_WIDER = 0.25
"""Spread of log(measured / predicted) where a coefficient is stated instead of fitted."""


def with_coefficients(machine: Machine, table: str, source: str, **values: Any) -> Machine:
    """``machine`` with values of a coefficient table stated; its spread is at least that of a default.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> with_coefficients(find_machine("h100-sxm"), "host", "example", dispatch_s=1e-6).coefficients.host.dispatch_s
    1e-06
    """
    device = machine.device
    present = getattr(machine.coefficients, table)
    provenance = {"kind": "default", "source": source}
    stated = {**values, "spread": max(present.spread, _WIDER), "provenance": provenance}
    own = {**device.coefficients, table: {**device.coefficients.get(table, {}), **stated}}
    return replace(machine, device=msgspec.structs.replace(device, coefficients=own))


def _no_better(given: Scenario, values: Values) -> str:
    tables = given.machine.coefficients
    gemm = tables.gemm.efficiency.get("fp16", tables.gemm.efficiency["default"])
    attention = tables.attention.efficiency["default"]
    if values["products"] > gemm or values["attention"] > attention:
        return ""
    return f"kernels on {given.machine.device.name} reach {gemm:.0%} (products) and {attention:.0%} (attention) already"


@technique(
    "tile-kernels",
    title="kernels from a better tile language",
    mechanism=("kernel_dsl", "compiler_autotune"),
    papers=("thunderkittens", "hipkittens", "tilus", "mlir-ml-cost-model"),
    quality="the same results up to rounding",
    grade="exact",
    cannot=_no_better,
    parameters=(
        Parameter("products", 0.85, "part of the peak that a full wave of 16-bit product tiles reaches", 0.01, 1.0,
                  one_value=True),
        Parameter("attention", 0.8, "part of the peak that full tiles of attention reach (head width 128)", 0.01, 1.0,
                  one_value=True),
    ),
    occupies=("kernels",),
)  # fmt: skip
def tile_kernels(given: Scenario, values: Values) -> Scenario:
    """Products and attention reach the stated part of the matrix engines' peak where theirs was lower.

    Every other limit stays: waves of tiles, power, bandwidth, launches. So skinny products, which read, gain nothing. The
    machine's tables hold what its measured libraries reach (``ridgepoint machines show``); a stated value widens intervals.

    >>> import ridgepoint as rp
    >>> def gain(task: rp.Task) -> float:
    ...     plain, tiled = (rp.estimate("llama-2-7b", on="mi300x", task=task, apply=a).time_s for a in ((), ("tile-kernels",)))
    ...     return plain / tiled
    >>> gain(rp.Prefill(batch=1, prompt=32768)) > 1.03, 0.99 < gain(rp.Decode(batch=1)) < 1.01
    (True, True)
    """
    tables, said = given.machine.coefficients, "stated with the technique tile-kernels"
    products, attention = dict(tables.gemm.efficiency), dict(tables.attention.efficiency)
    for table, reached in ((products, values["products"]), (attention, values["attention"])):
        table["default"] = max(table["default"], reached)
        if "fp16" in table:
            table["fp16"] = max(table["fp16"], reached)
    better = with_coefficients(given.machine, "gemm", said, efficiency=products)
    return replace(given, machine=with_coefficients(better, "attention", said, efficiency=attention))


_GEFORCE = re.compile(r"rtx-[2345]0[5-9]0")
"""Consumer cards from Turing to Blackwell, whose tensor cores run 16-bit products with fp32 accumulators at half rate."""


def _full_rate(given: Scenario, values: Values) -> str:
    name = given.machine.device.name
    if not _GEFORCE.match(name):
        return f"{name} multiplies 16-bit numbers with fp32 accumulators at full rate: narrow ones save no time"
    stored = linear_format(given)
    return (
        "" if stored in ("bf16", "fp16") else f"weights are {stored}: their products do not run with fp16 accumulators"
    )


@technique(
    "narrow-accumulators",
    title="products accumulate in 16 bits",
    mechanism=("low_precision_training", "custom_accelerator"),
    papers=("low-bit-accumulators",),
    quality="sums overflow or round unless training or scaling takes care (12 bits: no significant loss when trained for it)",
    grade="near",
    cannot=_full_rate,
    occupies=("accumulators",),
)
def narrow_accumulators(given: Scenario, values: Values) -> Scenario:
    """16-bit products run in fp16 with fp16 accumulators, at twice the rate that GeForce cards have with fp32 ones.

    The rates are the machine's: consumer cards halve them with wide accumulators (NVIDIA's white papers on GA102, AD102,
    GB202), all others do not, so there nothing is gained. Memory and bandwidth stay, and so do decode steps.

    >>> import ridgepoint as rp
    >>> def gain(task: rp.Task) -> float:
    ...     wide, narrow = (rp.estimate("llama-3.1-8b", on="rtx-4090", task=task, apply=a).time_s
    ...                     for a in ((), ("narrow-accumulators",)))
    ...     return wide / narrow
    >>> gain(rp.Prefill(batch=1, prompt=4096)) > 1.4, 0.99 < gain(rp.Decode(batch=1)) < 1.05
    (True, True)
    """
    device = given.machine.device
    matrix = device.engines["matrix"]
    rates = {**matrix.rates, "fp16": FlopPerSecond(2.0 * matrix.rates["fp16"])}
    engines = {**device.engines, "matrix": msgspec.structs.replace(matrix, rates=rates)}
    faster = replace(given.machine, device=msgspec.structs.replace(device, engines=engines))
    return with_plan(replace(given, machine=faster), weights="fp16", acts="fp16")


def _transforms(given: Scenario, values: Values) -> str:
    found = any(_is_transform(op) for phase in given.build().phases for op in ops(phase.work))
    return "" if found else f"{given.model.name} has no Fourier transforms"


def _is_transform(op: Op) -> bool:
    return isinstance(op, Stream) and labelled(op, "*fft")


@technique(
    "fft-on-matrix-engines",
    title="Fourier transforms as products with small dense matrices",
    mechanism=("kernel_fusion", "ssm_rnn"),
    papers=("flashfftconv",),
    quality="the same results up to the rounding of 16-bit products",
    grade="exact",
    cannot=every(infers, _transforms),
    parameters=(
        Parameter("order", 2.0, "factors of the Monarch decomposition", 2.0, 4.0, whole=True, one_value=True),
        Parameter("fused", True, "the factors run in one kernel: values are read and written once"),
    ),
    occupies=("fft",),
)
def fft_on_matrix_engines(given: Scenario, values: Values) -> Scenario:
    """A transform of N points becomes p products with matrices of N^(1/p): 4 · p · N^(1+1/p) operations, not 2.5 · N · log₂ N.

    More arithmetic, on an engine that is an order faster, in 16 bits, and, fused, with one pass over memory. Complex products
    are four real ones; a real transform packs two sequences into one. Gains end where N^(1/p) outgrows the engines'
    advantage, or where matrices are smaller than a tile: a higher order then.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     return rp.estimate("fourcastnet", on="h100-sxm", task=rp.Forward(batch=1), apply=apply).time_s
    >>> time("fft-on-matrix-engines") < time()
    True
    """
    return edited(given, "fft-on-matrix-engines", _as_products, values)


def transform_sizes(op: Stream) -> tuple[Num, Num]:
    """(values, points of one transform) of a recorded real transform: passes · 4 bytes read, 2.5 · values · log₂ N done.

    >>> transform_sizes(Stream(read_bytes=2 * 4.0 * 65536, write_bytes=1.0, flop=2.5 * 65536 * 8, launches=2.0))
    (65536.0, 256.0)
    """
    values = op.read_bytes / (4.0 * op.launches)
    return values, plain(2.0 ** (op.flop / (2.5 * values)))


def _as_products(built: Built, given: Scenario, values: Values) -> Built:
    order = values["order"]

    def rule(op: Op) -> Work:
        if not _is_transform(op):
            return op
        assert isinstance(op, Stream)
        total, points = transform_sizes(op)
        side = np.maximum(np.round(points ** (1.0 / order)), 2.0)
        # Two real sequences make a complex one: rows of `side` complex values times side × side complex weights, as reals.
        width = 2.0 * side * (order if values["fused"] else 1.0)
        factor = Gemm(
            m=plain(total / width),
            n=plain(width),
            k=plain(width),
            acts="fp16",
            weights="fp16",
            out="fp16",
            label=f"{op.label}.factor",
        )
        if values["fused"]:  # all factors' arithmetic on values that are read and written once
            return replace(factor, label=f"{op.label}.factors")
        twiddle = Stream(
            read_bytes=2.0 * total, write_bytes=2.0 * total, flop=3.0 * total, launches=1.0, label=f"{op.label}.twiddle"
        )
        return Seq(Repeat(order, factor), Repeat(order - 1.0, twiddle))

    return with_ops(built, rule)
