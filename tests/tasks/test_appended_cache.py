"""A cache that grows by concatenation: what library code without an engine pays for every token (design §2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.kernels.attention import kv_bytes
from ridgepoint.ops import Attention
from ridgepoint.work import walk

MODEL, MACHINE = "llama-2-7b", "a100-sxm-80gb"


def step(batch: Any = 4.0, context: float = 8192.0, apply: tuple[str, ...] = (), **plan: Any) -> rp.Estimate:
    task = rp.Decode(batch=batch, context=context)
    return rp.estimate(MODEL, on=MACHINE, task=task, plan=rp.Plan(**plan), apply=apply)


def copied(est: rp.Estimate) -> float:
    return sum(float(c.bytes) for c in est.cost.components if c.label.endswith("cache_copy"))


def test_every_step_reads_and_writes_the_whole_cache_once_more():
    """Transformers' DynamicCache joins old and new keys with torch.cat: twice the cache's bytes beside attention's read."""
    est = step(appended_cache=True)
    assert copied(est) == pytest.approx(2.0 * float(step().memory["kv"]), rel=1e-3)
    assert copied(step()) == 0.0


def test_what_attention_reads_of_an_unfused_step_is_copied_too():
    whole = copied(step(appended_cache=True))
    assert copied(step(appended_cache=True, fused_attention=False)) == pytest.approx(whole, rel=1e-6)


def test_a_smaller_cache_is_cheaper_to_join():
    """Techniques that keep fewer tokens save the copies of those that they dropped."""
    kept = step(appended_cache=True, apply=("token-eviction:budget=1024",))
    assert copied(kept) < 0.2 * copied(step(appended_cache=True))


def test_reading_a_prompt_joins_nothing():
    task = rp.Generate(batch=1, prompt=2048, output=64)
    first = [
        rp.estimate(MODEL, on=MACHINE, task=task, plan=rp.Plan(appended_cache=kept)).ttft_s for kept in (False, True)
    ]
    assert first[0] == first[1]


def test_short_contexts_do_not_notice():
    long, short = (
        float(step(context=c, appended_cache=True).time_s / step(context=c).time_s) for c in (16384.0, 128.0)
    )
    assert long > 1.5 > 1.1 > short > 1.0


def test_sweeps_agree_with_single_points():
    swept = np.asarray(step(batch=np.array([1.0, 8.0]), appended_cache=True).time_s)
    assert swept == pytest.approx([float(step(batch=b, appended_cache=True).time_s) for b in (1.0, 8.0)], rel=1e-9)


def test_the_physical_limit_copies_nothing():
    assert float(step(appended_cache=True).bound_s) == pytest.approx(float(step().bound_s), rel=1e-9)
    found = [op for op in walk(step().built.work) if isinstance(op, Attention)]
    assert all(float(kv_bytes(op)) > 0.0 for op in found)


def test_a_cache_of_which_steps_read_a_part_is_copied_whole():
    """Choosing pages spares attention's reads, not the copies: the cache keeps all tokens."""
    chosen = step(appended_cache=True, apply=("page-selection:budget=1024,page=64,reused=4",))
    assert copied(chosen) == pytest.approx(copied(step(appended_cache=True)), rel=0.05)


def test_layers_that_run_once_per_block_copy_their_cache_as_often():
    """The lower layers of a block transformer hold a quarter of the tokens and run for every fourth one."""
    apply = ("block-transformer:block=4,below=0.5",)
    kept = copied(step(appended_cache=True, apply=apply)) / copied(step(appended_cache=True))
    assert kept == pytest.approx(0.5 / 4.0 / 4.0, rel=0.05)
