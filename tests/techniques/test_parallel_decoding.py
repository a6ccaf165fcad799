"""Many positions or drafts per pass (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp


def run(task, *apply, model="llama-3.1-8b"):
    return rp.estimate(model, on="h100-sxm", task=task, apply=apply)


def test_iteration_that_settles_one_token_a_pass_gains_nothing():
    task = rp.Decode(batch=1)
    assert run(task, "jacobi-decoding:window=16,settled=1").tpot_s >= run(task).tpot_s
    with pytest.raises(rp.RidgepointError, match="settle"):
        run(task, "jacobi-decoding:window=2,settled=4")


def test_iteration_divides_steps_while_memory_binds():
    """gs-jacobi-tarflow: L steps become L/settled passes, each hardly dearer than a step."""
    task = rp.Decode(batch=1)
    gain = run(task).tpot_s / run(task, "jacobi-decoding:window=32,settled=4").tpot_s
    assert 3.0 < gain <= 4.0


def test_denoising_without_a_cache_grows_with_the_square_of_the_length():
    """dKV-Cache: O(L³) against O(L²) when steps follow the length; the cache's gain grows with the length."""
    gains = []
    for length in (256, 1024):
        task = rp.Generate(batch=4, prompt=length, output=length)
        whole, kept = (
            run(task, f"diffusion-decoding:cached={c},steps={length},refresh=1000").time_s for c in ("false", "true")
        )
        gains.append(whole / kept)
    assert 1.5 < gains[0] < gains[1] < 10.0


def test_denoised_text_has_no_first_token():
    est = run(rp.Generate(batch=1, prompt=64, output=64), "diffusion-decoding")
    assert est.ttft_s is None
    assert est.tokens_per_s > 0


def test_superposing_one_draft_costs_the_filter():
    task = rp.Decode(batch=8)
    assert 1.0 < run(task, "superposed-decoding:drafts=1").time_s / run(task).time_s < 1.02


def test_superposed_drafts_gain_at_most_their_number():
    """Superposed Decoding: 2.44 times at three drafts against three separate generations in turn; a batch is cheaper."""
    separate = 3 * run(rp.Decode(batch=1)).time_s
    together = run(rp.Decode(batch=3), "superposed-decoding:drafts=3").time_s
    assert 2.44 < separate / together <= 3.0


def test_workers_share_reads_of_weights_and_cache():
    """Hogwild: n workers' tokens per step until arithmetic binds; time falls with n."""
    task = rp.Generate(batch=1, prompt=4096, output=2048)
    times = [run(task, f"workers-on-one-cache:workers={n},overhead=0").time_s for n in (1, 2, 4)]
    assert times[0] == pytest.approx(run(task).time_s, rel=1e-6)
    assert times[0] / times[1] == pytest.approx(2.0, rel=0.05)
    assert times[0] / times[2] == pytest.approx(4.0, rel=0.1)


def test_what_workers_add_must_be_written():
    task = rp.Generate(batch=1, prompt=512, output=2048)
    lean, chatty = (run(task, f"workers-on-one-cache:overhead={o}") for o in (0, 1))
    assert chatty.time_s == pytest.approx(2 * lean.time_s, rel=0.05)
    assert chatty.tokens_per_s < lean.tokens_per_s
    assert chatty.memory["kv"] > lean.memory["kv"]


def test_streams_share_weights_only():
    task = rp.Decode(batch=1, context=4096)
    wide = run(task, "parallel-streams:streams=8")
    assert wide.memory["weights"] == run(task).memory["weights"]
    assert wide.memory["kv"] == pytest.approx(8 * run(task).memory["kv"])
    assert wide.tokens_per_s < run(task).tokens_per_s
