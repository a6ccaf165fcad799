"""Compute at test time: samples, rounds, halting, routing, and what it trades against in training."""

from __future__ import annotations

from typing import Any

import numpy as np


def coverage(single: Any, samples: Any, ceiling: Any = 1.0) -> Any:
    """Solved by at least one of n samples: F_max·(1 − (1 − p)^n) (the TTSPM model of parallel and of sequential scaling).

    >>> float(coverage(0.5, 2.0))
    0.75
    """
    return ceiling * (1.0 - np.power(1.0 - np.asarray(single, dtype=float), samples))


def saturation(single: Any, least_gain: Any, ceiling: Any = 1.0) -> Any:
    """Samples from which one more brings less than ``least_gain``: F_max·p·(1 − p)^n < ε.

    >>> float(saturation(0.5, 0.01))
    6.0
    """
    p = np.asarray(single, dtype=float)
    return np.maximum(np.ceil(np.log(least_gain / (ceiling * p)) / np.log(1.0 - p)), 0.0)


def samples_to_estimate(pass_rate: Any, passes: Any) -> Any:
    """Samples until r of them pass: r/p on average; the estimate r/K then has a relative error of about 1/√r (PassUntil).

    >>> float(samples_to_estimate(1e-4, 2.0))
    20000.0
    """
    return np.divide(passes, pass_rate)


def exchanged_compute(parameters: Any, train_tokens: Any, inference_tokens: Any, larger: Any) -> dict[str, Any]:
    """How much more a small model may think for the FLOP of a ``larger``-times model (Snell et al. 2024).

    6·N·D_pre + 2·N·D_inf matched: the small model gets larger + 3·(D_pre/D_inf)·(larger − 1) times the inference tokens.

    >>> float(exchanged_compute(1e9, 1e12, 1e12, 14.0)["tokens_ratio"])
    53.0
    """
    n, ratio = np.asarray(parameters, dtype=float), np.divide(train_tokens, inference_tokens)
    total = larger * (6.0 * n * train_tokens + 2.0 * n * np.asarray(inference_tokens, dtype=float))
    return {"tokens_ratio": larger + 3.0 * ratio * (np.asarray(larger) - 1.0), "flop": total}


def thinking_cost(
    parameters: Any, kv_bytes_per_token: Any, prompt: Any, output: Any, trials: Any, intensity: Any
) -> dict[str, Any]:
    """Best-of-n reasoning in equivalent FLOP: arithmetic plus bytes times the machine's intensity (Kinetics, Sadhukhan 2025).

    Arithmetic 2·N per token; attention reads the cache of prompt + half the output for each token, and trials share the
    prompt's but not their own: cost grows with the square of the output length.

    >>> one = thinking_cost(8e9, 131072.0, 512.0, 8192.0, 1.0, 300.0)
    >>> four = thinking_cost(8e9, 131072.0, 512.0, 32768.0, 1.0, 300.0)
    >>> bool(four["memory_eflop"] > 10 * one["memory_eflop"])
    True
    """
    tokens = np.multiply(output, trials)
    arithmetic = 2.0 * np.asarray(parameters, dtype=float) * tokens
    read = tokens * (prompt + np.divide(output, 2.0)) * kv_bytes_per_token
    return {
        "arithmetic_flop": arithmetic,
        "memory_eflop": read * intensity,
        "total_eflop": arithmetic + read * intensity,
    }


def expected_steps(halting: Any) -> Any:
    """Mean number of steps when step n halts with probability λ_n: Σ n·λ_n·Π(1 − λ_j); the last step always halts (PonderNet).

    >>> float(expected_steps([0.5, 0.5, 0.5]))
    1.75
    """
    chance = np.append(np.asarray(halting, dtype=float)[:-1], 1.0)
    alive = np.concatenate([[1.0], np.cumprod(1.0 - chance[:-1])])
    return float(np.sum(np.arange(1, len(chance) + 1) * chance * alive))


def routed_cost(router: Any, probabilities: Any, costs: Any) -> dict[str, Any]:
    """Mean cost of a query: router + Σ p_i·c_i, and the router cost at which it equals the dearest model alone.

    >>> found = routed_cost(0.01, [0.8, 0.2], [0.1, 1.0])
    >>> round(found["cost"], 3), round(found["break_even_router"], 3)
    (0.29, 0.72)
    """
    p, c = np.asarray(probabilities, dtype=float), np.asarray(costs, dtype=float)
    mean = float(np.sum(p * c))
    return {"cost": float(router) + mean, "break_even_router": float(c.max()) - mean}


def serial_bound(work_s: Any, depth: Any, step_s: Any, width: Any) -> dict[str, Any]:
    """Brent's bound: T ≥ max(work/P, depth·latency); whether more width still helps.

    >>> serial_bound(100.0, 1000.0, 0.01, 50.0)["serial"]
    True
    """
    parallel, serial = np.divide(work_s, width), np.multiply(depth, step_s)
    bound = np.maximum(parallel, serial)
    return {"least_s": float(bound) if np.ndim(bound) == 0 else bound, "serial": bool(np.all(serial >= parallel))}


def vector_capacity(width: Any, bits_per_value: Any, bits_per_token: Any) -> Any:
    """Tokens that one vector can hold at most: d·b / (bits of cross entropy per token) (Kuratov et al. 2025).

    >>> float(vector_capacity(4096.0, 16.0, 20.0))
    3276.8
    """
    return np.divide(np.multiply(width, bits_per_value), bits_per_token)
