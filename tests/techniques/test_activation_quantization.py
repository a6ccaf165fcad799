"""Narrow products: where the arithmetic exists, what making operands narrow costs (design §6)."""

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.ops import Stream
from ridgepoint.tasks import Task
from ridgepoint.techniques.activation_quantization import rotation_flop

LONG = rp.Prefill(batch=1, prompt=8192)


def run(machine: str, task: Task, *apply: str, model: str = "llama-3.1-8b") -> rp.Estimate:
    return rp.estimate(model, on=machine, task=task, apply=apply)


def gain(machine: str, task: Task, *apply: str) -> float:
    return float(run(machine, task).time_s / run(machine, task, *apply).time_s)


def test_fp8_gains_in_prefill_and_decode_where_it_exists() -> None:
    assert 1.2 < gain("h100-sxm", LONG, "weight-activation-quantization") < 2.0
    assert 1.2 < gain("h100-sxm", rp.Decode(batch=16), "weight-activation-quantization") < 2.0


def test_fp8_is_refused_without_fp8_arithmetic() -> None:
    """An A100 saves bytes only, and says what does that."""
    with pytest.raises(RidgepointError, match=r"no fp8 arithmetic.*weight-only-quantization"):
        run("a100-sxm-80gb", LONG, "weight-activation-quantization")


def test_w4a8_reads_less_than_w8a8_and_computes_alike() -> None:
    """W4A16 for batch 1, W4A8 for large batches (quamba2)."""
    one, many = rp.Decode(batch=1), rp.Decode(batch=512)
    w4a8, w4a16 = "weight-activation-quantization:weights=int4,acts=int8", "weight-only-quantization:format=int4"
    assert run("a100-sxm-80gb", one, w4a8).memory["weights"] == run("a100-sxm-80gb", one, w4a16).memory["weights"]
    assert gain("a100-sxm-80gb", many, w4a8) > gain("a100-sxm-80gb", many, w4a16)


def test_fp4_layers_approach_the_ratio_of_peaks_and_the_whole_does_not() -> None:
    """Amdahl: attention, head and the passes between stay (mr-gptq: 3.6 for layers, 2.2 for all on a B200)."""
    whole = gain("b200-sxm", LONG, "microscaling:format=mxfp4,rotation=128")
    assert 1.3 < whole < 3.0


def test_a_rotation_is_a_kernel_per_product_and_replaces_the_quantizing_one() -> None:
    def passes(*apply: str) -> list[str]:
        found = run("b200-sxm", LONG, *apply).cost.components
        return [part.label for part in found if "quantize" in part.label]

    plain, rotated = passes("microscaling:format=nvfp4"), passes("microscaling:format=nvfp4,rotation=64")
    assert plain == ["layers.attention.output.quantize"]
    assert len(rotated) == 4
    assert all(name.endswith("rotate_quantize") for name in rotated)


def test_rotation_operations() -> None:
    """A fast Hadamard transform of n values takes n·log2(n) additions."""
    assert [rotation_flop(n) for n in (1, 2, 16, 1024)] == [0.0, 1.0, 4.0, 10.0]


def test_training_narrow_pays_for_large_layers_only() -> None:
    """Net gain = cheaper products minus the passes over operands (fp4-design-space)."""

    def step(model: str, seq: float, *apply: str) -> float:
        plan = rp.Plan(micro_batch=1)
        return float(rp.estimate(model, on="h100-sxm", task=rp.Train(batch=1, seq=seq), plan=plan, apply=apply).time_s)

    assert step("llama-2-7b", 4096, "low-precision-training") < step("llama-2-7b", 4096)
    assert step("gpt2", 128, "low-precision-training") > step("gpt2", 128)


def test_what_training_adds_can_only_cost() -> None:
    def step(apply: str) -> float:
        return float(rp.estimate("llama-2-7b", on="h100-sxm", task=rp.Train(batch=4, seq=2048), apply=[apply]).time_s)

    plain = step("low-precision-training")
    for more in ("rotation=64", "stochastic=true", "wide_weight_gradient=true"):
        assert step(f"low-precision-training:{more}") > plain, more


def test_training_keeps_its_states() -> None:
    task = rp.Train(batch=4, seq=2048)
    before, after = (run("h100-sxm", task, *a, model="llama-2-7b").memory for a in ((), ("low-precision-training",)))
    assert dict(before.entries) == dict(after.entries)


def test_networks_convolve_in_int8() -> None:
    """INT8 gains more for large detectors than for small ones, whose launches stay (qrid)."""
    task = rp.Forward(batch=16)
    big = run("a100-sxm-80gb", task, "weight-activation-quantization:weights=int8,acts=int8", model="resnet50")
    assert big.time_s < run("a100-sxm-80gb", task, model="resnet50").time_s
    assert any(isinstance(op, Stream) for op, _ in big.cost.occurrences)
