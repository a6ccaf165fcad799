"""Recurrent and linear-attention passes: chunked matrix forms, the plain recurrence, and the chain of states.

A chunk of Q tokens is computed with matrix products inside it; only the state passes from chunk to chunk. With Q = 1
the same counts are those of the plain recurrence, which is the decode step. Libraries run chunked forms as several
kernels that hand on their results through memory, so that they are bound by it and not by arithmetic:

    engine  = flop / (peak · efficiency)
    memory  = (inputs, outputs, states + what kernels hand on and the cache does not hold) / achieved bandwidth
    cache   = what kernels hand on and the last-level cache holds
    wave    = (chunks − 1) · step_s: a chunk needs the state that the one before it leaves
    time    = ‖engine, memory, cache, wave‖_p + kernels · launch + start
"""

from __future__ import annotations

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import FORMATS
from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.kernels.rates import product_name, share_of_peak
from ridgepoint.kernels.rules import Rules
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num, ceil_div
from ridgepoint.ops import Scan

# Kernels of a chunked pass: gated delta net (flash-linear-attention: two norms, decay sum, K Kᵀ, two for the triangular
# inverse, W and U, states, outputs), Mamba-2 (mamba_ssm: decay sum, C Bᵀ, chunk states, state passing, outputs).
_KERNELS = {"gated_delta": 9.0, "kda": 11.0, "mamba2": 5.0, "linear": 3.0}
_DELTA = ("gated_delta", "kda")
VARIANTS = ("mamba1", "mamba2", "linear", "gated_delta", "kda", "rnn", "wkv", "lru")
# Recurrences of every channel alone: arithmetic, special functions and inputs per channel and token.
_CHANNELS = {"wkv": (19.0, 4.0, 2.0), "lru": (7.0, 4.0, 3.0)}
# The parallel scan of Mamba-1 works on this many tokens of a channel at a time.
_MAMBA1_CHUNK = 2048.0


def launches(op: Scan) -> Num:
    """Kernels of the pass: a chunked one takes several, three times as many backwards; a decode step takes one.

    >>> [float(launches(Scan(batch=1.0, seq=n, heads=8.0, head_dim=64.0, state_dim=128.0))) for n in (1.0, 512.0)]
    [1.0, 5.0]
    """
    return np.where(np.asarray(op.seq) > 1.0, _KERNELS.get(op.variant, 1.0) * _scale(op), 1.0)


def _scale(op: Scan) -> float:
    """A backward pass has two products for each of the forward one. Chunked libraries keep no states: they run the stages of
    the forward pass again first (mamba_ssm's and flash-linear-attention's autograd functions).
    """
    if not op.backward:
        return 1.0
    return 3.0 if op.variant in _KERNELS else 2.0


def flop_per_token(op: Scan) -> Num:
    """Arithmetic per token of one sequence, all heads: H heads of P × N state, chunks of Q tokens, G groups.

    With q = (Q + 1)/2 causal pairs per token inside a chunk:

    - ``mamba2``: 2·q·(N·G + P·H) for C Bᵀ and its product with X, 4·P·N·H into and out of the state, 2·P·N·H/Q to pass
      the state on (Dao and Gu 2024, "Transformers are SSMs", §6). ``linear`` the same with G = H.
    - ``gated_delta``: 2·q·N·(2G + H) + 4·q·P·H for K Kᵀ, Q Kᵀ, T K, T V and scores · V, 6·P·N·H for three products with
      the state, H·(Q² − 1)/3 for the triangular inverse T (Yang et al. 2024, "Gated Delta Networks").
    - ``kda``: the same with a decay for every channel of a key, 6·N·H more to scale keys and queries by their decays
      (Kimi Team 2025, "Kimi Linear").
    - ``mamba1``: 9·P·N·H, of which P·N·H exponentials (Gu and Dao 2023, "Mamba").
    - ``wkv``: 19·H·P besides 4·H·P exponentials: RWKV-4's weighted mean in its stable form, N = 3 numbers per channel (Peng
      et al. 2023, appendix). ``lru``: 7·H·P besides two sigmoids, an exponential and a root per channel, N = 1 (De et al.
      2024, "Griffin", equations 1 to 4).
    - ``rnn``: 2·H·P·P·N + 8·H·P·N: every head has N gates, each with a P × P recurrent matrix and pointwise work.

    >>> flop_per_token(Scan(batch=1.0, seq=1.0, heads=1.0, head_dim=64.0, state_dim=128.0)) / (64 * 128)
    6.046875
    """
    P, N, H, Q = op.head_dim, op.state_dim, op.heads, np.minimum(op.chunk, op.seq)
    pairs = (Q + 1.0) / 2.0
    if op.variant in ("mamba2", "linear"):
        count: Num = 2.0 * pairs * (N * _groups(op) + P * H) + 4.0 * P * N * H + 2.0 * P * N * H / Q
    elif op.variant in _DELTA:
        inside = 2.0 * pairs * (N * (2.0 * op.groups + H) + 2.0 * P * H) + H * (Q * Q - 1.0) / 3.0
        count = inside + 6.0 * P * N * H + (6.0 * N * H if op.variant == "kda" else 0.0)
    elif op.variant == "mamba1":
        count = 9.0 * P * N * H
    elif op.variant in _CHANNELS:
        count = _CHANNELS[op.variant][0] * P * H
    elif op.variant == "rnn":
        count = 2.0 * H * P * P * N + 8.0 * H * P * N
    else:
        raise RidgepointError("bad_work", f"unknown scan variant '{op.variant}'", "use one of " + ", ".join(VARIANTS))
    return float(count) if np.ndim(count) == 0 else count


