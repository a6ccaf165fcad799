"""Rows of matrix products and convolutions as works."""

from __future__ import annotations

from typing import Any

import numpy as np

from ridgepoint.evidence.harness import harness_of
from ridgepoint.evidence.rows import Builder, InexpressibleError, Rows, timed
from ridgepoint.evidence.tables import Table
from ridgepoint.formats import FORMATS
from ridgepoint.kernels.libraries import LIBRARIES
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Array
from ridgepoint.ops import Conv, Gemm, Host, Stream
from ridgepoint.work import Seq, Work

# Its rows with few columns of the result say so: 1.0 ps an element more than the next release takes.
_SLOW_CONVERSION = ("1.3.0rc15",)
_ENGINE_S = 5e-6  # starting a TensorRT engine of one kernel
_PLUGIN_S = 3e-6  # how much later its 8-bit integer kernels for more than a few rows start than those for few
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
    library = _product_library(rows, machine)
    product = Gemm(m=m, n=n, k=k, acts=acts, weights=weights, out=out, library=library, label="product")
    before = _conversions(rows, machine, m, k, acts)
    return timed(rows, Seq(*before, product) if before else product)


def _product_library(rows: Rows, machine: Machine) -> str:
    """Whose kernels multiplied, where those have habits of their own (``kernels/libraries.py``)."""
    framework, dtype, kernel = rows.text("framework"), rows.text("dtype"), rows.tag("kernel")
    if kernel.startswith("trt_flow"):
        return "smooth_quant" if dtype == "int8" else "weight_only"
    if framework == "pytorch" and machine.device.family == "pascal":
        return "cublas_pascal"
    early = machine.device.family in {"ampere", "ada"}
    if dtype == "fp8" and framework in {"sglang", "vllm"}:
        return "cutlass_2" if early else "cutlass"
    return "cutlass_2" if early and dtype == "fp8_block" else ""


def amax_launches(machine: Machine) -> float:
    """Kernels of a tensor's maximum in TensorRT-LLM, as long as its smallest rows say."""
    return {"blackwell": 4.0, "ada": 4.0}.get(machine.device.family, 3.0)


def _conversions(rows: Rows, machine: Machine, m: Array, k: Array, acts: str) -> list[Work]:
    """What a framework's linear layer runs before the product, where the table timed the layer and not the kernel."""
    framework, kernel, dtype = rows.text("framework"), rows.tag("kernel"), rows.text("dtype")
    if kernel.startswith("trt_flow"):
        later = np.where(m > LIBRARIES["smooth_quant"].split_rows, _PLUGIN_S, 0.0) if dtype == "int8" else 0.0
        return [Host(seconds=_ENGINE_S + later, label="engine")]
    launches = amax_launches(machine)
    if framework == "trtllm" and dtype == "fp8":  # dynamic per-tensor scale: an amax pass, then the conversion
        scale = Stream(
            read_bytes=2.0 * m * k, write_bytes=0.0 * m, flop=m * k, pattern="quantize", launches=launches, label="amax"
        )
        return [scale, _quantize(m, k, acts)]
    if framework == "vllm" and dtype == "fp8":  # its collector gives a static scale
        return [_quantize(m, k, acts)]
    if framework == "sglang" and dtype == "fp8":  # per-token scales: each row is read for its maximum, then again
        return [_quantize(m, k, acts, reads=2.0)]
    timer_s = harness_of(rows.text("source")).timer_s
    if timer_s:
        return [Host(seconds=timer_s, label="timer")]
    if framework == "sglang" and dtype == "fp8_block" and machine.device.family == "blackwell":
        return [_quantize(m, k, acts, launches=launches)]  # DeepGEMM wants its scales packed as powers of two
    if dtype == "fp8_block" and rows.tag("ver") in _SLOW_CONVERSION and machine.device.family == "blackwell":
        return [_quantize(m, k, acts, reads=2.75)]
    if dtype in {"fp8_block", "nvfp4"} and framework in {"sglang", "trtllm", "vllm"}:
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


