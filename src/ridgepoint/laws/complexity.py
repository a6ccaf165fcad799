"""Operation, traffic and resource counts of algorithms, and the sizes at which one overtakes another."""

from __future__ import annotations

from typing import Any

import numpy as np

BOLTZMANN_J_PER_K = 1.380649e-23


def attention_traffic(length: Any, head_dim: Any, fast_values: Any) -> Any:
    """Least traffic of exact attention between slow and fast memory, up to a constant (Saha, Ye 2024).

    Θ(N²·d²/M) where the fast memory holds M ≥ d² values (FlashAttention reaches it), Θ(N²·d/√M) below.

    >>> float(attention_traffic(8192.0, 128.0, 128.0**2 * 4)) == 8192.0**2 / 4
    True
    """
    n, d, m = (np.asarray(v, dtype=float) for v in (length, head_dim, fast_values))
    return np.where(m >= d**2, n**2 * d**2 / m, n**2 * d / np.sqrt(m))


def linear_crossover(length: Any, head_dim: Any) -> dict[str, Any]:
    """Operations of softmax (4·N²·d) and of linear attention (4·N·d²) per head: linear wins from N = d on.

    >>> found = linear_crossover(1024.0, 64.0)
    >>> float(found["ratio"]), float(found["crossover"])
    (16.0, 64.0)
    """
    n, d = np.asarray(length, dtype=float), np.asarray(head_dim, dtype=float)
    return {"softmax_flop": 4.0 * n**2 * d, "linear_flop": 4.0 * n * d**2, "ratio": n / d, "crossover": d}


def low_rank_crossover(length: Any, width: Any, rank: Any) -> dict[str, Any]:
    """Exact attention gradients against a rank-r approximation: N²·d against N·d·r; it pays from N = r on.

    Alman, Song 2024: such approximations exist with almost linear time only where entries stay below √log N.

    >>> float(low_rank_crossover(65536.0, 128.0, 256.0)["ratio"])
    256.0
    """
    n, d, r = (np.asarray(v, dtype=float) for v in (length, width, rank))
    return {"exact_flop": n**2 * d, "approximate_flop": n * d * r, "ratio": n / r, "largest_entry": np.sqrt(np.log(n))}


def matrix_free_curvature(gradients: Any, dimension: Any) -> dict[str, Any]:
    """Inverse-Hessian products from m stored gradients of d values (M-FAC): O(d·m²) once, O(d·m) each, m·d values kept.

    >>> float(matrix_free_curvature(1024.0, 1e6)["product_flop"]) == 4.0 * 1024 * 1e6
    True
    """
    m, d = np.asarray(gradients, dtype=float), np.asarray(dimension, dtype=float)
    return {
        "setup_flop": 2.0 * d * m**2,
        "product_flop": 4.0 * d * m,
        "dynamic_update_flop": 2.0 * (d * m + m**3),
        "values": m * d,
    }


def tensor_product(degree: Any) -> dict[str, Any]:
    """Operations of an equivariant tensor product of degree L: Clebsch–Gordan L⁶, sparse L⁵, Gaunt L³ (constants left out).

    Xie et al. 2024: the cheaper product also expresses less; compare per path.

    >>> float(tensor_product(4.0)["gaunt"])
    64.0
    """
    n = np.asarray(degree, dtype=float)
    return {"dense": n**6, "sparse": n**5, "gaunt": n**3}


def graph_kernel(nodes: Any, walks: Any, length: Any) -> dict[str, Any]:
    """Exact graph kernel N³ against N · walks · length random-walk features; the ratio of their operations.

    >>> float(graph_kernel(1000.0, 10.0, 10.0)["ratio"])
    10000.0
    """
    n, w = np.asarray(nodes, dtype=float), np.multiply(walks, length)
    return {"exact": n**3, "features": n * w, "ratio": n**2 / w}


