"""Recurrences that libraries run as one kernel, and transformers spells out where that kernel is absent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ridgepoint.capture.kernels_as_calls import register


@contextmanager
def fused_recurrences(model: Any) -> Iterator[None]:
    """Inside, the functions of ``_SCANS`` in the model's own modules are one call each."""
    homes = {type(m).__module__ for m in model.modules() if type(m).__module__.startswith("transformers.")}
    replaced: list[tuple[Any, str, Any]] = []
    try:
        for home in homes:
            module = sys.modules[home]
            for name, make in _SCANS.items():
                if hasattr(module, name):
                    replaced.append((module, name, getattr(module, name)))
                    setattr(module, name, make())
        yield
    finally:
        for module, name, original in replaced:
            setattr(module, name, original)


def _mamba2() -> Callable[..., Any]:
    ops = register()

    def scan(x: Any, dt: Any, A: Any, B: Any, C: Any, chunk_size: int = 256, **more: Any) -> Any:  # noqa: N803
        batch, seq, heads, head_dim = x.shape
        inputs = [x, dt, A, B, C]
        out = ops.recurrence(inputs, x, head_dim, "mamba2", batch, seq, heads, head_dim, B.shape[-1], B.shape[-2], chunk_size)
        if more.get("return_final_states"):
            return out, x.new_empty(batch, heads, head_dim, B.shape[-1])
        return out

    return scan


_SCANS: dict[str, Callable[[], Callable[..., Any]]] = {"mamba_chunk_scan_combined": _mamba2}
