"""How loss, batch and needed compute scale in training. Parameters and tokens are counts, compute is in FLOP."""

from __future__ import annotations

from typing import Any

import numpy as np

CHINCHILLA = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
"""Hoffmann et al. 2022, approach 3."""
REPEATED = {"E": 1.87, "A": 521.0, "B": 1488.0, "alpha": 0.353, "beta": 0.353, "tokens": 15.39, "parameters": 5.31}
"""Muennighoff et al. 2023: the loss refitted on C4, and the repetitions at which repeated tokens and parameters fade."""


def loss(parameters: Any, tokens: Any) -> Any:
    """Loss in nats per token: E + A/N^α + B/D^β (Hoffmann et al. 2022). Fitted from 70 M to 16 B parameters.

    >>> round(float(loss(70e9, 1.4e12)), 3)
    1.937
    """
    c = CHINCHILLA
    return c["E"] + c["A"] / np.power(parameters, c["alpha"]) + c["B"] / np.power(tokens, c["beta"])


def compute_optimal(compute_flop: Any) -> dict[str, Any]:
    """Parameters and tokens that give the least loss for ``compute_flop`` ≈ 6·N·D (Hoffmann et al. 2022).

    N = G·(C/6)^(β/(α+β)), D = (C/6)/N, G = (αA/βB)^(1/(α+β)).

    >>> found = compute_optimal(5.76e23)
    >>> f"{float(found['parameters']):.2g} {float(found['tokens']):.2g}"
    '3.2e+10 3e+12'
    """
    c = CHINCHILLA
    total = c["alpha"] + c["beta"]
    scale = (c["alpha"] * c["A"] / (c["beta"] * c["B"])) ** (1.0 / total)
    parameters = scale * np.power(np.divide(compute_flop, 6.0), c["beta"] / total)
    tokens = np.divide(compute_flop, 6.0) / parameters
    return {"parameters": parameters, "tokens": tokens, "loss": loss(parameters, tokens)}


def repeated_data(parameters: Any, unique_tokens: Any, epochs: Any) -> dict[str, Any]:
    """What repeated tokens are worth (Muennighoff et al. 2023): D′ = U·(1 + R*·(1 − e^(−R/R*))), R = epochs − 1, R* = 15.4.

    Parameters beyond what the unique tokens can use fade likewise (R* = 5.3).

    >>> found = repeated_data(1e9, 25e9, 4.0)
    >>> round(float(found["effective_tokens"]) / 1e9, 1)  # of 100
    93.1
    """
    c = REPEATED
    repeats = np.maximum(np.asarray(epochs, dtype=float) - 1.0, 0.0)
    tokens = unique_tokens * (1.0 + c["tokens"] * (1.0 - np.exp(-repeats / c["tokens"])))
    ratio = (c["alpha"] * c["A"] / (c["beta"] * c["B"])) ** (1.0 / (c["alpha"] + c["beta"]))
    useful = np.minimum(
        parameters, ratio ** (1.0 + c["beta"] / c["alpha"]) * np.power(unique_tokens, c["beta"] / c["alpha"])
    )
    extra = np.maximum(np.divide(parameters, useful) - 1.0, 0.0)
    model = useful * (1.0 + c["parameters"] * (1.0 - np.exp(-extra / c["parameters"])))
    found = c["E"] + c["A"] / np.power(model, c["alpha"]) + c["B"] / np.power(tokens, c["beta"])
    return {"effective_tokens": tokens, "effective_parameters": model, "loss": found}


def batch_trade(batch: Any, critical_batch: Any) -> dict[str, Any]:
    """Steps and examples over their least for a batch (McCandlish et al. 2018): S/S₀ = 1 + B*/B, E/E₀ = 1 + B/B*.

    >>> float(batch_trade(2e6, 2e6)["steps_over_least"])
    2.0
    """
    part = np.divide(batch, critical_batch)
    return {"steps_over_least": 1.0 + 1.0 / part, "examples_over_least": 1.0 + part}


