"""Loads: rates, distributions, conversations; traces that are wrong."""

from __future__ import annotations

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.serving.workload import lengths


@pytest.mark.parametrize("arrivals", ["poisson", "even", "bursty:2", "diurnal:0.8:100s"])
def test_arrivals_have_the_rate_that_was_asked_for(arrivals):
    found = rp.poisson_requests(50.0, 20_000, "100", "10", arrivals)
    assert found.rate == pytest.approx(50.0, rel=0.05)
    assert np.all(np.diff(found.arrival_s) >= 0.0)


def test_bursts_have_their_coefficient_of_variation():
    gaps = np.diff(rp.poisson_requests(10.0, 50_000, "1", "1", "bursty:3").arrival_s)
    assert gaps.std() / gaps.mean() == pytest.approx(3.0, rel=0.05)


def test_a_daily_cycle_rises_and_falls():
    found = rp.poisson_requests(100.0, 50_000, "1", "1", "diurnal:0.9:100s")
    phase = found.arrival_s % 100.0
    night, day = np.sum(phase < 25.0) + np.sum(phase > 75.0), np.sum((phase > 25.0) & (phase < 75.0))
    expected = (1.0 + 0.9 * 2.0 / np.pi) / (1.0 - 0.9 * 2.0 / np.pi)
    assert day / night == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("spec", "mean", "spread"),
    [
        ("1k", 1024, 0.0),
        ("lognormal:1000", 1000, 1.0),
        ("lognormal:1000:0.5", 1000, 0.5),
        ("normal:500:50", 500, 0.1),
        ("uniform:100:300", 200, 100 / np.sqrt(3) / 200),
        ("exponential:300", 300, 1.0),
    ],
)
def test_lengths_have_the_moments_that_were_asked_for(spec, mean, spread):
    drawn = lengths(spec, 200_000, np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(mean, rel=0.02)
    assert drawn.std() / drawn.mean() == pytest.approx(spread, rel=0.05, abs=1e-9)
    assert drawn.min() >= 1


@pytest.mark.parametrize("spec", ["", "x", "lognormal", "normal:5", "uniform:1:2:3", "-4", "lognormal:0", "fixed:nan"])
def test_lengths_that_mean_nothing_are_refused(spec):
    with pytest.raises(rp.RidgepointError) as refused:
        lengths(spec, 3, np.random.default_rng(0))
    assert refused.value.kind == "bad_length"
    assert "lognormal:MEAN" in refused.value.hint


def test_turns_of_a_conversation_begin_with_what_was_said():
    found = rp.session_requests(1.0, 300, "100", "50", turns=4, think_s=1.0, shared=128)
    assert found.follows is not None
    assert found.offsets is not None
    for i in np.flatnonzero(found.follows >= 0):
        before = int(found.follows[i])
        assert found.prompt[i] == found.prompt[before] + found.output[before] + 100
        own, earlier = (found.ids[found.offsets[j] : found.offsets[j + 1]] for j in (i, before))
        assert np.array_equal(own[: len(earlier)], earlier)
    assert {int(found.ids[found.offsets[i]]) for i in range(300)} == {0}


def test_a_trace_at_another_rate_keeps_its_rhythm():
    drawn = rp.poisson_requests(10.0, 500, "100", "10")
    faster = drawn.at_rate(40.0)
    assert faster.rate == pytest.approx(40.0)
    assert np.allclose(np.diff(faster.arrival_s) * 40.0, np.diff(drawn.arrival_s) * drawn.rate)


HEADER = "arrival_s,input_tokens,output_tokens"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{HEADER}\n0,10,5\n1,x,5\n", "line 3, column 2 (input_tokens): 'x' is not a whole number"),
        (f"{HEADER}\n0,10,5\n1,10\n", "line 3, column 3 (output_tokens): the cell is empty"),
        (f"{HEADER}\n-1,10,5\n", "line 2, column 1 (arrival_s): -1 is not a time of at least 0"),
        (f"{HEADER}\n0,0,5\n", "line 2, column 2 (input_tokens): 0 tokens"),
        (f"{HEADER}\n0,1.5,5\n", "'1.5' is not a whole number"),
        (f"{HEADER},prefix_hash_ids\n0,10,5,1 a\n", "line 2, column 4 (prefix_hash_ids): ids are whole numbers"),
        ("begun,input_tokens,output_tokens\n0,1,1\n", "there is no column 'arrival_s'"),
        (f"{HEADER}\n", "no request follows the header"),
        ("", "there is no column"),
    ],
)  # fmt: skip
def test_a_malformed_trace_is_refused_with_line_and_column(tmp_path, text, said):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(rp.RidgepointError) as refused:
        rp.read_trace(path)
    assert refused.value.kind == "bad_trace"
    assert said in refused.value.message


def test_a_trace_may_be_out_of_order_and_keeps_its_prefixes(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(f"{HEADER},prefix_hash_ids,priority\n2.0,30,5,7 8,1\n1.0,20,4,7,0\n\n")
    found = rp.read_trace(path)
    assert found.arrival_s.tolist() == [1.0, 2.0]
    assert found.prompt.tolist() == [20, 30]
    assert found.ids.tolist() == [7, 7, 8]
    assert found.priority is not None
    assert found.priority.tolist() == [0, 1]


def test_published_traces_run_from_end_to_end(shared):
    """An hour of Azure's and Mooncake's traffic: every request is answered, prefixes of Mooncake's are found."""
    cached = {}
    for name in ("azure_2023_code", "azure_2023_conv", "mooncake_conversation"):
        trace = rp.read_trace(shared / "traces" / f"{name}.csv")
        found = rp.simulate("llama-3.1-8b", on="16xh100-sxm", requests=trace, routing="prefix_aware")
        assert found.failed == 0
        assert found.slo is not None
        cached[name] = found.columns["cached_tokens"].sum() / trace.prompt.sum()
    assert cached["azure_2023_code"] == 0.0
    assert cached["mooncake_conversation"] > 0.2
