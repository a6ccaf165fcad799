"""A network divided between a device and a server: the first layers here, a message, the rest there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.models.state import peak_transient_bytes
from ridgepoint.numeric import plain
from ridgepoint.ops import Conv, Delay, Gemm
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Forward
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.tasks.inference import with_host
from ridgepoint.techniques.conditions import every, network, task_is
from ridgepoint.techniques.patches import cut, written_bytes
from ridgepoint.techniques.products import summed, weights_of
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, scaled_entries, with_entries
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Seq, Work, ops


def elsewhere(work: Work, machine: Machine, label: str, eager: bool = False) -> Delay:
    """``work`` on another machine, launched from its host: to this one a fixed time, computed with that machine's kernels.

    >>> elsewhere(Gemm(m=4096.0, n=4096.0, k=4096.0), find_machine("h100-sxm"), "server").seconds > 1e-4
    True
    """
    return Delay(seconds=evaluate(with_host(work, machine, False, eager), machine).time_s, label=label)


def _server(given: Scenario, values: Values) -> str:
    try:
        find_machine(values["server"])
    except RidgepointError as error:
        return error.message
    return ""


@technique(
    "split-computing",
    title="first layers on the device, the rest on a server",
    mechanism=("split_computing",),
    papers=("bottlefit", "sc2-bench", "autolife-lite"),
    quality="BottleFit: up to 0.6 % less accuracy at a bottleneck that is trained; sending plain features changes nothing",
    grade="near",
    cannot=every(network, task_is(Forward), _server),
    parameters=(
        Parameter("server", "a100-sxm-80gb", "machine that runs the rest, by its name"),
        Parameter(
            "share", 0.3, "part of the layers that the device runs (0: it sends its input)", 0.0, 1.0, one_value=True
        ),
        Parameter("compression", 0.25, "bytes sent over the bytes of the features there", 0.0, 1.0),
        Parameter("uplink", 1e7, "what the network takes", 1.0, 1e15, unit="bytes/s"),
        Parameter("round_trip", 0.01, "fixed time of a message and its answer", 0.0, 1e4, unit="s"),
    ),
    occupies=("place", "weights place"),
    training_free=False,
    presumes="a server can be reached, and may see what is sent",
)
def split_computing(given: Scenario, values: Values) -> Scenario:
    """time = head on the device + features · compression / uplink + round trip + tail on the server.

    The server's part and the network are fixed times to the device; energy and cost are the device's alone. With a share of 0
    all is offloaded (``compression`` is then that of the input), with 1 all is local. Features are largest in the first
    layers of most networks, so that a cut without a bottleneck there sends more than the picture.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     return rp.estimate("resnet152", on="jetson-nano", task=rp.Forward(batch=1), apply=apply).time_s
    >>> fast, slow = (time(f"split-computing:share=0.2,compression=0.05,uplink={u}") for u in (1e8, 1e4))
    >>> fast < time() < slow
    True
    """
    return edited(given, "split-computing", _split, values)


def _split(built: Built, given: Scenario, values: Values) -> Built:
    server, share = find_machine(values["server"]), values["share"]
    phases: list[Phase] = []
    kept, whole = 0.0, 0.0
    for phase in built.phases:
        head, tail = cut(phase.work, share)
        sent = (written_bytes(head) if share > 0.0 else _input_bytes(given, built)) * values["compression"]
        message = Delay(seconds=sent / values["uplink"] + values["round_trip"], label="network")
        rest = (message, elsewhere(tail, server, "server", phase.eager)) if any(True for _ in ops(tail)) else ()
        phases.append(replace(phase, work=Seq(head, *rest)))
        kept += float(np.max(summed(head, _weights)))
        whole += float(np.max(summed(phase.work, _weights)))
    changed = scaled_entries(replace(built, phases=tuple(phases)), kept / max(whole, 1.0), "weights")
    peak = max((float(np.max(peak_transient_bytes(cut(p.work, share)[0]))) for p in built.phases), default=0.0)
    said = f"the rest runs on {values['server']}, one request at a time; energy and cost are the device's alone"
    return assumed(with_entries(changed, activations=plain(np.minimum(peak, built.ledger["activations"]))), said)


def _weights(op: Op) -> float:
    return float(np.max(weights_of(op))) if isinstance(op, Gemm | Conv) else 0.0


def _input_bytes(given: Scenario, built: Built) -> float:
    """A batch of pictures, a byte per value."""
    px = getattr(given.task, "image_px", None) or given.model.size("image_px")  # type: ignore[union-attr]
    return float(np.max(3.0 * np.asarray(px) ** 2.0 * built.samples / built.layout.dp))
