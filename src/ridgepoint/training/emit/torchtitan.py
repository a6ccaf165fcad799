"""A layout as a job configuration of torchtitan (TOML)."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from ridgepoint.models.toml_text import toml_lines
from ridgepoint.training.emit.facts import Facts, Refusal, documented, headline, nested

_REFUSE = Refusal("torchtitan")
_SCHEDULES = {"1f1b": "1F1B", "gpipe": "GPipe", "interleaved": "Interleaved1F1B"}
_FP8, _MX = "quantize.linear.float8", "quantize.linear.mx"


def options(facts: Facts, tokens: float | None) -> dict[str, Any]:
    """The job configuration with dotted names."""
    plan = facts.plan
    _REFUSE.of_unknown_fields(plan)
    known = documented()["torchtitan"]["models"]
    _REFUSE.unless(facts.model.name in known, f"the model {facts.model.name}", "its models are " + ", ".join(known))
    _REFUSE.unless(plan.optimizer == "adam", f"the optimizer {plan.optimizer}", "use --optimizer adam")
    _REFUSE.unless(not plan.graph_capture, "graphs of whole training steps", "leave --graphs out")
    _REFUSE.unless(plan.fused_attention, "unfused attention", "leave --no-fused-attention out")
    _REFUSE.unless(
        plan.overlap_gradients and plan.overlap_parameters,
        "exchanges that nothing hides",
        "plan with overlapped gradients and parameters",
    )
    _REFUSE.unless(plan.rank_order == "tp-cp-dp-pp", f"the rank order {plan.rank_order}", "leave --rank-order out")
    if facts.formats.stream != "fp32":  # as FSDP2, but its gradients are reduced in fp32
        _REFUSE.unless(
            facts.gradients == (2.0, 4.0),
            f"gradients kept in {facts.gradients[0]:g} bytes and exchanged in {facts.gradients[1]:g}",
            "use --gradients 16bit --gradient-bytes 4",
        )
        _REFUSE.unless(plan.master_weights, "16-bit weights alone", "leave --no-master-weights out")
    name, flavor = known[facts.model.name]
    whole = {} if tokens is None else {"training.steps": ceil(tokens / facts.batch / facts.seq)}
    per_replica = facts.batch // facts.degree("dp")
    return {
        "model.name": name,
        "model.flavor": flavor,
        **_formats(facts),
        "optimizer.name": "AdamW",
        "training.local_batch_size": per_replica if facts.schedule else facts.micro,
        "training.global_batch_size": facts.batch,
        "training.seq_len": facts.seq,
        **whole,
        **_offload(facts),
        **_sharding(facts),
        **_degrees(facts),
        **_stages(facts),
        **_recompute(facts),
        "compile.enable": bool(plan.compiled),
    }


def text(facts: Facts, tokens: float | None) -> tuple[str, list[str]]:
    """A TOML file, and what it leaves to its reader."""
    tables = nested(options(facts, tokens))
    lines = [f"# {headline(facts)}"]
    for name, values in tables.items():
        lines += _table(name, values)
    nodes, each = facts.nodes
    notes = [
        f"start train.py with --job.config_file FILE on {nodes} × {each} devices; add data set, tokenizer and learning rate"
    ]
    return "\n".join(lines), notes


def _table(name: str, values: Mapping[str, Any]) -> list[str]:
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    lines = ["", f"[{name}]", *toml_lines(plain)] if plain else []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += _table(f"{name}.{key}", value)
    return lines


def _formats(facts: Facts) -> dict[str, Any]:
    formats = facts.formats
    stream, inputs, stored = formats.stream, formats.inputs, dict(formats.weights)["default"]
    _REFUSE.unless(stream in ("bf16", "fp32"), f"training in {stream}", "use --acts bf16")
    found: dict[str, Any] = {"training.mixed_precision_param": {"bf16": "bfloat16", "fp32": "float32"}[stream]}
    if inputs == stream:
        _REFUSE.unless(stored == stream, f"{stored} weights under {inputs} products", f"use --weights {stream}")
        return found
    _REFUSE.unless(inputs in ("fp8", "mxfp8"), f"products in {inputs}", "use --acts fp8 or mxfp8, or none")
    _REFUSE.unless(
        stored == stream or stored == inputs == "fp8",
        f"{stored} weights under {inputs} products",
        f"use --weights {stream}",
    )
    if inputs == "mxfp8":
        experts = {"quantize.grouped_mm.mx.fqns": ["experts"]} if facts.expert_count else {}
        return found | {"model.converters": ["mx"], f"{_MX}.recipe_name": "mxfp8_cublas", **experts}
    experts = {"quantize.grouped_mm.float8.fqns": ["experts"]} if facts.expert_count else {}
    return found | {
        "model.converters": ["float8"],
        f"{_FP8}.enable_fsdp_float8_all_gather": stored == "fp8",
        f"{_FP8}.filter_fqns": ["output", "router.gate"] if facts.expert_count else ["output"],
        **experts,
    }


def _offload(facts: Facts) -> dict[str, Any]:
    plan = facts.plan
    both = plan.offload_params == plan.offload_optimizer == "host"
    _REFUSE.unless(
        both or plan.offload_params == plan.offload_optimizer == "none",
        "offload of states or parameters alone, or to NVMe",
        "use --offload-params host --offload-optimizer host",
    )
    _REFUSE.unless(plan.offload_activations == "none", "offloaded activations", "leave --offload-activations out")
    return {"training.enable_cpu_offload": True} if both else {}


def _sharding(facts: Facts) -> dict[str, Any]:
    stage, dp, at = facts.stage, facts.degree("dp"), "parallelism"
    _REFUSE.unless(stage != 1, "ZeRO stage 1: it shards gradients with the states", "plan with --zero 3 or 2")
    if stage == 0:
        alone = facts.devices == dp
        _REFUSE.unless(
            dp * facts.degree("cp") == 1 or alone,
            "replicas beside other degrees (ZeRO stage 0)",
            "plan with --zero 3 or 2",
        )
        return {f"{at}.data_parallel_replicate_degree": dp, f"{at}.data_parallel_shard_degree": 1}
    shared, groups = facts.sharded_replicas
    _REFUSE.unless(shared > 0, "a shard group smaller than the context-parallel ranks", "use a multiple of --cp")
    return {
        f"{at}.data_parallel_replicate_degree": groups,
        f"{at}.data_parallel_shard_degree": shared,
        f"{at}.fsdp_reshard_after_forward": "always" if stage == 3 else "never",
    }


def _degrees(facts: Facts) -> dict[str, Any]:
    at = "parallelism"
    tp, ep, cp = (facts.degree(name) for name in ("tp", "ep", "cp"))
    exchange = facts.plan.context_exchange
    _REFUSE.unless(
        tp == 1 or facts.plan.sequence_parallel is not False,
        "tensor parallelism without sequence parallelism",
        "leave sequence parallelism on",
    )
    _REFUSE.unless(
        cp == 1 or exchange != "all_to_all", "context parallelism by heads", "use --context-exchange all_gather or ring"
    )
    slices = facts.expert_slices
    _REFUSE.unless(
        ep == 1 or slices in (1, tp), f"experts over {ep} ranks of {slices} slices", f"plan with --ep 1 or --ep {tp}"
    )
    found: dict[str, Any] = {f"{at}.tensor_parallel_degree": tp, f"{at}.context_parallel_degree": cp}
    if cp > 1:  # its all-to-all passes shards around: a ring
        found[f"{at}.context_parallel_rotate_method"] = "allgather" if exchange == "all_gather" else "alltoall"
    if ep > 1:
        found |= {f"{at}.expert_parallel_degree": ep, f"{at}.expert_tensor_parallel_degree": slices}
    return found


def _stages(facts: Facts) -> dict[str, Any]:
    at = "parallelism"
    if not facts.schedule:
        return {f"{at}.pipeline_parallel_degree": 1}
    _REFUSE.unless(
        facts.schedule in _SCHEDULES, f"the schedule {facts.schedule}", "use --schedule 1f1b, gpipe or interleaved"
    )
    _REFUSE.unless(facts.plan.stages == "uniform", "stages of their own sizes", "plan with uniform stages")
    pp, depth = facts.degree("pp"), facts.model.main.depth
    each = facts.stage_layers[0] // facts.chunks
    _REFUSE.unless(
        ceil(depth / each) == pp * facts.chunks,
        f"{depth} layers in {pp * facts.chunks} pieces of {each}",
        "plan with --schedule 1f1b or other --pp",
    )
    return {
        f"{at}.pipeline_parallel_degree": pp,
        f"{at}.pipeline_parallel_schedule": _SCHEDULES[facts.schedule],
        f"{at}.pipeline_parallel_microbatch_size": facts.micro,
        f"{at}.pipeline_parallel_layers_per_stage": each,
        f"{at}.pipeline_parallel_first_stage_less_layers": 0,
        f"{at}.pipeline_parallel_last_stage_less_layers": 0,
    }


def _recompute(facts: Facts) -> dict[str, Any]:
    rule, part = facts.recompute
    if rule == "none" or (rule == "full" and part == 1.0):
        return {"activation_checkpoint.mode": rule}
    every = round(1.0 / part)
    _REFUSE.unless(
        rule == "full" and abs(every * part - 1.0) < 1e-9,
        f"recomputation of {part:.0%} of the layers ({rule})",
        "use --recompute full with --recomputed-layers 1, 0.5 or 0.25, or --recompute none",
    )
    return {"activation_checkpoint.mode": "selective", "activation_checkpoint.selective_ac_option": str(every)}
