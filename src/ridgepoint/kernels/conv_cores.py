"""Convolutions on cores that share output channels: processors, and shaders that are written like them (for ``conv.py``)."""

from __future__ import annotations

import numpy as np

from ridgepoint.formats import FORMATS, multiply_format
from ridgepoint.kernels.conv_counts import as_gemm, flop, is_winograd, read_bytes, write_bytes
from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num
from ridgepoint.ops import Conv


def by_channels(op: Conv, machine: Machine) -> Demand:
    """On cores that each have a part of the output channels, products in registers and operands in caches (CPUs, and shaders
    that are written like them).

    Columns of the product are loaded, packed and stored for the channels that they meet: with n values summed for each of m
    channels the cores reach 1 / (1 + h/n + h/m) of their rate, h = ``channels_half``. Winograd's algorithm, here
    F(4×4, 3×3), sums over single channels. Filters of one channel have nothing to reuse and nothing to pack.
    """
    table, shared = machine.coefficients.conv, machine.coefficients.device
    arithmetic = machine.arithmetic(multiply_format(op.acts, op.weights))
    reached, relative = _format_efficiency(op, machine)
    gradient = table.gradient_efficiency if op.direction == "bwd_weight" else 1.0
    half, c_in, c_out = table.channels_half, op.c_in / op.groups, op.c_out / op.groups
    product = as_gemm(op)
    slower = (1.0 + half / product.k + half / product.n) / (reached * gradient)
    if arithmetic.engine == "vector":
        # Transformed bytes need 16 bits: twice the time of a product of bytes.
        wider = 0.5 if FORMATS[arithmetic.format].bits <= 8 else 1.0
        winograd = min(table.winograd_efficiency * relative, 1.0) * wider * gradient
        fewer = (1.0 + half / c_in + half / c_out) / (4.0 * winograd)
        slower = np.where(is_winograd(op), np.minimum(slower, fewer), slower)
    single = np.asarray(c_in) == 1.0
    plain = machine.vector_flop_per_s if arithmetic.engine != "vector" else arithmetic.flop_per_s
    seconds: dict[str, Num] = {arithmetic.engine: 0.0, "vector": 0.0}
    seconds[arithmetic.engine] = np.where(single, 0.0, flop(op) * slower / arithmetic.flop_per_s)
    alone = flop(op) / (plain * min(table.depthwise_efficiency * relative, 1.0))
    seconds["vector"] = seconds["vector"] + np.where(single, alone, 0.0)
    seconds = {engine: busy / machine.parallel_efficiency for engine, busy in seconds.items()}
    drawn = machine.multiprocessors * shared.memory_bytes_per_clock * float(machine.device.chip.clock)
    streamed = min(machine.memory_bytes_per_s * shared.memory_efficiency, drawn)
    seconds[machine.main_memory] = (read_bytes(op) + write_bytes(op)) * table.passes / streamed
    return Demand(
        (Phase(seconds, 8.0), Phase({"launch": shared.launch_s})),
        notes=(arithmetic.note,) if arithmetic.note else (),
        arithmetic=(arithmetic.engine, arithmetic.format),
    )


def _format_efficiency(op: Conv, machine: Machine) -> tuple[float, float]:
    """What products by channels reach in the op's format, and that over the usual one; ``FORMAT_widened`` where it lacks it."""
    table, wanted = machine.coefficients.conv, multiply_format(op.acts, op.weights)
    arithmetic = machine.arithmetic(wanted)
    usual = table.efficiency["default"]
    name = f"{wanted}_widened" if arithmetic.note else arithmetic.format
    reached = table.efficiency.get(name, table.efficiency.get(arithmetic.format, usual))
    return reached, reached / usual
