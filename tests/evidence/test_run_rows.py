"""Rows of whole runs: what they become, what they give, and why some give nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.evidence import run_rows
from ridgepoint.evidence.run_rows import STAND_IN_SPREAD, predict_runs, run_groups, run_names, stand_ins_of
from ridgepoint.evidence.run_scenarios import found_machine
from ridgepoint.evidence.tables import read_table
from ridgepoint.evidence.validate import reasons
from ridgepoint.evidence.validation import Validation, stand_ins
from ridgepoint.evidence.whole_runs import _LENGTHS, _SCALES
from ridgepoint.serving.engines import engines
from ridgepoint.tasks.inference import without_host


def decode(**changes):
    row: dict[str, Any] = {
        "machine": "h100-sxm",
        "framework": "trtllm",
        "model": "llama-3.1-8b",
        "task": "decode",
        "precision": "bf16",
    }
    return row | {"batch": 8, "prompt": 1000, "output": 200, "metric": "tpot_ms", "mode": "trtllm"} | changes


def train(**changes):
    row = {"machine": "a100-sxm-80gb", "devices": 8, "framework": "llm-foundry", "model": "mpt-1b", "mode": "eager"}
    row |= {"task": "train_step", "precision": "bf16", "prompt": 2048, "tp": 1, "pp": 1, "dp": 8, "zero_stage": 3}
    return row | {"micro_batch": 8, "global_batch": 512, "recompute": "none", "metric": "time_s"} | changes


def test_a_decode_row_is_a_decode_step_of_the_engine(table):
    result = predict_runs(table(decode()))
    engine = engines()["trtllm"]
    est = rp.estimate(
        "llama-3.1-8b",
        on="h100-sxm",
        task=rp.Decode(batch=8, context=1100),
        plan=rp.Plan(tp=1, dp=1, weights="bf16"),
    )
    expected = est.time_s + engine.step_s + 8 * engine.sequence_s
    assert result.predicted[0] == pytest.approx(expected * 1e3, rel=1e-6)
    assert result.roofline[0] < result.predicted[0]


def test_metrics_of_one_configuration_share_a_group_and_agree(table):
    rows = [train(metric=metric) for metric in ("time_s", "throughput_tok_s_per_device", "mfu", "tflops_per_device")]
    read = table(*rows)
    assert len(run_groups(read)) == 1
    time_s, rate, mfu, tflops = predict_runs(read).predicted
    assert rate == pytest.approx(512 * 2048 / time_s / 8)
    assert mfu == pytest.approx(tflops * 1e12 / 312e12)


def test_rows_that_differ_in_numbers_share_a_group_and_rows_that_differ_in_text_do_not(table):
    assert len(run_groups(table(decode(), decode(batch=64), decode(prompt=5000)))) == 1
    assert len(run_groups(table(decode(), decode(precision="fp8"), decode(devices=2, tp=2)))) == 3


def test_together_is_one_by_one(table):
    rows = [decode(batch=1), decode(batch=32, prompt=4000), decode(batch=7)]
    together = predict_runs(table(*rows)).predicted
    alone = [predict_runs(table(row)).predicted[0] for row in rows]
    assert together == pytest.approx(alone)


def test_serving_with_one_client_is_a_decode_step(table):
    serve = decode(task="serve", concurrency=1, batch="")
    result = predict_runs(table(serve, decode(batch=1)))
    assert result.predicted[0] == pytest.approx(result.predicted[1], rel=0.02)


def test_more_clients_wait_longer(table):
    rows = [decode(task="serve", metric=m, concurrency=c, batch="") for m in ("tpot_ms", "ttft_ms") for c in (1, 8, 64)]
    tpot, ttft = predict_runs(table(*rows)).predicted.reshape(2, 3)
    assert np.all(np.diff(tpot) > 0)
    assert np.all(np.diff(ttft) > 0)


def test_generation_is_a_prefill_and_its_steps(table):
    rows = [decode(task=task, metric="latency_ms", batch=4, output=101) for task in ("prefill", "decode", "generate")]
    prefill, step, whole = predict_runs(table(*rows)).predicted
    assert whole == pytest.approx(prefill + 100 * step)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": "no-such-model"}, "the catalogue has no such model or network"),
        ({"machine": "no-such-machine"}, "the catalogue has no machine 'no-such-machine'"),
        ({"framework": "mlperf", "task": "serve"}, "lengths of the requests of benchmark '' are not known"),
        ({"precision": "fp3"}, "precision fp3 is not known"),
        ({"prompt": ""}, "prompt is not stated"),
        ({"tp": 3}, "tp"),
        ({"metric": "power_peak_w"}, "power_peak_w of decode has no prediction"),
        ({"task": "serve", "batch": "", "metric": "mfu"}, "mfu of serve has no prediction"),
    ],
)
def test_rows_without_a_scenario_are_counted_with_their_reason(table, change, reason):
    result = predict_runs(table(decode(), decode(**change)))
    (found, count), *more = reasons(result)
    assert count == 1
    assert not more
    assert reason in found
    assert result.covered.tolist() == [True, False]


@pytest.mark.parametrize(
    ("task", "mode", "like"),
    [("decode", "", "vllm"), ("decode", "eager", "pytorch-eager"), ("serve", "", "vllm"), ("forward", "", "tensorrt")],
)
def test_software_that_nobody_described_is_predicted_like_another_and_said_so(table, task, mode, like):
    """Design §8: no row is dropped for its software's name alone, and no figure pretends to know that software."""
    row = decode(
        task=task, mode=mode, framework="new", concurrency=8, metric="tpot_ms" if task != "forward" else "time_s"
    )
    framework, _, suffix = like.partition("-")
    read = table(row, row | {"framework": framework, "mode": suffix})
    result = predict_runs(read)
    assert stand_ins_of(read) == [like, ""]
    assert result.predicted[0] == pytest.approx(result.predicted[1])
    assert result.spread[0] == pytest.approx(STAND_IN_SPREAD * result.spread[1])
    validation = Validation({"runs": result}, [], 0.0)
    assert stand_ins(validation) == [{"framework": "new", "like": like, "rows": 1}]


