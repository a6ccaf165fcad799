"""The model, or its text, drafts (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp


def tpot(*apply, batch=1, context=1024, model="llama-3.1-8b"):
    return rp.estimate(model, on="h100-sxm", task=rp.Decode(batch=batch, context=context), apply=apply).tpot_s


@pytest.mark.parametrize("name", ["self-speculation", "quantized-self-speculation", "lookup-decoding"])
def test_nothing_accepted_is_slower_by_the_drafts(name):
    assert tpot(f"{name}:acceptance=0") > tpot()


@pytest.mark.parametrize("name", ["self-speculation:skip=0.5", "quantized-self-speculation", "lookup-decoding:match=1"])
def test_the_gain_vanishes_where_arithmetic_binds(name):
    """At large batches verifying γ + 1 tokens costs γ + 1 times as much."""
    small, large = tpot() / tpot(name), tpot(batch=1024, context=64) / tpot(name, batch=1024, context=64)
    assert large < small
    assert large < 1.0


def test_swift_gains_what_it_reports():
    """SWIFT reports 1.3 to 1.6 times; its formula is E / (γ (1 − s) + 1) where memory binds."""
    gain = tpot() / tpot("self-speculation:skip=0.45,drafts=3,acceptance=0.9")
    formula = (1 - 0.9**4) / 0.1 / (3 * 0.55 + 1)
    assert gain == pytest.approx(formula, rel=0.15)


def test_quantized_drafts_help_at_long_contexts_and_memory():
    """QuantSpec: up to 2.5 times, with one hierarchical cache instead of two."""
    values = {"context": 131072, "model": "llama-2-7b"}
    gain = tpot(**values) / tpot("quantized-self-speculation:drafts=5", **values)
    assert 1.3 < gain < 3.2
    task = rp.Decode(context=131072)
    one, two = (
        rp.estimate("llama-2-7b", on="h100-sxm", task=task, apply=[f"quantized-self-speculation:hierarchical={h}"])
        for h in ("true", "false")
    )
    assert one.memory.total_bytes < two.memory.total_bytes


def test_narrow_weights_have_no_narrower_draft():
    with pytest.raises(rp.RidgepointError, match="already"):
        rp.estimate("llama-3.1-8b", on="h100-sxm", task="decode", plan=rp.Plan(weights="int4"),
                    apply=["quantized-self-speculation"])  # fmt: skip


def test_lookup_without_a_match_costs_the_search():
    assert 1.0 < tpot("lookup-decoding:match=0") / tpot() < 1.02
