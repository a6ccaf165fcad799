"""Several tokens per pass from the model itself (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp
from ridgepoint.techniques.multi_token import linear_yield
from ridgepoint.techniques.speculative import accepted_tokens

NAMES = ("multi-token-heads", "mask-token-drafting", "parallel-prompt-decoding")


def run(*apply, batch=1, context=64, model="llama-3.1-8b"):
    return rp.estimate(model, on="h100-sxm", task=rp.Decode(batch=batch, context=context), apply=apply)


@pytest.mark.parametrize("name", NAMES)
def test_guesses_that_are_never_right_cost_their_rows_and_heads(name):
    assert run(f"{name}:acceptance=0").tpot_s > run().tpot_s


def test_look_ahead_never_falls_below_one_token_a_pass():
    """The drafting pass yields a token for certain: with no guess right, two passes yield two tokens."""
    assert run("look-ahead-tokens:acceptance=0").tpot_s == pytest.approx(run().tpot_s, rel=0.1)


@pytest.mark.parametrize("name", [*NAMES, "look-ahead-tokens"])
def test_the_gain_vanishes_where_arithmetic_binds(name):
    assert run().tpot_s / run(name).tpot_s > 1.2
    assert run(batch=1024).tpot_s / run(name, batch=1024).tpot_s < 1.0


def test_pass_gains_what_it_reports():
    """PaSS reports up to 30 % without a draft model: more than that needs more than 60 % acceptance."""
    gain = run().tpot_s / run("look-ahead-tokens:guesses=4,acceptance=0.45").tpot_s
    assert 1.2 < gain < 1.45


def test_linear_masks_yield_less_than_quadratic_ones():
    """Guesses behind a rejected one are lost: the same rows grow linearly, so does the loss."""
    assert linear_yield(0.7, 4.0) < accepted_tokens(0.7, 4.0)


def test_wide_quadratic_steps_cost_rows():
    """k = 8 is 81 rows per sequence: beyond some batch the narrow form is better (llm-knows-future-mtp)."""
    wide, narrow = (run(f"mask-token-drafting:guesses=8,quadratic={q}", batch=128).tpot_s for q in ("true", "false"))
    assert narrow < wide


def test_heads_with_an_output_of_their_own_weigh_as_much_as_layers():
    own, shared = (run(f"multi-token-heads:own_output={o}").memory["head_weights"] for o in ("true", "false"))
    assert own > 20 * shared
    assert shared == 3 * 4096**2 * 2


def test_prompt_tokens_weigh_nothing():
    assert run("parallel-prompt-decoding").memory["weights"] == run().memory["weights"]
