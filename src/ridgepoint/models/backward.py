"""The backward pass of a work: one rule per op kind (design §2), everything else follows the tree backwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ridgepoint.errors import RidgepointError
from ridgepoint.ops import Attention, Collective, Conv, Gemm, Host, Scan, Stream
from ridgepoint.work import Op, Overlap, Repeat, Seq, Work

UNTRAINED = "untrained"
"""Label of a part with frozen weights and nothing trained before it, for which no gradient is asked."""


def backward(work: Work) -> Work:
    """The gradient of everything in ``work``, last part first.

    A product costs two: the gradient of its input (m × n)·(n × k) and of its weight (k × m)·(m × n).

    >>> from ridgepoint.work import tree
    >>> print(tree(backward(Gemm(m=8.0, n=4.0, k=2.0, label="up"))))
    Seq
    ├─ up.grad_input: Gemm(m=8, n=2, k=4)
    └─ up.grad_weight: Gemm(m=2, n=4, k=8)
    """
    if work.label == UNTRAINED:
        return Seq()
    if isinstance(work, Seq | Overlap):
        return type(work)(*(backward(part) for part in reversed(work.parts)), label=work.label)
    if isinstance(work, Repeat):
        return replace(work, body=backward(work.body))
    rule = _RULES.get(work.kind) if isinstance(work, Op) else None
    if rule is None:
        what = work.kind if isinstance(work, Op) else type(work).__name__
        raise RidgepointError("bad_work", f"no rule gives the backward pass of '{what}' ({work.label})")
    return rule(work)


def with_statistics(work: Work) -> Work:
    """A forward pass as training runs it: batch norms read their input for its mean and variance before they apply them."""
    if isinstance(work, Seq | Overlap):
        return type(work)(*(with_statistics(part) for part in work.parts), label=work.label)
    if isinstance(work, Repeat):
        return replace(work, body=with_statistics(work.body))
    if isinstance(work, Stream) and work.pattern == "batch_norm":
        return replace(work, read_bytes=work.read_bytes + work.write_bytes)
    return work


def _gemm(op: Gemm) -> Work:
    wide = op.acts if op.weights != op.acts and op.weights.startswith(("int", "nf")) else op.weights
    input_gradient = replace(op, n=op.k, k=op.n, weights=wide, label=f"{op.label}.grad_input")
    dense: dict[str, Any] = {"stored": 1.0, "unpack_flop": 0.0, "computed": 1.0}
    weight_gradient = replace(op, m=op.k, k=op.m, weights=op.acts, label=f"{op.label}.grad_weight", **dense)
    return Seq(input_gradient, weight_gradient)


def _stream(op: Stream) -> Work:
    """Reads the incoming gradient and the saved input, writes the outgoing one."""
    return replace(
        op,
        read_bytes=op.read_bytes + op.write_bytes,
        write_bytes=op.read_bytes,
        flop=2.0 * op.flop,
        label=f"{op.label}.grad",
    )


_DUAL = {"all_gather": "reduce_scatter", "reduce_scatter": "all_gather"}


def _collective(op: Collective) -> Work:
    return replace(op, operation=_DUAL.get(op.operation, op.operation), label=f"{op.label}.grad")


def _host(op: Host) -> Work:
    """Of each product that the host started it starts two gradients."""
    return replace(op, launches=2.0 * op.launches, label=f"{op.label}.grad")


def _flagged(op: Any) -> Work:
    gradient: Work = replace(op, backward=True, label=f"{op.label}.grad")
    return gradient


def _conv(op: Conv) -> Work:
    return Seq(
        replace(op, direction="bwd_data", label=f"{op.label}.grad_input"),
        replace(op, direction="bwd_weight", label=f"{op.label}.grad_weight"),
    )


_RULES: dict[str, Callable[[Any], Work]] = {
    Gemm.kind: _gemm,
    Stream.kind: _stream,
    Collective.kind: _collective,
    Host.kind: _host,
    Attention.kind: _flagged,
    Scan.kind: _flagged,
    Conv.kind: _conv,
}
