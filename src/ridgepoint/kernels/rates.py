"""What matrix products reach of a machine's rates: shares of the peak, the clock that the power limit leaves, caches, memory.

A coefficient table names products (``product_name``); these functions read it for one machine. Convolutions, attention and
scans ask them too, since their products run on the same engines.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ridgepoint.formats import FORMATS, multiply_format
from ridgepoint.machines.machine import CLOCK_EXPONENT, Arithmetic, Machine
from ridgepoint.numeric import Num
from ridgepoint.ops import Gemm

_LEAST_BYTES_PER_CLOCK = 16.0  # what a multiprocessor without fast 16-bit arithmetic receives from the cache
_LEAST_OVER_MEMORY = 1.4  # what the cache delivers over what main memory does: the least of measured designs (Titan Xp)
_SAME = {"bf16": "fp16"}  # formats that run alike
_WIDENING = "w"  # what names of products begin with whose weights are widened
_POWER_S = 2e-4  # how long a kernel runs before the power limit lowers its clock
_LEAST_VOLTAGE_HZ = 1e9  # clock below which the voltage stays


def product_name(acts: str, weights: str) -> str:
    """What a coefficient table calls a product: its multiply format (both 16-bit formats are ``fp16``), or ``w4a16``
    where narrow weights are widened.

    >>> product_name("bf16", "bf16"), product_name("bf16", "mxfp4"), product_name("fp8", "nvfp4")
    ('fp16', 'w4a16', 'w4a8')
    """
    wide, narrow = round(FORMATS[acts].bits), round(FORMATS[weights].bits)
    if narrow < wide and narrow <= 8:
        return f"w{narrow}a{wide}"
    name = multiply_format(acts, weights)
    return _SAME.get(name, name)


def own(values: Mapping[str, float], name: str, arithmetic: Arithmetic) -> float:
    """The entry of a product's name, unless the machine computes it in another format; else of that arithmetic."""
    computed = _SAME.get(arithmetic.format, arithmetic.format)
    native = name not in FORMATS or _SAME.get(FORMATS[name].math, FORMATS[name].math) == computed
    if native and name in values:
        return values[name]
    return values.get(computed, values["default"])


def told(op: Gemm, name: str, efficiency: Mapping[str, float]) -> str:
    """The entry that tells a product's share of the peak: ``grouped-w4a16`` where only products in groups were measured,
    whose kernels say nothing of plain ones."""
    return f"grouped-{name}" if op.grouped and f"grouped-{name}" in efficiency else name


def share_of_peak(machine: Machine, name: str, arithmetic: Arithmetic) -> float:
    """Part of the engine's rate that large products reach. Where 8 bits run no faster than 16 (fp8 on TPU v6e and Gaudi 3),
    they reach as much: fewer bytes feed as many operations, and shares of engines twice as fast say nothing. Products that
    widen narrow weights reach no more than those of the format that they are widened to. Where an engine
    runs at half its design's rate, what keeps it waiting takes half as much of its time.
    """
    values = machine.coefficients.gemm.efficiency
    known = own(values, name, arithmetic)
    if name.startswith(_WIDENING):
        known = min(known, own(values, product_name(arithmetic.format, arithmetic.format), arithmetic))
    known = 1.0 / (1.0 + (1.0 / known - 1.0) * _permitted(machine, arithmetic))
    if FORMATS[arithmetic.format].bits > 8 or arithmetic.engine != "matrix" or not machine.computes("bf16"):
        return known
    wide = machine.arithmetic("bf16")
    same = wide.engine == arithmetic.engine and FORMATS[wide.format].bits == 16
    as_wide = own(values, product_name(wide.format, wide.format), wide) * wide.flop_per_s / arithmetic.flop_per_s
    return max(known, min(as_wide, 1.0)) if same else known


def _permitted(machine: Machine, arithmetic: Arithmetic) -> float:
    """Part of its design's rate that a vendor lets a matrix engine have: a GeForce card sums 16 and 8-bit floating-point
    products in 32 bits at half the rate, integers at all of it. A design does equal bits of both alike.
    """
    if arithmetic.engine != "matrix" or FORMATS[arithmetic.format].bits > 16 or not machine.computes("int8"):
        return 1.0
    integers = machine.arithmetic("int8")
    own_bits = arithmetic.flop_per_s * FORMATS[arithmetic.format].bits
    halved = integers.engine == "matrix" and own_bits < 0.6 * integers.flop_per_s * 8.0
    return 0.5 if halved and machine.device.kind == "gpu" else 1.0


