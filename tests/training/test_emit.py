"""`plan train --emit`: what is written is documented and is the layout; the rest is refused (design §10)."""

import itertools
import json
import shlex
import tomllib
from dataclasses import fields, replace
from math import prod
from typing import Any

import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.models.parameters import total_parameters
from ridgepoint.plan import Plan
from ridgepoint.tasks import Train
from ridgepoint.training.emit import SETTINGS, TARGETS, deepspeed, emit, fsdp, megatron, torchtitan
from ridgepoint.training.emit.facts import ASKED_OF_ALL, BESIDE, Facts, Refusal, documented
from ridgepoint.training.layouts import laid_out
from ridgepoint.training.planner import plan_train

OPTIONS = {"megatron": megatron, "deepspeed": deepspeed, "fsdp": fsdp, "torchtitan": torchtitan}


def facts(model="llama-3.1-8b", machine="2x8xh100-sxm", batch=64, seq=4096, **plan):
    given = {"zero_stage": 3.0, "micro_batch": 1.0, **plan}
    return Facts(laid_out(find_model(model), find_machine(machine), Train(batch=batch, seq=seq), Plan(**given)))


PLANS: list[dict[str, Any]] = [
    {},
    {"zero_stage": 2.0, "tp": 2, "cp": 2, "context_exchange": "ring"},
    {"zero_stage": 1.0, "tp": 8, "pp": 2, "schedule": "interleaved", "chunks": 4},
    {"zero_stage": 0.0, "tp": 4, "pp": 2, "dp": 2, "sequence_parallel": False},
    {"zero_stage": 0.0, "tp": 1, "dp": 16},
    {"zero_stage": 0.0, "tp": 2, "sequence_parallel": False},
    {"recompute": "full", "optimizer": "adam8bit"},
    {"recompute": "full", "recomputed_layers": 0.5},
    {"recompute": "full", "recomputed_layers": 0.75, "zero_stage": 1.0, "pp": 3, "dp": 4},
    {"recompute": "selective", "fused_attention": False},
    {"acts": "fp8"},
    {"acts": "fp8", "weights": "fp8"},
    {"acts": "mxfp8"},
    {"acts": "nvfp4"},
    {"weights": "fp16"},
    {"offload_optimizer": "host", "offload_params": "host"},
    {"offload_optimizer": "nvme"},
    {"offload_optimizer": "host", "zero_stage": 1.0},
    {"offload_activations": "host", "recompute": "full"},
    {"gradients": "16bit", "zero_stage": 1.0},
    {"compiled": False, "graph_capture": True},
    {"compiled": False},
    {"optimizer": "sgd"},
    {"schedule": "gpipe", "pp": 4, "dp": 4},
]
MODELS: list[dict[str, Any]] = [
    {"model": "qwen3-30b-a3b", "ep": 8, "zero_stage": 2.0},
    {"model": "qwen3-30b-a3b", "tp": 2, "ep": 8, "zero_stage": 2.0},
    {"model": "deepseek-v3", "pp": 2, "dp": 8, "ep": 8, "zero_stage": 1.0, "machine": "16x8xh100-sxm"},
    {"model": "deepseek-v2-lite", "acts": "fp8", "weights": "bf16"},
    {"model": "gpt2", "seq": 1024},
]


TITAN: dict[str, Any] = {"gradients": "16bit", "gradient_bytes": 4.0}
"""torchtitan keeps shards of FSDP2 and reduces gradients in fp32."""


@pytest.mark.parametrize("target", TARGETS)
def test_every_name_that_is_written_is_documented(target):
    """Names are those of the framework's own documentation, typed in with its version (catalog/frameworks.toml)."""
    known, written = set(documented()[target]["options"]), 0
    for plan in (*PLANS, *MODELS):
        given = {**TITAN, **plan} if target == "torchtitan" else plan
        try:
            names = OPTIONS[target].options(facts(**given), 1e12)
        except RidgepointError:
            continue
        written += 1
        assert set(names) <= known, (plan, set(names) - known)
    assert written >= 5
    assert documented()[target]["source"]


