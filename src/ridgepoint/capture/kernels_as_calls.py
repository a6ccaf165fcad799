"""Kernels that libraries have and PyTorch would spell out: attention, growing caches, recurrences, each as one call.

On the meta device PyTorch decomposes attention into products and a softmax over all scores, which no accelerator runs.
These calls keep what the fused kernel needs to know: grouped heads, causality, windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from ridgepoint.capture.extra import needed


@cache
def register() -> Any:
    """Registers the calls once; returns their namespace."""
    library = needed("torch", "capturing a model").library
    for name, (schema, shapes) in _CALLS.items():
        library.define(f"ridgepoint::{name}", schema)
        library.register_fake(f"ridgepoint::{name}", shapes)
    for name, (keep, gradients) in _GRADIENTS.items():
        library.register_autograd(f"ridgepoint::{name}", gradients, setup_context=keep)
    return _ops()


def _ops() -> Any:
    return needed("torch", "capturing a model").ops.ridgepoint


# --- shapes of results -------------------------------------------------------------------------------------------------


def _attention(q: Any, k: Any, v: Any, mask: Any, causal: bool, window: int) -> Any:
    *batch, heads, length, _ = q.shape  # kernels write the heads of a position side by side
    return q.new_empty((*batch, length, heads, v.shape[-1])).transpose(-2, -3)


def _append(cache: Any, new: Any, dim: int) -> Any:
    shape = list(cache.shape)
    shape[dim] += new.shape[dim]
    return cache.new_empty(shape)


def _recurrence(inputs: list[Any], like: Any, width: int, *_: Any) -> Any:
    return like.new_empty((*like.shape[:-1], width))


def _experts(x: Any, weight: Any, rows: Any, out_rows: Any) -> Any:
    return x.new_empty(out_rows, weight.shape[-1])


def _weighted_sum(x: Any, shares: Any) -> Any:
    return x.new_empty(shares.shape[0], x.shape[-1])


def _as(*positions: int) -> Callable[..., Any]:
    """Results with the shapes of the arguments at these positions: of gradients, those of what they are gradients of."""

    def shapes(*arguments: Any) -> Any:
        like = needed("torch", "capturing a model").empty_like
        made = [like(arguments[at]) for at in positions]
        return made if len(made) > 1 else made[0]

    return shapes


def _as_inputs(inputs: list[Any], *_: Any) -> list[Any]:
    like = needed("torch", "capturing a model").empty_like
    return [like(tensor) for tensor in inputs]


_SHAPE_OF_SCAN = "str variant, SymInt batch, SymInt seq, int heads, int head_dim, int state_dim, int groups, int chunk"
_CALLS: dict[str, tuple[str, Callable[..., Any]]] = {
    "attention": ("(Tensor q, Tensor k, Tensor v, Tensor? mask, bool causal, int window) -> Tensor", _attention),
    "attention_backward": (
        "(Tensor grad, Tensor q, Tensor k, Tensor v, bool causal, int window) -> Tensor[]", _as(1, 2, 3)
    ),
    "experts": ("(Tensor x, Tensor weight, SymInt rows, SymInt out_rows) -> Tensor", _experts),
    "experts_gradient": ("(Tensor x, Tensor grad, SymInt rows, Tensor weight) -> Tensor", _as(3)),
    "weighted_sum": ("(Tensor x, Tensor shares) -> Tensor", _weighted_sum),
    "weighted_sum_backward": ("(Tensor grad, Tensor x, Tensor shares) -> Tensor[]", _as(1, 2)),
    "short_convolution": ("(Tensor x, Tensor weight) -> Tensor", _as(0)),
    "short_convolution_backward": ("(Tensor grad, Tensor x, Tensor weight) -> Tensor[]", _as(1, 2)),
    "append": ("(Tensor cache, Tensor new, int dim) -> Tensor", _append),
    "recurrence": (f"(Tensor[] inputs, Tensor like, int width, {_SHAPE_OF_SCAN}) -> Tensor", _recurrence),
    "recurrence_backward": (f"(Tensor[] inputs, Tensor grad, {_SHAPE_OF_SCAN}) -> Tensor[]", _as_inputs),
}  # fmt: skip
"""Calls by name: their schema, and the shapes of their results."""


# --- gradients ---------------------------------------------------------------------------------------------------------


def _keep_attention(ctx: Any, inputs: Any, output: Any) -> None:
    q, k, v, _, ctx.causal, ctx.window = inputs
    ctx.save_for_backward(q, k, v)


def _attention_gradients(ctx: Any, grad: Any) -> Any:
    made = _ops().attention_backward(grad, *ctx.saved_tensors, ctx.causal, ctx.window)
    return (*made, None, None, None)


def _keep_recurrence(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs[0])
    ctx.shape = inputs[3:]


def _recurrence_gradients(ctx: Any, grad: Any) -> Any:
    made = _ops().recurrence_backward(list(ctx.saved_tensors), grad, *ctx.shape)
    return (list(made), *[None] * 10)


def _keep_experts(ctx: Any, inputs: Any, output: Any) -> None:
    x, weight, ctx.rows, _ = inputs
    ctx.save_for_backward(x, weight)


def _experts_gradients(ctx: Any, grad: Any) -> Any:
    x, weight = ctx.saved_tensors
    back = _ops().experts(grad, weight.transpose(-2, -1), ctx.rows, x.shape[0])
    return back, _ops().experts_gradient(x, grad, ctx.rows, weight), None, None


def _keep_all(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


_GRADIENTS: dict[str, tuple[Callable[..., None], Callable[..., Any]]] = {
    "attention": (_keep_attention, _attention_gradients),
    "recurrence": (_keep_recurrence, _recurrence_gradients),
    "experts": (_keep_experts, _experts_gradients),
    "weighted_sum": (_keep_all, lambda ctx, grad: tuple(_ops().weighted_sum_backward(grad, *ctx.saved_tensors))),
    "short_convolution": (
        _keep_all,
        lambda ctx, grad: tuple(_ops().short_convolution_backward(grad, *ctx.saved_tensors)),
    ),
}
"""What a call keeps for its backward pass, and the call that this is."""


@contextmanager
def kept_whole() -> Iterator[None]:
    """Inside, attention and recurrent networks stay one call each, and images are enlarged without losing letters."""
    torch = needed("torch", "capturing a model")
    ops = register()
    functional = torch.nn.functional
    from torch.overrides import TorchFunctionMode

    class _Mode(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            named = kwargs or {}
            if function is functional.interpolate:
                return _enlarged(torch, *args, **named)
            if function is functional.scaled_dot_product_attention:
                return ops.attention(*_attention_arguments(*args, **named))
            gates = _GATES.get(getattr(function, "__name__", ""))
            if gates and _is_padded(args):
                return _recurrent(torch, ops, gates, *args)
            return function(*args, **named)

    with _Mode():
        yield


def _enlarged(
    torch: Any, x: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", *args: Any, **named: Any
) -> Any:
    """``interpolate``; of nearest pixels without its detour through C++, which makes letters in the image's shape numbers."""
    if mode != "nearest" or x.dim() != 4 or all(isinstance(length, int) for length in x.shape):
        return torch.nn.functional.interpolate(x, size, scale_factor, mode, *args, **named)
    pair = scale_factor if size is None else size
    both = tuple(pair) if isinstance(pair, tuple | list) else (pair, pair)
    if size is None:
        scales = [int(scale) if float(scale).is_integer() else scale for scale in both]
        both = tuple(torch.sym_int(length * scale) for length, scale in zip(x.shape[2:], scales, strict=True))
    return torch.ops.aten.upsample_nearest2d.default(x, both, None, None)


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
