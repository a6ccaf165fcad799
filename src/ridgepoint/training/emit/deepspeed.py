"""A layout as DeepSpeed's configuration (JSON): batch, ZeRO, offload, formats, automatic tensor and expert parallelism."""

from __future__ import annotations

import json
from typing import Any

from ridgepoint.training.emit.facts import Facts, Refusal, nested

_REFUSE = Refusal("DeepSpeed's configuration")
_PLACES = {"host": "cpu", "nvme": "nvme"}


def options(facts: Facts, tokens: float | None) -> dict[str, Any]:
    """The configuration with dotted names; the number of steps is no part of it."""
    plan = facts.plan
    _REFUSE.of_unknown_fields(plan)
    _REFUSE.unless(facts.degree("pp") == 1, "pipeline stages (its pipelines are built in code)", "plan with --pp 1")
    _REFUSE.unless(facts.degree("cp") == 1, "context parallelism (it is built in code)", "plan with --cp 1")
    _REFUSE.unless(plan.optimizer == "adam", f"the optimizer {plan.optimizer}", "use --optimizer adam")
    _REFUSE.unless(
        plan.fused_attention, "unfused attention (the model's code decides)", "leave --no-fused-attention out"
    )
    _REFUSE.unless(not plan.graph_capture, "graphs of whole training steps", "leave --graphs out")
    return {
        "train_batch_size": facts.batch,
        "train_micro_batch_size_per_gpu": facts.micro,
        "gradient_accumulation_steps": facts.accumulated,
        "optimizer.type": "AdamW",
        **_formats(facts),
        **_zero(facts),
        **_recompute(facts),
        **_models(facts),
    }


def text(facts: Facts, tokens: float | None) -> tuple[str, list[str]]:
    """One JSON document, and what it leaves to its reader."""
    given = options(facts, tokens)
    nodes, each = facts.nodes
    notes = [f"start it on {nodes} × {each} devices with sequences of {facts.seq} tokens; add optimizer.params.lr"]
    if facts.recompute[0] == "full":
        notes.append(
            "turn on recomputation of every layer in the model's code (gradient_checkpointing_enable() in Transformers)"
        )
    if facts.plan.compiled:
        notes.append("compile the engine (engine.compile()): the step time counts elementwise chains as fused")
    return json.dumps(nested(given), indent=2), notes


def _formats(facts: Facts) -> dict[str, Any]:
    formats = facts.formats
    stored = dict(formats.weights)["default"]
    _REFUSE.unless(
        formats.inputs == formats.stream == stored,
        f"{stored} weights with products in {formats.inputs}",
        "use --weights bf16 --acts bf16",
    )
    found: dict[str, Any] = {} if stored == "fp32" else {f"{stored}.enabled": True}
    kept, sent = facts.gradients
    _REFUSE.unless(sent in (2.0, 4.0), f"gradients of {sent:g} bytes per value", "use --gradient-bytes 2 or 4")
    if stored != "fp32":
        found["data_types.grad_accum_dtype"] = stored if kept == 2.0 else "fp32"
        found["communication_data_type"] = stored if sent == 2.0 else "fp32"
    return found


def _zero(facts: Facts) -> dict[str, Any]:
    plan, at = facts.plan, "zero_optimization"
    _REFUSE.unless(plan.rank_order == "tp-cp-dp-pp", f"the rank order {plan.rank_order}", "leave --rank-order out")
    _REFUSE.unless(plan.shard_group is None, "states shared within groups of replicas", "leave --shard-group out")
    found: dict[str, Any] = {f"{at}.stage": facts.stage}
    if facts.stage:
        _REFUSE.unless(
            plan.overlap_gradients == plan.overlap_parameters,
            "gradients and parameters apart, one beside the passes and one not",
            "plan with both of --no-overlap-gradients and --no-overlap-parameters, or neither",
        )
        found |= {f"{at}.overlap_comm": bool(plan.overlap_gradients), f"{at}.contiguous_gradients": True}
        found |= {f"{at}.reduce_scatter": True}
    for field, name, least in (("offload_optimizer", "offload_optimizer", 1), ("offload_params", "offload_param", 3)):
        tier = getattr(plan, field)
        if tier == "none":
            continue
        _REFUSE.unless(facts.stage >= least, f"{field.replace('_', ' ')} at stage {facts.stage}", f"use --zero {least}")
        found[f"{at}.{name}.device"] = _PLACES[tier]
        if tier == "nvme":
            _REFUSE.unless(facts.stage == 3, f"NVMe at stage {facts.stage}", "use --zero 3")
            found[f"{at}.{name}.nvme_path"] = "/local_nvme"
        found[f"{at}.{name}.pin_memory"] = True
    return found


def _recompute(facts: Facts) -> dict[str, Any]:
    rule, part = facts.recompute
    away = facts.plan.offload_activations
    _REFUSE.unless(
        rule in ("none", "full") and part in (0.0, 1.0),
        f"recomputation of {part:.0%} of the layers ({rule})",
        "use --recompute full --recomputed-layers 1, or --recompute none",
    )
    _REFUSE.unless(
        away == "none" or (away == "host" and rule == "full"),
        f"activations on {away} without recomputation",
        "use --offload-activations host --recompute full",
    )
    if rule == "none":
        return {}
    at = "activation_checkpointing"
    return {f"{at}.partition_activations": False, f"{at}.cpu_checkpointing": away == "host"}


def _models(facts: Facts) -> dict[str, Any]:
    tp, ep = facts.degree("tp"), facts.degree("ep")
    _REFUSE.unless(
        tp == 1 or facts.plan.sequence_parallel is False,
        "sequence parallelism beside its tensor parallelism",
        "plan with --tp 1",
    )
    _REFUSE.unless(ep == 1 or tp == 1, "expert parallelism beside tensor parallelism", "plan with --tp 1 or --ep 1")
    _REFUSE.unless(ep == 1 or facts.stage < 3, "expert parallelism at any layout of stage 3", "plan with --zero 2")
    found: dict[str, Any] = {"tensor_parallel.autotp_size": tp} if tp > 1 else {}
    return found | ({"expert_parallel.enabled": True, "expert_parallel.autoep_size": ep} if ep > 1 else {})
