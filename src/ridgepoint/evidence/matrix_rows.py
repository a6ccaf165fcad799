"""Rows of matrix products, fused expert layers and convolutions as works."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ridgepoint.evidence.harness import harness_of, routed
from ridgepoint.evidence.rows import Builder, InexpressibleError, Rows, timed
from ridgepoint.formats import FORMATS
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Array
from ridgepoint.ops import Conv, Gemm, Host, Stream
from ridgepoint.work import Seq, Work

# Kernels that sort tokens by expert: fused in one library, plain framework operations in another.
_ROUTE_LAUNCHES = {"trtllm_gen": 2.0, "triton_mxfp4": 24.0}
_FOREIGN = {"0.5.10": 0.5}
"""Part of other ranks' token rows that versions of SGLang before they skipped blocks of such experts still worked on."""
# Its rows with few columns of the result say so: 1.0 ps an element more than the next release takes.
_SLOW_CONVERSION = ("1.3.0rc15",)
_ENGINE_S = 5e-6  # starting a TensorRT engine of one kernel
# A mixed dtype names weight and activation bits; the weight_dtype column says which weight format it is.

_MIXED = {"w4a16": ("bf16", "int4"), "w8a16": ("bf16", "int8"), "w4a8": ("fp8", "int4"), "w8a8": ("int8", "int8")}


def operand_formats(rows: Rows) -> tuple[str, str, str]:
    """Formats of activations, weights and result."""
    dtype, stated = rows.text("dtype"), rows.text("weight_dtype")
    if dtype in _MIXED:
        acts, weights = _MIXED[dtype]
        return acts, known_format(stated) if stated else weights, "bf16"
    acts = known_format(dtype)
    # Block scaling is said once, by the arithmetic type.
    weights = acts if dtype == "fp8_block" or not stated else known_format(stated)
    return acts, weights, acts if FORMATS[acts].bits >= 16 else "bf16"


def known_format(name: str) -> str:
    """The name of a number format, or the reason that there is none."""
    if name not in FORMATS:
        raise InexpressibleError(f"unknown format '{name}'")
    return name


def _quantize(rows: Array, columns: Array, out: str, reads: float = 1.0, launches: float = 1.0) -> Stream:
    return Stream(
        read_bytes=2.0 * reads * rows * columns,
        write_bytes=FORMATS[out].bytes * rows * columns,
        flop=4.0 * rows * columns,
        pattern="quantize",
        launches=launches,
        label="quantize",
    )


def _gemm(rows: Rows, machine: Machine) -> Work:
    m, n, k = rows.number("m"), rows.number("n"), rows.number("k")
    acts, weights, out = operand_formats(rows)
    product = Gemm(m=m, n=n, k=k, acts=acts, weights=weights, out=out, label="product")
    before = _conversions(rows, machine, m, k, acts)
    return timed(rows, Seq(*before, product) if before else product)


def amax_launches(machine: Machine) -> float:
    """Kernels of a tensor's maximum in TensorRT-LLM."""
    return 4.0 if machine.device.family == "blackwell" else 3.0


def _conversions(rows: Rows, machine: Machine, m: Array, k: Array, acts: str) -> list[Work]:
    """What a framework's linear layer runs before the product, where the table timed the layer and not the kernel."""
    framework, kernel, dtype = rows.text("framework"), rows.tag("kernel"), rows.text("dtype")
    if kernel.startswith("trt_flow"):
        return [Host(seconds=_ENGINE_S, label="engine")]
    launches = amax_launches(machine)
    if framework == "trtllm" and dtype == "fp8":  # dynamic per-tensor scale: an amax pass, then the conversion
        scale = Stream(
            read_bytes=2.0 * m * k, write_bytes=0.0 * m, flop=m * k, pattern="quantize", launches=launches, label="amax"
        )
        return [scale, _quantize(m, k, acts)]
    if framework == "sglang" and dtype == "fp8":  # per-token scales: each row is read for its maximum, then again
        return [_quantize(m, k, acts, reads=2.0)]
    timer_s = harness_of(rows.text("source")).timer_s
    if timer_s:
        return [Host(seconds=timer_s, label="timer")]
    if framework == "sglang" and dtype == "fp8_block" and machine.device.family == "blackwell":
        return [_quantize(m, k, acts, launches=launches)]  # DeepGEMM wants its scales packed as powers of two
    if dtype == "fp8_block" and rows.tag("ver") in _SLOW_CONVERSION and machine.device.family == "blackwell":
        return [_quantize(m, k, acts, reads=2.75)]
    if dtype in {"fp8_block", "nvfp4"} and framework in {"sglang", "trtllm"}:
        return [_quantize(m, k, acts)]
    return []


