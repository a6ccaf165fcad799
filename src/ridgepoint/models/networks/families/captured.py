"""Captured work, played as it was written down (``models/networks/captured``)."""

from __future__ import annotations

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.models.networks.captured.file import FAMILY, WorkFile
from ridgepoint.models.networks.captured.formula import holds
from ridgepoint.models.networks.captured.kernels import Evaluation, Formats
from ridgepoint.models.networks.captured.memory import memory
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import Sizes, family
from ridgepoint.models.networks.tape import Stated, Tape


@family(FAMILY)
def captured(tape: Tape, net: Network, sizes: Sizes) -> None:
    """The pass of the task that the tape is for. Training is derived from a forward pass where no step was captured."""
    work: WorkFile = net.option("work")
    name = "forward" if tape.task == "train" and "train" not in work.passes else tape.task
    if name not in work.passes:
        have = " and ".join(work.passes)
        raise RidgepointError(
            "bad_task",
            f"{net.name} was captured for {have}, not for {tape.task}",
            f"capture it with --task {tape.task}",
        )
    fixed = work.fixed.get("batch")
    if fixed is not None and np.any(np.asarray(tape.batch) != fixed):
        raise RidgepointError(
            "bad_size",
            f"{net.name} was captured for a batch of {fixed:g} only: {work.method}",
            f"use --batch {fixed:g}",
        )
    at_sizes = {**sizes, "batch": tape.batch}
    for condition in work.passes[name].conditions:
        if not holds(condition, at_sizes):
            raise RidgepointError(
                "bad_size",
                f"{net.name} runs another program at such sizes: what was captured holds where {condition}",
                "stay within that, or capture it again at a number of your own: --input 'x: float32[128,…]'",
            )
    formats = Formats(work.format, tape.acts, tape.weights)
    at = Evaluation(work.passes[name], at_sizes, formats, tape.fused)
    forward, back = at.passes()
    found = memory(at)
    tape.play_work(forward)
    tape.stated = Stated(found.peak, found.cache, back)
    for label, count in work.parameters.items():
        tape.count(label, count)
