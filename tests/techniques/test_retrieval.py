"""Shorter vectors in an index (design §6)."""

from __future__ import annotations

import pytest

import ridgepoint as rp


def run(*apply, model="flat-sift1m", machine="epyc-9654", batch=1, **inputs):
    task = rp.Forward(
        batch=batch, inputs={"vectors": 1e7, "dim": 3072.0, **inputs} if model == "flat-sift1m" else inputs
    )
    return rp.estimate(model, on=machine, task=task, apply=apply)


def test_size_falls_with_the_dimension_and_time_less():
    """PCA-RAG: 3,072 to 110 numbers makes the index 27.9 times smaller; scores are still selected from."""
    full, few = run(), run("projected-index:dim=110")
    assert full.memory["weights"] / few.memory["weights"] == pytest.approx(3072 / 110)
    assert 5.0 < full.time_s / few.time_s < 3072 / 110


def test_small_indexes_gain_less():
    """With few vectors the kernels' own time is what is left."""
    gains = [run(vectors=n).time_s / run("projected-index:dim=110", vectors=n).time_s for n in (1e4, 1e7)]
    assert gains[0] < gains[1]


def test_a_shortlist_of_everything_costs_more_than_a_scan():
    assert run("shortlist-search:dim=110,shortlist=10000000").time_s > run().time_s


def test_matryoshka_gains_at_most_its_ratio():
    """14 times fewer numbers in the scan: up to 14 times at equal accuracy."""
    full, short = run(dim=2048.0), run("shortlist-search:dim=146", dim=2048.0)
    assert 5.0 < full.time_s / short.time_s < 14.1


@pytest.mark.parametrize("model", ["ivf-flat-sift1m", "hnsw-sift1m"])
def test_other_indexes_read_shorter_vectors_too(model):
    assert run("projected-index:dim=16", model=model).time_s < run(model=model).time_s


def test_what_is_no_index_or_short_already_is_refused():
    with pytest.raises(rp.RidgepointError, match="no index"):
        run("projected-index", model="resnet50")
    with pytest.raises(rp.RidgepointError, match="already"):
        run("projected-index:dim=4000")