def oblivious_map(entries: Any) -> dict[str, Any]:
    """Accesses per lookup: log²N of a map over a tree ORAM, log₂log₂N overhead of BOLT (constants left out).

    >>> float(oblivious_map(2.0**16)["bolt"])
    4.0
    """
    n = np.log2(np.asarray(entries, dtype=float))
    return {"tree": n**2, "bolt": np.log2(n)}


def photonic_mesh(size: Any, layers: Any, rate_hz: Any, energy_j: Any) -> dict[str, Any]:
    """Multiply-adds per second of N × N interferometer meshes, layers·N²·rate, and energy per MAC falling as 1/N (Shen 2017).

    >>> float(photonic_mesh(100.0, 1.0, 1e11, 1e-13)["mac_per_s"])
    1000000000000000.0
    """
    n = np.asarray(size, dtype=float)
    return {"mac_per_s": layers * n**2 * rate_hz, "energy_j_per_mac": np.divide(energy_j, n)}


def landauer(queries: Any, kelvin: Any = 300.0) -> Any:
    """Least energy of irreversible queries: n·k·T·ln 2 joules (Landauer 1961).

    >>> f"{float(landauer(1e20)):.3f}"
    '0.287'
    """
    return np.multiply(queries, BOLTZMANN_J_PER_K * np.asarray(kelvin, dtype=float) * np.log(2.0))


def arithmetic_energy(bits: Any, accumulator_bits: Any = 32.0) -> dict[str, Any]:
    """Joules of a multiply-add at 45 nm by widths, and what sums in place of products save (Horowitz 2014; L-Mul).

    Powers through the published points: integer sums 0.1 pJ at 32 bits and products 3.1 pJ (growing with the width and its
    square), floating-point sums 0.4 and 0.9 pJ, products 1.1 and 3.7 pJ at 16 and 32 bits. ``saved_by_sums`` replaces a
    floating-point product by one integer sum, ``saved_in_dot_products`` keeps the sum that follows. Other processes shift all
    of them; data movement is not in it.

    >>> found = arithmetic_energy(32.0)
    >>> round(float(found["saved_by_sums"]), 2), round(float(found["saved_in_dot_products"]), 2)
    (0.97, 0.78)
    """
    ratio = np.asarray(bits, dtype=float) / 32.0
    added, multiplied = 0.9e-12 * ratio ** np.log2(0.9 / 0.4), 3.7e-12 * ratio ** np.log2(3.7 / 1.1)
    integer_sum = 0.1e-12 * ratio
    return {
        "integer_mac_j": 3.1e-12 * ratio**2 + 0.1e-12 * np.asarray(accumulator_bits, dtype=float) / 32.0,
        "float_mac_j": multiplied + added,
        "saved_by_sums": 1.0 - integer_sum / multiplied,
        "saved_in_dot_products": 1.0 - (integer_sum + added) / (multiplied + added),
    }


def solver_iterations(error: Any, tolerance: Any, contraction: Any) -> Any:
    """Iterations of a linear method from an initial error to a tolerance: log(e/tol) / log(1/ρ).

    >>> float(solver_iterations(1.0, 1e-3, 0.1))
    3.0
    """
    return np.ceil(np.round(np.log(np.divide(error, tolerance)) / -np.log(np.asarray(contraction, dtype=float)), 9))


def staggered_tasks(stride: Any, dimensions: Any, steps: Any) -> Any:
    """Independent subtasks when a grid is subsampled s-fold in each dimension and t-fold in time: s^d·t (NeuralStagger).

    >>> float(staggered_tasks(2.0, 2.0, 4.0))
    16.0
    """
    return np.power(np.asarray(stride, dtype=float), dimensions) * steps


def signal_to_noise(scores: Any, checkpoint_scores: Any) -> Any:
    """Spread between models over the noise between the last checkpoints of one: whether a benchmark can decide at small scale.

    >>> round(float(signal_to_noise([0.2, 0.6], [0.30, 0.32])), 6)
    40.0
    """
    models, steps = np.asarray(scores, dtype=float), np.asarray(checkpoint_scores, dtype=float)
    return (models.max() - models.min()) / steps.std(ddof=0)