def words(facts):
    found = shlex.split(megatron.text(facts, None)[0].replace("\\\n", " "), comments=True)
    return dict(itertools.pairwise(found))


@pytest.mark.parametrize("plan", PLANS[:5])
def test_megatron_degrees_multiply_to_the_devices(plan):
    given, one = words(facts(**plan)), facts(**plan)
    degrees = [int(given[f"--{name}-parallel-size"]) for name in ("tensor-model", "pipeline-model", "context")]
    assert prod(degrees) * one.degree("dp") == one.devices == int(given["--nnodes"]) * int(given["--nproc-per-node"])
    assert int(given["--global-batch-size"]) % (int(given["--micro-batch-size"]) * one.degree("dp")) == 0


def test_megatron_stages_hold_every_layer_once():
    """126 layers do not divide by 16: the layout string says who has how many."""
    one = facts("llama-3.1-405b", "64x8xh100-sxm", 512, tp=8, pp=16, dp=4, zero_stage=1.0)
    text = words(one)["--pipeline-model-parallel-layout"]
    counts = [int(stage.strip("EL").removeprefix("t*")) for stage in text.split("|")]
    assert sum(counts) == 126
    assert len(counts) == 16
    assert max(counts) == 8
    assert text.startswith("E")
    assert text.endswith("L")


def test_megatron_stages_of_their_own_sizes_are_written_as_planned():
    """Balanced stages have fewer layers where embedding and head are."""
    one = facts(pp=4, dp=4, zero_stage=1.0, stages=(8.0, 9.0, 9.0, 6.0))
    assert words(one)["--pipeline-model-parallel-layout"] == "Et*8|t*9|t*9|t*6L"
    balanced = facts(pp=4, dp=4, zero_stage=1.0, stages="balanced")
    assert sum(balanced.stage_layers) == 32
    assert balanced.stage_layers[-1] < 8


def test_megatron_experts_are_divided_as_planned():
    """ep ≥ tp: whole experts; the tokens of several replicas meet (16 ranks of 8 experts)."""
    given = words(facts("qwen3-30b-a3b", tp=2, ep=16, zero_stage=1.0))
    assert (given["--expert-model-parallel-size"], given["--expert-tensor-parallel-size"]) == ("16", "1")
    inside = words(facts("qwen3-30b-a3b", tp=4, ep=2, zero_stage=1.0))
    assert (inside["--expert-model-parallel-size"], inside["--expert-tensor-parallel-size"]) == ("2", "2")


def test_deepspeed_batch_sizes_are_consistent():
    """train_batch_size = micro-batch × accumulation × replicas, or DeepSpeed refuses to start."""
    one = facts(micro_batch=2.0)
    document = json.loads(deepspeed.text(one, None)[0])
    assert document["train_batch_size"] == (
        document["train_micro_batch_size_per_gpu"] * document["gradient_accumulation_steps"] * one.degree("dp")
    )
    assert document["zero_optimization"]["stage"] == 3


def test_deepspeed_offload_names_the_tiers():
    document = json.loads(deepspeed.text(facts(offload_optimizer="nvme", offload_params="host"), None)[0])
    zero = document["zero_optimization"]
    assert zero["offload_optimizer"]["device"] == "nvme"
    assert zero["offload_param"]["device"] == "cpu"


