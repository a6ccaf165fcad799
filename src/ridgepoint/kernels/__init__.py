"""Kernel models, one module per op kind, and the table that joins them to the kinds (design §4)."""

from __future__ import annotations

from ridgepoint.kernels import attention, gemm, scan, stream
from ridgepoint.kernels.rules import Rules

KERNELS: dict[str, Rules] = {
    "attention": attention.RULES,
    "gemm": gemm.RULES,
    "scan": scan.RULES,
    "stream": stream.RULES,
}
