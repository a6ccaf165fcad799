"""How fast estimates are: one scenario through the public API, and a million mixed points in one call."""

import resource
import subprocess
import sys
import time

import numpy as np

import ridgepoint as rp
from benchmarks.registry import benchmark

POINTS = 1_000_000


def best_of(runs: int, call: object) -> float:
    """The shortest of several runs in seconds: what the code costs when the machine is quiet."""
    assert callable(call)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


@benchmark("estimate.scalar", measures="one rp.estimate of a Llama-8B decode step", unit="s", target=2e-3)
def scalar() -> float:
    """Seconds of one estimate, best of fifty."""
    task = rp.Decode(batch=32, context=8192)
    return best_of(50, lambda: rp.estimate("llama-3.1-8b", on="h100-sxm", task=task))


def million() -> rp.Estimate:
    """A Llama-8B decode step at a million random (batch, context, tp)."""
    random = np.random.default_rng(0)
    batch, context = random.integers(1, 257, POINTS), random.integers(128, 32768, POINTS)
    task = rp.Decode(batch=batch.astype(float), context=context.astype(float))
    plan = rp.Plan(tp=random.choice([1.0, 2.0, 4.0, 8.0], POINTS))
    return rp.estimate("llama-3.1-8b", on="8xh100-sxm", task=task, plan=plan)


@benchmark(
    "estimate.sweep",
    measures="mixed (batch, context, tp) points of one call",
    unit="points/s",
    target=1e6,
    better="higher",
)
def sweep() -> float:
    """Points per second, best of three calls."""
    return POINTS / best_of(3, million)


@benchmark("estimate.sweep_memory", measures="peak memory of a process with that call", unit="GB", target=2.0)
def sweep_memory() -> float:
    """Peak resident memory in GB of a process that makes the call."""
    code = "from benchmarks.estimates import million, peak_gb; million(); print(peak_gb())"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def peak_gb() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
