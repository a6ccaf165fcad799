"""Keys and values in fewer bits: all of them alike, or the important tokens in more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import LatentAttention, SelfAttention
from ridgepoint.numeric import plain
from ridgepoint.ops import Attention
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.attended import choosing, others_of, scoring, steps_of, with_attention
from ridgepoint.techniques.conditions import every, has_mixer, serves, transformer
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, scaled_entries, with_plan
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Seq, Work


def _narrower(given: Scenario, values: Values) -> str:
    present = given.plan.kv or "bf16"
    if FORMATS[values.get("high", values.get("format"))].bits >= FORMATS[present].bits:
        return f"the cache is kept in {present} already"
    return ""


@technique(
    "kv-quantization",
    title="keys and values quantized",
    mechanism=("kv_compression",),
    papers=("quantspec", "xfastertransformer", "kv-cache-management-survey"),
    quality="fp8 is reported as lossless or nearly so; 4 bits cost some accuracy, mostly at long contexts",
    grade="near",
    cannot=every(transformer, serves, has_mixer(SelfAttention, LatentAttention), _narrower),
    parameters=(
        Parameter("format", "fp8", "what a cached value is stored in", choices=("fp8", "int8", "int4", "int3", "int2")),
    ),
    occupies=("kv format",),
)
def kv_quantization(given: Scenario, values: Values) -> Scenario:
    """The cache keeps each value in ``format``: its bytes fall by bits/16, and so does what attention reads per step.

    Products still run in the stream's format, so nothing is gained where arithmetic binds. Scales are counted in the
    format's bits. Holds for any context; the share of the cache in all traffic decides the gain.

    >>> import ridgepoint as rp
    >>> def memory(*apply: str, context: float = 32768.0) -> float:
    ...     task = rp.Decode(batch=16, context=context)
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply).memory["kv"]
    >>> memory("kv-quantization:format=fp8") / memory()
    0.5
    """
    return with_plan(given, kv=values["format"])


_QUERIES = 32.0
"""Last queries of a prompt whose attention says which tokens are important."""


@technique(
    "mixed-precision-kv",
    title="important tokens cached in more bits than the others",
    mechanism=("kv_compression", "sparse_attention"),
    papers=("zipvl", "spatten", "quantspec"),
    quality="ZipVL: within 0.2 points of the full cache with about half of its memory left for everything",
    grade="near",
    cannot=every(transformer, serves, has_mixer(SelfAttention, LatentAttention), _narrower),
    parameters=(
        Parameter("high", "int8", "what important tokens are stored in", choices=("fp8", "int8", "int4")),
        Parameter("low", "int2", "what the others are stored in", choices=("int8", "int4", "int3", "int2", "int1")),
        Parameter("important", 0.4, "part of the tokens that is important", 0.0, 1.0),
    ),
    occupies=("kv format",),
)
def mixed_precision_kv(given: Scenario, values: Values) -> Scenario:
    """The cache keeps a part of the tokens in ``high`` and the rest in ``low``: its bytes are their weighted mean.

    Tokens are ranked by the attention of the prompt's last 32 queries, computed once more (fused kernels hand out no scores).
    A decode step attends to both parts by a kernel each.

    >>> import ridgepoint as rp
    >>> def kv(*apply: str) -> float:
    ...     task = rp.Decode(batch=16, context=32768)
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply).memory["kv"]
    >>> round(kv("mixed-precision-kv:high=int8,low=int2,important=0.5") / kv() * 16, 4)
    5.0625
    """
    return edited(with_plan(given, kv=values["high"]), "mixed-precision-kv", _two_widths, values)


def _two_widths(built: Built, given: Scenario, values: Values) -> Built:
    part = values["important"]

    def step(op: Attention) -> Work:
        if FORMATS[op.kv].bits != FORMATS[values["high"]].bits:
            return op
        high = replace(op, kv_len=plain(np.maximum(op.kv_len * part, op.q_len)))
        rest = plain(np.maximum(op.kv_len * (1.0 - part), op.q_len))
        return Seq(high, replace(op, kv=values["low"], kv_len=rest, label=f"{op.label}.low"))

    def first(op: Attention) -> Work:
        ranked = scoring(op, plain(np.minimum(_QUERIES, op.q_len)), op.kv_len)
        return Seq(op, ranked, choosing(op, op.kv_len, plain(np.maximum(op.kv_len * part, 1.0))))

    changed = with_attention(with_attention(built, step, steps_of(built)), first, others_of(built))
    bits = part + (1.0 - part) * FORMATS[values["low"]].bits / FORMATS[values["high"]].bits
    return scaled_entries(changed, bits, "kv")
