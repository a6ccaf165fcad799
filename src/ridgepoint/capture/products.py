"""Rules of the calls that multiply: matrix products, convolutions, attention, recurrences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ridgepoint.capture.calls import Call, Value, number
from ridgepoint.capture.draft import Draft

Rule = Callable[[Call], list[Draft]]


def product(
    call: Call, left: Value, right: Value, m: float, n: float, k: float, batch: float = 1.0, suffix: str = "",
    out: Value | None = None, extra: tuple[Value, ...] = (), **options: Any,
) -> Draft:  # fmt: skip
    """``batch`` products (m × k)·(k × n). A parameter on the left changes places with the right operand."""
    if left.role == "parameter" and right.role != "parameter":
        left, right, m, n = right, left, n, m
    sizes = {"m": number(m), "n": number(n), "k": number(k)} | ({"batch": number(batch)} if batch != 1.0 else {})
    writes = call.results[:1] if out is None else (out,)
    return Draft("gemm", (left, right, *extra), writes, sizes, options, suffix=suffix)


def mm(call: Call) -> list[Draft]:
    """(m × k)·(k × n), the bias of ``addmm`` in the epilogue."""
    first = 1 if call.name in ("addmm", "baddbmm", "addmv") else 0
    left, right = call.args[first], call.args[first + 1]
    extra = (call.args[0],) if first else ()
    if call.name in ("mv", "addmv"):
        return [product(call, left, right, left.shape[0], 1, left.shape[1], extra=extra)]
    if call.name == "dot":
        return [product(call, left, right, 1, 1, left.shape[0])]
    *batch, m, k = left.shape
    return [product(call, left, right, m, right.shape[-1], k, math.prod(batch), extra=extra)]


def linear(call: Call) -> list[Draft]:
    """x·Wᵀ + b."""
    x, weight, *bias = [v for v in call.args if isinstance(v, Value)]
    return [product(call, x, weight, x.elements // x.shape[-1], weight.shape[0], x.shape[-1], extra=tuple(bias))]


def grouped(call: Call) -> list[Draft]:
    """Products of groups of rows with a matrix each (``_grouped_mm``): rows of a sorted batch, one matrix per expert."""
    left, right = call.args[0], call.args[1]
    if len(left.shape) == 2 and len(right.shape) == 2:  # gradients of the weights: rows are what is summed over
        groups = call.results[0].shape[0]
        m, n, k = number(left.shape[0]), number(right.shape[1]), left.shape[1] / groups
        return [product(call, left, right, m, n, k, groups, grouped=True)]
    groups = right.shape[0] if len(right.shape) == 3 else left.shape[0]
    rows = left.shape[-2] if len(left.shape) == 2 else left.shape[-2] * groups
    sizes = {"rows": number(rows), "groups": number(groups), "n": number(right.shape[-1]), "k": number(right.shape[-2])}
    return [Draft("gemm", (left, right), call.results[:1], sizes, {"grouped": True})]


def experts(call: Call) -> list[Draft]:
    """Products of rows that a router deals out, as one kernel that gathers its rows: ``rows`` of them over all experts."""
    left, right, rows = call.args[0], call.args[1], number(call.args[2])
    sizes = {"rows": rows, "groups": number(right.shape[0]), "n": number(right.shape[-1]), "k": number(right.shape[-2])}
    return [
        Draft("gemm", (left, right), call.results[:1], sizes, {"grouped": True}, suffix=_gradient(call, "grad_input"))
    ]


def experts_gradient(call: Call) -> list[Draft]:
    """Gradients of the experts' matrices."""
    left, right, rows = call.args[0], call.args[1], number(call.args[2])
    groups, k, n = call.args[3].shape
    made = product(call, left, right, k, n, rows / groups, groups, _gradient(call, "grad_weight"), grouped=True)
    return [made]


def _gradient(call: Call, suffix: str) -> str:
    return suffix if call.backward else ""


def convolution(call: Call) -> list[Draft]:
    """Convolutions of one to three dimensions, transposed or not."""
    x, weight = call.args[0], call.args[1]
    fields = _Shape(call, x, weight, *call.args[3:9])
    return [fields.draft("fwd", (x, weight), call.results[:1])]


def convolution_backward(call: Call) -> list[Draft]:
    """Gradients of the input and of the weight, as far as they are asked for."""
    grad, x, weight = call.args[0], call.args[1], call.args[2]
    fields = _Shape(call, x, weight, *call.args[4:10])
    mask = call.args[10]
    results = list(call.results)
    wanted = [results.pop(0) if given else None for given in mask]
    drafts = []
    if wanted[0] is not None:
        drafts.append(fields.draft("bwd_data", (grad, weight), (wanted[0],), "grad_input"))
    if wanted[1] is not None:
        drafts.append(fields.draft("bwd_weight", (grad, x), (wanted[1],), "grad_weight"))
    if wanted[2] is not None:
        reads, sizes = (grad,), {"flop": number(grad.elements), "rows": number(wanted[2].elements)}
        drafts.append(Draft("stream", reads, (wanted[2],), sizes, {"pattern": "norm"}, number(grad.elements)))
    return drafts


