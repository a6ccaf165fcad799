"""Every layout that one group tried on the same machine: Hagemann et al. 2023, "Efficient Parallelization Layouts".

Seconds of a step as the authors' own tables list them (their repository's ``data``), with FlashAttention-2 and their RMSNorm
kernel, no recomputation, ZeRO-1, no sequence parallelism; None ran out of memory. Llama with a vocabulary of 128,000 (the FLOP
behind their utilization), DGX A100 80 GB, bf16; their framework keeps gradients in 16 bit (13 B parameters with 28 GB of
weights ran on one device).
"""

from dataclasses import replace

import pytest

import ridgepoint as rp
from ridgepoint.models.catalog import find_model

# (model, devices, sequence, batch) → (tp, pp, micro-batch, seconds)
RUNS: dict[tuple[str, int, int, int], list[tuple[int, int, int, float | None]]] = {
    ("llama-13b", 64, 2048, 2048): [
        *[(1, 1, 1, 26.54), (2, 1, 2, 29.7), (1, 2, 1, 31.06), (2, 1, 1, 31.29), (1, 2, 2, 33.11), (2, 2, 1, 34.84)],
        *[(2, 2, 2, 35.05), (2, 2, 4, 37.57), (2, 2, 8, None), (2, 1, 8, None), (1, 2, 8, None), (1, 2, 4, None)],
        *[(1, 1, 2, None), (1, 1, 4, None), (2, 1, 4, None), (1, 1, 8, None)],
    ],
    ("llama-30b", 256, 2048, 2048): [
        *[(2, 4, 1, 22.67), (1, 4, 1, 24.0), (2, 4, 2, 24.26), (4, 4, 4, 25.05), (4, 4, 2, 25.32), (4, 2, 2, 26.26)],
        *[(4, 4, 1, 26.28), (4, 2, 1, 26.94), (2, 2, 1, 28.34), (4, 1, 1, 31.77), (4, 1, 2, 35.32), (2, 1, 4, None)],
        *[(2, 4, 4, None), (4, 1, 4, None), (2, 1, 2, None), (1, 2, 4, None), (1, 1, 4, None), (4, 2, 4, None)],
        *[(2, 2, 2, None), (2, 2, 4, None), (1, 4, 2, None), (1, 4, 4, None), (1, 2, 2, None), (1, 1, 2, None)],
        *[(2, 1, 1, None), (1, 2, 1, None), (1, 1, 1, None)],
    ],
    ("llama-65b", 128, 2048, 2048): [
        *[(2, 4, 1, 79.31), (2, 8, 1, 79.54), (4, 4, 2, 82.88), (4, 8, 2, 86.55), (4, 4, 1, 86.61), (4, 2, 1, 87.14)],
        *[(4, 8, 1, 92.61), (8, 2, 2, 101.28), (8, 4, 2, 103.17), (8, 2, 1, 107.85), (8, 4, 1, 111.83)],
        *[(8, 8, 2, 115.58), (8, 8, 1, 121.93), (4, 8, 4, None), (8, 8, 4, None), (2, 8, 4, None), (8, 4, 4, None)],
        *[(4, 2, 4, None), (2, 4, 4, None), (8, 2, 4, None), (2, 2, 4, None), (4, 4, 4, None), (4, 2, 2, None)],
        *[(2, 8, 2, None), (2, 4, 2, None), (2, 2, 2, None), (2, 2, 1, None)],
    ],
    ("llama-13b", 128, 8192, 512): [
        *[(2, 2, 1, 18.41), (2, 4, 1, 19.32), (4, 1, 1, 21.36), (4, 2, 1, 21.94), (4, 4, 1, 23.46), (4, 4, 2, 23.78)],
        *[(4, 4, 4, None), (4, 1, 4, None), (4, 2, 2, None), (2, 4, 4, None), (4, 2, 4, None), (4, 1, 2, None)],
        *[(2, 4, 2, None), (1, 1, 4, None), (2, 2, 4, None), (1, 2, 4, None), (2, 2, 2, None), (2, 1, 2, None)],
        *[(2, 1, 4, None), (1, 4, 4, None), (1, 4, 2, None), (1, 2, 2, None), (1, 1, 2, None), (2, 1, 1, None)],
        *[(1, 4, 1, None), (1, 2, 1, None), (1, 1, 1, None)],
    ],
    ("llama-30b", 128, 8192, 512): [
        *[(4, 4, 1, 49.43), (4, 8, 1, 50.23), (4, 16, 1, 54.78), (2, 8, 4, None), (4, 16, 4, None), (2, 8, 2, None)],
        *[(4, 8, 2, None), (2, 16, 2, None), (2, 16, 1, None), (2, 16, 4, None), (4, 16, 2, None), (4, 8, 4, None)],
        *[(2, 8, 1, None), (4, 4, 4, None), (2, 2, 4, None), (4, 4, 2, None), (4, 2, 4, None), (2, 4, 4, None)],
        *[(2, 4, 2, None), (4, 2, 2, None), (2, 2, 1, None), (2, 4, 1, None), (4, 2, 1, None), (2, 2, 2, None)],
    ],
}


def predicted(case, tp, pp, micro):
    name, devices, seq, batch = case
    model = find_model(name)
    wide = replace(model, embedding=replace(model.embedding, vocab=128_000))
    plan = rp.Plan(
        **{"tp": tp, "pp": pp, "micro_batch": micro, "zero_stage": 1, "gradients": "16bit"},
        sequence_parallel=False,
        compiled=False,
        fused_norms=True,
    )
    return rp.estimate(wide, on=f"{devices // 8}xdgx-a100", task=rp.Train(batch=batch, seq=seq), plan=plan)


@pytest.fixture(scope="module")
def table():
    return {case: [(*run, predicted(case, *run[:3])) for run in runs] for case, runs in RUNS.items()}


def test_what_fits_is_what_ran(table):
    """Nine of ten outcomes; those that are wrong lie within a tenth of the device's memory."""
    right, close = 0, 0
    rows = [row for rows in table.values() for row in rows]
    for *_, seconds, est in rows:
        ran, said = seconds is not None, bool(est.memory.fits)
        right += ran == said
        close += ran != said and abs(float(est.memory.total_bytes) - est.memory.usable_bytes) < 0.1 * 80e9
    assert right >= 0.9 * len(rows), (right, len(rows))
    assert right + close >= len(rows) - 1


def test_times_are_near(table):
    """Median error of a fifth or less, but for 256 devices, whose network is not described; none is twice off."""
    for case, rows in table.items():
        errors = sorted(abs(float(est.time_s) / seconds - 1.0) for *_, seconds, est in rows if seconds is not None)
        assert errors[len(errors) // 2] < (0.27 if case[1] == 256 else 0.2), (case, errors)
        assert errors[-1] < 0.5, (case, errors)


def test_the_best_layout_of_those_that_ran_is_the_one_that_is_predicted(table):
    """What the paper is about: which layout to take. One table of five misses (256 devices), by a fifth of the time."""
    hits = 0
    for rows in table.values():
        ran = [row for row in rows if row[3] is not None]
        fastest, chosen = min(ran, key=lambda row: row[3]), min(ran, key=lambda row: float(row[4].time_s))
        hits += fastest is chosen
        assert chosen[3] <= 1.26 * fastest[3]
    assert hits >= 4