def _conv(rows: Rows, machine: Machine) -> Work:
    if reason := _unlike(rows.table, int(rows.index[0])):
        raise InexpressibleError(reason)
    stride, _ = _sides(rows, "stride", 1.0)
    pad_h, pad_w = _sides(rows, "pad", 0.0)
    acts, weights, _ = operand_formats(rows)
    shape: dict[str, Any] = {name: rows.extra(name) for name in _SHAPE}
    convolution = Conv(
        batch=rows.number("batch"),
        **shape,
        stride=stride,
        pad_h=pad_h,
        pad_w=pad_w,
        groups=rows.extra("groups", 1.0),
        direction=rows.tag("dir", "fwd"),
        acts=acts,
        weights=weights,
    )
    return timed(rows, convolution)


def _sides(rows: Rows, key: str, default: float) -> tuple[Array, Array]:
    """Height's and width's number of every row."""
    found = [_pair(rows.table.extra[i], key, default) for i in rows.index]
    return np.array([pair[0] for pair in found]), np.array([pair[1] for pair in found])


def _pair(extra: dict[str, Any], key: str, default: float) -> tuple[float, float]:
    """Height's and width's number in one row: one for both (the width's own beside it), a list of two, or one for each side
    (top, left, bottom, right: of paddings, whose mean counts).

    >>> _pair({"pad": [1, 2]}, "pad", 0.0), _pair({"pad": [0, 1, 2, 1]}, "pad", 0.0), _pair({"pad": 1, "pad_w": 3}, "pad", 0.0)
    ((1.0, 2.0), (1.0, 1.0), (1.0, 3.0))
    """
    stated = extra.get(key)
    values = stated if isinstance(stated, list) else [default if stated is None else stated]
    try:
        sides = [float(value) for value in values]
        beside = float(extra.get(f"{key}_w", sides[-1]))
    except (TypeError, ValueError, IndexError):
        raise InexpressibleError(f"extra.{key} is neither a number nor a list of them") from None
    if len(sides) == 4:
        return (sides[0] + sides[2]) / 2.0, (sides[1] + sides[3]) / 2.0
    if len(sides) > 2:
        raise InexpressibleError(f"extra.{key} has {len(sides)} numbers, not one, two or four")
    return sides[0], beside


def _unlike(table: Table, row: int) -> str:
    """Why no work describes a row's convolution; empty where one does. Such rows are apart from the others of their group."""
    extra = table.extra[row]
    try:
        stride, dilation = _pair(extra, "stride", 1.0), _pair(extra, "dilation", 1.0)
        _pair(extra, "pad", 0.0)
    except InexpressibleError as error:
        return str(error)
    if stride[0] != stride[1]:
        return "stride differs between height and width"
    if dilation != (1.0, 1.0):
        return "dilated convolutions are not described"
    missing = [name for name in _SHAPE if extra.get(name) is None]
    return f"extra.{missing[0]} is not stated" if missing else ""


_SHAPE = ("c_in", "c_out", "h", "w", "kh", "kw")
# How many inputs, weights and results one round of a framework's collector goes through; buffers are used again.
_ROUND = {"sglang": (6.0, 6.0, 6.0), "trtllm": (1.0, 5.0, 1.0), "vllm": (1.0, 6.0, 1.0)}


def _operands(rows: Rows) -> Array:
    """Bytes that one round of a collector touches."""
    m, n, k = (rows.number(name) for name in ("m", "n", "k"))
    acts, weights, out = (FORMATS[name].bytes for name in operand_formats(rows))
    converted = acts < 2.0 and not rows.tag("kernel").startswith("trt_flow")
    given = acts + 2.0 * converted
    inputs, copies, results = _ROUND.get(rows.text("framework"), (6.0, 6.0, 6.0))
    return np.asarray(inputs * m * k * given + copies * k * n * weights + results * m * n * out)


def _batch_operands(rows: Rows) -> Array:
    """The same of batched products, which their collectors repeat on one set."""
    m, n, k, batch = (rows.number(name) for name in ("m", "n", "k", "batch"))
    acts, weights, out = (FORMATS[name].bytes for name in operand_formats(rows))
    return np.asarray((m * k * acts + k * n * weights + m * n * out) * batch)


BUILDERS = {
    "gemm": Builder(_gemm, tags=("kernel", "ver"), repeated_bytes=_operands, copies=1.0),
    "batched_gemm": Builder(_batched, tags=("kernel", "name"), repeated_bytes=_batch_operands, copies=1.0),
    "conv2d": Builder(_conv, tags=("dir",), split=_unlike),
}