def _groups(op: Scan) -> Num:
    return op.heads if op.variant == "linear" else op.groups


def flop(op: Scan) -> Num:
    """Tokens times ``flop_per_token``; backward is twice the forward pass."""
    return op.batch * op.seq * flop_per_token(op) * (2.0 if op.backward else 1.0)


def state_bytes(op: Scan) -> Num:
    """The recurrent states of all sequences that are kept: P × N per head, for ``rnn`` the hidden vector alone."""
    if op.stateless:
        return 0.0
    width = op.heads * op.head_dim * (1.0 if op.variant == "rnn" else op.state_dim)
    return op.batch * width * FORMATS[op.state].bytes


def _weight_bytes(op: Scan) -> Num:
    if op.variant != "rnn":
        return 0.0
    return op.heads * op.head_dim * op.head_dim * op.state_dim * FORMATS[op.acts].bytes


def _input_bytes(op: Scan) -> Num:
    """Values, keys and queries (X, B and C), and gates; ``rnn`` reads the N projected inputs of every gate."""
    P, N, H = op.head_dim, op.state_dim, op.heads
    if op.variant == "rnn":
        width: Num = H * P * N
    elif op.variant == "mamba1":
        width = 2.0 * H * P + 2.0 * N * op.groups
    elif op.variant in _CHANNELS:
        width = _CHANNELS[op.variant][2] * H * P
    else:
        width = H * P + 2.0 * N * _groups(op) + (H + H * N if op.variant == "kda" else 2.0 * H)
    return op.batch * op.seq * width * FORMATS[op.acts].bytes


def _output_bytes(op: Scan) -> Num:
    return op.batch * op.seq * op.heads * op.head_dim * FORMATS[op.acts].bytes


def read_bytes(op: Scan) -> Num:
    """Inputs, the states from before, recurrent weights of ``rnn``; backward also the output's gradient."""
    extra = _output_bytes(op) if op.backward else 0.0
    return _input_bytes(op) + state_bytes(op) + _weight_bytes(op) + extra


def write_bytes(op: Scan) -> Num:
    """Outputs and the new states; backward the inputs' gradients."""
    return (_input_bytes(op) if op.backward else _output_bytes(op)) + state_bytes(op)


def staged_bytes(op: Scan) -> Num:
    """What the kernels of a chunked pass write for each other and read again, in the activations' format.

    Per chunk the state of every head; per token and head a row of Q scores, and for the delta rule W, U and the
    corrected values; inputs once more per stage that needs them.
    """
    P, N, H, Q = op.head_dim, op.state_dim, op.heads, op.chunk
    states = 2.0 * ceil_div(op.seq, Q) * P * N * H
    if op.variant in _DELTA:
        per_token = H * (2.0 * (N + 2.0 * P) + 6.0 * Q) + 4.0 * N * H
        if op.variant == "kda":  # decays summed in 32 bits, written once and read twice; three scaled copies
            per_token = per_token + 12.0 * N * H
    else:
        per_token = 2.0 * Q * _groups(op) + H * P + 2.0 * N * _groups(op)
    return op.batch * (states + op.seq * per_token) * FORMATS[op.acts].bytes * _scale(op)


