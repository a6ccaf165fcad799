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

    def attention(q: Any, k: Any, v: Any, mask: Any, causal: bool, window: int
                  ) -> Any:  # fmt: skip
        *batch, heads, length, _ = q.shape  # kernels write the heads of a position side by side
        return q.new_empty((*batch, length, heads, v.shape[-1])).transpose(-2, -3)

    def attention_backward(grad: Any, q: Any, k: Any, v: Any, causal: bool, window: int
                           ) -> list[Any]:  # fmt: skip
        return [torch.empty_like(t) for t in (q, k, v)]

    def append(cache: Any, new: Any, dim: int) -> Any:
        shape = list(cache.shape)
        shape[dim] += new.shape[dim]
        return cache.new_empty(shape)

    def recurrence(inputs: list[Any], like: Any, width: int, variant: str, batch: int, seq: int, heads: int,
                   head_dim: int, state_dim: int, groups: int, chunk: int) -> Any:  # fmt: skip
        return like.new_empty((*like.shape[:-1], width))

    def recurrence_backward(inputs: list[Any], grad: Any, variant: str, batch: int, seq: int, heads: int,
                            head_dim: int, state_dim: int, groups: int, chunk: int) -> list[Any]:  # fmt: skip
        return [torch.empty_like(t) for t in inputs]

    def experts(x: Any, weight: Any, rows: int, out_rows: int) -> Any:
        return x.new_empty(out_rows, weight.shape[-1])

    def experts_gradient(x: Any, grad: Any, rows: int, weight: Any) -> Any:
        return torch.empty_like(weight)

    def weighted_sum(x: Any, shares: Any) -> Any:
        return x.new_empty(shares.shape[0], x.shape[-1])

    def weighted_sum_backward(grad: Any, x: Any, shares: Any) -> list[Any]:
        return [torch.empty_like(x), torch.empty_like(shares)]

    def short_convolution(x: Any, weight: Any) -> Any:
        return torch.empty_like(x)

    def short_convolution_backward(grad: Any, x: Any, weight: Any) -> list[Any]:
        return [torch.empty_like(x), torch.empty_like(weight)]

    library = torch.library
    text = {
        attention: "(Tensor q, Tensor k, Tensor v, Tensor? mask, bool causal, int window) -> Tensor",
        attention_backward: "(Tensor grad, Tensor q, Tensor k, Tensor v, bool causal, int window) -> Tensor[]",
        experts: "(Tensor x, Tensor weight, SymInt rows, SymInt out_rows) -> Tensor",
        experts_gradient: "(Tensor x, Tensor grad, SymInt rows, Tensor weight) -> Tensor",
        weighted_sum: "(Tensor x, Tensor shares) -> Tensor",
        weighted_sum_backward: "(Tensor grad, Tensor x, Tensor shares) -> Tensor[]",
        short_convolution: "(Tensor x, Tensor weight) -> Tensor",
        short_convolution_backward: "(Tensor grad, Tensor x, Tensor weight) -> Tensor[]",
        append: "(Tensor cache, Tensor new, int dim) -> Tensor",
        recurrence: "(Tensor[] inputs, Tensor like, int width, str variant, SymInt batch, SymInt seq, int heads, int head_dim, "
        "int state_dim, int groups, int chunk) -> Tensor",
        recurrence_backward: "(Tensor[] inputs, Tensor grad, str variant, SymInt batch, SymInt seq, int heads, int head_dim, "
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

    def setup_experts(ctx: Any, inputs: Any, output: Any) -> None:
        x, weight, ctx.rows, _ = inputs
        ctx.save_for_backward(x, weight)

    def backward_experts(ctx: Any, grad: Any) -> Any:
        x, weight = ctx.saved_tensors
        back = ops.experts(grad, weight.transpose(-2, -1), ctx.rows, x.shape[0])
        return back, ops.experts_gradient(x, grad, ctx.rows, weight), None, None

    def setup_sum(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    def backward_sum(ctx: Any, grad: Any) -> Any:
        return tuple(ops.weighted_sum_backward(grad, *ctx.saved_tensors))

    def backward_convolution(ctx: Any, grad: Any) -> Any:
        return tuple(ops.short_convolution_backward(grad, *ctx.saved_tensors))

    library.register_autograd("ridgepoint::short_convolution", backward_convolution, setup_context=setup_sum)
    library.register_autograd("ridgepoint::recurrence", backward_recurrence, setup_context=setup_recurrence)
    library.register_autograd("ridgepoint::experts", backward_experts, setup_context=setup_experts)
    library.register_autograd("ridgepoint::weighted_sum", backward_sum, setup_context=setup_sum)
    return ops


@contextmanager
def fused_attention() -> Iterator[None]:
    """``scaled_dot_product_attention`` stays one call inside."""
    torch = needed("torch", "capturing a model")
    ops = register()
    functional = torch.nn.functional.scaled_dot_product_attention
    from torch.overrides import TorchFunctionMode

    class _Mode(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            named = kwargs or {}
            if function is functional:
                return ops.attention(*_attention_arguments(*args, **named))
            gates = _GATES.get(getattr(function, "__name__", ""))
            if gates and _is_padded(args):
                return _recurrent(torch, ops, gates, *args)
            return function(*args, **named)

    with _Mode():
        yield


_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""Recurrent networks of PyTorch, and their gates."""


def _is_padded(args: tuple[Any, ...]) -> bool:
    """Whether a recurrent network is called on a padded batch: (input, state, weights, bias, layers, …), nine arguments."""
    return len(args) == 9 and isinstance(args[2], list | tuple)


def _recurrent(
    torch: Any, ops: Any, gates: int, x: Any, state: Any, weights: Any, bias: bool, layers: int, dropout: float,
    training: bool, bidirectional: bool, batch_first: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """A recurrent network as libraries run it: per layer and direction the products with all inputs at once, then a pass
    along the sequence.
    """
    batch, seq = (x.shape[0], x.shape[1]) if batch_first else (x.shape[1], x.shape[0])
    per = len(weights) // (layers * (2 if bidirectional else 1))
    rest = list(weights)
    for _ in range(layers):
        outs = []
        for _ in range(2 if bidirectional else 1):
            inner, again = rest[0], rest[1]
            projected = torch.nn.functional.linear(x, inner, rest[2] if bias else None)
            hidden = again.shape[1]
            outs.append(
                ops.recurrence([projected, again], projected, hidden, "rnn", batch, seq, 1, hidden, gates, 1, 1)
            )
            del rest[:per]
        x = torch.cat(outs, -1) if len(outs) > 1 else outs[0]
    last = [torch.empty_like(s) for s in (state if isinstance(state, list | tuple) else [state])]
    return (x, *last)


def _attention_arguments(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False, **_: Any
) -> tuple[Any, ...]:
    return query, key, value, attn_mask, is_causal, 0