def test_a_machine_none_of_whose_networks_can_be_expressed_is_counted(table):
    row: dict[str, Any] = {"machine": "rtx-3090", "framework": "pytorch", "model": "resnet50"}
    row |= {"task": "forward", "precision": "fp3"}
    row |= {"batch": 64, "image_px": 224, "mode": "compiled", "metric": "throughput_samples_s"}
    assert reasons(predict_runs(table(row))) == [("precision fp3 is not known", 1)]


def test_one_impossible_row_does_not_take_its_group_along(table):
    result = predict_runs(table(decode(devices=4, tp=4), decode(devices=4, tp=3), decode(devices=4, tp=2)))
    assert result.covered.tolist() == [True, False, True]


def test_networks_are_read_together_and_as_estimates_say(table):
    row: dict[str, Any] = {
        "machine": "rtx-3090",
        "framework": "pytorch",
        "model": "resnet50",
        "task": "forward",
        "precision": "fp16",
    }
    row |= {"batch": 64, "image_px": 224, "mode": "compiled", "metric": "throughput_samples_s"}
    rows = [row, row | {"batch": 256}, row | {"model": "resnet18"}, row | {"model": "no-such-network"}]
    result = predict_runs(table(*rows))
    assert result.covered.tolist() == [True, True, True, False]
    for i, (name, batch) in enumerate((("resnet50", 64), ("resnet50", 256), ("resnet18", 64))):
        plan = rp.Plan(weights="fp16", graph_capture=True)
        est = rp.estimate(name, on="rtx-3090", task=rp.Forward(batch=batch, image_px=224), plan=plan)
        assert result.predicted[i] == pytest.approx(batch / est.time_s, rel=1e-6)


def test_nodes_and_their_network(table):
    rows = [
        train(devices=32, nodes=4, dp=32, extra={"net": "1600Gb/s per node"}),
        train(machine="gb200", devices=64, nodes=16, dp=64),
        train(devices=10, tp=5),
    ]
    network, domain, odd = (found_machine(rows) for rows in run_groups(table(*rows)))
    assert (network.nodes, network.devices_per_node) == (4, 8)
    link = network.link("cluster")
    assert link is not None
    assert link[1].bandwidth == pytest.approx(25e9)
    assert (domain.nodes, domain.devices_per_node) == (1, 64)  # one NVLink domain over sixteen boards
    assert (odd.nodes, odd.devices_per_node) == (2, 5)


