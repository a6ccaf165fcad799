"""Rules of collective communication, as recorded under a process group that only pretends."""

from __future__ import annotations

from ridgepoint.capture.calls import Call
from ridgepoint.capture.draft import Draft
from ridgepoint.capture.products import Rule

_OPERATIONS = {
    "all_reduce": "all_reduce", "all_reduce_": "all_reduce", "allreduce_": "all_reduce", "all_reduce_coalesced": "all_reduce",
    "all_gather_into_tensor": "all_gather", "all_gather_into_tensor_out": "all_gather", "_allgather_base_": "all_gather",
    "allgather_": "all_gather", "all_gather_into_tensor_coalesced": "all_gather", "reduce_scatter_tensor": "reduce_scatter",
    "_reduce_scatter_base_": "reduce_scatter", "reduce_scatter_tensor_coalesced": "reduce_scatter",
    "all_to_all_single": "all_to_all", "alltoall_base_": "all_to_all", "broadcast": "broadcast", "broadcast_": "broadcast",
}  # fmt: skip
_OUTPUT_FIRST = ("_allgather_base_", "_reduce_scatter_base_", "alltoall_base_")


def collective(call: Call) -> list[Draft]:
    """Bytes as collectives count them: the gathered output, the whole input of a reduce-scatter, the buffer of others.

    The number of ranks comes as the last argument; the tracer puts it there.
    """
    operation = _OPERATIONS[call.name]
    given = call.inputs[1] if call.name in _OUTPUT_FIRST else call.inputs[0]
    ranks = float(call.kwargs["ranks"])
    elements = float(given.elements) * (ranks if operation == "all_gather" else 1.0)
    return [
        Draft("collective", (given,), call.results, {"elements": elements, "ranks": ranks}, {"operation": operation})
    ]


RULES: dict[str, Rule] = dict.fromkeys(_OPERATIONS, collective)
