"""Peaks of fine-tuning beside frozen weights (design §8): what autograd keeps, and what bitsandbytes keeps besides."""

from __future__ import annotations

import pytest

from ridgepoint.evidence.finetune_memory import LONGEST, METHODS, longest, peak_bytes
from ridgepoint.models.catalog import find_model
from ridgepoint.models.parameters import total_parameters

LLAMA = find_model("llama-2-7b")
WEIGHTS = total_parameters(LLAMA)


def peak(method="lora", precision="bf16", sequences=1.0, model=LLAMA):
    return float(peak_bytes(model, total_parameters(model), method, precision, sequences * longest(model)))


def test_weights_lie_there_once_and_a_sequence_adds_its_own():
    """Without a sequence only weights are left; each further one adds the same."""
    assert peak(sequences=0.0) == pytest.approx(2.0 * WEIGHTS)
    assert peak(sequences=2.0) - peak() == pytest.approx(peak() - 2.0 * WEIGHTS)


def test_a_layer_of_llama_by_hand():
    """Lora: two norms' inputs, fused output, rotated queries and keys, attention's output, three of the gated part, a dropped
    input and half a mask, and two projections' worth put into place: counted tensor by tensor.
    """
    h, f, tokens = 4096, 11008, longest(LLAMA)
    layer = 2 * h + 3 * h + 2 * h + h + 3 * f + 1.5 * h + 2 * h
    assert peak() == pytest.approx(2.0 * WEIGHTS + 2.0 * tokens * (33 * layer + 2 * 32_000))


def test_narrow_products_keep_their_inputs():
    """Weights shrink to less than a third; what a sequence adds grows by the inputs that 16-bit products need not keep."""
    assert peak(precision="nf4", sequences=0.0) < 0.35 * peak(sequences=0.0)
    more = (peak(precision="nf4") - peak(precision="nf4", sequences=0.0)) - (peak() - peak(sequences=0.0))
    assert more == pytest.approx(33 * 2.0 * longest(LLAMA) * (2 * 4096 + 11008))
    assert peak(precision="nf4-dq", sequences=0.0) < peak(precision="nf4", sequences=0.0)


def test_methods_differ_by_what_they_train():
    """A prefix keeps least; scales beside every product keep every output."""
    prefix, low_rank, scales = (peak(method) for method in ("adapter", "lora", "adapter_v2"))
    assert prefix < low_rank < scales
    assert set(METHODS) == {"adapter", "lora", "adapter_v2"}


def test_the_vocabulary_decides_the_longest_example():
    assert longest(find_model("falcon-7b")) == LONGEST[65_024]
    assert longest(find_model("llama-2-13b")) == longest(LLAMA)