def test_names_tell_modes_apart(table):
    assert run_names(table(decode(), train())) == [
        "decode trtllm bf16 tpot_ms",
        "train_step llm-foundry eager bf16 time_s",
    ]


def test_every_row_is_predicted_or_refused(shared):
    read = read_table(shared / "measurements" / "memory.csv.gz")
    result = predict_runs(read)
    assert int(result.covered.sum()) + len(result.refused) == len(read)
    assert not set(np.flatnonzero(result.covered)) & set(result.refused)


def test_a_step_of_an_engine_without_host_is_the_device(table):
    est = rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=8, context=1100))
    assert without_host(est.built.work) == est.built.device


@pytest.mark.parametrize(("precision", "like"), [("int4", "w4a16"), ("AWQ", "w4a16"), ("w8a8", "int8")])
def test_four_bits_are_those_of_the_weights(table, precision, like):
    """No engine computes language models in 4-bit integers: a row of ``int4`` was predicted as W4A4."""
    told, meant = (predict_runs(table(decode(precision=p, batch=64))).predicted[0] for p in (precision, like))
    assert told == pytest.approx(meant, rel=0.02)


def test_the_tokens_of_a_generation_are_not_all_of_it(table):
    """TTFT and TPOT of a generation were given the time of the whole run."""
    metrics = {
        "ttft_ms",
        "tpot_ms",
        "latency_ms",
        "throughput_tok_s",
        "throughput_tok_s_per_device",
        "energy_j_per_token",
    }
    rows = [decode(task="generate", metric=metric, output=100, devices=2, tp=2) for metric in sorted(metrics)]
    found = dict(zip(sorted(metrics), predict_runs(table(*rows)).predicted, strict=True))
    assert found["ttft_ms"] + 99.0 * found["tpot_ms"] == pytest.approx(found["latency_ms"])
    assert found["throughput_tok_s"] == pytest.approx(8 * 100 / found["latency_ms"] * 1e3)
    assert found["throughput_tok_s_per_device"] == pytest.approx(found["throughput_tok_s"] / 2)
    watts = predict_runs(table(decode(task="generate", metric="power_w", output=100, devices=2, tp=2))).predicted[0]
    assert found["energy_j_per_token"] == pytest.approx(2 * watts / found["throughput_tok_s"])


@pytest.mark.parametrize(
    ("row", "per", "times"),
    [
        ({"task": "prefill", "metric": "throughput_tok_s"}, "latency_ms", 8 * 1000 * 1e3),
        ({"task": "decode", "metric": "throughput_tok_s"}, "tpot_ms", 8 * 1e3),
    ],
)
def test_throughput_is_tokens_over_time(table, row, per, times):
    rate, each = predict_runs(table(decode(**row), decode(**row | {"metric": per}))).predicted
    assert rate == pytest.approx(times / each)


def test_a_served_request_lasts_from_its_first_token_to_its_last(table):
    served = {"task": "serve", "concurrency": 16, "batch": None}
    rows = [
        decode(**served, metric=metric)
        for metric in ("ttft_ms", "tpot_ms", "latency_ms", "throughput_tok_s_per_device")
    ]
    first, each, whole, rate = predict_runs(table(*rows)).predicted
    assert whole == pytest.approx(first + 199 * each)
    assert 0 < rate < 16 / each * 1e3


@pytest.mark.parametrize(("framework", "like"), [("vLLM", "vllm"), ("TensorRT-LLM", "trtllm"), ("SGLang", "sglang")])
def test_software_is_known_by_its_usual_names(table, framework, like):
    """``SGLang`` was predicted as vLLM."""
    rows = [decode(framework=name, task="generate", metric="latency_ms", mode="") for name in (framework, like)]
    told, meant = predict_runs(table(*rows)).predicted
    assert told == meant


def test_devices_without_a_network_in_their_sheet_are_joined_by_their_hosts(table):
    """Eight H100 NVL of one node are four bridged pairs: the row was refused."""
    row = decode(machine="h100-nvl", devices=8, tp=8, model="llama-3.1-70b")
    assert not predict_runs(table(row)).refused


