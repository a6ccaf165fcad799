"""Caches that go from the replica that read a prompt to the one that decodes (Splitwise, Patel et al. 2024).

Every device of a replica sends its part to its counterpart. Replicas of one machine use the link between them; between
machines of two types a cache leaves its node, and takes as long as the slower end: the sender's devices share its bytes
among fewer or more links than the receiver's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ridgepoint.errors import RidgepointError
from ridgepoint.ops import Collective
from ridgepoint.serving.capacity import Cache

if TYPE_CHECKING:
    from ridgepoint.serving.deployment import Deployment


def transfer(given: Deployment, cache: Cache) -> tuple[float, float]:
    """(seconds per token, seconds beside) of handing a cache over; ``cache``: that of a device which decodes.

    Errors: ``bad_machine`` where devices of a type have no link out of their node.
    """
    if given.reading is None:
        return _end(given, cache, float(given.devices_per_replica))
    ends = [_end(_two_nodes(part), part.cache(1.0), float(part.machine.devices_per_node)) for part in given.parts]
    return max(end[0] for end in ends), max(end[1] for end in ends)


def _end(given: Deployment, cache: Cache, stride: float) -> tuple[float, float]:
    """The same for one end, whose counterpart is ``stride`` devices away."""

    def seconds(size: float) -> float:
        return given.seconds(
            Collective(operation="send_recv", bytes=size, ranks=2.0, stride=stride, label="kv.transfer")
        )

    small, large = 1e6, 1e9
    per_byte = (seconds(large) - seconds(small)) / (large - small)
    start = max(seconds(small) - small * per_byte, 0.0)
    return per_byte * cache.token_bytes, start + per_byte * cache.sequence_bytes


def _two_nodes(given: Deployment) -> Deployment:
    """The deployment on at least two nodes, so that there is a way out of one."""
    machine = given.machine
    if machine.link("cluster") is None:
        raise RidgepointError(
            "bad_machine",
            f"the sheet of {machine.device.name} has no link between nodes, over which caches could leave",
            "read prompts and decode on devices of one node: --prefill-replicas",
        )
    return replace(given, machine=replace(machine, nodes=max(machine.nodes, 2)))


_OF_ONE_TYPE = {
    "sharing": "--sharing",
    "adapters": "--adapters",
    "failures": "--failures",
    "scaling": "--autoscale",
    "budget": "--power-budget",
}
"""What a deployment may have whose devices are all of one type, and its option."""


def checked_reading(given: Deployment) -> None:
    """Errors: ``bad_plan`` where what ``given.reading`` hands over cannot be decoded, or the parts do not go together."""
    other = given.reading
    if other is None:
        return

    def refuse(what: str, hint: str) -> RidgepointError:
        return RidgepointError("bad_plan", what, hint)

    if other.model != given.model:
        raise refuse(f"a cache of {other.model.name} is no use to {given.model.name}", "serve one model")
    if given.prefill_replicas or given.mixed_replicas or other.prefill_replicas or other.reading is not None:
        raise refuse("replicas on other devices read all prompts", "leave out --prefill-replicas and --mixed-replicas")
    formats = [part.complete_plan.kv or part.passes.run.formats.kv for part in (other, given)]
    if formats[0] != formats[1]:
        raise refuse(
            f"{other.machine.name} keeps the cache in {formats[0]} and {given.machine.name} in {formats[1]}",
            "give both the same --kv",
        )
    for name, option in _OF_ONE_TYPE.items():
        if getattr(given, name) is not None:
            raise refuse(
                f"{option} and replicas on devices of two types do not go together: it is worked out for one type alone",
                f"leave out {option}, or read prompts on devices of the same type: --prefill-replicas",
            )
    if "static" in (given.rules.policy, other.rules.policy):
        raise refuse("static batches read and decode their requests themselves", "use another --policy")
