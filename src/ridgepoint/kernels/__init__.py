"""Kernel models, one module per op kind, and the table that joins them to the kinds (design §4)."""

from __future__ import annotations

from ridgepoint.kernels import gemm
from ridgepoint.kernels.rules import Rules

KERNELS: dict[str, Rules] = {
    "gemm": gemm.RULES,
}
