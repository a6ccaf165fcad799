"""Plan: how a task is run — number formats, parallel layout, schedule, engine features (design §1)."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import find_format
from ridgepoint.numeric import Num, as_num

RECOMPUTE = ("none", "selective", "sqrt", "full", "planned")
OPTIMIZERS = ("adam", "adam8bit", "adafactor", "lion", "sgd", "none")
SCHEDULES = ("gpipe", "1f1b", "interleaved", "zero_bubble", "zero_bubble_2")
TIERS = ("none", "host", "nvme")
TRAINABLE = ("full", "lora", "zeroth_order")
PADDINGS = ("packed", "longest", "padded")
GRADIENTS = ("auto", "fp32", "16bit")
CONTEXT_EXCHANGES = ("all_gather", "ring", "all_to_all")
RANK_ORDERS = ("tp-cp-dp-pp", "tp-pp-dp")
CHOICES: dict[str, tuple[str, ...]] = {
    "recompute": RECOMPUTE,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "offload_optimizer": TIERS,
    "offload_params": TIERS,
    "offload_activations": TIERS,
    "trainable": TRAINABLE,
    "context_exchange": CONTEXT_EXCHANGES,
    "padding": PADDINGS,
    "gradients": GRADIENTS,
    "rank_order": RANK_ORDERS,
}
"""Field → the names that it takes."""
DEGREES = ("tp", "pp", "dp", "ep", "cp")
LARGEST_DEGREE = 1e7
Again = tuple[str, ...]
"""Ops of a layer that run again, by their labels within it; the second of a name is ``norm 2``."""


@dataclass(frozen=True)
class Plan:
    """How to run a task. Numeric fields take arrays; ``None`` means that a default is derived and reported.

    Formats: ``weights`` of the linear layers (default: the checkpoint's), ``acts`` what matrix products read (default: the
    16-bit format, or the checkpoint's own where it is quantized for both), ``kv`` the cache (default: 16 bit).
    Layout: ``tp`` tensor, ``pp`` pipeline, ``dp`` data, ``ep`` expert, ``cp`` context parallel degrees.
    ``rank_order`` says whose ranks are neighbours, innermost first: tp-cp-dp-pp, or tp-pp-dp (stages inside, replicas apart).
    Engine: ``fused_attention`` (one I/O-aware kernel), ``graph_capture`` (kernel launches without the host),
    ``compiled`` (elementwise chains fused), ``fused_norms`` (an RMS norm is one kernel; default: where compiled, else library
    code composes it of eight), ``custom_all_reduce`` (short sums over ranks in one kernel, as serving engines
    have; default: in compiled inference; else NCCL's), ``memory_fraction`` (part of device memory that the engine may use),
    ``appended_cache`` (every decode step joins its keys and values to the cache by copying all of it, as Transformers'
    dynamic cache does; engines write them in place).
    ``whole_tables``: embedding and head stand whole on each tensor-parallel rank, or on the one that the ledger is about.
    Decoding: ``speculated`` draft tokens per sequence that one decode step verifies beside the token of its own.
    Training: ``zero_stage`` 0–3, ``recompute`` none, selective (attention scores), full, sqrt (segments of layers of which only
    the input is kept) in the part ``recomputed_layers`` of the layers, or planned: what must be dropped to fit is chosen op by
    op, unless ``recomputed`` says it (for each kind of layer: parts of the layers with the ops that run again);
    ``micro_batch`` sequences, ``schedule`` gpipe, 1f1b,
    interleaved with ``chunks`` per device, or zero_bubble (ZB-H1; zero_bubble_2 is ZB-H2, with twice the activations),
    ``stages`` uniform, balanced (embedding and head count as the layers that they take as long as), or the layers of each,
    ``vocab_parallel`` (the head divided among the pipeline stages), ``sequence_parallel``, ``context_exchange`` of
    context-parallel ranks: all_gather, ring (beside the attention) or all_to_all (of heads).
    What is trained: ``trainable`` full, lora (adapters of ``lora_rank`` at every dense projection, all else frozen) or
    zeroth_order (two forward passes, no gradients); ``trained_layers`` is the part of the layers, counted from the head,
    that backward passes reach.
    States: ZeRO shares them among all copies of the weights, or among each ``shard_group`` of neighbours (hybrid sharding),
    between which gradients are then exchanged in shards; ``optimizer`` adam, adam8bit, adafactor (factored second moments),
    lion, sgd (with momentum) or none; ``optimizer_rank`` > 0 keeps its moments of gradients projected to that rank (GaLore);
    ``master_weights`` in fp32; ``gradients`` are kept and added up in fp32, in 16bit, or (auto) in fp32 where whole ones are
    kept (ZeRO 0 and 1, as Megatron-LM does) and in 16 bit where shards are (ZeRO 2 and 3, as DeepSpeed does).
    Exchange: ``gradient_bytes`` per gradient value between replicas (those that are kept where None), every
    ``exchange_period`` steps (local updates), for which ``outer_bytes`` per parameter are kept (DiLoCo: 8),
    ``overlap_gradients``: beside the backward passes, and ``overlap_parameters``: what ZeRO shares is gathered beside the
    passes, else before them.
    ``communication_share`` is the part of the multiprocessors that collectives keep from computation beside them (NCCL's 16
    to 24 channels of 108 to 144).
    ``dropout`` after attention and feed-forward layers: above 0, masks are drawn, kept and read again.
    Data: ``lengths`` of sequences as a distribution (``lognormal:1k:0.8``; by default all are as long as the task says), and
    ``padding``: packed into rows, longest (of each micro-batch) or padded to the task's length.
    ``jitter`` is the coefficient of variation of a device's time in a step: all wait for the slowest.
    Offload: ``offload_optimizer``, ``offload_params``, ``offload_activations`` to none, host or nvme; ``blocking_offload``:
    gradients and weights are converted by the host between blocking copies, as in DeepSpeed's ZeRO-3.
    """

    weights: str | None = None
    acts: str | None = None
    kv: str | None = None
    tp: Num | None = None
    pp: Num | None = None
    dp: Num | None = None
    ep: Num | None = None
    cp: Num | None = None
    fused_attention: bool = True
    graph_capture: bool | None = None
    compiled: bool = True
    fused_norms: bool | None = None
    custom_all_reduce: bool | None = None
    appended_cache: bool = False
    whole_tables: bool = False
    memory_fraction: float | None = None
    expert_imbalance: Num = 0.0
    speculated: Num = 0.0
    zero_stage: Num = 0.0
    recompute: str = "none"
    recomputed_layers: Num = 1.0
    recomputed: tuple[tuple[tuple[float, Again], ...], ...] = ()
    micro_batch: Num | None = None
    schedule: str = "1f1b"
    chunks: Num = 1.0
    stages: str | tuple[float, ...] = "uniform"
    vocab_parallel: bool = False
    sequence_parallel: bool | None = None
    context_exchange: str = "all_gather"
    trainable: str = "full"
    lora_rank: Num = 16.0
    trained_layers: Num = 1.0
    shard_group: Num | None = None
    rank_order: str = "tp-cp-dp-pp"
    optimizer: str = "adam"
    optimizer_rank: Num = 0.0
    master_weights: bool = True
    gradients: str = "auto"
    gradient_bytes: Num | None = None
    exchange_period: Num = 1.0
    outer_bytes: Num = 0.0
    overlap_gradients: bool = True
    overlap_parameters: bool = True
    communication_share: Num = 0.15
    dropout: float = 0.0
    lengths: str | None = None
    padding: str = "packed"
    jitter: Num = 0.0
    offload_optimizer: str = "none"
    offload_params: str = "none"
    offload_activations: str = "none"
    blocking_offload: bool = False

    def __post_init__(self) -> None:
        for name in ("weights", "acts", "kv"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, find_format(value).name)
        for name in (*DEGREES, "micro_batch", "chunks", "lora_rank", "exchange_period", "shard_group"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, whole(value, f"plan.{name}", LARGEST_DEGREE))
        for name, allowed in CHOICES.items():
            _one_of(name, getattr(self, name), allowed)
        object.__setattr__(self, "stages", _stages(self.stages))
        for name, (least, most, hint) in _RANGES.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _within(name, getattr(self, name), least, most, hint))
        if not np.all(np.isin(self.zero_stage, (0.0, 1.0, 2.0, 3.0))):
            raise RidgepointError("bad_plan", f"plan.zero_stage is {self.zero_stage}", "use 0, 1, 2 or 3")
        if self.memory_fraction is not None and not 0.0 < self.memory_fraction <= 1.0:
            raise RidgepointError(
                "bad_plan", f"plan.memory_fraction is {self.memory_fraction}", "use a fraction above 0 and up to 1"
            )
        imbalance = as_num(self.expert_imbalance)
        if not np.all((np.asarray(imbalance) == 0.0) | (np.asarray(imbalance) >= 1.0) & np.isfinite(imbalance)):
            raise RidgepointError(
                "bad_plan", f"plan.expert_imbalance is {self.expert_imbalance}", "use 0 (by chance) or a factor ≥ 1"
            )
        object.__setattr__(self, "expert_imbalance", imbalance)

    def given(self) -> dict[str, object]:
        """The fields that differ from the defaults, for reports."""
        return {f.name: v for f in fields(self) if not _same(v := getattr(self, f.name), f.default)}


_RANGES: dict[str, tuple[float, float, str]] = {
    "speculated": (0.0, np.inf, "use 0 or more draft tokens"),
    "zero_stage": (0.0, 3.0, "use 0, 1, 2 or 3"),
    "recomputed_layers": (0.0, 1.0, "use a part of the layers from 0 to 1"),
    "trained_layers": (0.0, 1.0, "use a part of the layers from 0 to 1"),
    "communication_share": (0.0, 1.0, "use a part of the multiprocessors from 0 to 1"),
    "dropout": (0.0, 1.0, "use a probability from 0 to 1"),
    "jitter": (0.0, 1.0, "use a part of the time from 0 to 1"),
    "optimizer_rank": (0.0, np.inf, "use 0 (full rank) or a rank"),
    "gradient_bytes": (0.0, 8.0, "use bytes per gradient value, from 0 to 8"),
    "outer_bytes": (0.0, 64.0, "use bytes per parameter, from 0 to 64"),
}
"""Field → least, largest, what to say."""


def _stages(value: object) -> str | tuple[float, ...]:
    """uniform, balanced, or the layers of each stage (as numbers, or as text with commas)."""
    hint = "use uniform, balanced, or the layers of each stage: 16,17,17,14"
    if value in ("uniform", "balanced"):
        return str(value)
    parts = value.split(",") if isinstance(value, str) else value
    try:
        found = tuple(float(part) for part in parts)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise RidgepointError("bad_plan", f"plan.stages is {value!r}", hint) from None
    if not found or any(not n >= 1.0 or n != np.floor(n) or n > LARGEST_DEGREE for n in found):
        raise RidgepointError("bad_plan", f"plan.stages is {value!r}", hint)
    return found


def _within(name: str, value: object, least: float, most: float, hint: str) -> Num:
    try:
        number = as_num(value)
    except (TypeError, ValueError):
        raise RidgepointError("bad_plan", f"plan.{name} is {value!r}", hint) from None
    array = np.asarray(number)
    if array.size == 0 or not np.all(np.isfinite(array) & (array >= least) & (array <= most)):
        raise RidgepointError("bad_plan", f"plan.{name} is {value}", hint)
    return number


def whole(value: object, name: str, largest: float) -> Num:
    """``value`` as a number (or array) of whole, positive counts up to ``largest``; anything else is refused.

    >>> whole(8, "plan.tp", 1e7)
    8.0
    """
    try:
        number = as_num(value)
    except (TypeError, ValueError):
        raise RidgepointError("bad_size", f"{name} is {value!r}", "give a whole number of at least 1") from None
    array = np.asarray(number)
    if array.size == 0 or not np.all(
        np.isfinite(array) & (array >= 1.0) & (array <= largest) & (array == np.floor(array))
    ):
        bad = array.ravel()[
            ~(np.isfinite(array) & (array >= 1) & (array <= largest) & (array == np.floor(array))).ravel()
        ]
        shown = f"{bad[0]:g}" if bad.size else "empty"
        raise RidgepointError("bad_size", f"{name} is {shown}", f"give a whole number from 1 to {largest:,.0f}")
    return number


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise RidgepointError("bad_plan", f"plan.{name} is '{value}'", "use one of " + ", ".join(allowed))


def _same(a: object, b: object) -> bool:
    return not isinstance(a, np.ndarray) and a == b
