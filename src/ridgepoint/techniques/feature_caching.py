"""Denoising steps that reuse what the step before computed: whole blocks, parts of blocks, attention alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Conv, Gemm, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.techniques.reductions import fewer_sequences, sometimes
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.resolution import is_sampled
from ridgepoint.techniques.rewrite import edited, labelled, with_entries, with_phases
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Seq, Work, mapped, occurrences

_ENDS = ("*.output", "*.down", "*.conv2", "*.to_out")
"""Ends of the labels of the products whose results a residual stream takes up: what a cache keeps."""


def _output_bytes(op: Any) -> Num:
    """Bytes of a product's result that a cache would keep; 0 for products inside a block."""
    if not labelled(op, *_ENDS):
        return 0.0
    if isinstance(op, Gemm):
        return op.m * op.n * op.batch * FORMATS[op.out].bytes
    if isinstance(op, Conv):
        return op.batch * op.c_out * op.h * op.w / op.stride**2.0 * FORMATS[op.acts].bytes
    return 0.0


def _reuse(op: Any) -> Work:
    """The cached result is read and added to the residual stream."""
    size = _output_bytes(op)
    if isinstance(size, float) and size == 0.0:
        return Seq()
    return Stream(read_bytes=2.0 * size, write_bytes=size, flop=size / 2.0, label=f"{op.label}.cached")


def _cached(built: Built, keeps: Any) -> Num:
    """Bytes of all results that are kept from step to step."""
    step = next(phase for phase in built.phases if phase.name == "step")
    return sum((count * _output_bytes(op) for op, count in occurrences(step.work) if keeps(op)), 0.0)


@technique(
    "feature-caching",
    title="blocks of the denoiser reuse their results of an earlier step",
    mechanism=("feature_caching",),
    papers=("ecad", "efficient-vla", "inner-loop-feedback", "magnets"),
    quality="depends on the schedule; ECAD reports a better FID than earlier schedules on PixArt-α",
    grade="near",
    cannot=is_sampled,
    parameters=(
        Parameter("every", 2.0, "steps from one full pass to the next", 1.0, 1000.0, whole=True),
        Parameter("attention", 0.0, "part of the attention blocks that other steps compute anew", 0.0, 1.0),
        Parameter("cross", 0.0, "the same of cross-attention blocks", 0.0, 1.0),
        Parameter("feed", 0.0, "the same of feed-forward blocks", 0.0, 1.0),
        Parameter("rest", 0.0, "the same of everything else: norms, modulation, convolutions", 0.0, 1.0),
    ),
    neutral={"every": 1.0, "attention": 1.0, "cross": 1.0, "feed": 1.0, "rest": 1.0},
    occupies=("step contents",),
)
def feature_caching(given: Scenario, values: Values) -> Scenario:
    """One step of ``every`` runs in full; the others run the given parts of each kind of block and reuse cached results.

    step = [full + (every − 1) · (Σ part · block + reuse)] / every. A reused block reads its kept result and adds it: bytes that
    remain where arithmetic is gone. All kept results lie in memory. A schedule by step and block (ECAD) is its mean parts.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("pixart-alpha-1024", on="a100-sxm-80gb", task="sample", apply=apply)
    >>> full, half = run(), run("feature-caching:every=2")
    >>> 1.4 < full.time_s / half.time_s < 2.0, half.memory.total_bytes > full.memory.total_bytes
    (True, True)
    """
    return edited(given, "feature-caching", _cached_steps, values)


_KINDS = {
    "always": ("conv_in*", "conv_out*", "patch*", "output*", "head*", "final*", "condition*", "embed*", "unpatch*"),
    "cross": ("*cross*",),
    "attention": ("*attention*", "*.self.*", "*.qkv", "*.output"),
    "feed": ("*feed*", "*mlp*", "*.up", "*.down"),
}


def _kind(op: Op) -> str:
    """What an op of a step belongs to; ends of the network run in ``always`` every step."""
    return next((kind for kind, patterns in _KINDS.items() if labelled(op, *patterns)), "rest")


def _cached_steps(built: Built, given: Scenario, values: Values) -> Built:
    full = 1.0 / values["every"]
    parts = {**values, "always": 1.0}

    def rule(op: Op) -> Work:
        fresh = parts[_kind(op)]
        return Seq(sometimes(fresh, op), sometimes(1.0 - fresh, _reuse(op)))

    def change(phase: Phase) -> tuple[Phase, ...]:
        other = mapped(phase.work, rule)
        later = replace(phase, name="step.cached", work=other, count=phase.count * (1.0 - full))
        return replace(phase, count=phase.count * full), later

    size = _cached(built, lambda op: bool(np.any(np.asarray(parts[_kind(op)]) < 1.0)))
    return with_entries(with_phases(built, change, "step"), feature_cache=size)


@technique(
    "attention-sharing",
    title="attention reused across steps and guidance branches, or cut to a window",
    mechanism=("feature_caching", "sparse_attention"),
    papers=("ditfastattn",),
    quality="unknown; DiTFastAttn is chosen by a threshold on the change of the output",
    grade="near",
    cannot=is_sampled,
    parameters=(
        Parameter("reused", 0.3, "part of (step, layer) pairs that take the attention's result of the step before", 0.0, 1.0),
        Parameter("shared", 0.3, "part that computes the conditional branch only and copies its result", 0.0, 1.0),
        Parameter("windowed", 0.0, "part whose attention sees a window, with the rest of the result cached", 0.0, 1.0),
        Parameter("window", 0.125, "keys in a window over all keys", 0.0, 1.0),
    ),
    occupies=("attention",),
)  # fmt: skip
def attention_sharing(given: Scenario, values: Values) -> Scenario:
    """Of all attention blocks a part is reused (projections too), a part runs on half of the batch, a part on a window.

    Everything but attention blocks runs as before, so that the gain ends at the attention's share, which grows with
    resolution. A reused or windowed block reads the result that was kept; the results lie in memory.

    >>> import ridgepoint as rp
    >>> def gain(px: int) -> float:
    ...     full, few = (rp.estimate("pixart-sigma-1024", on="a100-sxm-80gb", task=rp.Sample(image_px=px), apply=a)
    ...                  for a in ((), ("attention-sharing:reused=0.5",)))
    ...     return full.time_s / few.time_s
    >>> gain(2048) > gain(1024) > 1.0
    True
    """
    return edited(given, "attention-sharing", _shared_attention, values)


def _shared_attention(built: Built, given: Scenario, values: Values) -> Built:
    reused, shared, windowed = values["reused"], values["shared"], values["windowed"]
    guided = dict(given.model.sampling).get("guidance", 1.0) > 1.0  # type: ignore[union-attr]
    halved = shared if guided else 0.0

    def rule(op: Op) -> Work:
        if _kind(op) != "attention":
            return op
        narrow = replace(op, kv_len=op.kv_len * values["window"]) if isinstance(op, Attention) else op
        full = 1.0 - reused - halved - windowed
        return Seq(
            sometimes(plain(np.maximum(full, 0.0)), op),
            sometimes(halved, fewer_sequences(op, 0.5)),
            sometimes(windowed, narrow),
            sometimes(reused + windowed, _reuse(op)),
        )

    changed = with_phases(built, lambda phase: replace(phase, work=mapped(phase.work, rule)), "step")
    return with_entries(changed, feature_cache=_cached(built, lambda op: _kind(op) == "attention"))