def test_devices_that_no_degree_claims_are_replicas(table):
    """A training row without ``dp`` had one device of eight do all the work: an eighth of the throughput, and worse beyond."""
    stated, silent = train(metric="mfu"), train(metric="mfu", dp=None, tp=None, pp=None)
    told, meant = predict_runs(table(silent, stated)).predicted
    assert told == pytest.approx(meant)


@pytest.mark.parametrize("task", ["serve", "decode"])
def test_inference_that_states_no_degree_divides_the_model_among_its_devices(table, task):
    row = {"devices": 4, "task": task, "model": "llama-3.1-70b", "concurrency": 8, "metric": "tpot_ms"}
    told, meant = predict_runs(table(decode(**row), decode(**row, tp=4, dp=1))).predicted
    assert told == pytest.approx(meant)


def test_served_replicas_that_only_devices_tell_share_the_clients(table):
    row = {"task": "serve", "model": "llama-3.1-8b", "tp": 1, "metric": "throughput_tok_s"}
    one, two = decode(**row, devices=1, concurrency=32), decode(**row, devices=2, concurrency=64)
    single, double = predict_runs(table(one, two)).predicted
    assert double == pytest.approx(2.0 * single, rel=0.05)


def test_a_training_row_needs_a_batch(table):
    found = predict_runs(table(train(global_batch=None, micro_batch=None)))
    assert "neither global_batch nor micro_batch" in next(iter(found.refused.values()))


def test_a_batch_of_fewer_sequences_than_replicas_is_that_of_one(table):
    own, all_of_them = ({"global_batch": None, "micro_batch": None, "batch": n, "metric": "mfu"} for n in (2, 16))
    told, meant = predict_runs(table(train(**own), train(**all_of_them))).predicted
    assert told == pytest.approx(meant)


def test_a_fine_tuning_of_no_stated_method_trains_all_weights(table):
    row = train(task="finetune_step", source="mine")
    told, meant = predict_runs(table(row, train())).predicted
    assert told == pytest.approx(meant, rel=0.05)
    qlora = {**row, "devices": 1, "dp": 1, "extra": {"method": "qlora"}, "precision": "nf4", "framework": "litgpt"}
    assert not predict_runs(table(qlora)).refused


def test_what_decides_a_figure_divides_groups(table):
    """A reader sees the first row of a group: what it asks for as a tag must be equal in all of them."""
    versions = [decode(extra={"ver": version}) for version in ("0.9", "1.0.0rc3")]
    layouts = [decode(extra={"layout": layout}) for layout in ("nchw", "nhwc")]
    assert len(run_groups(table(*versions))) == 2
    assert len(run_groups(table(*layouts))) == 2
    assert len(run_groups(table(decode(extra={"repeats": 3}), decode(extra={"repeats": 4})))) == 1


def test_no_reader_of_runs_asks_for_a_tag_that_groups_leave_out():
    """Such a tag would be the first row's, in silence, for all others."""
    folder = Path(run_rows.__file__).parent
    readers = [path for path in folder.glob("*.py") if path.name not in KERNELS_ALONE]
    asked = {tag for path in readers for tag in re.findall(r"\.tag\(\"(\w+)\"", path.read_text())}
    assert {"dataset", "ver", "layout", "method"} <= asked
    asked |= {key + ending for keys, _, _ in _LENGTHS for key in keys for ending, _ in _SCALES}
    assert asked.isdisjoint(run_rows._RESULTS)


KERNELS_ALONE = (
    *("rows.py", "matrix_rows.py", "attention_rows.py", "attention_passes.py", "expert_rows.py", "layer_rows.py"),
    "other_rows.py",
)


@pytest.mark.parametrize(("written", "like"), [("channels_last", "nhwc"), ("NHWC", "nhwc"), ("contiguous", "nchw")])
def test_layouts_have_several_names(table, written, like):
    """An unknown word for the order of memory ended the whole report with a key error."""
    row: dict[str, Any] = {
        "machine": "rtx-3090",
        "framework": "timm",
        "model": "convnext_tiny",
        "task": "train_step",
        "precision": "amp",
    }
    row |= {"batch": 64, "mode": "eager", "metric": "throughput_samples_s"}
    one, other = (predict_runs(table(row | {"extra": {"layout": name}})).predicted[0] for name in (written, like))
    assert one == other
