"""Softmax attention as one kernel: tiles of queries over the multiprocessors, keys split when there are few tiles.

Counts are exact (``attended_pairs``). The kernel model, after FlashAttention-2 (Dao 2023) and Flash-Decoding:

    tile    = query rows of one block; below one tile of queries, the heads that share keys are packed into it
    units   = batch · heads · ⌈rows/tile⌉, with keys split in s when units leave multiprocessors idle
    keys    = what the busiest multiprocessor works through, whole key tiles and masked corners included
    engine  = tile · keys · 2·(head_dim + value_dim) · multiprocessors / (peak · efficiency), slower where power limits;
              head sizes in multiples of 32
    special = tile · keys · multiprocessors / (exponentials per second · softmax_efficiency)
    cache   = units · keys per unit · bytes per key over the last-level cache
    memory  = Q, K, V and output at the achieved bandwidth, or at what the busiest multiprocessor can draw
    start   = clocks from the launch to the ends of the first blocks, which later blocks' work hides
    ends    = of a further block: a prompt's tile, or of a decode step a prologue and each element of its output
    time    = ‖engine, special, cache, memory, start‖_p + ends of further blocks + split reduction + launch

Not included: rotary embedding, the write into the KV cache and format casts, which frameworks run as kernels of their
own and models state as such; keys that stay in the last-level cache between runs, which only a benchmark's loop sees.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import FORMATS, multiply_format
from ridgepoint.kernels.demand import Demand, Phase
from ridgepoint.kernels.rates import product_name, throttled
from ridgepoint.kernels.rules import Rules, roofline
from ridgepoint.machines.machine import Arithmetic, Machine
from ridgepoint.numeric import Num, at_least, ceil_div
from ridgepoint.ops import Attention

# Forward has two products per pair, S = QKᵀ and PV; backward five: S again, dV, dP, dQ, dK (FlashAttention-2, §3.1).
_BACKWARD = 2.5
_TILE, _KEYS = 128.0, 64.0
_IN_TURNS = {"blackwell": 2.0}
"""Tiles of a long prompt that one block works on in turns, by family: one's softmax hides behind the other's products
(FlashAttention-4, TensorRT-LLM's kernels for Blackwell)."""
_EMULATED = {"blackwell": 0.25}
"""Part of the exponentials that kernels for a family compute as polynomials beside the units (FlashAttention-4)."""
_WHOLE = {"blackwell": 128.0}
"""Keys that one copy brings, by family: TensorRT-LLM's decode kernels for Blackwell read that many where there are fewer, so
that short contexts take what 128 keys take."""
_ROWS = 8.0
"""Heads that share keys are computed in multiples of this."""
_ELEMENTS = 8192.0
"""Elements of a block's output beyond which more warps share them."""
_STEP = 16.0
"""Queries of a sequence that kernels for decode steps take (guessed tokens included); more are a prompt's."""
_SAVED = 0.97
"""Part of the time that splitting keys must come below, estimated as it is."""
SPLITS = ("fixed", "even", "none")


def attended_pairs(q_len: Num, kv_len: Num, causal: bool = True, window: Num = 0.0, chunk: Num = 0.0) -> Num:
    """How many (query, key) pairs of one sequence and head are attended, exactly, for whole lengths.

    The query at position p = kv_len − q_len + i (i = 1 … q_len) sees, when causal, its last min(window, p) keys; with
    ``chunk`` only those in its own block of ``chunk`` positions, of which it is number r = (p − 1) mod chunk + 1:

        pairs = Σ_p min(window, r(p)) = F(kv_len) − F(kv_len − q_len),   F(n) = ⌊n/chunk⌋·G(chunk) + G(n mod chunk)
        G(r) = m(m + 1)/2 + (r − m)·window,   m = min(r, window)

    Without ``causal`` every query sees all keys; a ``window`` is then a band of that many keys around it (pushed
    inwards at the ends), and ``chunk`` its whole block.

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
    """Keys and values that are read, once per head that stores them; a latent is one tensor for all heads."""
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
    """The tiled model of the module's docstring. Backward runs 2.5 times the pairs, scores recomputed (§3.1 there).

    Validity: fused kernels of head_dim 64 to 576. Fitted to FlashAttention, FlashInfer and TensorRT-LLM's kernels for
    Blackwell; what others reach of that is in the table's ``libraries`` and ``streams``.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> from ridgepoint.kernels.demand import settle
    >>> prefill = Attention(batch=1.0, heads=32.0, kv_heads=8.0, q_len=8192.0, kv_len=8192.0, head_dim=128.0)
    >>> bool(0.5e-3 < settle(expected(prefill, find_machine("h100-sxm"))).time_s < 2e-3)
    True
    """
    table, shared = machine.coefficients.attention, machine.coefficients.device
    arithmetic = machine.arithmetic(multiply_format(op.acts, op.kv))
    in_turns = _IN_TURNS.get(machine.device.family, 1.0)
    grid = _grid(op, machine.multiprocessors, in_turns, arithmetic.engine == "matrix", _clocks(op, machine, arithmetic))
    seconds = _seconds(op, machine, arithmetic, grid)
    # Blocks that stream keys run side by side and hide each other's ends; blocks that compute fill the multiprocessor.
    # The first ones are in the start.
    tick = 1.0 / float(machine.device.chip.clock)
    each = np.where(grid.few, _ends(op, machine), table.block_clocks * at_least(grid.tile / _TILE, 1.0))
    ends_s = tick * (grid.waves - 1.0) * each
    seconds["wave"] = np.where(grid.few, ends_s, 0.0) + tick * table.start_clocks
    alone_s = np.where(grid.few, 0.0, ends_s) + np.where(grid.splits != 1.0, tick * table.split_clocks, 0.0)
    return Demand(
        (
            Phase(seconds, table.sharpness),
            Phase({"launch": shared.launch_s}),
            Phase({"wave": alone_s}),
        ),
        notes=(arithmetic.note,) if arithmetic.note else (),
        arithmetic=(arithmetic.engine, arithmetic.format),
    )


def _seconds(op: Attention, machine: Machine, arithmetic: Arithmetic, grid: _Grid) -> dict[str, Num]:
    """What the blocks hold of engines, cache and main memory."""
    table = machine.coefficients.attention
    width = _padded(op.head_dim) + _padded(value_dim(op))
    scale = _BACKWARD if op.backward else 1.0
    pairs = scale * grid.serial_keys * grid.tile * machine.multiprocessors
    base = table.efficiency.get(arithmetic.format, table.efficiency["default"])
    reach = table.libraries["default"]
    efficiency = reach * base
    engine_s = pairs * 2.0 * width / (arithmetic.flop_per_s * efficiency)
    name = product_name(arithmetic.format, arithmetic.format)
    seconds: dict[str, Num] = {arithmetic.engine: throttled(engine_s, efficiency, machine, name, arithmetic)}
    engine, rate = _special(machine)
    seconds[engine] = seconds.get(engine, 0.0) + pairs / (rate * reach * table.softmax_efficiency)
    seconds[machine.main_memory] = _memory_s(op, machine, grid)
    if machine.cache is not None:
        name, _, cache_bytes_per_s = machine.cache
        per_key = (op.head_dim if op.latent else op.head_dim + value_dim(op)) * FORMATS[op.kv].bytes
        seconds[name] = scale * grid.units * grid.keys * per_key / cache_bytes_per_s
    return seconds


@dataclass(frozen=True)
class _Clocks:
    """What a split of keys weighs, in clocks: a key that one block draws, a pair that it computes, a key of all blocks'
    memory, the start, the ends of a further block, the reduction."""

    key: Num
    pair: Num
    shared: Num
    start: float
    block: Num
    split: float


def _clocks(op: Attention, machine: Machine, arithmetic: Arithmetic) -> _Clocks:
    """A multiprocessor streams what it can draw, all together the bandwidth; where engines are slow, pairs take longer."""
    table, clock = machine.coefficients.attention, float(machine.device.chip.clock)
    width = _padded(op.head_dim) + _padded(value_dim(op))
    efficiency = table.libraries["default"] * table.efficiency.get(arithmetic.format, table.efficiency["default"])
    pair = 2.0 * width / (arithmetic.flop_per_s * efficiency / (machine.multiprocessors * clock))
    per_key = (op.head_dim + (0.0 if op.latent else value_dim(op))) * FORMATS[op.kv].bytes / _reach(op, machine)
    shared = per_key / (machine.memory_bytes_per_s * table.memory_efficiency / clock)
    draw = per_key / table.memory_bytes_per_clock
    return _Clocks(draw, pair, shared, table.start_clocks, _ends(op, machine), table.split_clocks)


def _ends(op: Attention, machine: Machine) -> Num:
    """Clocks of a further block of few queries beyond its keys, where blocks side by side hide each other's: a prompt's tile is
    the same however few there are, a step's block pays for its rows of the output."""
    table = machine.coefficients.attention
    rows = _limited(op.heads if op.latent else op.heads / op.kv_heads, op.packed) * np.minimum(op.q_len, _TILE)
    elements = np.minimum(np.minimum(ceil_div(rows, _ROWS) * _ROWS, _TILE) * _padded(value_dim(op)), _ELEMENTS)
    ends = np.where(_steps(op), table.step_clocks, table.block_clocks) / table.resident["default"]
    return ends + np.where(_steps(op), table.element_clocks["default"] * elements, 0.0)


def _steps(op: Attention) -> bool | NDArray[np.bool_]:
    """Whether kernels for decode steps run: few queries, and not said to be a prompt."""
    return (np.asarray(op.q_len) <= _STEP) & (not op.prompt)


@dataclass(frozen=True)
class _Grid:
    """How the pairs are cut into blocks."""

    few: bool | NDArray[np.bool_]
    """Whether the queries of a sequence fill less than one tile, so that heads that share keys are packed into it."""
    tile: Num
    """Query rows of a block."""
    units: Num
    """Blocks before keys are split."""
    keys: Num
    """Mean keys of such a block."""
    splits: Num
    """Parts of a block's keys; below 1 where a multiprocessor's even share is more than one block."""
    waves: Num
    """Blocks that one multiprocessor works through."""
    serial_keys: Num
    """Keys that the busiest multiprocessor works through, for one tile of rows at a time."""


def _grid(op: Attention, sms: int, in_turns: float, padded: bool, clocks: _Clocks) -> _Grid:
    """The blocks; ``padded``: a matrix engine computes whole rows of tiles, a vector engine only what is there."""
    group = _limited(op.heads if op.latent else op.heads / op.kv_heads, op.packed)
    together = np.where(np.asarray(op.rows) > 0.0, np.minimum(op.rows, op.q_len), op.q_len)
    few = together < _TILE
    rows = np.where(few, together * group, together)
    # Kernels for a latent take 64 heads at once, however few there are.
    least = _limited(64.0, op.packed) if op.latent else 16.0
    block = np.where(rows > 64.0, _TILE, np.where(rows > 16.0, 64.0, least)) if padded else np.minimum(rows, _TILE)
    tile = _limited(np.where(few, block, np.where(together > _TILE, in_turns * _TILE, block)), op.tile)
    sets = op.batch * ceil_div(op.q_len, together)
    units = at_least(sets * ceil_div(rows, tile) * np.where(few, op.heads / group, op.heads), 1e-6)

    seen = attended_pairs(op.q_len, op.kv_len, op.causal, op.window, op.chunk) / op.q_len
    ragged = np.minimum(op.q_len, tile) * np.where(np.asarray(op.window) > 0.0, 1.0, 0.5) if op.causal else 0.0
    most = ceil_div(_longest(op, tile), _KEYS) * _KEYS
    keys = np.minimum(ceil_div(seen + ragged, _KEYS) * _KEYS, most)
    key = np.maximum(clocks.key, tile * clocks.pair)
    splits = _splits(op, few, units, keys, most / _KEYS, sms, replace(clocks, key=key))
    waves = ceil_div(np.round(units * splits, 9), sms)
    if op.causal:  # the longest rows go first, so that the last wave is short
        serial = np.maximum(units / sms * keys, np.where(few, keys / splits * waves, most))
    else:
        serial = waves * keys / splits
    return _Grid(few, tile, units, keys, splits, waves, serial)


def _splits(
    op: Attention, few: bool | NDArray[np.bool_], units: Num, keys: Num, most: Num, sms: int, clocks: _Clocks
) -> Num:
    """Parts of the keys of a block: as many whole ones as pay, or an even share for each multiprocessor."""
    if op.split not in SPLITS:
        raise RidgepointError("bad_work", f"unknown split of keys '{op.split}'", "use one of " + ", ".join(SPLITS))
    most = _limited(most, op.parts)
    chosen = _paying(units, keys, most, sms, clocks) if op.split == "fixed" else np.clip(sms / units, 0.0, most)
    chosen = chosen if op.split == "even" else at_least(chosen, 1.0)
    return np.where(few & (op.split != "none"), chosen, 1.0)


def _paying(units: Num, keys: Num, most: Num, sms: int, clocks: _Clocks) -> Num:
    """No split, or the parts that fill one to four waves of blocks: whatever takes the busiest multiprocessor least."""
    chosen, least = np.ones(()), _busy(units, keys, sms, clocks)
    for waves in (1.0, 2.0, 3.0, 4.0):
        parts = np.clip(np.floor(np.round(waves * sms / units, 9)), 1.0, most)
        taken = _busy(units * parts, keys / parts, sms, clocks) + np.where(parts > 1.0, clocks.split, 0.0)
        pays = taken < _SAVED * least
        chosen, least = np.where(pays, parts, chosen), np.where(pays, taken, least)
    return chosen


def _busy(blocks: Num, keys: Num, sms: int, clocks: _Clocks) -> Num:
    """Clocks of the busiest multiprocessor, a fourth-power mean of what it streams and the start beside it."""
    turns = ceil_div(np.round(blocks, 9), sms)
    streamed = np.maximum(turns * keys * clocks.key, blocks * keys * clocks.shared)
    starting = (turns - 1.0) * clocks.block + clocks.start
    fourth = (streamed * streamed) ** 2 + (starting * starting) ** 2
    return np.sqrt(np.sqrt(fourth))


def _limited(number: Num, most: Num) -> Num:
    """``number``, or ``most`` where that is given and smaller."""
    return np.where(np.asarray(most) > 0.0, np.minimum(number, most), number)


def _padded(dim: Num) -> Num:
    """Head sizes that tiles have: multiples of 32."""
    return ceil_div(dim, 32.0) * 32.0


def _longest(op: Attention, tile: Num) -> Num:
    """Keys that a block of ``tile`` queries goes through at most."""
    keys = np.asarray(read_keys(op))
    reach = np.asarray(op.window) + (np.minimum(op.q_len, tile) - 1.0 if op.causal else 0.0)
    keys = np.where(np.asarray(op.window) > 0.0, np.minimum(keys, reach), keys)
    return np.where(np.asarray(op.chunk) > 0.0, np.minimum(keys, op.chunk), keys)


def _memory_s(op: Attention, machine: Machine, grid: _Grid) -> Num:
    """All bytes at the achieved bandwidth, or what the busiest multiprocessor draws where that takes longer."""
    table = machine.coefficients.attention
    total = read_bytes(op) + write_bytes(op) + _read_again(op, machine, grid)
    reach = _reach(op, machine)
    draw = reach * table.memory_bytes_per_clock * machine.device.chip.clock
    # Heads that share keys in blocks of their own find them in the cache, but each block draws them all.
    drawn = grid.units * grid.keys * (op.head_dim + (0.0 if op.latent else value_dim(op))) * FORMATS[op.kv].bytes
    again = np.where(np.asarray(op.packed) > 0.0, at_least(drawn / total, 1.0), 1.0)
    most = grid.waves / (grid.units * grid.splits) * again
    return total * np.maximum(1.0 / (machine.memory_bytes_per_s * reach * table.memory_efficiency), most / draw)


def _reach(op: Attention, machine: Machine) -> float:
    """What the kernels reach of the memory's rates while they stream keys of a format (8 bits may need turning round)."""
    streams = machine.coefficients.attention.streams
    return streams.get(op.kv, streams["default"])


def _read_again(op: Attention, machine: Machine, grid: _Grid) -> Num:
    """Bytes of keys beyond one pass over them: the rest of a copy that brings more than there are, and, where the blocks of all
    heads come before the next block of one, what the last-level cache has lost by then."""
    keys = np.asarray(read_keys(op))
    once = kv_bytes(op)
    rest: Num = np.where(_steps(op), at_least(_WHOLE.get(machine.device.family, 0.0) / keys, 1.0) - 1.0, 0.0)
    if op.heads_first and machine.cache is not None:
        sets = op.batch * op.heads
        passes = np.minimum(grid.units / sets, grid.units / (2.0 * machine.multiprocessors))
        lost = at_least(1.0 - machine.cache[1] / once, 0.0)
        rest = rest + lost * at_least(passes * grid.keys / keys - 1.0, 0.0)
    return once * rest


def _special(machine: Machine) -> tuple[str, float]:
    """What computes exponentials, and how many per second: a polynomial of about 8 operations where no unit does."""
    rate = machine.engine_rate("special")
    if rate is not None:
        return "special", rate / (1.0 - _EMULATED.get(machine.device.family, 0.0))
    engine = "vector" if "vector" in machine.device.engines else next(iter(machine.device.engines))
    return engine, machine.vector_flop_per_s / 8.0


RULES = Rules(flop, read_bytes, write_bytes, bound, expected, table="attention", sources=("dao-2023", "williams-2009"))
