"""Engines: what they add to a pass."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.kernels.expert_libraries import EXPERT_LIBRARIES
from ridgepoint.machines.catalog import find_machine
from ridgepoint.ops import Gemm
from ridgepoint.serving.deployment import deployment
from ridgepoint.serving.engines import Engine, engines, speeds, step, with_software
from ridgepoint.work import Repeat

H100 = find_machine("h100-sxm")
WORK = Repeat(100.0, Gemm(m=4.0, n=64.0, k=64.0))


def engine(**values):
    return Engine(title="one", provenance=engines()["vllm"].provenance, **values)


def seconds(one, sequences=1.0, **options):
    return evaluate(step(WORK, H100, one, sequences, **options), H100).time_s


def test_every_engine_says_where_its_numbers_come_from():
    assert {"vllm", "sglang", "trtllm", "pytorch-eager"} <= set(engines())
    for name, one in engines().items():
        assert one.title, name
        assert one.provenance.kind in ("fitted", "default"), name
        assert one.provenance.source, name
        assert all(0.0 <= part < 1.0 for part in one.hidden_launch.values()), name


def test_a_captured_step_waits_for_the_device_and_an_eager_one_for_its_launches():
    device = evaluate(WORK, H100).time_s
    assert seconds(engine(), decode=True) == pytest.approx(device)
    assert seconds(engine(captured=False, dispatch_s=1e-4)) == pytest.approx(100 * 1e-4)


def test_serial_host_time_is_added():
    plain = seconds(engine(), decode=True)
    busy = engine(step_s=1e-3, sequence_s=1e-5, token_s=1e-6)
    assert seconds(busy, 64.0, decode=True, tokens=500.0) - plain == pytest.approx(1e-3 + 64e-5 + 500e-6)


def test_hidden_launches_make_launching_faster_on_their_family_only():
    one = engine(hidden_launch={"blackwell": 0.5})
    assert speeds(H100, one) == {}
    assert speeds(find_machine("b200-sxm"), one) == {"launch": 2.0}


def test_hidden_links_make_the_node_link_faster():
    assert speeds(H100, engine(hidden_links=0.5)) == {"nvlink": 2.0}


def test_software_of_its_time_replaces_coefficients():
    one = engine(coefficients={"attention": {"efficiency": {"default": 0.1}}})
    assert with_software(H100, one).coefficients.attention.efficiency["default"] == 0.1
    assert with_software(H100, engine()) is H100


def test_a_cpu_launches_nothing():
    cpu = find_machine("xeon-8380")
    assert step(WORK, cpu, engine(step_s=1.0), 1.0) is WORK


def test_an_engine_takes_the_grouped_products_of_its_library():
    """vLLM runs 16-bit experts with Triton's kernels on Hopper, which the kernel tables have slower than the default; what a
    dense model does, and experts in other formats, stays as it is.
    """
    given = deployment("qwen3-30b-a3b", "h100-sxm")
    used = given.passes.machine.coefficients.gemm
    known = given.machine.coefficients.gemm
    assert used.grouped["default"] == known.grouped["triton-bf16"]
    assert used.grouped_memory["default"] == known.grouped_memory.get("triton-bf16", 1.0)
    other = deployment("qwen3-30b-a3b", "h100-sxm", engine="trtllm").passes.machine.coefficients.gemm
    assert other.grouped["default"] == known.grouped["default"]
    assert given.passes.run.expert_library == "triton-bf16"


def test_libraries_that_engines_name_are_in_the_tables():
    """A name that no table knows would be passed over in silence."""
    machines = {"hopper": "h100-sxm", "blackwell": "b200-sxm"}
    named = [(f, e) for engine in engines().values() for f, entries in engine.experts.items() for e in entries.values()]
    assert named
    for family, entry in named:
        assert entry in find_machine(machines[family]).coefficients.gemm.grouped
        assert {entry, entry.partition("-")[0]} & set(EXPERT_LIBRARIES)


def test_uneven_experts_are_said_unless_the_imbalance_is_stated():
    """What the reader did not say and the figures rest on."""
    given = deployment("qwen3-30b-a3b", "h100-sxm")
    even = replace(given, plan=replace(given.plan, expert_imbalance=1.0))
    dense = deployment("llama-3.1-8b", "h100-sxm")
    told = ["unevenly" in " ".join(one.assumptions) for one in (given, even, dense)]
    assert told == [True, False, False]
