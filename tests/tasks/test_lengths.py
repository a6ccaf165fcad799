"""Sequences of different lengths: limiting cases of padding, packing, imbalance; stragglers (design §1, §2)."""

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.cost.order_statistics import expected_maximum
from ridgepoint.ops import Attention
from ridgepoint.tasks.lengths import draw, slowest_of
from ridgepoint.work import ops

SEQ = 4096


def step(batch=64, **plan):
    task = rp.Train(batch=batch, seq=SEQ)
    return rp.estimate("llama-3.2-1b", on="8xh100-sxm", task=task, plan=rp.Plan(**plan))


@pytest.mark.parametrize("padding", ["packed", "longest", "padded"])
@pytest.mark.parametrize("lengths", [str(SEQ), "fixed:4k", "uniform:5k:9k"])
def test_sequences_as_long_as_the_task_change_nothing(padding, lengths):
    plain, same = step(), step(lengths=lengths, padding=padding)
    assert same.time_s == pytest.approx(plain.time_s)
    assert same.built.tokens == pytest.approx(plain.built.tokens)


def test_padding_takes_the_time_of_full_rows_for_the_tokens_of_short_ones():
    plain, short = step(), step(lengths="1k", padding="padded")
    assert short.time_s == pytest.approx(plain.time_s)
    assert short.built.tokens == pytest.approx(plain.built.tokens / 4)


def test_short_sequences_padded_to_the_longest_are_a_shorter_task():
    short = step(lengths="1k", padding="longest")
    task = rp.estimate("llama-3.2-1b", on="8xh100-sxm", task=rp.Train(batch=64, seq=1024))
    assert short.time_s == pytest.approx(task.time_s)
    assert short.memory["activations"] == step().memory["activations"]  # room for the longest that may come


def pairs(est):
    return sum(float(op.batch * op.q_len * op.kv_len) for op in ops(est.work) if isinstance(op, Attention))


def test_packed_sequences_attend_to_themselves_only():
    """n equal sequences in a row make 1/n of its pairs, and the same products."""
    plain, packed = step(), step(lengths="512", padding="packed")
    assert pairs(packed) == pytest.approx(pairs(plain) / 8)
    assert packed.built.tokens == pytest.approx(plain.built.tokens)
    assert packed.time_s < plain.time_s


def test_packing_beats_filling_up_per_useful_token():
    def rate(padding):
        est = step(lengths="lognormal:1k:1", padding=padding, micro_batch=4)
        return float(est.built.tokens / est.time_s)

    assert rate("packed") > rate("longest") > rate("padded")


def test_larger_micro_batches_waste_more_where_they_fill_up_to_the_longest():
    def useful(size):
        est = step(lengths="lognormal:1k:1", padding="longest", micro_batch=size)
        (said,) = (text for text in est.assumptions if text.startswith("lengths"))
        return float(said.partition("longest: ")[2].partition("%")[0])

    shares = [useful(size) for size in (1, 2, 4, 8)]
    assert shares[0] == 100.0
    assert shares == sorted(shares, reverse=True)


def test_replicas_wait_less_the_more_micro_batches_they_add_up():
    rng = np.random.default_rng(3)
    seconds = rng.uniform(0.5, 1.5, 20000)
    waits = [slowest_of(seconds, n, 64.0) - 1.0 for n in (1, 4, 16, 64, 1024)]
    assert waits == sorted(waits, reverse=True)
    assert waits[0] == pytest.approx(64 / 65 - 0.5, abs=0.01)  # the largest of 64 uniform ones
    sixteen = 0.2887 / 4 * expected_maximum(64.0)
    assert waits[2] == pytest.approx(sixteen, rel=0.15)
    assert slowest_of(seconds, 4, 1.0) == pytest.approx(1.0)


def test_one_replica_waits_for_nobody():
    alone = rp.estimate(
        "llama-3.2-1b", on="h100-sxm", task=rp.Train(batch=8, seq=SEQ), plan=rp.Plan(lengths="uniform:1:4k")
    )
    assert any("0.0% longer" in text for text in alone.assumptions)


# design §2: Slowest
def test_jitter_is_the_expected_maximum_over_all_devices():
    plain = step(overlap_gradients=False)
    for cv in (0.01, 0.05):
        slow = step(overlap_gradients=False, jitter=cv)
        assert plain.time_s < slow.time_s <= plain.time_s * (1 + cv * expected_maximum(8.0)) * (1 + 1e-9)
        assert slow.time_s == pytest.approx(plain.time_s * (1 + cv * expected_maximum(8.0)), rel=0.02)
    assert step(jitter=0.0).time_s == step().time_s


def test_distributions_have_the_moments_that_they_say():
    rng = np.random.default_rng(0)
    drawn = draw("lognormal:2k:0.8", 200000, rng)
    assert drawn.mean() == pytest.approx(2048, rel=0.02)
    assert drawn.std() / drawn.mean() == pytest.approx(0.8, rel=0.05)
    assert draw("normal:1k:100", 100000, rng).std() == pytest.approx(100, rel=0.02)


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ({"lengths": "gauss:1k"}, "not understood"),
        ({"lengths": "1k", "cp": 2}, "one device's attention"),
        ({"lengths": "1k", "fused_attention": False}, "fused kernel"),
        ({"lengths": "1k", "communication_share": [0.1, 0.2]}, "one scenario"),
        ({"lengths": "1k", "padding": "none"}, "packed"),
        ({"jitter": 2.0}, "jitter"),
    ],
)
def test_bad_input_is_refused(plan, says):
    with pytest.raises(rp.RidgepointError, match=says):
        _ = step(**plan).time_s


@pytest.mark.parametrize("padding", ["packed", "longest", "padded"])
def test_a_sweep_over_layouts_is_its_layouts_one_by_one(padding):
    """The search ranks with drawn lengths: an array must say of each layout what an estimate of it alone says."""
    layouts = {
        "tp": [1.0, 2.0, 2.0, 4.0],
        "dp": [8.0, 4.0, 2.0, 2.0],
        "pp": [1.0, 1.0, 2.0, 1.0],
        "micro_batch": [1.0, 2.0, 2.0, 4.0],
        "zero_stage": [0.0, 3.0, 1.0, 2.0],
        "recomputed_layers": [0.0, 0.5, 1.0, 0.0],
    }
    given = {"recompute": "full", "lengths": "lognormal:1k:1", "padding": padding}
    together = step(**layouts, **given)
    for place in range(4):
        alone = step(**{name: values[place] for name, values in layouts.items()}, **given)
        assert together.time_s[place] == pytest.approx(alone.time_s)
        assert np.broadcast_to(together.built.tokens, 4)[place] == pytest.approx(alone.built.tokens)