def critical_batch(tokens: Any, reference_batch: Any, reference_tokens: Any, exponent: Any = 0.47) -> Any:
    """Critical batch B* = B₀·(D/D₀)^0.47: it grows with the tokens trained on and hardly with the model (Zhang et al. 2024).

    The reference point is one's own measurement; the exponent is the paper's.

    >>> round(float(critical_batch(4e11, 1e6, 1e11)) / 1e6, 2)
    1.92
    """
    return np.multiply(reference_batch, np.power(np.divide(tokens, reference_tokens), exponent))


def needed_compute(compute_flop: Any, months: Any, halving_months: Any = 8.0) -> Any:
    """Compute for the same loss after ``months`` of better algorithms: C·2^(−t/8) (Ho et al. 2024; 5 to 14 months).

    >>> float(needed_compute(1e24, 24.0)) == 1e24 / 8
    True
    """
    return np.multiply(compute_flop, 2.0 ** (-np.asarray(months, dtype=float) / halving_months))


def reward_curve(compute: Any, start: Any, asymptote: Any, midpoint: Any, exponent: Any) -> Any:
    """Reward of reinforcement learning: R₀ + (A − R₀)/(1 + (C_mid/C)^B) (Khatri et al. 2025). Compute in any one unit.

    >>> float(reward_curve(1e4, 0.2, 0.6, 1e4, 1.5))
    0.4
    """
    fraction = 1.0 / (1.0 + np.power(np.divide(midpoint, compute), exponent))
    return start + np.subtract(asymptote, start) * fraction


def benchmark_score(compute_flop: Any, middle_flop: Any, slope: Any, floor: Any = 0.0, ceiling: Any = 1.0) -> Any:
    """Aggregate score as a sigmoid of log₁₀ compute (Owen 2024: 6 points of error ten-fold ahead, 18 on single tasks).

    >>> float(benchmark_score(1e23, 1e23, 1.0, floor=0.25))
    0.625
    """
    along = slope * (np.log10(compute_flop) - np.log10(middle_flop))
    return floor + np.subtract(ceiling, floor) / (1.0 + np.exp(-along))


def crossover_compute(scale_a: Any, exponent_a: Any, scale_b: Any, exponent_b: Any) -> Any:
    """Compute at which L = a·C^(−α) and L = b·C^(−β) meet: (a/b)^(1/(α−β)); whether a cheaper method ever pays.

    Filipovich et al. 2022 compare direct feedback alignment with backpropagation this way. Equal exponents never meet.

    >>> round(float(crossover_compute(10.0, 0.10, 20.0, 0.15))) == 2**20
    True
    """
    gap = np.asarray(exponent_a, dtype=float) - exponent_b
    with np.errstate(divide="ignore", over="ignore"):
        return np.where(gap == 0.0, np.inf, np.power(np.divide(scale_a, scale_b), 1.0 / np.where(gap == 0.0, 1.0, gap)))


def compound_scaling(flop_ratio: Any, width_part: Any) -> dict[str, Any]:
    """What a CNN gains when its operations grow s-fold: width w ∝ s^(e/2), depth and resolution share the rest.

    Dollár et al. 2021: activations grow with √s by width alone, with s by depth or resolution; the fast compound rule takes
    e = 0.8. Parameters grow with s by width, and with s by depth.

    >>> found = compound_scaling(4.0, 1.0)
    >>> float(found["activations"]), float(found["width"])
    (2.0, 2.0)
    """
    s, e = np.asarray(flop_ratio, dtype=float), np.asarray(width_part, dtype=float)
    rest = (1.0 - e) / 2.0
    width, depth, side = s ** (e / 2.0), s**rest, s ** (rest / 2.0)
    return {"width": width, "depth": depth, "resolution": side, "activations": width * depth * side**2}


def mixture(tokens: Any, temperature: Any, budget_tokens: Any) -> dict[str, Any]:
    """Share and epochs of each domain when it is drawn with p_i ∝ n_i^(1/τ) (Li et al. 2024).

    >>> found = mixture([1e9, 9e9], 1.0, 1e10)
    >>> [float(p) for p in found["share"]], [float(e) for e in found["epochs"]]
    ([0.1, 0.9], [1.0, 1.0])
    """
    sizes = np.asarray(tokens, dtype=float)
    weight = sizes ** (1.0 / np.asarray(temperature, dtype=float))
    share = weight / weight.sum()
    return {"share": share, "epochs": share * budget_tokens / sizes}
