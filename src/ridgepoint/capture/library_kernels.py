"""Recurrences and mixtures of experts that libraries run as few kernels, and transformers spells out without them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ridgepoint.capture.kernels_as_calls import register


@contextmanager
def library_kernels(model: Any) -> Iterator[None]:
    """Inside, the functions of ``_KERNELS`` in the model's own modules are one call each, experts are grouped products that
    gather their own rows.
    """
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
    from transformers.utils import logging

    loud = logging.get_verbosity()
    mapping = ALL_EXPERTS_FUNCTIONS._global_mapping
    spelled_out = mapping["grouped_mm"]
    homes = {type(m).__module__ for m in model.modules() if type(m).__module__.startswith("transformers.")}
    replaced: list[tuple[Any, str, Any]] = []
    try:
        logging.set_verbosity_error()  # that a library's kernel is absent here is no news
        mapping["grouped_mm"] = _experts
        for home in homes:
            module = sys.modules[home]
            for name, make in _KERNELS.items():
                if hasattr(module, name):
                    replaced.append((module, name, getattr(module, name)))
                    setattr(module, name, make())
        yield
    finally:
        logging.set_verbosity(loud)
        mapping["grouped_mm"] = spelled_out
        for module, name, original in replaced:
            setattr(module, name, original)


def _experts(self: Any, hidden: Any, chosen: Any, shares: Any) -> Any:
    """The experts of a layer over ``hidden`` (tokens × width); biases are in the products' epilogues."""
    ops = register()
    rows = hidden.shape[0] * chosen.shape[-1]

    def product(x: Any, weight: Any) -> Any:
        return ops.experts(x, weight if self.is_transposed else weight.transpose(-2, -1), rows, rows)

    up = product(hidden, self.gate_up_proj if self.has_gate else self.up_proj)
    inner = self._apply_gate(up) if self.has_gate else self.act_fn(up)
    down = product(inner, self.down_proj)
    if self.has_post_expert_norm:
        down = self.post_expert_norm(down)
    return ops.weighted_sum(down, shares.to(down.dtype))


def _mamba2() -> Callable[..., Any]:
    ops = register()

    def scan(x: Any, dt: Any, A: Any, B: Any, C: Any, chunk_size: int = 256, **more: Any) -> Any:
        batch, seq, heads, head_dim = x.shape
        inputs = [x, dt, A, B, C]
        out = ops.recurrence(
            inputs, x, head_dim, "mamba2", batch, seq, heads, head_dim, B.shape[-1], B.shape[-2], chunk_size
        )
        if more.get("return_final_states"):
            return out, x.new_empty(batch, heads, head_dim, B.shape[-1])
        return out

    return scan


def _short_convolution() -> Callable[..., Any]:
    ops = register()

    def convolution(x: Any, weight: Any, *_: Any, **__: Any) -> Any:
        return ops.short_convolution(x, weight)

    return convolution


_KERNELS: dict[str, Callable[[], Callable[..., Any]]] = {
    "mamba2_chunk_scan": _mamba2,
    "causal_conv1d_fn": _short_convolution,
}
