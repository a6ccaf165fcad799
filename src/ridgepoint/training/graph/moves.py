"""Moving a model's parameters from the layout that trained them to the layout that calls them next.

A device that trained 1/p of the weights and is to hold 1/q of them gathers what it lacks from p/q devices: across pipeline
stages first, inside the tensor-parallel group and the shards of ZeRO-3 second. Where layouts are nested (q ≥ p) every device
has its part already. On other devices each one receives its part from one that has it. (Parameter reallocation: Mei et al.
2024; the hybrid engine of Yao et al. 2023 is the case of ZeRO-3 → tensor parallel.)
"""

from __future__ import annotations

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.machines.machine import Machine
from ridgepoint.ops import Collective, Transfer
from ridgepoint.training.graph.candidates import Candidate
from ridgepoint.work import Seq, Work


def move(trained: Candidate, called: Candidate, machine: Machine, apart: bool = False) -> Work:
    """The work of one device: ``apart`` where the call runs on devices that did not train. Nothing where every device has its
    part already.
    """
    held = called.weight_bytes
    if apart:
        far = machine.devices_per_node if machine.nodes > 1 else 1
        return Collective(operation="send_recv", bytes=held, ranks=2.0, stride=float(far), label="move.parameters")
    steps: list[Work] = []
    stages = max(trained.degree("pp") // called.degree("pp"), 1)
    inner = max(trained.pieces // called.pieces // stages, 1)
    if stages > 1:
        stride = trained.degree("tp") * trained.degree("cp") * trained.degree("dp")
        steps.append(_gather(held / inner, stages, stride))
    if inner > 1:
        steps.append(_gather(held, inner, called.degree("tp")))
    return Seq(*steps)


def _gather(size: float, ranks: int, stride: int) -> Work:
    return Collective(
        operation="all_gather", bytes=size, ranks=float(ranks), stride=float(stride), label="move.parameters"
    )


def fetched(size: float, direction: str = "read") -> Work:
    """What rests in the host's memory, brought to the device before a call (``read``), or taken back after it (``write``)."""
    return Transfer(bytes=size, direction=direction, tier="host", label="move.from_host")


def seconds(work: Work, machine: Machine) -> float:
    """Expected seconds of a move.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> seconds(Seq(), find_machine("8xh100-sxm"))
    0.0
    """
    return 0.0 if work == Seq() else float(evaluate(work, machine).time_s)
