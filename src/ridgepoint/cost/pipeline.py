"""Closed forms of pipeline schedules (design §2); ``training/schedule.py`` simulates the same schedules: their oracle.

For p stages with forward times f_s and backward times b_s per micro-batch, t_s = f_s + b_s, messages of c_s seconds to
the next stage and back, m micro-batches and v chunks per device:

    forward only                               Σ (f + c) + (m − 1) · max(f, c)
    GPipe (Huang et al. 2019)                  Σ (t + 2c) + (m − 1) · (max(f, c) + max(b, c))
    1F1B (Narayanan et al. 2019)               Σ t + (m − 1) · max t + 2 · (1 + (m − 1)/p) · Σ c
    interleaved 1F1B (Narayanan et al. 2021)   Σ t / v + (m − 1/v) · max(t, 2vc) + 2 · (pv − 1)/(p − 1) · Σ c
    zero bubble (Qi et al. 2023)               Σ (f + b) + max ((m − 1)(f + b) + max(m − k, 1) · w) + 4 · Σ c

where zero bubble divides the backward pass into b, which the next stage waits for, and w, the gradients of the weights,
which nobody does; never less than m · max (f + b + w). ZB-H1 (k = p − 1) keeps the activations of 1F1B and is exact for
equal stages, w ≤ f and m ≥ p (with messages m ≥ 2p); it was found up to 9 % too short where w is long. ZB-H2
(k = 2p − 2) keeps about twice as many; its stages start and end one after the other, so that the form is the time from step
to step (the optimizer does not wait for other stages): (p − 1) · f less than one step alone.

The first two are exact. With equal stages and free messages the other two are (m + p − 1)·t and (m + (p − 1)/v)·t,
exactly (interleaved stages take micro-batches in whole groups of p). With unequal stages whose backward times are in
proportion to their forward times the 1F1B form is never too short, and too long by at most the stages behind the
slowest one; the interleaved form is too long by at most 1/v of them and was never found more than 1 % too short.
Without that proportion 1F1B may take up to GPipe's time.

A message of 1F1B holds up the steady phase, because no further micro-batch is in flight that could fill the wait: every
p micro-batches pay one way through all stages and back (exact for m = 1 modulo p, otherwise up to two messages too
long). Interleaved schedules have more in flight and pay each message only while the pipeline fills and drains, as long
as it takes less than half of a chunk's shorter pass. With one chunk they are 1F1B.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgepoint.numeric import Num, plain
from ridgepoint.work import Pipeline


@dataclass(frozen=True)
class Terms:
    """How often each quantity enters the time of a schedule."""

    fill: Num
    """The sum over all stages of a micro-batch's passes."""
    steady: Num
    """The slowest stage."""
    sends: Num
    """The sum over all stages of one message."""
    weights: Num | None = None
    """The gradient of the weights on the slowest stage, where a schedule tells it from the rest of the backward pass."""


def pipeline_terms(work: Pipeline, stages: Num) -> Terms:
    """The terms of ``work``'s schedule on ``stages`` devices."""
    m, v = work.microbatches, work.chunks
    sends = 2.0 * (1.0 + (m - 1.0) / stages)
    if work.schedule == "interleaved":
        once = 2.0 * (stages * v - 1.0) / np.maximum(stages - 1.0, 1.0)
        return Terms(1.0 / v, m - 1.0 / v, plain(np.where(np.asarray(v) > 1.0, once, sends)))
    if work.schedule == "1f1b":
        return Terms(1.0, m - 1.0, sends)
    if work.schedule in ("zero_bubble", "zero_bubble_2"):
        hidden = stages - 1.0 if work.schedule == "zero_bubble" else 2.0 * (stages - 1.0)
        return Terms(1.0, m - 1.0, 4.0, np.maximum(m - hidden, 1.0))
    return Terms(1.0, m - 1.0, 1.0 if work.schedule == "forward" else 2.0)