def _batched(rows: Rows, machine: Machine) -> Work:
    m, n, k, batch = (rows.number(name) for name in ("m", "n", "k", "batch"))
    acts, weights, out = operand_formats(rows)
    if rows.tag("kernel").endswith("dequant_bf16"):
        acts, weights = "bf16", "bf16"
    product = Gemm(m=m, n=n, k=k, batch=batch, acts=acts, weights=weights, out=out, label="product")
    if not rows.tag("name").startswith("mla_gen"):
        return timed(rows, product)
    if FORMATS[acts].bits < 16:
        return Seq(_quantize(m * batch, k, acts, reads=2.0, launches=2.0), product)
    # The heads of an absorbed MLA block start after a second, empty kernel (their smallest rows say so).
    return Seq(Stream(read_bytes=0.0, write_bytes=0.0, pattern="copy", label="lay out"), product)


def _experts(rows: Rows, machine: Machine) -> Work:
    """A whole fused expert layer on one rank: routing, first product, activation, second product, weighted sum."""
    tokens, hidden, inner = rows.number("m"), rows.number("k"), rows.number("n")
    experts, top_k, ranks = rows.number("experts"), rows.number("top_k"), rows.extra("moe_ep", 1.0)
    acts, weights, out = operand_formats(rows)
    gates = 2.0 if rows.tag("gated", "1") == "1" else 1.0
    mine, active = routed(tokens, experts, top_k, ranks, _power(rows.tag("dist", "balanced")))
    if rows.tag("proj", "moe_ffn") != "moe_ffn":
        raise InexpressibleError(f"expert projection '{rows.tag('proj')}'")
    library = _kernels(rows)
    if library == "triton" and weights == "mxfp4":
        weights = "bf16"  # SGLang widens such weights once, when it loads them
    every = mine
    if rows.text("framework") == "sglang" and library in {"triton", "marlin"}:
        every = np.maximum(tokens * top_k, mine)
    each = (mine + _FOREIGN.get(rows.tag("ver"), 0.0) * (every - mine)) / active
    fused, narrow = library == "trtllm_gen", FORMATS[acts].bits < 16

    def product(n: Array, k: Array, label: str) -> Gemm:
        return Gemm(m=each, n=n, k=k, batch=active, acts=acts, weights=weights, out=out, grouped=True, label=label)

    # Sorting tokens by expert, gathering (and quantizing) them; fused libraries do less of it in kernels of its own.
    gather = Stream(
        read_bytes=2.0 * tokens * hidden,
        write_bytes=FORMATS[acts].bytes * mine * hidden,
        pattern="copy",
        launches=_ROUTE_LAUNCHES.get(library, 4.0 if narrow else 3.0),
        label="route",
    )
    activation = Stream(
        read_bytes=2.0 * gates * every * inner,
        write_bytes=FORMATS[acts].bytes * every * inner,
        flop=4.0 * every * inner,
        special=every * inner,
        launches=2.0 if narrow and not fused else 1.0,
        label="activation",
    )
    scatter = Stream(
        read_bytes=2.0 * every * hidden, write_bytes=2.0 * tokens * hidden, flop=2.0 * every * hidden, label="combine"
    )
    # Blocks of other ranks' experts write zeros and end.
    zeros = Stream(
        read_bytes=0.0 * mine, write_bytes=2.0 * (every - mine) * (gates * inner + hidden), launches=0.0, label="zeros"
    )
    return Seq(gather, product(gates * inner, hidden, "up"), activation, product(hidden, inner, "down"), scatter, zeros)


