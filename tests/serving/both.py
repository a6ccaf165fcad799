"""The simulator and the independent one of tests/serving/oracle on the same requests."""

from __future__ import annotations

from ridgepoint.serving.simulate import simulate_requests
from tests.serving.oracle.simulation import simulate as by_oracle


def both(system, requests, seed=0, **how):
    """(what the simulator says, jobs and engines of the oracle); no cache of either holds more than there is."""
    found = simulate_requests(system, requests, seed=seed)
    rules = system.rules
    jobs, engines = by_oracle(
        found.replicas[0].clocks,
        requests,
        found.cache.blocks,
        rules.token_budget,
        rules.max_sequences,
        count=system.replicas,
        routing=system.routing,
        seed=seed,
        **{"chunked": rules.chunked} | how,
    )
    assert all(engine.cache.peak <= found.cache.blocks for engine in engines)
    return found, jobs, engines
