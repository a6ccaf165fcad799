"""Closed forms of pipeline schedules (design §2); ``training/schedule.py`` simulates the same schedules as their oracle.

For p stages with times t_s per micro-batch (forward plus backward), m micro-batches and v chunks per device:

    forward only, GPipe (Huang et al. 2019), 1F1B (Narayanan et al. 2019)    Σ_s t_s + (m − 1) · max_s t_s
    interleaved 1F1B (Narayanan et al. 2021)                                 Σ_s t_s / v + (m − 1/v) · max_s t_s

With equal stages these are (m + p − 1)·t and (m + (p − 1)/v)·t, exactly. With unequal stages the first is exact for the
forward pass and for GPipe when the same stage is slowest both ways, and a close estimate for 1F1B.
"""

from __future__ import annotations

from ridgepoint.numeric import Num
from ridgepoint.work import Pipeline


def pipeline_terms(work: Pipeline, counts: list[Num]) -> tuple[Num, Num]:
    """How often the sum over stages and the slowest stage enter the time: time = first · Σ t_s + second · max t_s."""
    if work.schedule == "interleaved":
        return 1.0 / work.chunks, work.microbatches - 1.0 / work.chunks
    return 1.0, work.microbatches - 1.0


def bubble_fraction(stages: Num, microbatches: Num, chunks: Num = 1.0) -> Num:
    """Idle time over useful time with equal stages: (p − 1) / (v · m).

    >>> bubble_fraction(8.0, 32.0), bubble_fraction(8.0, 32.0, chunks=2.0)
    (0.21875, 0.109375)
    """
    return (stages - 1.0) / (chunks * microbatches)