def _expert_weights(rows: Rows) -> Array:
    """Matrices of the rank's experts that have rows, of which a harness has one set."""
    tokens, experts, top_k = (rows.number(name) for name in ("m", "experts", "top_k"))
    _, active = routed(tokens, experts, top_k, rows.extra("moe_ep", 1.0), _power(rows.tag("dist", "balanced")))
    products = 3.0 if rows.tag("gated", "1") == "1" else 2.0
    size = products * rows.number("n") * rows.number("k") * FORMATS[operand_formats(rows)[1]].bytes
    return np.asarray(active * size)


def _library(rows: Rows) -> str:
    """The kernels' library and the rows' format: what a library reaches of a rate differs from format to format."""
    library = _kernels(rows)
    return f"{library}-{rows.text('dtype')}" if library else ""


def _kernels(rows: Rows) -> str:
    kernel = rows.tag("kernel")
    if rows.text("framework") == "trtllm" and rows.text("weight_dtype") == "mxfp4" and rows.text("dtype") == "w4a16":
        return "triton_mxfp4"
    if rows.text("framework") == "trtllm" and rows.text("dtype") == "w4a8":
        return "trtllm_gen"
    known = ("mxfp4_flashinfer_trtllm", "flashinfer_trtllm", "flashinfer_cutlass", "triton", "marlin", "deepgemm")
    found = next((name for name in known if name in kernel), "cutlass" if "torch_flow" in kernel else "")
    return "trtllm_gen" if "flashinfer_trtllm" in found else found


def _power(dist: str) -> float | None:
    if dist == "balanced":
        return None
    match = re.fullmatch(r"power_law_([0-9.]+)", dist)
    if match is None:
        raise InexpressibleError(f"routing '{dist}'")
    return float(match[1])


def _conv(rows: Rows, machine: Machine) -> Work:
    stride, pad = rows.extra("stride", 1.0), rows.extra("pad", 0.0)
    stride_w, pad_w = rows.extra("stride_w", np.nan), rows.extra("pad_w", np.nan)
    if not np.all(np.isnan(stride_w) | (stride_w == stride)):
        raise InexpressibleError("stride differs between height and width")
    acts, weights, _ = operand_formats(rows)
    shape: dict[str, Any] = {name: rows.extra(name) for name in ("c_in", "c_out", "h", "w", "kh", "kw")}
    convolution = Conv(
        batch=rows.number("batch"),
        **shape,
        stride=stride,
        pad_h=pad,
        pad_w=np.where(np.isnan(pad_w), pad, pad_w),
        groups=rows.extra("groups", 1.0),
        direction=rows.tag("dir", "fwd"),
        acts=acts,
        weights=weights,
    )
    return timed(rows, convolution)


def _operands(rows: Rows) -> Array:
    """Bytes of both operands and the result."""
    m, n, k, batch = (rows.number(name, 1.0) for name in ("m", "n", "k", "batch"))
    acts, weights, out = (FORMATS[name].bytes for name in operand_formats(rows))
    return (m * k * acts + k * n * weights + m * n * out) * batch


BUILDERS = {
    "gemm": Builder(_gemm, tags=("kernel", "ver"), repeated_bytes=_operands),
    "batched_gemm": Builder(_batched, tags=("kernel", "name"), repeated_bytes=_operands),
    "grouped_gemm": Builder(
        _experts, tags=("kernel", "dist", "gated", "proj", "ver"), repeated_bytes=_expert_weights, library=_library
    ),
    "conv2d": Builder(_conv, tags=("dir", "stride_w")),
}
