"""Kernel models, one module per op kind, and the table that joins them to the kinds (design §4)."""

from __future__ import annotations

from ridgepoint.kernels import attention, collective, conv, delay, gemm, host, scan, storage, stream, transfer
from ridgepoint.kernels.rules import Rules

KERNELS: dict[str, Rules] = {
    "attention": attention.RULES,
    "collective": collective.RULES,
    "conv": conv.RULES,
    "delay": delay.RULES,
    "gemm": gemm.RULES,
    "host": host.RULES,
    "scan": scan.RULES,
    "storage": storage.RULES,
    "stream": stream.RULES,
    "transfer": transfer.RULES,
}
