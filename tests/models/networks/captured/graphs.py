"""Small graphs for the tests of captured work."""

from typing import Any

from ridgepoint.models.networks.captured.graph import Graph, Kernel, Span, Tensor
from ridgepoint.work import Work, ops


def ops_of(work: Work) -> list[Any]:
    """The ops of a work, each once."""
    return list(ops(work))


def stream(reads, writes, space, rows=0.0, label="", **options):
    parts = tuple((t, space if isinstance(space, str) else float(space), 0) for t in reads)
    sizes = {"flop": space} | ({"rows": rows} if rows else {})
    named = {"fuses": True} | ({"pattern": "norm"} if rows else {}) | options
    return Kernel("stream", "step", label, parts, tuple(writes), sizes, named, space)


def gemm(left, right, out, m, n, k, label=""):
    sizes = {"m": m, "n": n, "k": k}
    return Kernel("gemm", "mm", label, ((left, 1.0, 0), (right, 1.0, 0)), (out,), sizes)


def graph(elements, kernels, spans=(), backward=-1, roles=None, formats=None):
    roles, formats = roles or {}, formats or {}
    tensors = [Tensor(n, formats.get(i, "fp16"), roles.get(i, "activation")) for i, n in enumerate(elements)]
    return Graph(tuple(tensors), tuple(kernels), tuple(Span(*s) for s in spans), backward)
