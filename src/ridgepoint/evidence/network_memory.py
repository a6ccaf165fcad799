"""Peak memory of networks. A pass keeps its weights and what one kernel has at hand; training what eager PyTorch keeps, and
the most that one gradient has at hand besides.

The largest picture of a run decides its peak. Detectors' pictures are scaled to 800 pixels on their short side, at most 1333 on
the long one, and padded to whole multiples of 32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ridgepoint.evidence.rows import InexpressibleError, Rows
from ridgepoint.evidence.run_scenarios import Figure, Figures, states, with_formats
from ridgepoint.evidence.step_rows import engine_of
from ridgepoint.formats import FORMATS
from ridgepoint.machines.machine import Machine
from ridgepoint.models.backward import UNTRAINED
from ridgepoint.models.networks.network import Network
from ridgepoint.numeric import Num
from ridgepoint.ops import Conv, Gemm, Stream
from ridgepoint.plan import Plan
from ridgepoint.serving.engines import BINARY
from ridgepoint.tasks import Forward, Train
from ridgepoint.tasks.build import build
from ridgepoint.tasks.networks import forward_tape
from ridgepoint.work import Op, Work

CONTEXT_BYTES = 1.47e9
"""What NVML counts beside PyTorch's own: driver context, library workspaces (a GPU with cuBLAS and cuDNN loaded)."""
VISIBLE = 0.995
"""Part of the visible device that PyTorch can reserve beside its context."""
SHORT_PX, LONG_PX, MULTIPLE = 800.0, 1333.0, 32.0
"""Sides of the largest picture (detectron2's defaults for COCO), and what they are padded to."""
GIB = 2.0**30
"""The log counts binary megabytes, of which the table makes GB."""
SPREAD = 0.1
"""Relative error that is claimed, as for other software whose every tensor is counted."""
PASS_SPREAD = 0.3
"""That of passes, of which no row of the development tables tells: libraries' workspaces lie beside."""


def network_memory(rows: Rows, net: Network, machine: Machine) -> Figures:
    """Peak of a pass or a training step on one device, as its log counts it, and whether it fits.

    Errors: ``InexpressibleError`` for other tasks, and for training rows that state no size of pictures unless their source has
    one.
    """
    reader = {"forward": _forward, "train_step": _train}.get(rows.text("task"))
    if reader is None:
        raise InexpressibleError(f"no memory figure is modelled for {rows.text('task')} of a network")
    peak, unit, spread = reader(rows, net, machine)
    beside = CONTEXT_BYTES if rows.tag("kind") == "device_used" else 0.0
    fits = np.asarray(peak <= machine.memory_bytes * BINARY * VISIBLE)
    figures = {"fits": Figure(np.where(fits, 1.0, 0.0), np.nan, spread)}
    return figures | {"peak_memory_gb": Figure((peak + beside) / unit, np.nan, spread)}


def _forward(rows: Rows, net: Network, machine: Machine) -> tuple[Num, float, float]:
    """Bytes at the peak of a pass, those of a GB, and the spread."""
    engine = engine_of(rows)
    plan = with_formats(Plan(compiled=engine.compiled, dp=float(machine.devices)), rows, net, machine)
    stated = rows.table.numbers["image_px"][rows.index]
    task = Forward(batch=rows.number("batch"), image_px=None if np.isnan(stated).any() else stated)
    ledger = build(net, machine, task, plan).ledger
    return ledger.total_bytes - ledger["runtime"], 1e9, PASS_SPREAD


def _train(rows: Rows, net: Network, machine: Machine) -> tuple[Num, float, float]:
    """The same of a training step."""
    sizes, unit = _pictures(rows)
    batch = rows.number("global_batch" if states(rows, "global_batch") else "batch")
    optimizer = rows.tag("optimizer", "sgd")
    plan = with_formats(Plan(compiled=False, optimizer=optimizer, dp=float(machine.devices)), rows, net, machine)
    aspect = {name: value for name, value in sizes.items() if name != "image_px"}
    task = Train(batch=batch, image_px=sizes["image_px"], inputs=aspect)
    ledger = build(net, machine, task, plan).ledger
    kept = sum((size for name, size in ledger.entries.items() if name != "runtime"), 0.0)
    # Gradients are copied into buckets for their exchange.
    buckets = ledger["gradients"] if machine.devices > 1 else 0.0
    tape = forward_tape(net, plan, batch / machine.devices, sizes, "train")
    return kept + buckets + most_at_hand(tape.work), unit, SPREAD


def _pictures(rows: Rows) -> tuple[dict[str, Num], float]:
    """Sizes of the largest picture, and the bytes of what the source calls a GB."""
    stated = rows.table.numbers["image_px"][rows.index]
    if not np.isnan(stated).any():
        return {"image_px": stated}, 1e9
    if rows.text("source") != "detectron2":
        raise InexpressibleError("image_px is not stated")
    return {"image_px": SHORT_PX, "aspect": np.ceil(LONG_PX / MULTIPLE) * MULTIPLE / SHORT_PX}, GIB


def most_at_hand(work: Work) -> Num:
    """Bytes of the largest step backwards of ``work``: the gradients of its output and of its input, and the workspace of a
    convolution. Parts that are not trained have none.

    >>> float(most_at_hand(Conv(batch=1.0, c_in=16.0, c_out=16.0, h=8.0, w=8.0, kh=1.0, kw=1.0, acts="fp32")))
    8192.0
    """
    if isinstance(work, Op):
        return _AT_HAND[type(work)](work) if type(work) in _AT_HAND else 0.0
    found: Num = 0.0
    for child in () if work.label == UNTRAINED else work.children():
        found = np.maximum(found, most_at_hand(child))
    return found


WINOGRAD = 6.0**2 / 4.0**2
"""Transformed values for each that a tile of 4 × 4 results of a 3 × 3 convolution reads or makes (Lavin and Gray 2016): cuDNN's
transforms are passes of their own, whose results lie in a workspace."""


def _of_conv(op: Conv) -> Num:
    """Of 3 × 3 convolutions without stride or groups in 32 bits with the workspace of Winograd's transforms."""
    both = op.batch * (op.c_in * op.h * op.w + op.c_out * op.h * op.w / op.stride**2) * FORMATS[op.acts].bytes
    plain = op.kh == 3.0 and op.kw == 3.0 and op.stride == 1.0 and np.all(np.asarray(op.groups) == 1.0)
    return both * (1.0 + WINOGRAD) if plain and op.acts == "fp32" else both


_AT_HAND: dict[type, Callable[[Any], Num]] = {
    Conv: _of_conv,
    Gemm: lambda op: op.batch * op.m * (op.k + op.n) * FORMATS[op.acts].bytes,
    Stream: lambda op: op.write_bytes + np.minimum(op.read_bytes, op.write_bytes),
}
