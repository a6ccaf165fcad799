"""How far off a deployment's figures may be: the kernels' own spread, and what clients, queues and schedulers add to it.

    spread² = spread of the step's kernels² + spread of the engine²,    nine measurements in ten within e^(±1.645 · spread)

The engine's part is in its entry of the catalogue (``Engine.spread``), fitted to measured runs by quantity: a first token waits
for other clients' prompts, so that it is far less certain than the time between tokens, which kernels decide.
"""

from __future__ import annotations

import numpy as np

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.estimates import NORMAL_90
from ridgepoint.serving.deployment import Deployment
from ridgepoint.work import Seq


def factors(given: Deployment, running: float, prompt: float, output: float) -> dict[str, float]:
    """Factor either way within which nine measurements in ten of ``ttft_s``, ``tpot_s`` and rates (``per_s``) are expected,
    with ``running`` requests of ``prompt`` and ``output`` tokens on a replica.

    >>> from ridgepoint.serving.deployment import deployment
    >>> found = factors(deployment("llama-3.1-8b", "h100-sxm"), 32.0, 1024.0, 256.0)
    >>> 1.0 < found["tpot_s"] < found["per_s"] < found["ttft_s"] < 4.0
    True
    """
    passes, own = given.passes, given.software.spread
    lane = float(np.ceil(running / passes.lanes))
    decode = Seq(passes.shared(lane), passes.decoding(lane, prompt + output / 2.0), passes.choosing(lane))
    piece = min(prompt, float(given.rules.step_tokens(prompt)))
    read = Seq(passes.shared(piece), passes.reading(piece, 0.0), passes.choosing(1.0))
    step, first = (float(evaluate(work, passes.machine, strict=True).relative_spread) for work in (decode, read))
    spreads = {"ttft_s": (first, own.ttft), "tpot_s": (step, own.tpot), "per_s": (step, own.rate)}
    return {name: float(np.exp(NORMAL_90 * np.hypot(*both))) for name, both in spreads.items()}
