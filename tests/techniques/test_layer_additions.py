"""Dense connections, product-key memories, attention over pairs: what they add, counted by hand (design §6)."""

from __future__ import annotations

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError


def flop(est: rp.Estimate) -> float:
    return sum(float(np.sum(f)) for f in est.cost.flop.values())


def run(*apply: str, model: str = "pythia-2.8b", task: rp.Task | None = None) -> rp.Estimate:
    return rp.estimate(model, on="a100-sxm-80gb", task=task or rp.Prefill(batch=1, prompt=2048), apply=apply)


def test_dense_connections_have_the_weights_that_their_equation_says():
    """Σ C·i·d + (C·i)² over 32 layers of width 2,560, in 16 bits."""
    expected = 2.0 * sum(4 * i * 2560 + (4 * i) ** 2 for i in range(1, 33))
    added = run("dense-connections").memory["weights"] - run().memory["weights"]
    assert added == pytest.approx(expected, rel=1e-6)


def test_dense_connections_cost_bandwidth_rather_than_operations():
    """Operations grow by less than a per cent, time by more than the operations do."""
    more, plain = run("dense-connections"), run()
    grown = flop(more) / flop(plain) - 1.0
    assert 0.002 < grown < 0.01
    assert more.time_s / plain.time_s - 1.0 > grown


def test_a_larger_memory_costs_capacity_and_hardly_time():
    """Lample et al. 2019: four times the slots, twice the keys to compare, the same rows to read."""
    small, large = (run(f"product-key-memory:slots={n}", model="gpt2-medium") for n in (262144, 1048576))
    assert large.memory["weights"] - small.memory["weights"] == pytest.approx(2.0 * 786432 * 1024, rel=0.01)
    assert large.time_s < 1.05 * small.time_s


def test_a_memory_in_every_layer_leaves_no_feed_forward_part():
    est = run("product-key-memory:layers=24", model="gpt2-medium")
    assert not [
        c.label for c in est.cost.components if c.label.startswith("layers.feed.") and bool(np.all(c.time_s > 0.0))
    ]


def test_memories_do_not_replace_experts():
    with pytest.raises(RidgepointError, match="experts"):
        run("product-key-memory", model="mixtral-8x7b")


def test_pairs_cost_linearly_in_the_length_where_attention_is_quadratic():
    """2-simplicial attention over windows: twice the tokens, twice the attention of its layers."""

    def share(prompt: int) -> float:
        task = rp.Prefill(prompt=prompt)
        every = run("pair-attention:every=1", model="llama-3.2-1b", task=task)
        return sum(float(c.flop) for c in every.cost.components if c.label == "layers.attention.attention")

    assert share(32768) / share(16384) == pytest.approx(2.0, rel=0.05)
    full = [run(model="llama-3.2-1b", task=rp.Prefill(prompt=n)) for n in (16384, 32768)]
    plain = [sum(float(c.flop) for c in e.cost.components if c.label == "layers.attention.attention") for e in full]
    assert plain[1] / plain[0] == pytest.approx(4.0, rel=0.05)


def test_pairs_keep_two_windows_in_the_cache():
    task = rp.Decode(context=8192)
    every = run("pair-attention:every=1,first=512,second=32", model="llama-3.2-1b", task=task)
    assert every.memory["kv"] / run(model="llama-3.2-1b", task=task).memory["kv"] == pytest.approx(544 / 8192)


def test_a_memory_replaces_products_before_they_are_rewritten():
    """Where another technique makes look-ups of the products, the memory's own products become look-ups too."""
    task = rp.Decode(batch=8)
    both = run("look-up-table-products", "product-key-memory", task=task)
    assert both.time_s < run("product-key-memory", task=task).time_s
    assert both.time_s == run("product-key-memory", "look-up-table-products", task=task).time_s
