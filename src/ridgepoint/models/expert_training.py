"""What training adds to the products of a rank's experts: rows in order, one kernel an expert, unfused passes (design §2).

Frameworks for training run the experts of a rank one by one: Transformer Engine's GroupedLinear starts a cuBLAS product for
each, and a conversion of each one's rows where inputs are narrow. How many rows there are is known only once the tokens have
arrived, so that the host, which waits for that number, cannot run ahead of the device: starting the kernels takes time
beside running them, however long the device was busy before.
"""

from __future__ import annotations

from collections.abc import Sequence

from ridgepoint.formats import FORMATS
from ridgepoint.models.execution import Execution
from ridgepoint.numeric import Num
from ridgepoint.ops import Host, Stream
from ridgepoint.work import Overlap, Seq, Work

SORT_LAUNCHES = 6.0
"""Kernels that sort tokens by expert, count and pad them, and copy their rows (Megatron-LM's permutation)."""
PRODUCTS = 2.0
"""Products of an expert in the forward pass: up (with the gate) and down."""
BIAS_CALLS = 3.0
"""Operations on one expert's rows that add its bias: a product, a sum, a part of a concatenation."""


def permute(values: Num, run: Execution, label: str) -> Stream:
    """Rows in the order of their experts: sorted indices, counts per expert, the copy itself."""
    width = FORMATS[run.formats.stream].bytes
    return Stream(
        read_bytes=values * width, write_bytes=values * width, pattern="gather", launches=SORT_LAUNCHES, label=label
    )


def clamp(values: Num, run: Execution, label: str) -> Stream:
    """Gates and inputs limited before the nonlinearity (gpt-oss): two clamps of halves and their concatenation, each a kernel
    (Megatron-LM's ``weighted_bias_quick_geglu_impl``).
    """
    size = 2.0 * FORMATS[run.formats.stream].bytes * values
    return Stream(read_bytes=size, write_bytes=size, flop=values, launches=3.0, saved_bytes=size / 2.0, label=label)


def weighted_bias(values: Num, run: Execution, label: str) -> Stream:
    """Each expert's output bias times the router's 32-bit weights: a product, a sum and the concatenation of all experts in
    32 bits, then back to the stream's format (Megatron-LM's ``_apply_bias``).
    """
    size = (FORMATS[run.formats.stream].bytes + 12.0) * values
    return Stream(read_bytes=size, write_bytes=size, flop=2.0 * values, launches=4.0, label=label)


def one_by_one(parts: Sequence[Work], experts: Num, inputs: str, bias: bool, label: str) -> Work:
    """``parts`` beside the host that starts them for each of ``experts`` experts: a call for each product and, where inputs are
    narrow, for the conversion of its rows.
    """
    narrow = FORMATS[inputs].bits < 16
    each = PRODUCTS * (2.0 if narrow else 1.0) + (BIAS_CALLS if bias else 0.0)
    return Overlap(Seq(*parts), Host(launches=each * experts, eager=True, label=f"{label}.start"))
