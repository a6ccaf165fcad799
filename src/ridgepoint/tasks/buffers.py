"""What a training step needs beside states and activations: what a layer works in, what is gathered, what links pass through.

Sources: Zhao et al. 2023 (FSDP: one unit in work, one gathered ahead; gradients copied into the buffer that is reduced), NCCL's
source (``init.cc``, ``transport/p2p.cc``: a receiving connection has a buffer for each protocol, in every channel).
"""

from __future__ import annotations

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.execution import Execution, Tokens
from ridgepoint.models.state import layer_bytes, peak_transient_bytes
from ridgepoint.models.transformer import layer_work
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Collective
from ridgepoint.plan import Plan
from ridgepoint.tasks.activations import kinds_of
from ridgepoint.tasks.layout import Layout
from ridgepoint.tasks.trained import numbers_of, stored_bytes
from ridgepoint.tasks.updates import at_stage, copies, ever, exchanged_bytes, spans
from ridgepoint.work import Work, ops

GATHERED_UNITS = 2.0
"""Layers whose weights are whole at once with ZeRO-3: the one in work and the one gathered ahead of it."""
CHANNEL_BYTES = 524_288.0 + 4_915_200.0 + 4_194_304.0
"""NCCL's buffers of one receiving connection, by its defaults: LL (8 lines × 512 threads × 8 steps × 16 B), LL128 (120 × 640
threads × 8 steps × 8 B) and Simple (4 MiB).
"""
WITH_CHANNELS = ("gpu",)
"""Kinds of devices whose library keeps such buffers."""


def buffers(
    model: Model, run: Execution, layout: Layout, tokens: Tokens, plan: Plan, room: Num = 0.0
) -> dict[str, Num]:
    """Bytes of a device, by purpose. The backward pass of a layer finds ``room`` where the logits were: only what it needs more
    counts.
    """
    workspace = layer_workspace(model, run, tokens)
    shards = _of_shards(model, run, layout, plan) if ever(plan, 2.0) else {}
    buckets = shards.pop("gradient buckets", 0.0)
    more = np.maximum(workspace + buckets - room, 0.0)
    found = {"workspace": plain(np.minimum(workspace, more)), **shards}
    if np.any(np.asarray(buckets) > 0.0):
        found["gradient buckets"] = plain(np.maximum(more - workspace, 0.0))
    return found


def behind_logits(model: Model, run: Execution, layout: Layout, tokens: Tokens, plan: Plan) -> Num:
    """What the backward pass of a layer needs besides what is kept, when the logits are gone."""
    buckets = _of_shards(model, run, layout, plan).get("gradient buckets", 0.0) if ever(plan, 2.0) else 0.0
    return layer_workspace(model, run, tokens) + buckets


def layer_workspace(model: Model, run: Execution, tokens: Tokens) -> Num:
    """The most that one op of a backward pass reads and writes besides what is kept: gradients as large as input and output.
    Tokens on their way to experts of other ranks and back lie twice beside those that are kept: as sent, as received.
    """
    most: Num = 0.0
    for stack in filter(None, (model.encoder, model.decoder)):
        for layer in kinds_of(stack):
            work = layer_work(layer, stack.hidden, tokens, run, stack.causal, "l", tokens.context)
            most = np.maximum(most, np.maximum(peak_transient_bytes(work), 2.0 * _dispatched(work)))
    return plain(most)


def _dispatched(work: Work) -> Num:
    return sum((op.bytes for op in ops(work) if isinstance(op, Collective) and op.label.endswith(".dispatch")), 0.0)


def _of_shards(model: Model, run: Execution, layout: Layout, plan: Plan) -> dict[str, Num]:
    """Whole weights of the layers at hand and of the tables (which stay whole through a step), and gradients before they are
    reduced: as computed, and in the buffer that is sent.
    """
    width, unit = FORMATS[run.formats.stream].bytes, _largest_layer(model, run)
    tables = numbers_of({"tables": stored_bytes(model, run, layout, plan)["tables"]}, run)["tables"]
    others = 1.0 - 1.0 / np.asarray(spans(layout, "shards")[0])
    found: dict[str, Num] = {}
    if ever(plan, 3.0) and plan.offload_params == "none":
        depth = layout.share(model.main.depth) * model.main.depth
        whole = tables + np.minimum(GATHERED_UNITS, depth) * unit
        found["gathered weights"] = plain(at_stage(plan, 3.0, 1.0, 0.0) * others * whole * width)
    if plan.trainable == "full":
        bucket = at_stage(plan, 2.0, 1.0, 0.0) * unit * (width + exchanged_bytes(plan))
        found["gradient buckets"] = plain((others if plan.offload_optimizer == "none" else 1.0) * bucket)
    return found


def _largest_layer(model: Model, run: Execution) -> Num:
    """Weights of the largest layer on a device, as numbers."""
    most: Num = 0.0
    for stack in filter(None, (model.encoder, model.decoder)):
        for layer in kinds_of(stack):
            most = np.maximum(most, sum(numbers_of(layer_bytes(layer, stack.hidden, run), run).values(), 0.0))
    return plain(most)


def channels(machine: Machine, layout: Layout, plan: Plan) -> dict[str, Num]:
    """Buffers of the groups that a device communicates in, one ring each: as many channels as collectives hold
    multiprocessors. Sends between pipeline stages are chunks of far less.
    """
    many = np.ceil(plan.communication_share * machine.multiprocessors)
    if machine.device.kind not in WITH_CHANNELS or not np.any(many > 0.0):
        return {}
    degrees = (layout.tp, layout.cp, copies(layout), layout.ep)
    groups = sum(np.where(np.asarray(degree) > 1.0, 1.0, 0.0) for degree in degrees)
    return {"communication": plain(groups * many * CHANNEL_BYTES)} if np.any(groups > 0.0) else {}
