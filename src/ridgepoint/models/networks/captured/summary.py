"""What a work file holds, in a few facts: kernels, operations, bytes, and what no rule covers."""

from __future__ import annotations

import re
from typing import Any

from ridgepoint.kernels.unknown import rules_of
from ridgepoint.models.networks.captured.file import WorkFile
from ridgepoint.models.networks.captured.graph import Graph
from ridgepoint.models.networks.captured.kernels import Evaluation, Formats, Unknown
from ridgepoint.models.networks.tape import matrix_flop
from ridgepoint.work import Op, Repeat, Seq, Work


def summary(work: WorkFile) -> dict[str, Any]:
    """Facts at the usual sizes, every kernel by itself."""
    return {
        "name": work.name,
        "title": work.title,
        "captured_with": work.captured_with,
        "parameters": sum(work.parameters.values(), 0.0),
        "format": work.format,
        "sizes": dict(work.sizes),
        "method": work.method,
        "passes": {name: _facts(work, name, graph) for name, graph in work.passes.items()},
        "sizes_hint": " --batch N" if "batch" not in work.fixed else "",
    }


def _facts(work: WorkFile, name: str, graph: Graph) -> dict[str, Any]:
    formats = Formats(work.format, work.format, work.format)
    sizes = {"batch": 1.0, **work.sizes, **work.fixed}
    forward, back = Evaluation(graph, sizes, formats, fused=False).passes()
    whole = Seq(forward, back) if back is not None else forward
    found = list(_bytes(whole, 1.0))
    total = sum(count * size for _, count, size in found) or 1.0
    unknown: dict[str, list[float]] = {}
    for op, count, size in found:
        if isinstance(op, Unknown):
            entry = unknown.setdefault(op.call, [0.0, 0.0])
            entry[0] += count
            entry[1] += count * size / total
    return {
        "kernels": round(sum(count for _, count, _ in found)),
        "recorded": len(graph.kernels),
        "flop": float(matrix_flop(whole)),
        "bytes": total,
        "method": _methods(work).get(name, work.method),
        "unknown": [{"call": call, "count": n, "bytes_share": share} for call, (n, share) in unknown.items()],
    }


def _methods(work: WorkFile) -> dict[str, str]:
    """How the formulas of each pass were found."""
    parts = re.split(rf"; (?=(?:{'|'.join(map(re.escape, work.passes))}): )", work.method)
    return dict(part.split(": ", 1) for part in parts if ": " in part)


def _bytes(work: Work, times: float) -> Any:
    if isinstance(work, Op):
        rules = rules_of(work)
        yield work, times, float(rules.read_bytes(work) + rules.write_bytes(work))
    elif isinstance(work, Repeat):
        yield from _bytes(work.body, times * float(work.count))
    else:
        for child in work.children():
            yield from _bytes(child, times)
