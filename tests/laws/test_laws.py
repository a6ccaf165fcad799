"""Laws hold at their limits, on arrays as on scalars, and refuse what they do not know (design §9: laws)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.errors import RidgepointError
from ridgepoint.laws import complexity, inference, scaling, search
from ridgepoint.laws.registry import LAWS, calculate, law_of


@pytest.mark.parametrize("law", LAWS.values(), ids=lambda law: law.name)
def test_every_law_runs_on_its_example_and_is_documented(law):
    results = calculate(law.name, {})
    assert results
    assert len(law.summary) > 30
    assert set(law.example) <= set(law.parameters)


def test_chinchillas_loss_and_optimum_are_the_published_ones():
    """Hoffmann et al. 2022: Chinchilla (70 B, 1.4 T) about 1.94; the optimum is a minimum along equal compute."""
    assert float(scaling.loss(70e9, 1.4e12)) == pytest.approx(1.937, abs=0.01)
    best = scaling.compute_optimal(1e21)
    for factor in (0.8, 1.25):
        moved = scaling.loss(best["parameters"] * factor, best["tokens"] / factor)
        assert moved > best["loss"]


def test_four_epochs_are_nearly_as_good_as_new_tokens():
    """Muennighoff et al. 2023: up to four epochs the loss hardly differs from unique data; sixty-four are worth far less."""
    few, many = (scaling.repeated_data(1e9, 25e9, e)["effective_tokens"] / (25e9 * e) for e in (4.0, 64.0))
    assert few > 0.92
    assert many < 0.3


@given(st.floats(1e3, 1e9), st.floats(1e3, 1e9))
def test_batch_trade_multiplies_to_its_bound(batch, critical):
    """(S/S₀ − 1)(E/E₀ − 1) = 1 (McCandlish et al. 2018)."""
    found = scaling.batch_trade(batch, critical)
    assert (found["steps_over_least"] - 1.0) * (found["examples_over_least"] - 1.0) == pytest.approx(1.0)


@given(st.floats(0.01, 0.99), st.integers(1, 200))
def test_coverage_is_a_chance_and_grows(p, n):
    one, more = inference.coverage(p, n), inference.coverage(p, n + 1)
    assert 0.0 <= one <= more <= 1.0


@given(st.floats(0.01, 0.5), st.floats(1e-4, 1e-2))
def test_saturation_is_where_one_more_sample_brings_less(p, least):
    n = float(inference.saturation(p, least))
    assert p * (1 - p) ** n <= least * (1 + 1e-9)
    if n > 0:
        assert p * (1 - p) ** (n - 1) >= least * (1 - 1e-9)


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=12))
def test_expected_steps_against_simulation_of_the_chain(chances):
    """Brute force: the probability of reaching step n, summed."""
    alive, mean = 1.0, 0.0
    for n, chance in enumerate(chances, 1):
        halt = 1.0 if n == len(chances) else chance
        mean += n * alive * halt
        alive *= 1.0 - halt
    assert inference.expected_steps(chances) == pytest.approx(mean)


def test_attention_traffic_meets_at_the_border_of_both_regimes():
    """At M = d² both bounds are N²."""
    at = float(complexity.attention_traffic(1000.0, 64.0, 64.0**2))
    assert at == pytest.approx(1e6)
    assert float(complexity.attention_traffic(1000.0, 64.0, 64.0**2 - 1)) == pytest.approx(at, rel=1e-3)


def test_arrays_give_what_scalars_give():
    """Design §2."""
    tokens = np.array([1e9, 1e10])
    assert scaling.loss(1e9, tokens) == pytest.approx([scaling.loss(1e9, t) for t in tokens])
    both = complexity.attention_traffic(4096.0, 128.0, np.array([1e3, 1e6]))
    assert both.tolist() == pytest.approx([float(complexity.attention_traffic(4096.0, 128.0, m)) for m in (1e3, 1e6)])


def test_papers_find_their_law():
    assert law_of("kinetics") is LAWS["thinking-cost"]
    assert law_of("tova") is None


@pytest.mark.parametrize(("name", "values", "word"), [("los", {}, "loss"), ("loss", {"tokns": 1.0}, "tokens")])
def test_unknown_words_are_refused(name, values, word):
    with pytest.raises(RidgepointError) as caught:
        calculate(name, values)
    assert word in caught.value.hint


def test_the_command_runs_a_law(capsys):
    from ridgepoint.cli.laws import run

    run("coverage", ["single=0.5", "samples=2"], as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["results"]["result"] == 0.75


def test_energy_of_arithmetic_meets_published_points():
    """Horowitz, "Computing's energy problem", ISSCC 2014, 45 nm: integers of 8 and 32 bits, floats of 16 and 32."""
    eight, sixteen, wide = (
        calculate("arithmetic-energy", {"bits": b, "accumulator_bits": b}) for b in (8.0, 16.0, 32.0)
    )
    assert wide["integer_mac_j"] == pytest.approx(3.2e-12)
    assert eight["integer_mac_j"] == pytest.approx(0.23e-12, rel=0.06)
    assert sixteen["float_mac_j"] == pytest.approx(1.5e-12)
    assert wide["float_mac_j"] == pytest.approx(4.6e-12)


def test_a_narrow_accumulator_saves_more_beside_a_narrow_multiplier():
    def saved(bits):
        wide, narrow = (calculate("arithmetic-energy", {"bits": bits, "accumulator_bits": a}) for a in (32.0, 12.0))
        return 1.0 - narrow["integer_mac_j"] / wide["integer_mac_j"]

    assert saved(4.0) > saved(8.0) > saved(16.0) > 0.0


@given(st.one_of(st.just(0.0), st.floats(1e-6, 1e3)), st.floats(1e-3, 1e3), st.integers(1, 10_000))
def test_parallel_search_is_never_more_than_linear_and_ends_at_its_least_time(least, mean, workers):
    """Truchet et al. 2013: with no least time the speed-up is linear; otherwise it ends at 1 + μ/x₀."""
    found = search.parallel_search(least, mean, float(workers))
    assert 1.0 - 1e-9 <= found["speedup"] <= workers * (1.0 + 1e-9)
    assert found["speedup"] <= found["most"] * (1.0 + 1e-9)
    assert search.parallel_search(0.0, mean, float(workers))["speedup"] == pytest.approx(workers)


def test_a_surrogate_pays_exactly_from_its_break_even_on():
    found = search.surrogate_break_even(simulation=10.0, surrogate=1.0, training=90.0, uses=np.array([9.0, 10.0, 11.0]))
    assert found["break_even"] == pytest.approx(10.0)
    assert found["speedup"][0] < 1.0 < found["speedup"][2]
    assert found["speedup"][1] == pytest.approx(1.0)
    assert search.surrogate_break_even(1.0, 2.0, 10.0, 5.0)["break_even"] == np.inf
