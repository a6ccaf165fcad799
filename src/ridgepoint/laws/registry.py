"""The laws by name: which function, which papers, and values to call it with when none are given.

>>> float(calculate("coverage", {"single": 0.5, "samples": 2.0})["result"])
0.75
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ridgepoint.errors import RidgepointError, nearest, unknown_name
from ridgepoint.laws import complexity, inference, scaling, search


@dataclass(frozen=True)
class Law:
    """A closed form: its function, the papers' slugs that it stands for, an ordinary set of values."""

    name: str
    function: Callable[..., Any]
    papers: tuple[str, ...]
    example: Mapping[str, Any]

    @property
    def summary(self) -> str:
        """The first sentence of its documentation."""
        return " ".join((self.function.__doc__ or "").strip().split("\n\n")[0].split())

    @property
    def parameters(self) -> tuple[str, ...]:
        """What it takes."""
        return tuple(inspect.signature(self.function).parameters)


_TABLE = (
    Law("loss", scaling.loss, (), {"parameters": 70e9, "tokens": 1.4e12}),
    Law("compute-optimal", scaling.compute_optimal, ("train-large-then-compress",), {"compute_flop": 5.76e23}),
    Law(
        "repeated-data",
        scaling.repeated_data,
        ("data-constrained-scaling", "data-filtering-scaling-laws"),
        {"parameters": 8.7e9, "unique_tokens": 25e9, "epochs": 4.0},
    ),
    Law("batch-trade", scaling.batch_trade, ("critical-batch-size", "algoperf"), {"batch": 4e6, "critical_batch": 2e6}),
    Law(
        "critical-batch",
        scaling.critical_batch,
        ("critical-batch-size",),
        {"tokens": 15e12, "reference_batch": 1e6, "reference_tokens": 3e11},
    ),
    Law("needed-compute", scaling.needed_compute, ("algorithmic-progress-lm",), {"compute_flop": 1e24, "months": 24.0}),
    Law(
        "reward-curve",
        scaling.reward_curve,
        ("scalerl",),
        {"compute": 1e5, "start": 0.2, "asymptote": 0.61, "midpoint": 5e3, "exponent": 1.9},
    ),
    Law(
        "benchmark-score",
        scaling.benchmark_score,
        ("benchmark-predictability", "mbpp-program-synthesis", "scaling-scaling-laws"),
        {"compute_flop": 1e24, "middle_flop": 1e23, "slope": 1.5, "floor": 0.25},
    ),
    Law(
        "crossover-compute",
        scaling.crossover_compute,
        ("dfa-scaling-laws",),
        {"scale_a": 10.0, "exponent_a": 0.1, "scale_b": 20.0, "exponent_b": 0.15},
    ),
    Law(
        "compound-scaling", scaling.compound_scaling, ("fast-compound-scaling",), {"flop_ratio": 4.0, "width_part": 0.8}
    ),
    Law(
        "mixture",
        scaling.mixture,
        ("upsample-upweight-cooldown",),
        {"tokens": [1e9, 1e10, 1e11], "temperature": 3.0, "budget_tokens": 1e11},
    ),
    Law(
        "coverage", inference.coverage, ("ttspm", "pcgbench", "rag-inference-scaling"), {"single": 0.1, "samples": 16.0}
    ),
    Law("saturation", inference.saturation, ("ttspm",), {"single": 0.1, "least_gain": 0.005}),
    Law(
        "samples-to-estimate",
        inference.samples_to_estimate,
        ("passuntil", "iss-smoothing"),
        {"pass_rate": 1e-4, "passes": 2.0},
    ),
    Law(
        "exchanged-compute",
        inference.exchanged_compute,
        ("test-time-compute-optimal", "scaling-scaling-laws"),
        {"parameters": 1e9, "train_tokens": 1e12, "inference_tokens": 1e12, "larger": 14.0},
    ),
    Law(
        "thinking-cost",
        inference.thinking_cost,
        ("kinetics",),
        {
            "parameters": 8e9,
            "kv_bytes_per_token": 131072.0,
            "prompt": 512.0,
            "output": 16384.0,
            "trials": 8.0,
            "intensity": 562.5,
        },
    ),
    Law("expected-steps", inference.expected_steps, ("pondernet",), {"halting": [0.2, 0.2, 0.2, 0.2, 0.2]}),
    Law(
        "routed-cost",
        inference.routed_cost,
        ("llm-routing-survey",),
        {"router": 0.01, "probabilities": [0.7, 0.3], "costs": [0.1, 1.0]},
    ),
    Law(
        "serial-bound",
        inference.serial_bound,
        ("serial-scaling",),
        {"work_s": 100.0, "depth": 10000.0, "step_s": 0.01, "width": 64.0},
    ),
    Law(
        "vector-capacity",
        inference.vector_capacity,
        ("cramming-1568-tokens",),
        {"width": 4096.0, "bits_per_value": 16.0, "bits_per_token": 4.0},
    ),
    Law(
        "attention-traffic",
        complexity.attention_traffic,
        ("attention-io-complexity", "sdpa-streaming-dataflow"),
        {"length": 8192.0, "head_dim": 128.0, "fast_values": 98304.0},
    ),
    Law("linear-crossover", complexity.linear_crossover, ("inline-attention",), {"length": 4096.0, "head_dim": 64.0}),
    Law(
        "low-rank-crossover",
        complexity.low_rank_crossover,
        ("almost-linear-gradient", "lora-computational-limits"),
        {"length": 65536.0, "width": 128.0, "rank": 256.0},
    ),
    Law(
        "matrix-free-curvature", complexity.matrix_free_curvature, ("m-fac",), {"gradients": 1024.0, "dimension": 25e6}
    ),
    Law("tensor-product", complexity.tensor_product, ("price-of-freedom",), {"degree": 4.0}),
    Law("graph-kernel", complexity.graph_kernel, ("u-grf",), {"nodes": 1e5, "walks": 16.0, "length": 8.0}),
    Law("oblivious-map", complexity.oblivious_map, ("bolt-omap",), {"entries": 2.0**24}),
    Law(
        "photonic-mesh",
        complexity.photonic_mesh,
        ("coherent-nanophotonic-nn",),
        {"size": 100.0, "layers": 2.0, "rate_hz": 1e11, "energy_j": 1e-13},
    ),
    Law("landauer", complexity.landauer, ("quantum-energy-advantage",), {"queries": 2.0**64}),
    Law(
        "arithmetic-energy",
        complexity.arithmetic_energy,
        ("l-mul", "low-bit-accumulators", "bold"),
        {"bits": 32.0, "accumulator_bits": 32.0},
    ),
    Law(
        "solver-iterations",
        complexity.solver_iterations,
        ("iterative-solver-ml",),
        {"error": 1e-2, "tolerance": 1e-8, "contraction": 0.5},
    ),
    Law(
        "staggered-tasks",
        complexity.staggered_tasks,
        ("neuralstagger",),
        {"stride": 2.0, "dimensions": 2.0, "steps": 2.0},
    ),
    Law(
        "signal-to-noise",
        complexity.signal_to_noise,
        ("signal-and-noise",),
        {"scores": [0.31, 0.42, 0.55], "checkpoint_scores": [0.421, 0.425, 0.418]},
    ),
    Law(
        "search-cost",
        search.search_cost,
        ("darts-pt", "diffusionnag", "sharpdarts", "autotransfer", "deeparchitect"),
        {"candidates": 100.0, "each": 6.0},
    ),
    Law("supernet-memory", search.supernet_memory, ("manas",), {"operations": 8.0, "edges": 14.0, "bytes_each": 1e8}),
    Law(
        "surrogate-break-even",
        search.surrogate_break_even,
        ("equino", "pinn-p2d-battery", "urban-tree-placement"),
        {"simulation": 100.0, "surrogate": 0.1, "training": 5000.0, "uses": 1e4},
    ),
    Law(
        "parallel-search",
        search.parallel_search,
        ("sat-runtime-distribution",),
        {"least": 1.0, "mean_above": 99.0, "workers": 16.0},
    ),
    Law("entity-lookup", search.entity_lookup, ("cft-rag",), {"trees": 300.0, "nodes": 40.0}),
    Law("point-loss", search.point_loss, ("fnsf",), {"points": 8192.0, "targets": 8192.0, "network_flop": 1e5}),
    Law(
        "noised-table",
        search.noised_table,
        ("calo-forest",),
        {"rows": 1e5, "features": 100.0, "copies": 100.0, "steps": 50.0},
    ),
)
LAWS = {law.name: law for law in _TABLE}


def find_law(name: str) -> Law:
    """The law of that name.

    Errors: ``unknown_law`` with the nearest names.
    """
    if name not in LAWS:
        raise unknown_name("law", name, LAWS)
    return LAWS[name]


def law_of(slug: str) -> Law | None:
    """The law that stands for a paper, if any."""
    return next((law for law in _TABLE if slug in law.papers), None)


def calculate(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a law gives, by name of the result; values that are not given are those of its example.

    Errors: ``unknown_law``; ``bad_law`` for an unknown parameter or a value that is no number.
    """
    law = find_law(name)
    for key in values:
        if key not in law.parameters:
            close = nearest(key, law.parameters, count=1)
            hint = f"did you mean {close[0]}?" if close else "it takes " + ", ".join(law.parameters)
            raise RidgepointError("bad_law", f"{name} has no parameter '{key}'", hint)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found = law.function(**{**law.example, **values})
    results = found if isinstance(found, dict) else {"result": found}
    bad = [key for key, value in results.items() if not np.all(np.isfinite(np.asarray(value, dtype=float)))]
    if bad:
        raise RidgepointError("bad_law", f"{name} has no finite {bad[0]} for these values", "check the values")
    return results