def test_torchtitan_file_is_toml_of_the_layout():
    one = facts("llama-3.1-70b", "8x8xh100-sxm", 64, tp=4, pp=4, dp=4, schedule="interleaved", chunks=5.0, **TITAN)
    document = tomllib.loads(torchtitan.text(one, 1e9)[0])
    at = document["parallelism"]
    assert at["pipeline_parallel_layers_per_stage"] * 5 * 4 == 80
    assert at["tensor_parallel_degree"] * at["pipeline_parallel_degree"] * at["data_parallel_shard_degree"] == 64
    assert document["training"]["local_batch_size"] == 16  # a pipeline gets all of a replica's sequences
    assert document["training"]["steps"] == -(-1e9 // (64 * 4096))


def test_groups_of_shards_are_replicas_of_shards():
    """Hybrid sharding: replicas × shards are the data-parallel ranks; frameworks without the setting refuse."""
    one = facts(dp=16, shard_group=8.0)
    at = tomllib.loads(torchtitan.text(facts(dp=16, shard_group=8.0, **TITAN), None)[0])["parallelism"]
    assert (at["data_parallel_replicate_degree"], at["data_parallel_shard_degree"]) == (2, 8)
    assert "dp_replicate_size: 2" in fsdp.text(one, None)[0]
    assert "dp_shard_size: 8" in fsdp.text(one, None)[0]
    for refusing in (megatron, deepspeed):
        with pytest.raises(RidgepointError, match="groups of replicas"):
            refusing.text(one, None)


def test_stages_inside_are_said_to_megatron_and_refused_by_others():
    one = facts(pp=4, dp=4, zero_stage=1.0, rank_order="tp-pp-dp")
    assert "--use-tp-pp-dp-mapping" in words(one)
    for other in (deepspeed, fsdp, torchtitan):
        with pytest.raises(RidgepointError):
            other.text(one, None)


def test_fsdp_file_is_yaml_of_the_layout():
    yaml = pytest.importorskip("yaml")
    document = yaml.safe_load(fsdp.text(facts(tp=2, zero_stage=2.0), None)[0])
    sizes = document["parallelism_config"]
    names = ("dp_replicate", "dp_shard", "tp", "cp")
    assert prod(sizes[f"parallelism_config_{name}_size"] for name in names) == document["num_processes"] == 16
    assert document["fsdp_config"]["fsdp_reshard_after_forward"] is False
    assert document["mixed_precision"] == "bf16"


@pytest.mark.parametrize(
    ("target", "plan", "says"),
    [
        ("megatron", {"pp": 4, "dp": 4, "schedule": "zero_bubble", "zero_stage": 1.0}, "zero_bubble"),
        ("megatron", {"recompute": "sqrt"}, "sqrt"),
        ("fsdp", {"recompute": "sqrt"}, "sqrt"),
        ("deepspeed", {"recompute": "sqrt"}, "sqrt"),
        ("torchtitan", {"recompute": "sqrt"}, "sqrt"),
        ("megatron", {"offload_params": "host"}, "offload params"),
        ("megatron", {"optimizer": "lion"}, "lion"),
        ("megatron", {"model": "mamba2-2.7b", "seq": 2048}, "mamba2"),
        ("deepspeed", {"pp": 2, "dp": 8}, "pipeline stages"),
        ("deepspeed", {"cp": 2}, "context parallelism"),
        ("deepspeed", {"acts": "fp8"}, "fp8"),
        ("torchtitan", {"pp": 4, "dp": 4, "stages": (8.0, 9.0, 9.0, 6.0)}, "sizes"),
        ("fsdp", {"zero_stage": 1.0}, "stage 1"),
        ("fsdp", {"cp": 2, "context_exchange": "all_to_all"}, "by heads"),
        ("torchtitan", {"zero_stage": 1.0}, "stage 1"),
        ("torchtitan", {"model": "gpt2", "seq": 1024}, "gpt2"),
        ("torchtitan", {"recompute": "full", "recomputed_layers": 0.75}, "75%"),
    ],
)
def test_what_cannot_be_said_is_refused(target, plan, says):
    with pytest.raises(RidgepointError) as error:
        OPTIONS[target].text(facts(**plan, **(TITAN if target == "torchtitan" else {})), None)
    assert error.value.kind == "not_expressible"
    assert says in error.value.message
    assert error.value.hint


OTHERS: dict[str, Any] = {"trainable": "lora", "master_weights": False, "vocab_parallel": True, "trained_layers": 0.5}
OTHERS |= {"optimizer_rank": 64.0, "exchange_period": 8.0, "outer_bytes": 8.0}


def test_a_field_that_no_table_knows_is_refused_and_never_dropped():
    """A new field of plans must be said or refused: this fails until `ASKED_OF_ALL` or a value here names it."""
    for field in fields(Plan):
        if field.name in ASKED_OF_ALL | BESIDE:
            continue
        value = OTHERS.get(field.name)
        if value is None:
            value = {str: "other", bool: not field.default, float: 2.0}.get(type(field.default), ("x",))
            plan = Plan()
            object.__setattr__(plan, field.name, value)
        else:
            plan = replace(Plan(), **{field.name: value})
        with pytest.raises(RidgepointError, match=field.name.replace("_", "-")):
            Refusal("Some framework").of_unknown_fields(plan)


def test_a_refusal_names_a_layout_of_the_plan_that_can_be_written():
    found = plan_train("llama-3.2-1b", on="8xa100-sxm-80gb", batch=64, seq=4096, zero_stage=3)
    layouts = sorted(found.layouts, key=lambda layout: layout.estimate.built.layout.cp == 1.0)
    first = replace(found, layouts=tuple(layouts))
    assert layouts[0].estimate.built.layout.cp > 1.0
    with pytest.raises(RidgepointError) as error:
        emit(first, "deepspeed")
    assert "can be written" in error.value.hint
    assert "--cp 1" in error.value.hint


def test_unknown_targets_are_refused_with_the_nearest():
    found = plan_train("gpt2", on="a100-sxm-80gb", batch=8, seq=1024)
    with pytest.raises(RidgepointError) as error:
        emit(found, "megatrn")
    assert error.value.kind == "unknown_target"
    assert "megatron" in error.value.hint


@pytest.mark.parametrize("target", TARGETS)
def test_a_plan_for_a_framework_can_be_written_for_it(target):
    """What a framework has no setting for is not searched; gradients are those that it keeps and exchanges by itself."""
    asked: dict[str, Any] = {"on": "2x8xh100-sxm", "batch": 64, "seq": 4096, "recompute": "none", "top": 1}
    written = emit(plan_train("llama-3.1-8b", **asked, **SETTINGS[target]), target)
    assert any("searched as" in note for note in written.notes)
    if target == "megatron":
        assert "--grad-reduce-in-bf16" not in written.text  # its default is fp32
    if target == "deepspeed":
        assert json.loads(written.text)["data_types"]["grad_accum_dtype"] == "bf16"


@pytest.mark.parametrize(
    ("plan", "kept", "sent"),
    [
        ({"zero_stage": 1.0}, 4.0, 4.0),
        ({"zero_stage": 3.0}, 2.0, 2.0),
        ({"zero_stage": 3.0, "gradients": "fp32"}, 4.0, 4.0),
        ({"zero_stage": 0.0, "gradients": "16bit"}, 2.0, 2.0),
        ({"zero_stage": 3.0, "weights": "fp32"}, 4.0, 4.0),
        (TITAN, 2.0, 4.0),
    ],
)
def test_gradients_are_kept_and_sent_as_the_plan_says(plan, kept, sent):
    """The ledger's bytes per parameter; a step in fp32 has no 16-bit gradients at any stage."""
    one = facts(**plan)
    assert one.gradients == (kept, sent)
    entries = one.layout.estimate.memory
    parameters = total_parameters(one.model) / (one.degree("dp") if one.stage >= 2 else 1)
    assert entries["gradients"] == pytest.approx(kept * parameters, rel=0.01)
    (said,) = (text for text in one.layout.estimate.assumptions if "gradients kept in" in text)
    assert ("fp32" if kept == 4.0 else "16 bit") in said
