"""Sparse weights: bytes fall with coding, arithmetic only where an engine skips zeros (design §6)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.tasks import Task
from ridgepoint.techniques.sparsity import coded_ratio, nm_ratio

ONE = rp.Decode(batch=1, context=512)
LONG = rp.Prefill(batch=8, prompt=2048)


def run(task: Task, *apply: str, machine: str = "a100-sxm-80gb") -> rp.Estimate:
    return rp.estimate("llama-2-7b", on=machine, task=task, apply=apply)


def gain(task: Task, *apply: str, machine: str = "a100-sxm-80gb") -> float:
    return float(run(task, machine=machine).time_s / run(task, *apply, machine=machine).time_s)


@given(st.floats(0.0, 0.99), st.sampled_from([4.125, 8.0, 16.0]))
def test_coding_costs_bytes_of_its_own(sparsity: float, bits: float) -> None:
    left = 1.0 - sparsity
    assert coded_ratio(sparsity, bits, "bitmap") > left
    assert coded_ratio(sparsity, bits, "index") >= left


def test_published_codings() -> None:
    """Flash-LLM: 16 bits of value and 16 of place per weight that is left; 2:4 in 16 bits: 0.5625 (armor-2-4)."""
    assert coded_ratio(0.8, 16.0, "index") == pytest.approx(0.4)
    assert nm_ratio(2.0, 4.0, 16.0) == 0.5625


def test_sparse_loading_helps_decode_and_not_prefill() -> None:
    assert 1.4 < gain(ONE, "unstructured-sparsity:sparsity=0.7") < 1.0 / (0.3 + 1 / 16)
    assert gain(LONG, "unstructured-sparsity:sparsity=0.7") < 1.05


def test_no_zeros_cost_the_coding() -> None:
    """Packing dense weights is slower than not packing them."""
    assert gain(ONE, "unstructured-sparsity:sparsity=0") < 1.0


def test_sparsity_and_quantization_combine_with_diminishing_returns() -> None:
    """A bitmap weighs more beside 4-bit values (sparse-llama-cs3: 3 and 8.6 on CPUs)."""
    sparse, narrow = "unstructured-sparsity:sparsity=0.7", "weight-only-quantization:format=int8"
    both = gain(ONE, narrow, sparse, machine="xeon-8480plus")
    one, other = (gain(ONE, a, machine="xeon-8480plus") for a in (sparse, narrow))
    assert max(one, other) < both < one * other


def test_skipping_zeros_helps_prefill() -> None:
    assert gain(LONG, "unstructured-sparsity:sparsity=0.7,skipped=1") > gain(LONG, "unstructured-sparsity:sparsity=0.7")


def test_two_of_four_gains_in_prefill_on_engines_made_for_it() -> None:
    assert 1.2 < gain(LONG, "n-m-sparsity") < 2.0


@pytest.mark.parametrize(("machine", "why"), [("xeon-8480plus", "no engine that skips"), ("m2-ultra", "no engine")])
def test_two_of_four_is_refused_elsewhere(machine: str, why: str) -> None:
    with pytest.raises(RidgepointError, match=why):
        run(ONE, "n-m-sparsity", machine=machine)


def test_other_patterns_are_refused() -> None:
    with pytest.raises(RidgepointError, match="2:4 zeros only, not 2:8"):
        run(ONE, "n-m-sparsity:n=2,m=8")


def test_wrappers_cost_bytes_and_products() -> None:
    """Two block-diagonal factors of block b hold b·(in + out) weights a matrix (armor-2-4)."""
    plain, wrapped = (run(ONE, a) for a in ("n-m-sparsity", "n-m-sparsity:wrapper=128"))
    added = (wrapped.memory["weights"] - plain.memory["weights"]) / 2.0
    layer = (4096 + 3 * 4096) + (4096 + 4096) + (4096 + 2 * 11008) + (11008 + 4096)
    assert added == pytest.approx(32 * 128 * layer, rel=1e-6)
    assert wrapped.time_s > plain.time_s


def test_training_skips_two_of_three_products() -> None:
    """At 2:4 the flops are (1/2 + 1/2 + 1)/3 of dense: a limit of 1.5 (bdwp-sat)."""
    task = rp.Train(batch=8, seq=2048)
    before, after = (rp.estimate("llama-2-7b", on="a100-sxm-80gb", task=task, apply=a) for a in ([], ["n-m-sparsity"]))
    assert 1.0 < before.time_s / after.time_s < 1.5
    assert dict(after.memory.entries) == dict(before.memory.entries)
