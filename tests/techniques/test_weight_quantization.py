"""Weights in few bits: what is saved, where nothing is gained, what unpacking costs (design §6)."""

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.tasks import Task

ONE = rp.Decode(batch=1, context=512)
LONG = rp.Prefill(batch=4, prompt=4096)


def run(task: Task, *apply: str, model: str = "llama-2-7b", machine: str = "h100-sxm") -> rp.Estimate:
    return rp.estimate(model, on=machine, task=task, apply=apply)


def gain(task: Task, *apply: str, machine: str = "h100-sxm") -> float:
    return float(run(task, machine=machine).time_s / run(task, *apply, machine=machine).time_s)


def test_decode_gains_at_most_the_ratio_of_bits_and_prefill_nothing() -> None:
    """W4A16 gives no prefill gain: its products are those of 16 bits, plus unpacking."""
    assert 1.7 < gain(ONE, "weight-only-quantization:format=int4") < 16.0 / 4.125
    assert gain(LONG, "weight-only-quantization:format=int4") < 1.02


def test_fewer_bits_are_fewer_bytes_in_order() -> None:
    sizes = [
        run(ONE, f"weight-only-quantization:format={name}").memory["weights"]
        for name in ("int8", "int7", "int6", "int5", "int4", "int3", "int2", "int1")
    ]
    assert sizes == sorted(sizes, reverse=True)


def test_unpacking_by_a_kernel_of_its_own_saves_memory_and_loses_time() -> None:
    """bitsandbytes' int8 is slower than bf16 though it is smaller (ptq-impact-llm-study)."""
    apart = "weight-only-quantization:format=int8,fused=false"
    assert gain(ONE, apart) < 1.0 < gain(ONE, "weight-only-quantization:format=int8")
    assert run(ONE, apart).memory["weights"] < 0.6 * run(ONE).memory["weights"]


def test_what_is_narrow_already_is_refused() -> None:
    with pytest.raises(RidgepointError, match="stored in int4 already"):
        rp.estimate("llama-2-7b", on="h100-sxm", plan=rp.Plan(weights="int4"), apply=["weight-only-quantization"])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_mixture_lies_between_its_formats(share: float) -> None:
    mixed = run(ONE, f"mixed-bit-weights:low=int2,high=int8,share={share}")
    low, high = (run(ONE, f"weight-only-quantization:format={f}") for f in ("int2", "int8"))
    weights = share * low.memory["weights"] + (1 - share) * high.memory["weights"]
    assert mixed.memory["weights"] == pytest.approx(weights)
    assert mixed.time_s == pytest.approx(share * low.time_s + (1 - share) * high.time_s, rel=1e-3)


def test_a_split_inside_the_matrix_takes_more_kernels() -> None:
    inside, across = (run(ONE, f"mixed-bit-weights:inside={flag}") for flag in ("true", "false"))
    assert inside.memory["weights"] == pytest.approx(across.memory["weights"])
    assert inside.time_s > across.time_s


def test_qmoe_bits_fit_a_trillion_parameters() -> None:
    """0.8 bits per weight are ternary values coded at 0.506 of their 1.58 bits: 1/20 of 16 bits (qmoe)."""
    coding = "entropy-coded-weights:decoded=ternary,entropy=0.506"
    dense, coded = run(ONE).memory["weights"], run(ONE, coding).memory["weights"]
    tables = 2 * 2 * 32000 * 4096
    assert (coded - tables) / (dense - tables) == pytest.approx(0.05, rel=0.01)


def test_coding_loses_nothing_unless_it_is_asked_to() -> None:
    """Ternary weights were shown for one mixture of 1.6 trillion parameters: advice must not promise them to every model."""
    est = rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(), apply=("entropy-coded-weights",))
    plain = rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode())
    tables = 2 * 2 * 128256 * 4096
    assert est.scenario.plan.weights == "bf16"
    assert est.memory["weights"] - tables == pytest.approx(0.7 * (plain.memory["weights"] - tables), rel=0.01)


def test_decoding_operations_cost_where_arithmetic_binds() -> None:
    free, dear = (run(LONG, f"entropy-coded-weights:decode_operations={n}").time_s for n in (0, 100))
    assert dear > free


def test_look_up_tables_are_for_few_rows() -> None:
    """Table look-ups grow with every row; tensor cores hardly notice the second one."""
    assert gain(ONE, "look-up-table-products:bits=3") > 1.5
    assert gain(rp.Decode(batch=64, context=512), "look-up-table-products:bits=3") < 1.0


def test_look_up_tables_count_bits_and_scales() -> None:
    three, six = (run(ONE, f"look-up-table-products:bits={b},group=128").memory["weights"] for b in (3, 6))
    tables = 2 * 2 * 32000 * 4096
    assert (six - tables) / (three - tables) == pytest.approx(2.0, rel=0.01)


def test_networks_keep_their_activations_wide() -> None:
    before = rp.estimate("vit_large_patch16_224", on="h100-sxm", task=rp.Forward(batch=1))
    after = rp.estimate(
        "vit_large_patch16_224", on="h100-sxm", task=rp.Forward(batch=1), apply=["weight-only-quantization"]
    )
    assert after.memory["weights"] < 0.3 * before.memory["weights"]
    assert after.memory["activations"] == before.memory["activations"]


@pytest.mark.parametrize(
    "name", ["weight-only-quantization:format=int4", "weight-activation-quantization:weights=int4,acts=int8"]
)
def test_tables_in_few_bits_too(name):
    """A head of 256,000 tokens is a quarter of a small model's step: quantizing it must show in time and memory."""
    task = rp.Decode(batch=1, context=128)
    wide, narrow = (
        rp.estimate("gemma-2b", on="a100-sxm-80gb", task=task, apply=[a]) for a in (name, f"{name},tables=true")
    )
    table = 256000 * 2048
    assert wide.memory["weights"] - narrow.memory["weights"] == pytest.approx(table * 1.5, rel=0.02)
    assert narrow.time_s < 0.9 * wide.time_s


def test_networks_have_no_tables():
    with pytest.raises(rp.RidgepointError, match="no embedding and head"):
        rp.estimate("resnet50", on="a100-sxm-80gb", task=rp.Forward(), apply=["weight-only-quantization:tables=true"])
