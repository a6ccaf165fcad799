"""A layout as a command of Megatron-LM (``pretrain_gpt.py``): degrees, schedule, states, formats and the model's shape."""

from __future__ import annotations

import shlex
from math import ceil

from ridgepoint.training.emit.facts import Facts, headline
from ridgepoint.training.emit.megatron_model import REFUSE, Options, shape

_EXCHANGES = {"ring": "p2p", "all_gather": "all_gather", "all_to_all": "a2a"}
_FP8 = {"fp8": "tensorwise", "fp8_block": "blockwise", "mxfp8": "mxfp8"}
_UNFUSED = ("masked-softmax", "bias-gelu", "bias-swiglu", "bias-dropout", "rope")


def options(facts: Facts, tokens: float | None) -> Options:
    """All options of ``pretrain_gpt.py`` that the layout and the model's shape decide."""
    REFUSE.of_unknown_fields(facts.plan)
    return {
        **_degrees(facts),
        **_batch(facts, tokens),
        **_states(facts),
        **_recompute(facts),
        **_formats(facts),
        **_kernels(facts),
        **shape(facts),
    }


def text(facts: Facts, tokens: float | None) -> tuple[str, list[str]]:
    """A shell script, and what it leaves to its reader."""
    given = options(facts, tokens)
    nodes, each = facts.nodes
    start = ["torchrun", "--nnodes", str(nodes), "--nproc-per-node", str(each)]
    lines = (
        [shlex.join(start)]
        if nodes == 1
        else [f'{shlex.join(start)} --rdzv-backend c10d --rdzv-endpoint "$HEAD_NODE:29500"']
    )
    lines.append("pretrain_gpt.py")
    lines += [name if value is None else f"{name} {shlex.quote(str(value))}" for name, value in given.items()]
    many = facts.degree("tp") * facts.degree("cp") > 1 and facts.stage < 2
    setting = ["export CUDA_DEVICE_MAX_CONNECTIONS=1"] if many else []
    body = ["#!/usr/bin/env bash", f"# {headline(facts)}", *setting, " \\\n    ".join([*lines, '"$@"'])]
    notes = [
        "add data, tokenizer, learning rate and the rotary base of the model; on several nodes set HEAD_NODE and run it on each"
    ]
    return "\n".join(body), notes


def _degrees(facts: Facts) -> Options:
    plan, tp = facts.plan, facts.degree("tp")
    found: Options = {
        "--tensor-model-parallel-size": tp,
        "--pipeline-model-parallel-size": facts.degree("pp"),
        "--context-parallel-size": facts.degree("cp"),
    }
    if facts.degree("cp") > 1:
        found["--cp-comm-type"] = _EXCHANGES[plan.context_exchange]
    if tp > 1 and plan.sequence_parallel is not False:
        found["--sequence-parallel"] = None
    if facts.expert_count:
        REFUSE.unless(
            tp == 1 or plan.sequence_parallel is not False,
            "experts with tensor parallelism and without sequence parallelism",
            "leave sequence parallelism on",
        )
        found |= {
            "--expert-model-parallel-size": facts.degree("ep"),
            "--expert-tensor-parallel-size": facts.expert_slices,
            "--moe-token-dispatcher-type": "alltoall",
        }
    found |= {"--attention-dropout": f"{plan.dropout:g}", "--hidden-dropout": f"{plan.dropout:g}"}  # its default is 0.1
    if plan.rank_order == "tp-pp-dp":
        found["--use-tp-pp-dp-mapping"] = None
    return found | _stages(facts)


def _stages(facts: Facts) -> Options:
    if not facts.schedule:
        return {}
    REFUSE.unless(
        facts.schedule in ("1f1b", "interleaved"),
        f"the schedule {facts.schedule}",
        "use --schedule 1f1b or interleaved",
    )
    layers = facts.stage_layers
    if len(set(layers)) == 1:
        return {"--num-virtual-stages-per-pipeline-rank": facts.chunks} if facts.chunks > 1 else {}
    REFUSE.unless(
        facts.chunks == 1,
        f"{facts.chunks} chunks of stages with {layers[0]} and {layers[-1]} layers",
        "use --schedule 1f1b",
    )
    named = ["t*" + str(count) for count in layers]
    return {"--pipeline-model-parallel-layout": "|".join(["E" + named[0], *named[1:-1], named[-1] + "L"])}


def _batch(facts: Facts, tokens: float | None) -> Options:
    found: Options = {
        "--micro-batch-size": facts.micro,
        "--global-batch-size": facts.batch,
        "--seq-length": facts.seq,
        "--max-position-embeddings": facts.seq,
    }
    return found if tokens is None else found | {"--train-samples": ceil(tokens / facts.seq)}


