"""Softmax attention as one kernel: tiles of queries over the multiprocessors, keys split when there are few tiles.

Counts are exact (``attended_pairs``). The kernel model is FlashAttention's (Dao 2023, "FlashAttention-2") for many queries
and split keys (Flash-Decoding) for few.
"""

from __future__ import annotations

import numpy as np

from ridgepoint.formats import FORMATS, multiply_format
from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.kernels.rules import Rules, roofline
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num, ceil_div
from ridgepoint.ops import Attention

# Forward has two products per pair, S = QKᵀ and PV; backward five: S again, dV, dP, dQ, dK (FlashAttention-2, §3.1).
_BACKWARD = 2.5
_TILE = 128.0


def attended_pairs(q_len: Num, kv_len: Num, causal: bool = True, window: Num = 0.0, chunk: Num = 0.0) -> Num:
    """How many (query, key) pairs of one sequence and head are attended, exactly, for whole lengths.

    The query at position p = kv_len − q_len + i (i = 1 … q_len) sees, when causal, its last min(window, p) keys; with
    ``chunk`` only those in its own block of ``chunk`` positions, of which it is number r = (p − 1) mod chunk + 1:

        pairs = Σ_p min(window, r(p)) = F(kv_len) − F(kv_len − q_len),   F(n) = ⌊n/chunk⌋·G(chunk) + G(n mod chunk)
        G(r) = m(m + 1)/2 + (r − m)·window,   m = min(r, window)

    Without ``causal`` every query sees all keys; a ``window`` is then a band of that many keys around it (pushed inwards at
    the ends), and ``chunk`` its whole block.

    >>> attended_pairs(4.0, 4.0), attended_pairs(1.0, 100.0), attended_pairs(4.0, 6.0, window=3.0)
    (10.0, 100.0, 12.0)
    >>> attended_pairs(8.0, 8.0, chunk=4.0), attended_pairs(8.0, 8.0, causal=False, chunk=4.0)
    (20.0, 32.0)
    """
    block = np.where(np.asarray(chunk) > 0.0, chunk, np.maximum(kv_len, 1.0))
    width = np.where(np.asarray(window) > 0.0, window, np.maximum(kv_len, 1.0))
    history = kv_len - q_len
    pairs = (
        _causal(kv_len, block, width) - _causal(history, block, width)
        if causal
        else _mutual(q_len, kv_len, history, block, width)
    )
    return float(pairs) if np.ndim(pairs) == 0 else pairs


def _causal(n: Num, block: Num, width: Num) -> Num:
    whole = np.floor(n / block)
    return whole * _ramp(block, width) + _ramp(n - whole * block, width)


def _ramp(n: Num, width: Num) -> Num:
    rising = np.minimum(n, width)
    return rising * (rising + 1.0) / 2.0 + (n - rising) * width


def _mutual(q_len: Num, kv_len: Num, history: Num, block: Num, width: Num) -> Num:
    whole = np.floor(kv_len / block) * block
    inside = np.maximum(whole - history, 0.0)
    rest = kv_len - whole
    return inside * np.minimum(block, width) + (q_len - inside) * np.minimum(rest, width)


def read_keys(op: Attention) -> Num:
    """Distinct keys of one sequence that any new token attends to."""
    history = op.kv_len - op.q_len
    keys: Num = op.kv_len
    if op.causal:
        reach = op.q_len + np.asarray(op.window) - 1.0
        keys = np.where(np.asarray(op.window) > 0.0, np.minimum(op.kv_len, reach), keys)
    block = np.where(np.asarray(op.chunk) > 0.0, op.chunk, np.maximum(op.kv_len, 1.0))
    keys = np.minimum(keys, op.kv_len - np.floor(history / block) * block)
    return float(keys) if np.ndim(keys) == 0 else keys


def value_dim(op: Attention) -> Num:
    """Width of V: ``head_dim`` unless stated."""
    width = np.where(np.asarray(op.value_dim) > 0.0, op.value_dim, op.head_dim)
    return float(width) if np.ndim(width) == 0 else width


def flop(op: Attention) -> Num:
    """2·pairs·heads·(head_dim + value_dim)·batch; 2.5 times that backward, which recomputes the scores."""
    pairs = attended_pairs(op.q_len, op.kv_len, op.causal, op.window, op.chunk)
    return 2.0 * pairs * op.heads * (op.head_dim + value_dim(op)) * op.batch * (_BACKWARD if op.backward else 1.0)


