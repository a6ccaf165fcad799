"""Which coefficients a fit may change, and the rows that it changes them by: one entry per table (design §4)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """Where a coefficient may lie, and what it has one value for each of: ``product``, ``grouped product``, ``format``,
    ``pattern``, ``library``."""

    low: float
    high: float
    each: str = ""


PARAMETERS: dict[str, dict[str, Bounds]] = {
    "gemm": {
        "efficiency": Bounds(0.15, 1.0, each="product"),
        # Vendors' 16-bit products keep the engine this busy wherever power does not bind; what is missing below is power.
        "efficiency.fp16": Bounds(0.84, 0.92),
        "memory_efficiency": Bounds(0.5, 1.0),
        "memory_draw": Bounds(0.2, 8.0),
        # Caches deliver at least this much (A100: 312 TFLOP/s over some 5.5 TB/s). Without the bound the fit trades it
        # for the engine's efficiency: the same times, but large products would seem to wait for the cache.
        "operand_flop_per_byte": Bounds(30.0, 60.0),
        "tail": Bounds(0.02, 1.0),
        "fill_bytes": Bounds(20.0, 500.0),
        "joule_per_flop": Bounds(1e-14, 1e-10, each="product"),
        "step_s": Bounds(1e-8, 1e-6, each="product"),
        "start_s": Bounds(5e-7, 8e-6, each="product"),
        "split_s": Bounds(5e-8, 1e-5),
    },
    "attention": {
        "efficiency": Bounds(0.1, 0.95, each="format"),
        "softmax_efficiency": Bounds(0.25, 1.0),
        "memory_efficiency": Bounds(0.75, 1.0),
        "memory_bytes_per_clock": Bounds(4.0, 64.0),
        "start_clocks": Bounds(400.0, 2e4),
        "block_clocks": Bounds(200.0, 2e4),
        "step_clocks": Bounds(200.0, 4e4),
        "element_clocks.default": Bounds(0.02, 20.0),
        "resident.default": Bounds(1.0, 8.0),
        "split_clocks": Bounds(200.0, 2e4),
    },
    "scan": {
        "efficiency": Bounds(0.05, 1.0),
        "memory_efficiency": Bounds(0.2, 1.0),
        "state_efficiency": Bounds(0.3, 1.0),
        "step_s": Bounds(1e-7, 2e-5),
        "start_s": Bounds(1e-7, 1e-5),
    },
    "conv": {
        # No kernel of depthwise filters was timed, and few that Winograd's algorithm does not take: networks tell of those.
        "efficiency": Bounds(0.2, 1.0, each="convolution"),
        "efficiency.default": Bounds(0.5, 1.0),
        "winograd_efficiency": Bounds(0.2, 1.0),
        "gradient_efficiency": Bounds(0.2, 1.0),
    },
    "stream": {
        "efficiency": Bounds(0.05, 1.0, each="pattern"),
        "reduction_s": Bounds(1e-7, 8e-6),
    },
    "collective": {
        "efficiency.node": Bounds(0.3, 1.0),
        "efficiency.direct": Bounds(0.3, 1.0),
        "chunk_s.node": Bounds(1e-7, 3e-5),
        "start_s": Bounds(2e-7, 1e-5),
        "own_copy": Bounds(0.01, 1.0),
        "direct_start_s": Bounds(2e-7, 1e-5),
        "direct_latency_s": Bounds(1e-7, 5e-6),
    },
}
"""Free coefficients of a table. ``NAME.ENTRY`` beside ``NAME`` only narrows the bounds of one entry."""

NETWORKS: dict[str, Bounds] = {
    "conv.efficiency.default": Bounds(0.1, 1.0),
    "conv.efficiency.fp16": Bounds(0.1, 1.0),
    "conv.winograd_efficiency": Bounds(0.1, 1.0),
    "conv.gradient_efficiency": Bounds(0.2, 1.0),
    "conv.depthwise_efficiency": Bounds(0.005, 1.0),
    "stream.efficiency.default": Bounds(0.1, 1.0),
    "stream.efficiency.layer_norm": Bounds(0.1, 1.0),
    "stream.efficiency.permute": Bounds(0.05, 1.0),
    "gemm.efficiency.default": Bounds(0.2, 0.95),
}
"""What whole networks may change, with the table that it belongs to."""

ON_CORES: dict[str, Bounds] = {
    "conv.efficiency.default": Bounds(0.1, 0.95),
    "conv.efficiency.fp16": Bounds(0.1, 1.0),
    "conv.efficiency.int8": Bounds(0.05, 1.0),
    "conv.winograd_efficiency": Bounds(0.1, 0.9),
    "conv.depthwise_efficiency": Bounds(0.005, 0.9),
    "conv.channels_half": Bounds(1.0, 100.0),
    "conv.passes": Bounds(1.0, 6.0),
    "device.serial": Bounds(0.005, 0.4),
    "device.launch_s": Bounds(1e-6, 1e-4),
    "stream.efficiency.default": Bounds(0.05, 1.0),
    "stream.efficiency.layer_norm": Bounds(0.05, 1.0),
    "stream.efficiency.permute": Bounds(0.05, 1.0),
    "gemm.efficiency.default": Bounds(0.1, 0.95),
}
"""The same where cores run the operators themselves."""

_PROMPTS = ("fmha_v2", "fmha_v2-fp8", "fmha_v2-fp8_wide", "triton_prompt", "triton_prompt-fp8", "flash_2")
"""Libraries of prompts alone, whose rows tell nothing of what decode steps wait for."""
LATER: dict[str, dict[str, Bounds]] = {
    "gemm": {
        "grouped": Bounds(0.05, 1.0, each="library"),
        "grouped_memory": Bounds(0.2, 1.0, each="library"),
        "start_s.grouped": Bounds(5e-7, 1.2e-5),
        "step_s.grouped": Bounds(1e-8, 1e-6),
        # Of products that no plain row tells: in groups alone, or plain ones would be priced as kernels of expert layers.
        "efficiency": Bounds(0.15, 1.0, each="grouped product"),
    },
    "attention": {
        "efficiency": Bounds(0.1, 0.95, each="format"),
        "libraries": Bounds(0.03, 1.0, each="library"),
        "libraries.xqa": Bounds(0.99, 1.0),
        "libraries.paged_2023": Bounds(0.99, 1.0),
        "streams": Bounds(0.03, 1.0, each="library"),
        **{f"streams.{name}": Bounds(0.99, 1.0) for name in _PROMPTS},
        "resident": Bounds(1.0, 8.0, each="library"),
        "element_clocks": Bounds(0.02, 20.0, each="library"),
        **{f"element_clocks.{name}": Bounds(0.49, 0.51) for name in _PROMPTS},
    },
}
"""Fitted after the table's own rows, with those values fixed: other libraries' kernels, products in groups."""

OTHER = {"attention": 0.4}
"""Beyond which |log(predicted / measured)| a row is another kernel's: libraries fall back where a fast one lacks a shape."""
STARTS = {"attention": ("memory_bytes_per_clock", (60.0, 8.0))}
"""From where a fit starts besides the present values, for a coefficient that decides which optimum it falls into: threads that
copy draw some 8 bytes per clock, copy engines up to the 64 that a multiprocessor's port passes. The first is taken unless
another is better by a hundredth: rows of one machine whose memory is the limit do not tell how much more it could draw."""
HOLD = {"gemm": 0.002}
"""What a coefficient must buy (mean of |log error| for each factor e) to leave its family's value, or a family's the common
one: rows of one machine cannot tell all of them, and what they do not tell should not wander."""
COARSE = {"gemm": ("efficiency", "efficiency.fp16", "joule_per_flop")}
"""Rows of eager frameworks are too long to tell latencies: they fit only these."""
COARSE_S = 20e-6
OPS = {
    "gemm": ("gemm", "batched_gemm"),
    "attention": ("attention", "mla_attention"),
    "scan": ("scan",),
    "conv": ("conv2d",),
    "stream": ("softmax", "norm", "elementwise", "copy", "quantize"),
    "collective": ("all_reduce", "all_gather", "reduce_scatter", "all_to_all"),
}
"""Rows whose kernels a table prices."""
LATER_OPS = {"gemm": ("grouped_gemm",)}
