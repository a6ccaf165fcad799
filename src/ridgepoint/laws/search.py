"""Searches and surrogates: what candidates cost, when a cheap stand-in pays back, what parallel random search brings."""

from __future__ import annotations

from typing import Any

import numpy as np


def search_cost(candidates: Any, each: Any, shared: Any = 0.0, predictor: Any = 0.0, predicted: Any = 0.0) -> Any:
    """Cost of an architecture search: candidates · each + shared + predicted · predictor, in the unit of ``each``.

    ``shared`` is a network that all candidates share (one-shot search), ``predicted`` candidates are only rated by a predictor
    that costs ``predictor`` each. Sampling fewer candidates, or rating them without training, is what such papers report.

    >>> search_cost(1773.0, 11.28)
    19999.44
    >>> search_cost(8.0, 0.5, shared=24.0) < search_cost(64.0, 6.0)
    True
    """
    return candidates * each + shared + predictor * predicted


def supernet_memory(operations: Any, edges: Any, bytes_each: Any, sampled: Any = 1.0) -> dict[str, Any]:
    """Activations of a supernet that holds every operation of every edge, and of one that holds the sampled ones alone.

    >>> supernet_memory(8.0, 14.0, 1e8)["ratio"]
    8.0
    """
    whole = operations * edges * bytes_each
    return {"all_bytes": whole, "sampled_bytes": sampled * edges * bytes_each, "ratio": operations / sampled}


def surrogate_break_even(simulation: Any, surrogate: Any, training: Any, uses: Any) -> dict[str, Any]:
    """Total cost of ``uses`` runs with a trained surrogate against the simulation, and the uses from which it pays.

    with = training + uses · surrogate, without = uses · simulation; it pays from training / (simulation − surrogate) uses on,
    never where the surrogate is no cheaper.

    >>> found = surrogate_break_even(simulation=100.0, surrogate=0.1, training=5000.0, uses=1e4)
    >>> round(float(found["break_even"]), 2), round(float(found["speedup"]), 1)
    (50.05, 166.7)
    """
    saved = np.asarray(simulation, dtype=float) - surrogate
    with_it, without = training + uses * surrogate, uses * simulation
    safe = np.where(saved > 0.0, saved, 1.0)
    return {
        "with_surrogate": with_it,
        "without": without,
        "speedup": without / with_it,
        "break_even": np.where(saved > 0.0, training / safe, np.inf)[()],
    }


def parallel_search(least: Any, mean_above: Any, workers: Any) -> dict[str, Any]:
    """Speed-up of independent random searches whose run time is shifted exponential: the first of n ends.

    E[min] = x₀ + μ/n, speed-up = (x₀ + μ)/(x₀ + μ/n): linear while μ/n is far above x₀, at most 1 + μ/x₀.

    >>> found = parallel_search(least=1.0, mean_above=99.0, workers=np.array([1.0, 10.0, 1e6]))
    >>> [round(float(s), 1) for s in found["speedup"]], float(found["most"])
    ([1.0, 9.2, 100.0], 100.0)
    """
    expected = least + mean_above / workers
    floor = np.asarray(least, dtype=float)
    most = np.where(floor > 0.0, 1.0 + mean_above / np.where(floor > 0.0, floor, 1.0), np.inf)[()]
    return {"expected": expected, "speedup": (least + mean_above) / expected, "most": most}


def entity_lookup(trees: Any, nodes: Any, probes: Any = 8.0) -> dict[str, Any]:
    """Nodes visited to find an entity by walking all trees against probes of a cuckoo filter (two buckets of four).

    >>> entity_lookup(300.0, 40.0)["ratio"]
    1500.0
    """
    return {"visited": trees * nodes, "probes": probes + 0.0, "ratio": trees * nodes / probes}


def point_loss(points: Any, targets: Any, network_flop: Any) -> dict[str, Any]:
    """Operations of one step of runtime scene flow: a coordinate network, and a loss by nearest neighbours or by table.

    Chamfer's loss compares each point with each target (8 operations a pair, both ways); a distance transform is read once per
    point (8 neighbours, 3 operations each). ``loss_share`` is what Chamfer's loss takes of a step with three passes.

    >>> found = point_loss(8192.0, 8192.0, 1e5)
    >>> round(found["chamfer"] / found["table"]), round(found["loss_share"], 2)
    (5461, 0.3)
    """
    chamfer, table, network = 16.0 * points * targets, 24.0 * points, 3.0 * points * network_flop
    return {"chamfer": chamfer, "table": table, "network": network, "loss_share": chamfer / (chamfer + network)}


def noised_table(rows: Any, features: Any, copies: Any, steps: Any, classes: Any = 1.0) -> dict[str, Any]:
    """Bytes of the training arrays of tree-based diffusion: all noise levels at once, or one at a time and shared.

    All: rows · copies · features · steps · 2 arrays · 8 bytes; one level: rows · copies · features · 2 · 4 bytes, over
    the classes that are trained apart.

    >>> noised_table(1e5, 100.0, 100.0, 50.0)["ratio"]
    100.0
    """
    whole = 16.0 * rows * copies * features * steps
    one = 8.0 * rows * copies * features / classes
    return {"all_bytes": whole, "one_bytes": one, "ratio": whole / one}
