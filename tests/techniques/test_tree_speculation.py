"""Trees of drafts, drafts of drafts (design §6)."""

from __future__ import annotations

import pytest
from hypothesis import given as cases
from hypothesis import strategies as st

import ridgepoint as rp
from ridgepoint.techniques.tree_speculation import level_acceptance


def tpot(*apply, batch=1, context=1024, model="llama-3.1-70b", machine="4xh100-sxm"):
    return rp.estimate(model, on=machine, task=rp.Decode(batch=batch, context=context), apply=apply).tpot_s


@cases(st.floats(0.0, 1.0), st.integers(1, 16), st.floats(0.0, 1.0))
def test_siblings_that_differ_accept_more(acceptance, width, distinct):
    some, all_ = level_acceptance(acceptance, width, distinct), level_acceptance(acceptance, width)
    assert acceptance - 1e-12 <= some <= all_ + 1e-12 <= 1.0 + 1e-9


def test_a_tree_of_width_one_is_a_line():
    """Apart from the draft's prompt and the like the tree of width 1 is ordinary speculation."""
    line = tpot("speculative-decoding:drafts=4,acceptance=0.6")
    tree = tpot("tree-speculation:depth=4,width=1,acceptance=0.6")
    assert tree == pytest.approx(line)


def test_drawing_without_replacement_helps():
    """Recursive speculative decoding: distinct siblings at the same cost."""
    assert tpot("tree-speculation:distinct=1") < tpot("tree-speculation:distinct=0.3")


def test_nothing_accepted_is_slower():
    assert tpot("tree-speculation:acceptance=0") > tpot()
    assert tpot("two-level-speculation:acceptance=0") > tpot()


def test_two_levels_help_long_contexts_and_not_short_ones():
    """TriForce: 2.31 times on an A100 with 120 k tokens of Llama2-7B."""
    values = {"model": "llama-2-7b", "machine": "a100-sxm-80gb"}
    short, long = (
        tpot(context=c, **values) / tpot("two-level-speculation", context=c, **values) for c in (2048, 120000)
    )
    assert short < long
    assert 1.8 < long < 4.0
