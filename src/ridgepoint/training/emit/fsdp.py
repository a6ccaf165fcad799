"""A layout as a configuration of Accelerate (YAML) for PyTorch's FSDP2: sharding, tensor and context parallelism, formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ridgepoint.training.emit.facts import Facts, Refusal, headline, nested

_REFUSE = Refusal("FSDP2 under Accelerate")
_MIXED = {"bf16": "bf16", "fp16": "fp16", "fp32": "no", "fp8": "fp8"}


def options(facts: Facts, tokens: float | None) -> dict[str, Any]:
    """The configuration with dotted names; batch and steps are the training script's."""
    plan = facts.plan
    _REFUSE.of_unknown_fields(plan)
    _REFUSE.unless(facts.degree("pp") == 1, "pipeline stages", "plan with --pp 1")
    _REFUSE.unless(facts.degree("ep") == 1, "expert parallelism", "plan with --ep 1")
    _REFUSE.unless(
        facts.stage >= 2, f"ZeRO stage {facts.stage}: it shards gradients and states", "plan with --zero 3 or 2"
    )
    _REFUSE.unless(not plan.graph_capture, "graphs of whole training steps", "leave --graphs out")
    _REFUSE.unless(
        plan.fused_attention, "unfused attention (the model's code decides)", "leave --no-fused-attention out"
    )
    _REFUSE.unless(
        plan.overlap_gradients and plan.overlap_parameters,
        "exchanges that nothing hides",
        "plan with overlapped gradients and parameters",
    )
    _REFUSE.unless(plan.rank_order == "tp-cp-dp-pp", f"the rank order {plan.rank_order}", "leave --rank-order out")
    nodes, _ = facts.nodes
    several: dict[str, Any] = {"machine_rank": 0, "main_process_ip": "HEAD_NODE", "main_process_port": 29500}
    return {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "FSDP",
        "num_machines": nodes,
        "num_processes": facts.devices,
        **(several if nodes > 1 else {}),
        **_formats(facts),
        **_sharding(facts),
        **_degrees(facts),
        **({"dynamo_config.dynamo_backend": "INDUCTOR"} if plan.compiled else {}),
    }


def text(facts: Facts, tokens: float | None) -> tuple[str, list[str]]:
    """A YAML file, and what it leaves to its reader."""
    given = nested(options(facts, tokens))
    body = "\n".join([f"# {headline(facts)}", *_lines(given)])
    notes = [
        "start it with accelerate launch --config_file FILE train.py; on several nodes set main_process_ip and machine_rank",
        f"the training script's part: micro-batches of {facts.micro} × {facts.seq} tokens per replica, "
        f"{facts.accumulated} accumulation steps, optimizer {facts.plan.optimizer}",
    ]
    if tokens is not None:
        notes.append(f"{tokens / facts.batch / facts.seq:.0f} steps in all")
    return body, notes


def _formats(facts: Facts) -> dict[str, Any]:
    formats = facts.formats
    inputs, stored = formats.inputs, dict(formats.weights)["default"]
    _REFUSE.unless(inputs in _MIXED, f"products in {inputs}", "use --acts bf16 or fp8")
    _REFUSE.unless(stored in (formats.stream, inputs), f"{stored} weights", f"use --weights {formats.stream}")
    if formats.stream != "fp32":  # fp32 shards of weights and gradients take what 16-bit ones and master weights take
        _REFUSE.unless(facts.gradients == (2.0, 2.0), "a format of gradients of its own", "use --gradients 16bit alone")
        _REFUSE.unless(facts.plan.master_weights, "16-bit weights alone", "leave --no-master-weights out")
    if inputs != "fp8":
        return {"mixed_precision": _MIXED[inputs]}
    return {
        "mixed_precision": "fp8",
        "fp8_config.backend": "AO",
        "fp8_config.enable_fsdp_float8_all_gather": stored == "fp8",
    }


def _sharding(facts: Facts) -> dict[str, Any]:
    plan, (rule, part) = facts.plan, facts.recompute
    both = plan.offload_params == plan.offload_optimizer == "host"
    _REFUSE.unless(
        both or (plan.offload_params == plan.offload_optimizer == "none"),
        "offload of states or parameters alone, or to NVMe",
        "use --offload-params host --offload-optimizer host",
    )
    _REFUSE.unless(plan.offload_activations == "none", "offloaded activations", "leave --offload-activations out")
    _REFUSE.unless(
        rule in ("none", "full") and part in (0.0, 1.0),
        f"recomputation of {part:.0%} of the layers ({rule})",
        "use --recompute full --recomputed-layers 1, or --recompute none",
    )
    return {
        "fsdp_config.fsdp_version": 2,
        "fsdp_config.fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "fsdp_config.fsdp_reshard_after_forward": facts.stage == 3,
        "fsdp_config.fsdp_offload_params": both,
        "fsdp_config.fsdp_activation_checkpointing": rule == "full",
        "fsdp_config.fsdp_state_dict_type": "SHARDED_STATE_DICT",
    }


def _degrees(facts: Facts) -> dict[str, Any]:
    tp, cp, at = facts.degree("tp"), facts.degree("cp"), "parallelism_config.parallelism_config"
    exchange = facts.plan.context_exchange
    _REFUSE.unless(
        cp == 1 or exchange != "all_to_all", "context parallelism by heads", "use --context-exchange all_gather or ring"
    )
    shared, groups = facts.sharded_replicas
    _REFUSE.unless(shared > 0, "a shard group smaller than the context-parallel ranks", "use a multiple of --cp")
    found: dict[str, Any] = {
        f"{at}_dp_replicate_size": groups,
        f"{at}_dp_shard_size": shared,
        f"{at}_tp_size": tp,
        f"{at}_cp_size": cp,
    }
    if cp > 1:  # its all-to-all passes shards around: a ring
        found[f"{at}_cp_comm_strategy"] = "allgather" if exchange == "all_gather" else "alltoall"
    return found


def _lines(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        else:
            quoted = f"'{value}'" if value == "no" else value
            yield f"{indent}{name}: {str(quoted).lower() if isinstance(value, bool) else quoted}"
