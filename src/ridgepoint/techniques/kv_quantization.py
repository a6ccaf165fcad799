"""Keys and values in fewer bits."""

from __future__ import annotations

from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import LatentAttention, SelfAttention
from ridgepoint.scenario import Scenario, Values
from ridgepoint.techniques.conditions import every, has_mixer, serves, transformer
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import with_plan
from ridgepoint.techniques.technique import Parameter


def _narrower(given: Scenario, values: Values) -> str:
    present = given.plan.kv or "bf16"
    if FORMATS[values["format"]].bits >= FORMATS[present].bits:
        return f"the cache is kept in {present} already"
    return ""


@technique(
    "kv-quantization",
    title="keys and values quantized",
    mechanism=("kv_compression",),
    papers=("less-kv", "quantspec", "xfastertransformer"),
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
