"""How many training layouts a second the search looks at (design §11: 1e5 on one core)."""

import time

from benchmarks.registry import benchmark
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.catalog import find_model
from ridgepoint.plan import Plan
from ridgepoint.tasks import Train
from ridgepoint.training.search import search
from ridgepoint.training.space import sweeps


def layouts_per_s(model: Model, machine: Machine, batch: int, seq: int) -> float:
    """Enumeration, memory of all layouts, time of those that fit."""
    start = time.perf_counter()
    space = sweeps(model, machine, batch, seq)
    found = search(model, machine, Train(batch=batch, seq=seq), Plan(), space, 0.95 * machine.memory_bytes)
    return found.searched / (time.perf_counter() - start)


@benchmark(
    "train.layouts_dense",
    measures="layouts of Llama 3.1 405B on 4,096 devices",
    unit="layouts/s",
    target=1e5,
    better="higher",
)
def dense() -> float:
    return layouts_per_s(find_model("llama-3.1-405b"), find_machine("512x8xh100-sxm"), 2048, 8192)


@benchmark(
    "train.layouts_experts",
    measures="layouts of Kimi K2.5 (1 T parameters) on 4,096 devices",
    unit="layouts/s",
    target=1e5,
    better="higher",
)
def experts() -> float:
    return layouts_per_s(find_model("kimi-k2.5"), find_machine("512x8xh100-sxm"), 4096, 8192)