def _states(facts: Facts) -> Options:
    plan, stage = facts.plan, facts.stage
    REFUSE.unless(plan.shard_group is None, "states shared within groups of replicas", "leave --shard-group out")
    overlap: Options = {"--overlap-grad-reduce": None} if plan.overlap_gradients else {}
    REFUSE.unless(
        not stage or plan.overlap_gradients or not plan.overlap_parameters,
        "parameters gathered beside the passes where gradients are not",
        "plan with --no-overlap-parameters too",
    )
    gathers: Options = {"--overlap-param-gather": None} if plan.overlap_parameters and stage else {}
    found: Options = {**overlap, **gathers}
    if stage:
        found["--use-distributed-optimizer"] = None
    if stage >= 2:
        shards = "optim_grads" if stage == 2 else "optim_grads_params"
        found |= {
            "--use-megatron-fsdp": None,
            "--data-parallel-sharding-strategy": shards,
            "--ckpt-format": "fsdp_dtensor",
        }
    return found | _gradients(facts) | _optimizer(facts)


def _gradients(facts: Facts) -> Options:
    """The format in which gradients are added up and exchanged, where it is not what Megatron-LM takes by itself."""
    (width, sent), stream = facts.gradients, facts.formats.stream
    REFUSE.unless(
        width == sent,
        f"gradients of {sent:g} bytes per value between replicas where {width:g} are kept",
        "use --gradients fp32 or 16bit alone",
    )
    if stream == "fp16":
        return {"--accumulate-allreduce-grads-in-fp32": None} if width == 4.0 else {}
    return {"--grad-reduce-in-bf16": None} if width == 2.0 else {}


def _optimizer(facts: Facts) -> Options:
    plan = facts.plan
    for name in ("offload_params", "offload_activations"):
        tier = getattr(plan, name)
        REFUSE.unless(tier == "none", f"{name.replace('_', ' ')} to {tier}", f"leave --{name.replace('_', '-')} out")
    known = {"adam": "adam", "sgd": "sgd", "adam8bit": "adam"}
    REFUSE.unless(plan.optimizer in known, f"the optimizer {plan.optimizer}", "use --optimizer adam, adam8bit or sgd")
    found: Options = {"--optimizer": known[plan.optimizer]}
    aware = plan.optimizer == "adam8bit" or plan.offload_optimizer != "none"
    if aware:
        REFUSE.unless(
            facts.stage >= 1, "8-bit or offloaded optimizer states without sharding them", "use --zero 1 or more"
        )
        found["--use-precision-aware-optimizer"] = None
    if plan.optimizer == "adam8bit":
        found |= {"--exp-avg-dtype": "fp8", "--exp-avg-sq-dtype": "fp8"}
    REFUSE.unless(plan.offload_optimizer != "nvme", "optimizer states on NVMe", "use --offload-optimizer host")
    if plan.offload_optimizer == "host":
        found |= {"--optimizer-cpu-offload": None, "--overlap-cpu-optimizer-d2h-h2d": None}
    return found


def _recompute(facts: Facts) -> Options:
    rule, part = facts.recompute
    if rule == "none":
        return {}
    REFUSE.unless(
        rule in ("selective", "full"), f"recomputation that is {rule}", "use --recompute full, selective or none"
    )
    if rule == "selective":
        REFUSE.unless(part == 1.0, "selective recomputation in a part of the layers", "use --recomputed-layers 1")
        return {"--recompute-granularity": "selective"}
    if part == 1.0:
        return {"--recompute-granularity": "full", "--recompute-method": "uniform", "--recompute-num-layers": 1}
    each = facts.stage_layers[0] // facts.chunks
    return {
        "--recompute-granularity": "full",
        "--recompute-method": "block",
        "--recompute-num-layers": ceil(part * each),
    }


def _formats(facts: Facts) -> Options:
    formats = facts.formats
    stream, inputs, stored = formats.stream, formats.inputs, dict(formats.weights)["default"]
    found: Options = {f"--{stream}": None} if stream != "fp32" else {}
    if inputs == stream:
        REFUSE.unless(stored == stream, f"{stored} weights under {inputs} products", f"use --weights {stream}")
        return found
    if inputs == "nvfp4":
        found["--fp4-format"] = "e2m1"
    elif inputs in _FP8:
        found |= {"--fp8-format": "hybrid" if inputs == "fp8" else "e4m3", "--fp8-recipe": _FP8[inputs]}
    else:
        REFUSE(f"products in {inputs}", "use --acts fp8, fp8_block, mxfp8 or nvfp4, or none")
    if stored != stream:
        REFUSE.unless(
            stored == inputs and inputs in _FP8, f"{stored} weights under {inputs} products", f"use --weights {stream}"
        )
        found["--fp8-param-gather"] = None
    return found


def _kernels(facts: Facts) -> Options:
    plan = facts.plan
    found: Options = {} if plan.fused_attention else {"--attention-backend": "unfused"}
    if plan.graph_capture:
        found |= {
            "--cuda-graph-impl": "local",
            "--cuda-graph-scope": "full_iteration",
            "--no-check-for-nan-in-loss-and-grad": None,
        }
    return found if plan.compiled else found | {f"--no-{name}-fusion": None for name in _UNFUSED}
