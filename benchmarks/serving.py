"""How fast requests are simulated: eight replicas on one core, up to a million requests."""

import subprocess
import sys
import time

from benchmarks.registry import benchmark

REPLICAS = "8xh100-sxm"
RATE = 100.0


def simulate(requests: int) -> float:
    """Seconds to simulate chats that keep eight replicas of an 8B model busy."""
    import ridgepoint as rp

    load = rp.poisson_requests(RATE, requests, "lognormal:1k:0.8", "lognormal:200:0.8")
    start = time.perf_counter()
    found = rp.simulate("llama-3.1-8b", on=REPLICAS, requests=load)
    assert found.deployment.replicas == 8
    assert int(found.completed.sum()) == requests
    return time.perf_counter() - start


@benchmark(
    "serving.rate",
    measures="requests simulated per second at 8 replicas, 100,000 of them",
    unit="requests/s",
    target=1e4,
    better="higher",
)
def rate() -> float:
    return 100_000 / min(simulate(100_000) for _ in range(2))


@benchmark("serving.linear", measures="time of 1,000,000 requests over ten times that of 100,000", unit="×", target=1.3)
def linear() -> float:
    return simulate(1_000_000) / (10.0 * simulate(100_000))


@benchmark(
    "serving.memory", measures="peak memory of a process that simulates 1,000,000 requests", unit="GB", target=2.0
)
def memory() -> float:
    code = (
        "from benchmarks.estimates import peak_gb; from benchmarks.serving import simulate; simulate(1_000_000);"
        "print(peak_gb())"
    )
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
