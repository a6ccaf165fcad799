"""Rules of collective communication, as recorded under a process group that only pretends."""

from __future__ import annotations

from ridgepoint.capture.calls import Call, number
from ridgepoint.capture.draft import Draft, stream
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

    The tracer says how many ranks take part, how far apart they are, and whether the call runs beside the computation.
    """
    operation = _OPERATIONS[call.name]
    given = call.inputs[1] if call.name in _OUTPUT_FIRST else call.inputs[0]
    ranks, stride = float(call.kwargs["ranks"]), float(call.kwargs.get("stride", 1.0))
    elements = number(given.elements) * (ranks if operation == "all_gather" else 1.0)
    sizes = {"elements": elements, "ranks": ranks} | ({"stride": stride} if stride > 1.0 else {})
    options = {"operation": operation} | ({"beside": True} if call.kwargs.get("beside") else {})
    return [Draft("collective", (given,), call.results[:1], sizes, options)]


def packed(call: Call) -> list[Draft]:
    """Shards put into the place of this rank in the buffer that is gathered next; the rest of it is not touched."""
    shards = tuple(call.args[0])
    moved = sum(shard.elements for shard in shards)
    return [stream(call, "copy", reads=shards, writes=call.results[1:], space=moved, fuses=False, appends=True)]


def unpacked(call: Call) -> list[Draft]:
    """A gathered buffer taken apart into parameters, or gradients put together for a reduce-scatter: copies."""
    return [stream(call, "copy", fuses=False)]


RULES: dict[str, Rule] = {
    **dict.fromkeys(_OPERATIONS, collective),
    "all_gather_copy_in": packed,
    **dict.fromkeys(("split_with_sizes_copy", "chunk_cat"), unpacked),
}