def kv_bytes(op: Attention) -> Num:
    """Keys and values that are read, once per head that stores them; a latent stores one tensor per key for all heads."""
    width = op.head_dim if op.latent else op.kv_heads * (op.head_dim + value_dim(op))
    return op.batch * read_keys(op) * width * FORMATS[op.kv].bytes


def _queries(op: Attention, width: Num) -> Num:
    return op.batch * op.q_len * op.heads * width * FORMATS[op.acts].bytes


def read_bytes(op: Attention) -> Num:
    """Q, K and V; backward also O and dO."""
    extra = 2.0 * _queries(op, value_dim(op)) if op.backward else 0.0
    return _queries(op, op.head_dim) + kv_bytes(op) + extra


def write_bytes(op: Attention) -> Num:
    """The output; backward dQ, dK and dV."""
    return _queries(op, op.head_dim) + kv_bytes(op) if op.backward else _queries(op, value_dim(op))


def bound(op: Attention, machine: Machine) -> Demand:
    """The roofline: exact pairs at peak, each tensor once."""
    return roofline(machine, flop(op), multiply_format(op.acts, op.kv), read_bytes(op) + write_bytes(op))


def expected(op: Attention, machine: Machine) -> Demand:
    """Query tiles and key splits over the multiprocessors.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> from ridgepoint.kernels.demand import settle
    >>> prefill = Attention(batch=1.0, heads=32.0, kv_heads=8.0, q_len=8192.0, kv_len=8192.0, head_dim=128.0)
    >>> bool(0.5e-3 < settle(expected(prefill, find_machine("h100-sxm"))).time_s < 2e-3)
    True
    """
    table, shared = machine.coefficients.attention, machine.coefficients.device
    arithmetic = machine.arithmetic(multiply_format(op.acts, op.kv))
    sms, clock = machine.multiprocessors, machine.device.chip.clock

    group = op.heads / op.kv_heads if not op.latent else op.heads
    few = op.q_len <= _TILE / 2
    rows = np.where(few, op.q_len * group, op.q_len)
    copies = op.batch * np.where(few, op.heads / group, op.heads)
    tile = np.where(rows > 64.0, 128.0, np.where(rows > 16.0, 64.0, 16.0))
    row_tiles = ceil_div(rows, tile)
    pairs = attended_pairs(op.q_len, op.kv_len, op.causal, op.window, op.chunk)
    keys_per_query = pairs / op.q_len
    keys_per_tile = np.ceil((keys_per_query + np.where(few, 0.0, 0.5 * tile)) / 64.0) * 64.0
    units = copies * row_tiles
    splits = np.clip(np.floor(sms / units), 1.0, np.ceil(keys_per_tile / 128.0))
    blocks = units * splits
    width = op.head_dim + value_dim(op)
    waves = np.maximum(ceil_div(blocks, sms), 1.0)
    scale = _BACKWARD if op.backward else 1.0

    keys = waves * keys_per_tile / splits
    efficiency = table.efficiency
    seconds: dict[str, Num] = {
        arithmetic.engine: scale * keys * tile * 2.0 * width * sms / (arithmetic.flop_per_s * efficiency)
    }
    special = machine.engine_rate("special")
    engine, rate = ("special", special) if special else ("vector", machine.vector_flop_per_s)
    if "vector" not in machine.device.engines and engine == "vector":
        engine = arithmetic.engine
    seconds[engine] = seconds.get(engine, 0.0) + keys * tile * sms / rate
    active = np.minimum(blocks, sms)
    draw = np.minimum(
        machine.memory_bytes_per_s * table.decode_memory_efficiency, active * shared.memory_bytes_per_clock * clock
    )
    seconds[machine.main_memory] = (read_bytes(op) + write_bytes(op)) / draw
    if machine.cache is not None:
        name, _, cache_bytes_per_s = machine.cache
        per_key = (op.head_dim if op.latent else width) * FORMATS[op.kv].bytes
        seconds[name] = scale * units * keys_per_tile * per_key / cache_bytes_per_s
    split_s = np.where(splits > 1.0, table.split_s, 0.0)
    return Demand(
        (Phase(seconds, table.sharpness), Phase({"launch": shared.launch_s}), Phase({"wave": split_s})),
        notes=(arithmetic.note,) if arithmetic.note else (),
        arithmetic=(arithmetic.engine, arithmetic.format),
    )


RULES = Rules(flop, read_bytes, write_bytes, bound, expected, table="attention", sources=("dao-2023", "williams-2009"))
