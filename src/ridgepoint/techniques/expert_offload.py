"""Experts that do not lie on the device in full: fewer bits, host memory, the host's own arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.models.architecture import Experts, Model
from ridgepoint.models.state import expert_parameters
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Gemm, Host, Transfer
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Decode
from ridgepoint.tasks.build import Built
from ridgepoint.tasks.layout import resolve_formats
from ridgepoint.techniques.comm_overlap import with_beside
from ridgepoint.techniques.conditions import every, has_experts, has_host, infers, serves, task_is, wants
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, only, with_entries, with_ops
from ridgepoint.techniques.technique import Condition, Parameter
from ridgepoint.work import Seq, Work

EXPERTS = "*.experts.*"
one_device: Condition = wants(lambda g, _: g.machine.devices == 1, "experts are divided among devices instead")
FORMAT = Parameter(
    "format", "int4", "what experts are stored in", choices=("int8", "fp8", "int4", "int3", "int2", "int1")
)


@technique(
    "expert-quantization",
    title="experts in fewer bits than the rest",
    mechanism=("moe", "weight_quantization", "entropy_coding"),
    papers=("qmoe", "d2moe"),
    quality="experts tolerate fewer bits than attention; below 3 bits answers suffer",
    grade="near",
    cannot=every(has_experts, infers, wants(lambda g, _: g.plan.weights is None, "all weights have a format already")),
    parameters=(FORMAT,),
    occupies=("weight format",),
)
def expert_quantization(given: Scenario, values: Values) -> Scenario:
    """Routed experts are stored in ``format``, the rest as before: most of a mixture's bytes are experts.

    Products widen them on the way; nothing is gained where arithmetic binds.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> float:
    ...     return rp.estimate("mixtral-8x7b", on="h100-sxm", task=rp.Decode(context=1024), apply=apply).memory["weights"]
    >>> 0.25 < run("expert-quantization:format=int4") / run() < 0.32
    True
    """
    model = given.model
    assert isinstance(model, Model)
    exceptions = {**dict(model.precision.exceptions), "experts": values["format"]}
    return replace(
        given, model=replace(model, precision=replace(model.precision, exceptions=tuple(exceptions.items())))
    )


def expert_bytes(given: Scenario) -> float:
    """Bytes of all routed experts of the model, in their stored format.

    >>> from ridgepoint.scenario import scenario
    >>> round(expert_bytes(scenario("mixtral-8x7b", "h100-sxm", "decode")) / 1e9)
    90
    """
    model = given.model
    assert isinstance(model, Model)
    width = FORMATS[resolve_formats(model, given.plan)[0].weight("experts")].bytes
    return sum(
        count * layer.feed.count * expert_parameters(layer.feed, model.hidden) * width
        for layer, count in model.main.layers
        if isinstance(layer.feed, Experts)
    )


RESIDENT = Parameter("resident", -1.0, "part of the experts kept on the device; -1: as many as fit", -1.0, 1.0)


@technique(
    "expert-offload",
    title="experts in host memory, fetched when picked",
    mechanism=("offload_cpu", "moe"),
    papers=("moe-lens", "read-me", "d2moe"),
    quality="same results",
    grade="exact",
    cannot=every(has_experts, serves, has_host, one_device),
    parameters=(
        RESIDENT,
        Parameter(
            "hits", -1.0, "part of the picks that find their expert on the device; -1: the resident part", -1.0, 1.0
        ),
        Parameter("prefetch", False, "experts are predicted a layer ahead and fetched beside its computation"),
        Parameter("tier", "host", "where they lie", choices=("host", "storage")),
    ),
    occupies=("expert place",),
)
def expert_offload(given: Scenario, values: Values) -> Scenario:
    """Experts that are picked and not resident come over the host link, before their products or (prefetched) beside the layer.

    Bytes per layer = touched experts · (1 − hits) · one expert's bytes; the device keeps the resident part.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("mixtral-8x7b", on="rtx-4090", task=rp.Decode(context=1024), apply=apply)
    >>> run().memory.fits, run("expert-offload:resident=0.1").memory.fits
    (False, True)
    >>> run("expert-offload:hits=0.9").time_s < run("expert-offload:hits=0.2").time_s
    True
    """
    return edited(given, "expert-offload", _offloaded, values)


def _resident(built: Built, given: Scenario, values: Values) -> Num:
    """The part of the experts that stays: as given, or what fits beside everything else."""
    asked, all_of_them = np.asarray(values["resident"], dtype=float), expert_bytes(given)
    room = built.ledger.usable_bytes - (np.asarray(built.ledger.total_bytes) - all_of_them)
    return plain(np.where(asked < 0.0, np.clip(room / max(all_of_them, 1.0), 0.0, 1.0), asked))


def _offloaded(built: Built, given: Scenario, values: Values) -> Built:
    resident, hits = _resident(built, given, values), np.asarray(values["hits"], dtype=float)
    missing = plain(1.0 - np.where(hits < 0.0, resident, hits))

    def fetch(op: Gemm) -> Work:
        size = op.batch * op.n * op.k * FORMATS[op.weights].bytes * missing
        copy = Transfer(bytes=size, tier=values["tier"], pieces=op.batch * missing, label=f"{op.label}.fetch")
        return Seq(copy, op)

    changed = with_ops(built, only(Gemm, fetch, EXPERTS))
    if values["prefetch"]:
        changed = with_beside(changed, lambda op: isinstance(op, Transfer))
    return without_experts(changed, given, resident)


def without_experts(built: Built, given: Scenario, resident: Num) -> Built:
    """``built`` whose device keeps the resident part of the experts."""
    kept = built.ledger["weights"] - expert_bytes(given) * (1.0 - np.asarray(resident))
    return with_entries(built, weights=plain(np.maximum(kept, 0.0)))


@technique(
    "experts-on-cpu",
    title="missing experts computed on the host",
    mechanism=("offload_cpu", "moe"),
    papers=("fiddler", "moe-lens"),
    quality="same results",
    grade="exact",
    cannot=every(has_experts, task_is(Decode), one_device, has_host),
    parameters=(RESIDENT,),
    occupies=("expert place",),
)
def experts_on_cpu(given: Scenario, values: Values) -> Scenario:
    """Activations go to the host, which reads the missing experts' weights from its own memory: no weights cross the link.

    Kamahori et al. 2024. Per layer: touched · (1 − resident) experts' bytes over the host's memory bandwidth, and rows ·
    (hidden in + out) bytes over the link. Good for few tokens; at many the host's arithmetic would bind, so decode only.

    >>> import ridgepoint as rp
    >>> def run(apply: str) -> float:
    ...     return rp.estimate("mixtral-8x7b", on="rtx-4090", task=rp.Decode(context=1024), apply=[apply]).time_s
    >>> run("experts-on-cpu:resident=0.1") < run("expert-offload:resident=0.1")
    True
    """

    def rework(built: Built, given: Scenario, values: Values) -> Built:
        resident = _resident(built, given, values)

        def change(op: Gemm) -> Work:
            missing = 1.0 - resident
            size = op.batch * op.n * op.k * FORMATS[op.weights].bytes * missing
            moved = op.m * op.batch * missing * (op.k * FORMATS[op.acts].bytes + op.n * FORMATS[op.out].bytes)
            here = replace(op, batch=np.maximum(op.batch * resident, 1e-3))
            there = Host(bytes=plain(size), label=f"{op.label}.host")
            return Seq(Transfer(bytes=plain(moved), pieces=2.0, label=f"{op.label}.activations"), there, here)

        return without_experts(with_ops(built, only(Gemm, change, EXPERTS)), given, resident)

    return edited(given, "experts-on-cpu", rework, values)
