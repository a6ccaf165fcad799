"""Plan: how a task is run — number formats, parallel layout, schedule, engine features (design §1)."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.formats import find_format
from ridgepoint.numeric import Num, as_num

RECOMPUTE = ("none", "selective", "full")
OPTIMIZERS = ("adam", "adam8bit", "sgd", "none")
SCHEDULES = ("gpipe", "1f1b", "interleaved")
DEGREES = ("tp", "pp", "dp", "ep", "cp")
LARGEST_DEGREE = 1e7


@dataclass(frozen=True)
class Plan:
    """How to run a task. Numeric fields take arrays; ``None`` means that a default is derived and reported.

    Formats: ``weights`` of the linear layers (default: the checkpoint's), ``acts`` what matrix products read (default: the
    16-bit format, or the checkpoint's own where it is quantized for both), ``kv`` the cache (default: 16 bit).
    Layout: ``tp`` tensor, ``pp`` pipeline, ``dp`` data, ``ep`` expert, ``cp`` context parallel degrees.
    Engine: ``fused_attention`` (one I/O-aware kernel), ``graph_capture`` (kernel launches without the host),
    ``compiled`` (elementwise chains fused), ``memory_fraction`` (part of device memory that the engine may use).
    Decoding: ``speculated`` draft tokens per sequence that one decode step verifies beside the token of its own.
    Training: ``zero_stage`` 0–3, ``recompute`` none, selective or full, ``micro_batch`` sequences, ``optimizer``,
    ``schedule`` gpipe, 1f1b or interleaved with ``chunks`` per device, ``sequence_parallel``, ``overlap_gradients``.
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
    memory_fraction: float | None = None
    expert_imbalance: Num = 0.0
    speculated: Num = 0.0
    zero_stage: int = 0
    recompute: str = "none"
    micro_batch: Num | None = None
    optimizer: str = "adam"
    schedule: str = "1f1b"
    chunks: Num = 1.0
    sequence_parallel: bool | None = None
    overlap_gradients: bool = True

    def __post_init__(self) -> None:
        for name in ("weights", "acts", "kv"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, find_format(value).name)
        for name in (*DEGREES, "micro_batch", "chunks"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, whole(value, f"plan.{name}", LARGEST_DEGREE))
        if self.zero_stage not in (0, 1, 2, 3):
            raise RidgepointError("bad_plan", f"plan.zero_stage is {self.zero_stage}", "use 0, 1, 2 or 3")
        _one_of("recompute", self.recompute, RECOMPUTE)
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("schedule", self.schedule, SCHEDULES)
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
        drafts = as_num(self.speculated)
        if not np.all((np.asarray(drafts) >= 0.0) & np.isfinite(drafts)):
            raise RidgepointError("bad_plan", f"plan.speculated is {self.speculated}", "use 0 or more draft tokens")
        object.__setattr__(self, "speculated", drafts)

    def given(self) -> dict[str, object]:
        """The fields that differ from the defaults, for reports."""
        return {f.name: v for f in fields(self) if not _same(v := getattr(self, f.name), f.default)}


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
