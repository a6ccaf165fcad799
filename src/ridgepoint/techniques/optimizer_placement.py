"""Optimizer states in host memory, updated partly by the processor and partly by the device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import Model
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Host, Stream, Transfer
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.tasks.layout import execution
from ridgepoint.tasks.updates import gradient_bytes, optimizer_bytes
from ridgepoint.techniques.conditions import every, trains, transformer, wants
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, with_ops
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Overlap, Work, walk


@technique(
    "optimizer-interleaved",
    title="offloaded states updated by processor and device in turn",
    mechanism=("offload_cpu", "optimizer_memory"),
    papers=("deep-optimizer-states",),
    quality="same updates",
    grade="exact",
    cannot=every(
        trains,
        transformer,
        wants(lambda g, _: g.plan.offload_optimizer == "host", "the states are not in host memory (offload-optimizer)"),
    ),
    parameters=(Parameter("share", 0.5, "part of the parameters that the device updates", 0.0, 1.0),),
    occupies=("optimizer update",),
    neutral={"share": 0.0},
)
def optimizer_interleaved(given: Scenario, values: Values) -> Scenario:
    """States of ``share`` of the parameters go to the device and back, beside the processor's update of the rest.

    Maurya et al. 2024. The processor's update streams (2·states + gradients + weights) bytes through its memory; the device's
    moves the states over the link, in and out at once, and neither the gradients nor the new weights of that part. Which is
    quicker is a matter of the host's memory against its link: shared by many devices, the memory is the slower one. The
    values are converted on the device, so that copies need not block (``blocking_offload``).

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> float:
    ...     task, plan = rp.Train(batch=4, seq=512), rp.Plan(zero_stage=3, recompute="full", offload_optimizer="host")
    ...     return rp.estimate("gpt-neox-20b", on="4xh100-sxm", task=task, plan=plan, apply=apply).time_s
    >>> run("optimizer-interleaved:share=0.3") < run()
    True
    """
    converted = replace(given, plan=replace(given.plan, blocking_offload=False)) if np.any(values["share"]) else given
    return edited(converted, "optimizer-interleaved", _interleaved, values)


def _interleaved(built: Built, given: Scenario, values: Values) -> Built:
    assert isinstance(given.model, Model)
    share = np.asarray(values["share"], dtype=float)
    run, _ = execution(given.model, given.plan, built.layout, True)
    width = FORMATS[run.formats.stream].bytes
    parameters = sum((_sent(op) for phase in built.phases for op in walk(phase.work)), 0.0) / width
    states = optimizer_bytes(run, given.plan, given.model.hidden)
    there = plain(parameters * share * states)
    here = Overlap(
        Transfer(bytes=there, direction="read", label="offload.states_in"),
        Stream(
            read_bytes=plain(parameters * share * (states + gradient_bytes(given.plan))),
            write_bytes=plain(parameters * share * (states + width)),
            flop=plain(12.0 * parameters * share),
            special=plain(parameters * share),
            pattern="optimizer",
            label="optimizer",
        ),
        Transfer(bytes=there, direction="write", label="offload.states_out"),
    )

    def change(op: Op) -> Work:
        if isinstance(op, Host) and op.label == "offload.optimizer":
            return Overlap(replace(op, bytes=plain(op.bytes * (1.0 - share))), here)
        if isinstance(op, Transfer) and op.label in ("offload.gradients", "offload.weights"):
            return replace(op, bytes=plain(op.bytes * (1.0 - share)))
        return op

    return with_ops(built, change) if np.any(share > 0.0) else built


def _sent(work: Work) -> Num:
    """Bytes of updated weights that the host sends back."""
    return work.bytes if isinstance(work, Transfer) and work.label == "offload.weights" else 0.0
