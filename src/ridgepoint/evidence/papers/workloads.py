"""A row's workload as a request, and as the command that people type."""

from __future__ import annotations

import shlex

from ridgepoint.evidence.papers.rows import Workload
from ridgepoint.request import Request, Value, option

_OFF = {"fused_attention": "--no-fused-attention", "graph_capture": "--no-graphs"}


def to_request(workload: Workload) -> Request:
    """What the workload says, ready for ``request.to_scenario``."""
    sizes = {key: value for key, value in workload.task.items() if key != "name"}
    return Request(
        workload.model,
        workload.machine,
        str(workload.task["name"]) if "name" in workload.task else None,
        sizes,
        workload.plan,
        workload.inputs,
    )


def command(request: Request) -> str:
    """The ``ridgepoint analyze`` command of a request.

    >>> command(Request("gpt2", "t4", "decode", {"batch": 8}, {"kv": "fp8", "graph_capture": False}))
    'ridgepoint analyze gpt2 --on t4 --task decode --batch 8 --kv fp8 --no-graphs'
    """
    words = ["ridgepoint", "analyze", str(request.model), "--on", str(request.machine)]
    words += ["--task", request.task] if request.task else []
    for name, value in {**request.sizes, **request.plan}.items():
        words += _option(name, value)
    for name, value in request.inputs.items():
        words += ["--size", f"{name}={_text(value)}"]
    return shlex.join(words)


def _option(name: str, value: Value) -> list[str]:
    if name == "compiled":
        return [option(name), "compiled" if value else "eager"]
    if isinstance(value, bool):
        return [option(name) if value else _OFF[name]]
    return [option(name), _text(value)]


def _text(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) and value.is_integer() and value < 1e6 else str(value)
