"""Kernels that libraries have and PyTorch would spell out: attention, growing caches, recurrences, each as one call.

On the meta device PyTorch decomposes attention into products and a softmax over all scores, which no accelerator runs.
These calls keep what the fused kernel needs to know: grouped heads, causality, windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from ridgepoint.capture.extra import needed


@cache
def register() -> Any:
    """Registers the calls once; returns their namespace."""
    torch = needed("torch", "capturing a model")

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, causal: bool, window: int
                  ) -> torch.Tensor:  # fmt: skip
        *batch, heads, length, _ = q.shape  # kernels write the heads of a position side by side
        return q.new_empty((*batch, length, heads, v.shape[-1])).transpose(-2, -3)

    def attention_backward(grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, window: int
                           ) -> list[torch.Tensor]:  # fmt: skip
        return [torch.empty_like(t) for t in (q, k, v)]

    def append(cache: torch.Tensor, new: torch.Tensor, dim: int) -> torch.Tensor:
        shape = list(cache.shape)
        shape[dim] += new.shape[dim]
        return cache.new_empty(shape)

    def recurrence(inputs: list[torch.Tensor], like: torch.Tensor, width: int, variant: str, batch: int, seq: int, heads: int,
                   head_dim: int, state_dim: int, groups: int, chunk: int) -> torch.Tensor:  # fmt: skip
        return like.new_empty((*like.shape[:-1], width))

    def recurrence_backward(inputs: list[torch.Tensor], grad: torch.Tensor, variant: str, batch: int, seq: int, heads: int,
                            head_dim: int, state_dim: int, groups: int, chunk: int) -> list[torch.Tensor]:  # fmt: skip
        return [torch.empty_like(t) for t in inputs]

    library = torch.library
    text = {
        attention: "(Tensor q, Tensor k, Tensor v, Tensor? mask, bool causal, int window) -> Tensor",
        attention_backward: "(Tensor grad, Tensor q, Tensor k, Tensor v, bool causal, int window) -> Tensor[]",
        append: "(Tensor cache, Tensor new, int dim) -> Tensor",
        recurrence: "(Tensor[] inputs, Tensor like, int width, str variant, int batch, int seq, int heads, int head_dim, "
        "int state_dim, int groups, int chunk) -> Tensor",
        recurrence_backward: "(Tensor[] inputs, Tensor grad, str variant, int batch, int seq, int heads, int head_dim, "
        "int state_dim, int groups, int chunk) -> Tensor[]",
    }
    for function, schema in text.items():
        name = f"ridgepoint::{function.__name__}"
        library.define(name, schema)
        library.register_fake(name, function)
    ops = torch.ops.ridgepoint

    def setup(ctx: Any, inputs: Any, output: Any) -> None:
        q, k, v, _, ctx.causal, ctx.window = inputs
        ctx.save_for_backward(q, k, v)

    def backward(ctx: Any, grad: Any) -> Any:
        gradients = ops.attention_backward(grad, *ctx.saved_tensors, ctx.causal, ctx.window)
        return (*gradients, None, None, None)

    library.register_autograd("ridgepoint::attention", backward, setup_context=setup)

    def setup_recurrence(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[0])
        ctx.shape = inputs[3:]

    def backward_recurrence(ctx: Any, grad: Any) -> Any:
        gradients = ops.recurrence_backward(list(ctx.saved_tensors), grad, *ctx.shape)
        return (list(gradients), *[None] * 10)

    library.register_autograd("ridgepoint::recurrence", backward_recurrence, setup_context=setup_recurrence)
    return ops


@contextmanager
def fused_attention() -> Iterator[None]:
    """``scaled_dot_product_attention`` stays one call inside."""
    torch = needed("torch", "capturing a model")
    ops = register()
    functional = torch.nn.functional.scaled_dot_product_attention
    from torch.overrides import TorchFunctionMode

    class _Mode(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            named = kwargs or {}
            if function is not functional:
                return function(*args, **named)
            return ops.attention(*_attention_arguments(*args, **named))

    with _Mode():
        yield


def _attention_arguments(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False, **_: Any
) -> tuple[Any, ...]:
    return query, key, value, attn_mask, is_causal, 0