def _arithmetic(op: Scan, machine: Machine) -> tuple[str, str, float, str]:
    if op.variant != "mamba1" and op.variant not in _CHANNELS:
        found = machine.arithmetic(op.acts)
        return found.engine, found.format, found.flop_per_s, found.note
    engine = "vector" if "vector" in machine.device.engines else next(iter(machine.device.engines))
    return engine, "fp32", machine.vector_flop_per_s, ""


def bound(op: Scan, machine: Machine) -> Demand:
    """The roofline: arithmetic at peak, each tensor once."""
    engine, fmt, rate, note = _arithmetic(op, machine)
    seconds: dict[str, Num] = {
        engine: flop(op) / rate,
        machine.main_memory: (read_bytes(op) + write_bytes(op)) / machine.memory_bytes_per_s,
    }
    return Demand((Phase(seconds),), notes=(note,) if note else (), arithmetic=(engine, fmt))


def expected(op: Scan, machine: Machine) -> Demand:
    """One kernel (``seq`` = 1, ``mamba1``, ``wkv``, ``lru``, ``rnn``) or a chain of staged kernels, beside the chain of
    dependent states.

    Validity: training and prefill lengths in chunked form; for a few tokens libraries may run either form.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> from ridgepoint.kernels.demand import settle
    >>> step = Scan(batch=64.0, seq=1.0, heads=128.0, head_dim=64.0, state_dim=128.0)
    >>> bool(1.6e-4 < settle(expected(step, find_machine("h100-sxm"))).time_s < 4e-4)
    True
    """
    table, shared = machine.coefficients.scan, machine.coefficients.device
    engine, fmt, rate, note = _arithmetic(op, machine)
    staged = op.variant in _KERNELS
    many = np.asarray(op.seq) > 1.0 if staged else np.zeros(())
    scale = _scale(op)

    again = 1.5 if staged and op.backward else 1.0  # what runs a second time is no work of the bound
    seconds: dict[str, Num] = {engine: again * flop(op) / (rate * _efficiency(op, machine))}
    moved = read_bytes(op) + write_bytes(op)
    if staged:
        handed = np.where(many, staged_bytes(op), 0.0)
        if machine.cache is not None:  # consecutive kernels find there what fits
            name, capacity, cache_bytes_per_s = machine.cache
            seconds[name] = np.minimum(handed, capacity) / cache_bytes_per_s
            handed = np.maximum(handed - capacity, 0.0)
        moved = moved + handed
    efficiency = np.where(many, table.memory_efficiency, table.state_efficiency)
    seconds[machine.main_memory] = moved / (machine.memory_bytes_per_s * efficiency)
    if op.variant == "mamba1" or op.variant in _CHANNELS:
        _add_exponentials(seconds, op, machine, scale / table.efficiency)
    if op.variant == "rnn" and machine.cache is not None:
        name, _, cache_bytes_per_s = machine.cache
        seconds[name] = scale * op.seq * _weight_bytes(op) / cache_bytes_per_s
    seconds["wave"] = scale * (_steps(op) - 1.0) * table.step_s
    phases = (Phase(seconds, table.sharpness), Phase({"launch": launches(op) * shared.launch_s + table.start_s}))
    return Demand(phases, notes=(note,) if note else (), arithmetic=(engine, fmt))


def _efficiency(op: Scan, machine: Machine) -> float:
    """Part of the peak: chunked kernels' own; steps of ``rnn`` are ordinary products of states and recurrent weights."""
    if op.variant != "rnn":
        return machine.coefficients.scan.efficiency
    return share_of_peak(machine, product_name(op.acts, op.acts), machine.arithmetic(op.acts))


def _steps(op: Scan) -> Num:
    """Steps that wait for each other."""
    if op.variant == "rnn":
        return op.seq
    alone = op.variant == "mamba1" or op.variant in _CHANNELS
    return ceil_div(op.seq, _MAMBA1_CHUNK if alone else op.chunk)


def _add_exponentials(seconds: dict[str, Num], op: Scan, machine: Machine, scale: float) -> None:
    """One exponential per token and state value (or those of a channel), on the special function units if there are any."""
    special = machine.engine_rate("special")
    if special is not None:
        each = _CHANNELS[op.variant][1] if op.variant in _CHANNELS else op.state_dim
        seconds["special"] = scale * op.batch * op.seq * op.heads * op.head_dim * each / special


RULES = Rules(flop, read_bytes, write_bytes, bound, expected, table="scan", sources=("williams-2009",))
