"""Recurrent and linear-attention passes: chunked matrix forms, and the sequential chain of states.

A chunk of Q tokens is computed with matrix products inside it; only the state passes from chunk to chunk. With Q = 1 the
same counts are those of the plain recurrence, which is the decode step.
"""

from __future__ import annotations

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import FORMATS
from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.kernels.rules import Rules
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num, ceil_div
from ridgepoint.ops import Scan

VARIANTS = ("mamba1", "mamba2", "linear", "gated_delta", "rnn")
_MATRIX = ("mamba2", "linear", "gated_delta", "rnn")


def _block(op: Scan) -> Num:
    return np.minimum(op.chunk, op.seq)


def _groups(op: Scan) -> Num:
    return op.heads if op.variant == "linear" else op.groups


def flop_per_token(op: Scan) -> Num:
    """Arithmetic per token of one sequence, all heads (H heads of P × N state, chunks of Q, G groups).

    - ``mamba2`` and ``linear``: 2·q·N·G (C Bᵀ) + 2·q·P·H (its product with X) + 4·P·N·H (into and out of the state) +
      2·P·N·H/Q (pass the state on), q = (Q + 1)/2 causal pairs per token (Dao and Gu 2024, §6).
    - ``gated_delta``: 2·q·N·(2G + H) + 4·q·P·H + 6·P·N·H + H·Q²/3 (K Kᵀ, Q Kᵀ, W = T K, T V, scores · V, three products
      with the state, triangular inverse T; Yang et al. 2024).
    - ``mamba1``: 9·N·H (Gu and Dao 2023), one exponential of them per state value.
    - ``rnn``: 2·H·P·(N·P) + 8·H·P·N: N gates, each a P × P recurrent matrix per head.
    """
    P, N, H, Q = op.head_dim, op.state_dim, op.heads, _block(op)
    pairs = (Q + 1.0) / 2.0
    if op.variant in ("mamba2", "linear"):
        return 2.0 * pairs * (N * _groups(op) + P * H) + 4.0 * P * N * H + 2.0 * P * N * H / Q
    if op.variant == "gated_delta":
        inside = 2.0 * pairs * (N * (2.0 * op.groups + H) + 2.0 * P * H) + H * (Q * Q - 1.0) / 3.0
        return inside + 6.0 * P * N * H
    if op.variant == "mamba1":
        return 9.0 * N * H * P
    if op.variant == "rnn":
        return 2.0 * H * P * N * P + 8.0 * H * P * N
    raise RidgepointError("bad_work", f"unknown scan variant '{op.variant}'", "use one of " + ", ".join(VARIANTS))


def flop(op: Scan) -> Num:
    """Tokens times ``flop_per_token``; backward is twice the forward pass."""
    return op.batch * op.seq * flop_per_token(op) * (2.0 if op.backward else 1.0)


def state_bytes(op: Scan) -> Num:
    """The recurrent states of all sequences."""
    width = op.head_dim * op.heads * (1.0 if op.variant == "rnn" else op.state_dim)
    return op.batch * width * FORMATS[op.state].bytes


def _weights(op: Scan) -> Num:
    if op.variant != "rnn":
        return 0.0
    return op.heads * op.head_dim * op.head_dim * op.state_dim * FORMATS[op.acts].bytes


def _input_bytes(op: Scan) -> Num:
    P, N, H = op.head_dim, op.state_dim, op.heads
    if op.variant == "rnn":
        width: Num = H * P * N
    elif op.variant == "mamba1":
        width = 2.0 * H * P + 2.0 * N * op.groups
    else:
        width = H * P + 2.0 * N * _groups(op) + 2.0 * H
    return op.batch * op.seq * width * FORMATS[op.acts].bytes


def _output_bytes(op: Scan) -> Num:
    return op.batch * op.seq * op.heads * op.head_dim * FORMATS[op.acts].bytes


def read_bytes(op: Scan) -> Num:
    """Inputs, the state from before (decode step), recurrent weights of ``rnn``; backward also the output's gradient."""
    extra = _output_bytes(op) if op.backward else 0.0
    return _input_bytes(op) + state_bytes(op) + _weights(op) + extra


def write_bytes(op: Scan) -> Num:
    """Outputs and the new state; backward the inputs' gradients."""
    return (_input_bytes(op) if op.backward else _output_bytes(op)) + state_bytes(op)


def _arithmetic(op: Scan, machine: Machine) -> tuple[str, str, float]:
    if op.variant in _MATRIX:
        found = machine.arithmetic(op.acts)
        return found.engine, found.format, found.flop_per_s
    engine = "vector" if "vector" in machine.device.engines else next(iter(machine.device.engines))
    return engine, "fp32", machine.vector_flop_per_s


def bound(op: Scan, machine: Machine) -> Demand:
    """The roofline: arithmetic at peak, each tensor once."""
    engine, fmt, rate = _arithmetic(op, machine)
    seconds: dict[str, Num] = {
        engine: flop(op) / rate,
        machine.main_memory: (read_bytes(op) + write_bytes(op)) / machine.memory_bytes_per_s,
    }
    return Demand((Phase(seconds),), arithmetic=(engine, fmt))


def expected(op: Scan, machine: Machine) -> Demand:
    """Achieved rates plus the chain of dependent chunks (``rnn``: of tokens).

    >>> from ridgepoint.machines.catalog import find_machine
    >>> from ridgepoint.kernels.demand import settle
    >>> step = Scan(batch=64.0, seq=1.0, heads=128.0, head_dim=64.0, state_dim=128.0)
    >>> bool(1e-4 < settle(expected(step, find_machine("h100-sxm"))).time_s < 4e-4)
    True
    """
    table, shared = machine.coefficients.scan, machine.coefficients.device
    engine, fmt, rate = _arithmetic(op, machine)
    seconds: dict[str, Num] = {
        engine: flop(op) / (rate * table.efficiency),
        machine.main_memory: (read_bytes(op) + write_bytes(op))
        / (machine.memory_bytes_per_s * shared.memory_efficiency),
    }
    steps = op.seq if op.variant in ("rnn", "mamba1") else ceil_div(op.seq, op.chunk)
    chain = (steps - 1.0) * table.step_s * (2.0 if op.backward else 1.0)
    return Demand(
        (Phase(seconds, table.sharpness), Phase({"launch": shared.launch_s}), Phase({"wave": chain})),
        arithmetic=(engine, fmt),
    )


RULES = Rules(flop, read_bytes, write_bytes, bound, expected, table="scan", sources=("williams-2009",))