class _Shape:
    """The shape of a convolution, in terms of the convolution that is not transposed."""

    def __init__(self, call: Call, x: Value, weight: Value, stride: Any, padding: Any, dilation: Any, transposed: bool,
                 _: Any, groups: int) -> None:  # fmt: skip
        dims = len(x.shape) - 2
        self.call, self.groups, self.transposed = call, groups, transposed
        self.batch, self.c_in = x.shape[0], x.shape[1]
        self.kernel, self.size = weight.shape[2:], x.shape[2:]
        self.c_out = weight.shape[1] * groups if transposed else weight.shape[0]
        self.stride, self.padding, self.dilation = (_each(v, dims) for v in (stride, padding, dilation))
        self.positions = math.prod(
            (s + 2 * p - d * (k - 1) - 1) // t + 1
            for s, p, d, k, t in zip(self.size, self.padding, self.dilation, self.kernel, self.stride, strict=True)
        )

    def draft(self, direction: str, reads: tuple[Value, ...], writes: tuple[Value, ...], suffix: str = "") -> Draft:
        """The kernel: a convolution where the op can say it, else the product over gathered patches."""
        if self.transposed or len(self.size) > 2 or len(set(self.stride)) > 1:
            return self._patches(direction, reads, writes, suffix)
        (h, w), (kh, kw) = self._two(self.size), self._two(self.kernel)
        ph, pw = (
            p - (k - 1) * (d - 1) / 2
            for p, k, d in zip(self._two(self.padding, 0), (kh, kw), self._two(self.dilation), strict=True)
        )
        sizes: dict[str, Any] = {
            "batch": self.batch,
            "c_in": self.c_in,
            "c_out": self.c_out,
            "h": h,
            "w": w,
            "kh": kh,
            "kw": kw,
        }
        sizes |= {"stride": self.stride[0], "pad_h": ph, "pad_w": pw, "groups": self.groups}
        defaults = {"stride": 1.0, "pad_h": 0.0, "pad_w": 0.0, "groups": 1.0}
        sizes = {name: number(size) for name, size in sizes.items() if name not in defaults or size != defaults[name]}
        options = {} if direction == "fwd" else {"direction": direction}
        return Draft("conv", reads, writes, sizes, options, suffix=suffix)

    def _two(self, values: tuple[int, ...], first: int = 1) -> tuple[int, int]:
        return (first, values[0]) if len(values) == 1 else (values[0], values[1])

    def _patches(self, direction: str, reads: tuple[Value, ...], writes: tuple[Value, ...], suffix: str) -> Draft:
        """A transposed convolution meets every filter at every input position; others at every output position."""
        window = math.prod(self.kernel)
        if self.transposed:
            m, n, k = self.batch * math.prod(self.size), self.c_out // self.groups * window, self.c_in // self.groups
        else:
            m, n, k = self.batch * self.positions, self.c_out // self.groups, self.c_in // self.groups * window
        if direction == "bwd_data":
            n, k = k, n
        if direction == "bwd_weight":
            m, k = k, m
        return product(self.call, reads[0], reads[1], m, n, k, self.groups, suffix, writes[0])


def _each(value: Any, dims: int) -> tuple[int, ...]:
    given = tuple(value) if isinstance(value, tuple | list) else (value,)
    return given * dims if len(given) == 1 else given


def attention(call: Call) -> list[Draft]:
    """Softmax attention as one kernel: q, k, v are batch × heads × length × width; the last arguments say the mask."""
    return [_attention(call, call.args[0], call.args[1], call.args[2], call.results[:1], False)]


def attention_backward(call: Call) -> list[Draft]:
    """Its gradients as one kernel: the incoming gradient comes first."""
    _, query, key, value = call.args[:4]
    return [_attention(call, query, key, value, call.results, True)]


def _attention(call: Call, query: Value, key: Value, value: Value, writes: tuple[Value, ...], backward: bool) -> Draft:
    *batch, heads, q_len, width = query.shape
    given = [a for a in call.args if isinstance(a, bool)]
    causal = given[0] if given else bool(call.kwargs.get("causal", call.kwargs.get("is_causal", False)))
    numbers = [a for a in call.args if isinstance(a, int) and not isinstance(a, bool)]
    window = number(numbers[0]) if numbers else 0.0
    sizes = {
        "batch": number(math.prod(batch)),
        "heads": number(heads),
        "kv_heads": number(key.shape[-3]),
        "q_len": number(q_len),
        "kv_len": number(key.shape[-2]),
        "head_dim": number(width),
    }
    if value.shape[-1] != width:
        sizes["value_dim"] = number(value.shape[-1])
    if window > 0.0:
        sizes["window"] = window
    options: dict[str, Any] = {"causal": causal} | ({"backward": True} if backward else {})
    rest = tuple(v for v in call.inputs if v not in (query, key, value))
    return Draft("attention", (query, key, value, *rest), writes, sizes, options)


def recurrence(call: Call) -> list[Draft]:
    """A recurrent pass that was captured as one call (``capture/kernels_as_calls.py``), forward or backward."""
    variant, *numbers = call.args[-8:]
    names = ("batch", "seq", "heads", "head_dim", "state_dim", "groups", "chunk")
    sizes = {name: number(size) for name, size in zip(names, numbers, strict=True)}
    options = {"variant": variant} | ({"backward": True} if call.backward else {})
    return [Draft("scan", call.inputs, call.results, sizes, options)]


RULES: dict[str, Rule] = {
    **dict.fromkeys(("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "_int_mm", "matmul"), mm),
    "linear": linear,
    "_grouped_mm": grouped,
    "_scaled_mm": lambda call: [
        product(call, call.args[0], call.args[1], call.args[0].shape[0], call.args[1].shape[1], call.args[0].shape[1])
    ],
    "convolution": convolution,
    "convolution_backward": convolution_backward,
    "experts": experts,
    "experts_gradient": experts_gradient,
    "attention": attention,
    "attention_backward": attention_backward,
    **dict.fromkeys(("recurrence", "recurrence_backward"), recurrence),
}
