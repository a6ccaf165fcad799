"""From a plan to a layout: defaults derived and said, the impossible refused with what is possible (issue 2)."""

import numpy as np
import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model, model_names
from ridgepoint.plan import Plan
from ridgepoint.tasks.layout import complete, execution, resolve_formats

ONE, NODE, CLUSTER = find_machine("h100-sxm"), find_machine("8xh100-sxm"), find_machine("2x8xh100-sxm")


def layout(model="llama-3.1-8b", machine=NODE, training=False, **plan):
    return complete(find_model(model), machine, Plan(**plan), training)


@pytest.mark.parametrize(
    ("model", "plan", "says"),
    [
        ("llama-3.1-8b", {"tp": 3}, "use one of 1, 2, 4, 8, 16, 32"),
        ("phi-3-medium", {"tp": 4}, "use one of 1, 2, 5, 10, 20, 40"),  # 10 key–value heads
        ("llama-3.1-8b", {"tp": 16}, "larger machine such as 16xh100-sxm"),
        ("llama-3.1-8b", {"tp": 8, "dp": 2}, "= 16 devices, but 8xh100-sxm has 8"),
        ("llama-3.1-8b", {"ep": 2}, "has no experts"),
        ("mixtral-8x7b", {"ep": 3, "tp": 1}, "use one of 1, 2, 4, 8"),
        ("mixtral-8x7b", {"ep": 8, "tp": 2, "dp": 1}, "divides tp × dp"),
        ("qwen3-30b-a3b", {"ep": 2, "tp": 1, "dp": 3}, "divides tp × dp"),
    ],
)
def test_degrees_that_do_not_fit_are_refused_with_the_valid_ones(model, plan, says):
    with pytest.raises(RidgepointError, match=says) as error:
        layout(model, **plan)
    assert error.value.kind == "bad_plan"


def test_more_stages_than_layers_are_refused():
    with pytest.raises(RidgepointError, match="use 1 to 12"):
        layout("gpt2", find_machine("16x8xh100-sxm"), pp=13, tp=1)


def test_one_bad_point_of_a_sweep_is_enough():
    with pytest.raises(RidgepointError, match="tp = 3"):
        layout(tp=np.array([1, 2, 3]), dp=1)


def test_defaults_fill_the_node_and_are_said():
    found = layout()
    assert (found.tp, found.dp, found.pp, found.ep, found.cp) == (8, 1, 1, 1, 1)
    assert any("tensor parallel over 8" in said for said in found.assumptions)
    assert layout(machine=ONE).tp == 1
    assert layout(machine=CLUSTER).devices == 16
    assert layout(training=True).dp == 8
    assert layout("phi-3-medium").tp == 2
    assert layout("gpt2").tp == 4  # 12 heads
    assert layout(tp=2).dp == 4
    assert layout(dp=1).tp == 1
    assert layout(pp=4).tp == 2


def test_defaults_are_derived_point_by_point():
    """A sweep over pp must not take the tp of its deepest point everywhere."""
    sweep = layout(pp=np.array([1, 2, 8]))
    assert np.array_equal(sweep.tp, [8, 4, 1])
    assert np.array_equal(sweep.devices, [8, 8, 8])
    assert np.array_equal(layout(tp=np.array([1, 2, 8])).dp, [8, 4, 1])


def test_idle_devices_are_said():
    assert any("4 of 8 devices stay idle" in said for said in layout(tp=4, dp=1).assumptions)


@pytest.mark.parametrize("name", model_names())
def test_every_model_has_a_default_layout_on_a_node(name):
    try:
        model = find_model(name)
    except RidgepointError:
        pytest.skip("no description")
    for training in (False, True):
        assert complete(model, NODE, Plan(), training).devices == 8


# design §4: formats by role
@pytest.mark.parametrize(
    ("model", "plan", "weights", "inputs", "stream", "kv"),
    [
        ("llama-3.1-8b", {}, "bf16", "bf16", "bf16", "bf16"),
        ("llama-3.1-8b", {"weights": "int4"}, "int4", "bf16", "bf16", "bf16"),
        ("llama-3.1-8b", {"weights": "fp8", "acts": "fp8", "kv": "fp8"}, "fp8", "fp8", "bf16", "fp8"),
        ("llama-3.1-8b", {"weights": "fp16"}, "fp16", "fp16", "fp16", "fp16"),
        ("deepseek-v3", {}, "fp8_block", "fp8_block", "bf16", "bf16"),
    ],
)
def test_formats_by_role(model, plan, weights, inputs, stream, kv):
    found, _ = resolve_formats(find_model(model), Plan(**plan))
    assert (found.weight("attention"), found.inputs, found.stream, found.kv) == (weights, inputs, stream, kv)


def test_a_quantized_plan_leaves_embedding_head_and_router_wide_and_says_so():
    found, notes = resolve_formats(find_model("mixtral-8x7b"), Plan(weights="int4"))
    assert {found.weight(c) for c in ("embedding", "head", "router")} == {"bf16"}
    assert found.weight("experts") == "int4"
    assert any("stay in bf16" in note for note in notes)


def test_a_checkpoint_in_fp32_is_run_in_16_bits_unless_asked():
    run, notes = execution(find_model("mamba-130m"), Plan(), layout("mamba-130m"), False)
    assert run.formats.stream == "bf16"
    assert any("fp32" in note for note in notes)
    run, _ = execution(find_model("mamba-130m"), Plan(weights="fp32"), layout("mamba-130m"), False)
    assert run.formats.stream == "fp32"
