"""What an engine's cache holds: room beside the weights, and the blocks that it is divided into."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import DeltaAttention, Mamba1, Mamba2, Model, Recurrence
from ridgepoint.numeric import Num
from ridgepoint.plan import Plan
from ridgepoint.serving.engines import BINARY, Engine
from ridgepoint.tasks import Decode
from ridgepoint.tasks.build import build

RESERVE = 2.0e9
"""Activations of a full prefill step, captured graphs and communication buffers, which engines measure before they
size the cache."""
BLOCK = 16
"""Tokens of a cache block: vLLM's default."""
RECURRENT = (DeltaAttention, Mamba1, Mamba2, Recurrence)
STATE_ONLY = 2**30
"""Tokens of a "block" where a sequence keeps one state whatever its length."""


def capacity_of(model: Model, machine: Machine, plan: Plan, engine: Engine, prompt: Num, output: Num) -> Num:
    """Sequences whose cache fits beside the weights, over all replicas: of full length where the engine reserves it, else
    of the mean length.
    """
    replicas = plan.dp if plan.dp is not None else 1.0
    length = prompt + output * (1.0 if engine.reserves else 0.5)
    return np.minimum(tokens_that_fit(model, machine, plan, length) / length, engine.max_sequences * replicas)


def tokens_that_fit(model: Model, machine: Machine, plan: Plan, length: Num) -> Num:
    """Tokens of sequences of ``length`` whose cache fits beside the weights, over all replicas."""
    replicas = plan.dp if plan.dp is not None else 1.0
    room, one = _room(model, machine, plan, length)
    return room / one * replicas * length


def _room(model: Model, machine: Machine, plan: Plan, length: Num) -> tuple[Num, Num]:
    """Bytes of a device that are left for the cache, and those that one sequence of ``length`` takes there."""
    replicas = plan.dp if plan.dp is not None else 1.0
    tokens = np.maximum(np.rint(length), 1.0)
    ledger = build(model, machine, Decode(batch=replicas, context=tokens), plan).ledger
    fixed = sum((size for name, size in ledger.entries.items() if name != "kv"), 0.0)
    return np.maximum(ledger.usable_bytes * BINARY - fixed - RESERVE, 0.0), ledger["kv"]


@dataclass(frozen=True)
class Cache:
    """The paged cache of one data-parallel rank: ``blocks`` of ``block`` tokens; besides the blocks of its tokens a
    sequence takes ``state_blocks`` (recurrent states). ``token_bytes`` and ``sequence_bytes``: what one device keeps per
    token and, whatever its length, per sequence.
    """

    blocks: int
    block: int = BLOCK
    state_blocks: int = 0
    token_bytes: float = 0.0
    sequence_bytes: float = 0.0
    recurrent: bool = False
    """Whether layers keep states instead of tokens, so that no prefix can be shared."""

    @property
    def size(self) -> str:
        """What fits, in words."""
        if self.block >= STATE_ONLY:
            return f"{self.blocks:,} sequences"
        return f"{self.blocks * self.block:,} tokens"

    def sequences(self, length: float) -> float:
        """Sequences of ``length`` tokens that fit."""
        return float(self.blocks // (self.state_blocks + ceil(length / self.block)))


def cache_of(model: Model, machine: Machine, plan: Plan, length: float) -> Cache:
    """The cache of one rank under a complete plan, for sequences of about ``length`` tokens: the bytes of a sequence are
    a line through those of one token and of ``length``, which is exact for attention without windows and for recurrent
    states, and close for windows.

    Errors: ``does_not_fit`` where weights leave no room for one sequence, with the degree that would.
    """
    long = max(2.0, round(length))
    (room, first), (_, last) = _room(model, machine, plan, 1.0), _room(model, machine, plan, long)
    slope = max((float(last) - float(first)) / (long - 1.0), 0.0)
    fixed = max(float(first) - slope, 0.0)
    if room < float(last):
        raise _does_not_fit(model, machine, plan, float(room), float(last), length)
    recurrent = any(isinstance(layer.mixer, RECURRENT) for layer, _ in model.main.layers)
    if slope * long < 1e-6 * fixed:  # states alone: a sequence is one block, whatever its length
        return Cache(floor(float(room) / fixed), STATE_ONLY, 0, 0.0, fixed, recurrent)
    size = slope * BLOCK
    return Cache(floor(float(room) / size), BLOCK, ceil(fixed / size - 1e-6), slope, fixed, recurrent)


def _does_not_fit(
    model: Model, machine: Machine, plan: Plan, room: float, need: float, length: float
) -> RidgepointError:
    tp = f"{float(plan.tp or 1.0):g}"
    if room <= 0.0:
        said = f"the weights of {model.name} leave no memory for a cache on {machine.name} with tp {tp}"
    else:
        said = (
            f"{room / 1e9:.1f} GB beside the weights of {model.name} on {machine.name} (tp {tp}) do not hold one sequence "
            f"of {length:,.0f} tokens, which takes {need / 1e9:.1f} GB"
        )
    return RidgepointError("does_not_fit", said, "raise --tp, use a larger machine, or narrower --weights or --kv")
