"""How far off serving figures may be: kernels and engine together (design §4)."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from ridgepoint.serving.certainty import factors
from ridgepoint.serving.deployment import deployment
from ridgepoint.serving.engines import Spread, engines, servers
from ridgepoint.serving.operating import operating


def test_first_tokens_are_less_certain_than_the_time_between_tokens():
    """A first token waits for other clients' prompts; between tokens kernels decide."""
    for engine in ("vllm", "sglang", "trtllm"):
        found = factors(deployment("llama-3.1-8b", "h100-sxm", engine=engine), 32.0, 1024.0, 256.0)
        assert found["ttft_s"] > found["per_s"] > found["tpot_s"] > 1.0


def test_an_engine_without_a_spread_leaves_that_of_the_kernels(monkeypatch):
    """Only then does the interval of a time per token come from coefficients alone."""
    given = deployment("llama-3.1-8b", "h100-sxm")
    whole = factors(given, 32.0, 1024.0, 256.0)
    bare = msgspec.structs.replace(given.software, spread=Spread(0.0, 0.0, 0.0, 0.0, 0.0))
    monkeypatch.setitem(given.__dict__, "software", bare)
    kernels = factors(given, 32.0, 1024.0, 256.0)
    assert kernels["tpot_s"] == kernels["per_s"]
    own = engines()["vllm"].spread
    for name, part in (("tpot_s", own.tpot), ("per_s", own.rate), ("ttft_s", own.ttft)):
        squared = (np.log(whole[name]) / 1.645) ** 2 - (np.log(kernels[name]) / 1.645) ** 2
        assert squared == pytest.approx(part**2, rel=1e-6)


def test_what_intervals_of_serving_rest_on_is_said():
    """A spread that was fitted says to what."""
    for name in servers():
        spread = engines()[name].spread
        assert spread == Spread() or "aiconfigurator" in spread.provenance


def test_the_curve_says_how_certain_it_is():
    curve = operating(deployment("llama-3.1-8b", "h100-sxm"), 1024.0, 256.0)
    assert curve.factors == factors(curve.deployment, float(curve.concurrency[curve.knee]), 1024.0, 256.0)
