"""The graph of a captured pass: tensors, and kernels that read and write them, in the order of the program.

These values are what a work file holds. Sizes are numbers or formulas (``formula.py``); tensors are named by position.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ridgepoint.models.networks.captured.formula import Size

ROLES = ("activation", "input", "output", "parameter", "cache", "gradient")
ELEMENT_BYTES = {
    "fp64": 8.0, "fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int64": 8.0, "int32": 4.0, "int16": 2.0,
    "int8": 1.0, "int4": 0.5, "uint8": 1.0, "bool": 1.0, "complex64": 8.0, "complex128": 16.0,
}  # fmt: skip
"""Bytes of one element of a tensor as the framework stores it."""


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One tensor: elements, number format, and what it is.

    ``over`` ≥ 0: it takes the place of that tensor in memory (the program wrote in place).
    """

    elements: Size
    format: str
    role: str = "activation"
    over: int = -1


class Kernel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One kernel of the program as it was captured.

    ``kind`` is the kind of op, or ``unknown``; ``call`` what the framework calls it; ``label`` where it stands in the
    model; ``line`` its source. ``reads`` are (tensor, elements read, which view of it, by number); a product's first
    two reads are its operands.
    ``sizes`` and ``options`` are the op's fields; ``space`` are the points that a memory-bound kernel visits.
    """

    kind: str
    call: str
    label: str
    reads: tuple[tuple[int, Size, int], ...]
    writes: tuple[int, ...]
    sizes: dict[str, Size] = {}
    options: dict[str, Any] = {}
    space: Size = 0.0
    line: str = ""

    @property
    def fuses(self) -> bool:
        """Whether a compiler merges it with its neighbours: memory-bound, and visiting every point by itself or by row."""
        return self.kind == "stream" and bool(self.options.get("fuses", False))


class Span(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Kernels ``start`` to ``stop`` stand for ``times`` equal runs of them in a row."""

    start: int
    stop: int
    times: float


class Graph(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One pass. Kernels from ``backward`` on belong to the backward pass (−1: there is none). Its formulas hold for sizes
    for which all ``conditions`` do.
    """

    tensors: tuple[Tensor, ...]
    kernels: tuple[Kernel, ...]
    spans: tuple[Span, ...] = ()
    backward: int = -1
    conditions: tuple[str, ...] = ()

    @property
    def turn(self) -> int:
        """Position of the first kernel of the backward pass, or the number of kernels."""
        return self.backward if self.backward >= 0 else len(self.kernels)

    def times(self, position: int) -> float:
        """How often the kernel at a position runs."""
        return next((span.times for span in self.spans if span.start <= position < span.stop), 1.0)