def throttled(seconds: Num, efficiency: Num, machine: Machine, name: str, arithmetic: Arithmetic) -> Num:
    """Engine seconds when the power limit has had time to act: the clock falls until the power fits.

    Power goes with clock^2.4 (``CLOCK_EXPONENT``), the energy of an operation with clock^1.4. So a design's table holds it at
    1 GHz: within a generation it is nearly the same number from 1.4 to 2.5 GHz. An A100 with 300 W is 8 % slower than one
    with 400 W, not 25 %. Below 1 GHz the voltage falls no further, and power goes with the clock itself: cards of 70 W run
    there. Clocks follow within some hundred microseconds: a share t/(t + 0.2 ms) of a kernel of t seconds runs at the rate
    that the limit sustains.
    """
    if machine.device.power.tdp is None:
        return seconds
    drawn = np.maximum(overdraw(machine, name, arithmetic) * efficiency, 1.0)
    clock = max(float(machine.device.chip.clock) / _LEAST_VOLTAGE_HZ, 1.0)
    room = clock**CLOCK_EXPONENT / drawn  # power at the lowest voltage's clock, over what the limit leaves for it
    slower: Num = clock / np.minimum(room ** (1.0 / CLOCK_EXPONENT), room) - 1.0
    return seconds * (1.0 + slower * seconds / (seconds + _POWER_S))


def overdraw(machine: Machine, name: str, arithmetic: Arithmetic) -> float:
    """Power that products at peak rate would draw over the limit.

    Where nobody measured a narrow format, its engine draws at full rate what it draws with 16 bits: A100's does 0.8 times
    that with int8, B200's 1.0 and H100's 1.1 times with fp8. Where nobody measured the design, GPUs draw what is usual.
    """
    table, tdp = machine.coefficients.gemm, float(machine.device.power.tdp or np.inf)
    at_clock = (float(machine.device.chip.clock) / 1e9) ** (CLOCK_EXPONENT - 1.0)

    def ratio(name: str, arithmetic: Arithmetic) -> float:
        joule = own(table.joule_per_flop, name, arithmetic)
        if name.startswith(_WIDENING):  # the same operations, and the widening
            joule = max(
                joule, own(table.joule_per_flop, product_name(arithmetic.format, arithmetic.format), arithmetic)
            )
        return float(joule * at_clock * arithmetic.flop_per_s / tdp)

    known = ratio(name, arithmetic)
    if known > 0.0 or arithmetic.engine != "matrix":
        return known
    usual = table.overdraw if machine.device.kind == "gpu" else 0.0
    return (ratio("fp16", machine.arithmetic("fp16")) if machine.computes("fp16") else 0.0) or usual


def operand_bytes_per_s(machine: Machine) -> float:
    """What one multiprocessor receives from the last-level cache: balanced with its 16-bit rate, as designs are.

    Parts whose arithmetic was cut and whose memory was not (H20) keep the cache that their memory needs.
    """
    table, sms = machine.coefficients.gemm, machine.multiprocessors
    balanced = _wide_rate(machine) / (sms * table.operand_flop_per_byte)
    behind = _LEAST_OVER_MEMORY * machine.memory_bytes_per_s / sms
    return max(balanced, behind, _LEAST_BYTES_PER_CLOCK * float(machine.device.chip.clock))


def _wide_rate(machine: Machine) -> float:
    """The 16-bit rate; of a machine of integers alone, half of what it does with 8 bits, as designs have it."""
    if machine.computes("fp16"):
        return machine.arithmetic("fp16").flop_per_s / _permitted(machine, machine.arithmetic("fp16"))
    return machine.arithmetic("int8").flop_per_s / 2.0


def memory_draw(machine: Machine) -> float:
    """Bytes per second that a lone multiprocessor draws from main memory in a main loop.

    It grows with the share of the bandwidth that the design gives it, but less than in proportion (the loads in flight are
    limited): ``draw`` times the geometric mean of that share and 16 bytes per clock.
    """
    share = machine.memory_bytes_per_s / machine.multiprocessors
    typical = _LEAST_BYTES_PER_CLOCK * float(machine.device.chip.clock)
    return machine.coefficients.gemm.memory_draw * float(np.sqrt(share * typical))
