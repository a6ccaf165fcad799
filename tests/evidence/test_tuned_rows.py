"""Rows of tuned submissions (design §8): the best layout of independent replicas, on the benchmark's own requests."""

from __future__ import annotations

import numpy as np
import pytest

from ridgepoint.evidence.run_rows import stand_ins_of
from ridgepoint.evidence.tables import read_table
from ridgepoint.evidence.tuned_rows import BENCHMARKS
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.plan import Plan
from ridgepoint.serving.offers import Bucket, Space, offers_on

HEADER = (
    "source,machine,devices,nodes,framework,model,task,precision,kv_dtype,batch,prompt,output,concurrency,image_px,"
    "tp,pp,dp,ep,cp,vp,zero_stage,micro_batch,global_batch,recompute,mode,extra,metric,value,unit"
)
UNITS = {"throughput_tok_s": "tok/s", "throughput_samples_s": "1/s", "tpot_ms": "ms", "ttft_ms": "ms"}


@pytest.fixture
def predicted(predicted_lines):
    return lambda *rows: predicted_lines("runs", HEADER, *rows)


def row(
    scenario="offline",
    devices=8,
    nodes=1,
    metric="throughput_tok_s",
    machine="h100-sxm",
    bench="llama2-70b-99.9",
    model="llama-2-70b",
    software="TensorRT 10.2.0",
    qps=75,
):
    extra = f'{{""scenario"":""{scenario}"",""bench"":""{bench}"",""software"":""{software}"",""target_qps"":{qps}}}'
    empty = "," * 14
    return (
        f'mine,{machine},{devices},{nodes},mlperf,{model},serve,,{empty},,mlperf,"{extra}",{metric},10,{UNITS[metric]}'
    )


def test_no_single_layout_is_better_than_the_one_that_is_found(predicted):
    """If this fails, the search misses a way to run that the planner knows."""
    rate = predicted(row()).predicted[0]
    asked = BENCHMARKS["llama2-70b"]
    space = Space(Plan(), "trtllm", ("fp8+kv8",), splits=False)
    offers, _ = offers_on(
        find_model("llama-2-70b"), find_machine("h100-sxm"), (Bucket(1.0, asked.prompt, asked.output),), space
    )
    each = [8 // o.devices * o.curves[0].most * asked.output for o in offers if o.curves[0] is not None]
    assert len(each) > 3
    assert rate >= 0.97 * max(each)


def test_replicas_are_independent(predicted):
    """Nodes without a link between them serve side by side: twice the throughput; latencies stay."""
    rows = [row("server", 8, 1), row("server", 16, 2), row("server", 8, 1, "tpot_ms"), row("server", 16, 2, "tpot_ms")]
    one, two, alone, beside = predicted(*rows).predicted
    assert two == pytest.approx(2.0 * one)
    assert beside == pytest.approx(alone)


def test_boards_that_no_network_joins_are_covered(predicted):
    found = predicted(row(machine="h100-nvl"), row(machine="l40s", devices=4, bench="gptj-99", model="gpt-j-6b"))
    assert np.all(found.covered)


def test_limits_cost_throughput_and_are_kept(predicted):
    """Requests that come when they come, within limits, are served more slowly than a heap of them."""
    found = predicted(
        *(row(s) for s in ("offline", "server")), *(row("server", metric=m) for m in ("tpot_ms", "ttft_ms"))
    )
    offline, server, each, first = found.predicted
    assert server < offline
    assert each <= 200.0
    assert first <= 2000.0
    tight = predicted(row("server", bench="llama2-70b-interactive-99")).predicted[0]
    assert tight < server


def test_what_was_reached_does_not_move_the_prediction(predicted):
    """The rate that a submission aimed at is all but its result: no input of a prediction (design §7)."""
    slow, fast = predicted(row("server", qps=10), row("server", qps=90)).predicted
    assert slow == fast


def test_beams_read_their_prompt_once_and_decode_often(predicted):
    """A summary of four beams takes more than one sequence does, and less than four requests."""
    answer = BENCHMARKS["gptj"]
    found = predicted(row(bench="gptj-99.9", model="gpt-j-6b", metric="throughput_samples_s"))
    space = Space(Plan(), "trtllm", ("fp8+kv8",), splits=False)
    model, machine = find_model("gpt-j-6b"), find_machine("h100-sxm")
    offers, _ = offers_on(model, machine, (Bucket(1.0, answer.prompt, answer.output),), space)
    single = max(8 // o.devices * o.curves[0].most for o in offers if o.curves[0] is not None)
    assert single / 4.0 < found.predicted[0] < single


def test_software_that_a_submission_names_runs_it(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("\n".join([HEADER, row(), row(software="vLLM 0.5.2"), row(software="CUDA 12.2")]) + "\n")
    assert stand_ins_of(read_table(path, "runs")) == ["", "", "vllm"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bench": "resnet"}, "lengths of the requests of benchmark 'resnet' are not known"),
        ({"scenario": "singlestream"}, "scenario 'singlestream' of a tuned submission is not modelled"),
        ({"machine": "rtx-3060", "devices": 1}, "no layout of the model fits"),
    ],
)
def test_what_is_not_known_is_refused(predicted, change, reason):
    found = predicted(row(**change))
    assert not found.covered[0]
    assert reason in found.refused[0]


def test_only_serving_chooses_its_layout(predicted):
    """A training row of the same suite states how its devices are used: it is no search for a layout."""
    stated = row().replace(",serve,", ",train_step,")
    found = predicted(stated)
    assert "benchmark" not in found.refused.get(0, "")
