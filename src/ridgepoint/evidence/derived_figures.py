"""Metrics that follow from others of the same run: per device, per sample, a whole request from its tokens.

Tables state any of them. What a reader of rows predicts itself is never replaced.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ridgepoint.evidence.rows import Rows
from ridgepoint.evidence.run_scenarios import Figure, Figures
from ridgepoint.numeric import Num

_MADE = ("generate", "serve")
"""Tasks whose tokens are those that they make; the others' are those that they read."""


def completed(figures: Figures, rows: Rows, devices: float) -> Figures:
    """The figures with those that follow from them, each where what it follows from is there."""
    found = dict(figures)
    tokens = _tokens(rows)
    for wanted, source, scale in (
        ("time_s", "latency_ms", 1e-3),
        ("latency_ms", "time_s", 1e3),
        ("throughput_tok_s", "throughput_tok_s_per_device", devices),
        ("throughput_tok_s", "throughput_samples_s", tokens),
        ("throughput_tok_s_per_device", "throughput_tok_s", 1.0 / devices),
        ("throughput_samples_s", "throughput_tok_s", None if tokens is None else 1.0 / tokens),
        ("energy_j_per_sample", "energy_j_per_token", tokens),
    ):
        if wanted not in found and source in found and scale is not None:
            found[wanted] = _scaled(found[source], scale)
    if rows.text("task") == "serve" and "latency_ms" not in figures and tokens is not None:
        found |= _request(figures, tokens)
    if rows.text("task") != "serve" and "power_w" in found:
        for per, rate in (("sample", "throughput_samples_s"), ("token", "throughput_tok_s")):
            if rate in found:  # ``power_w`` is that of a device
                joules = _scaled(_joined(found["power_w"], found[rate], np.divide), devices)
                found.setdefault(f"energy_j_per_{per}", joules)
    return found


def _request(figures: Figures, tokens: Num) -> Figures:
    """A request from its first token to its last."""
    if not {"ttft_ms", "tpot_ms"} <= set(figures):
        return {}
    further = _scaled(figures["tpot_ms"], np.maximum(np.asarray(tokens) - 1.0, 0.0))
    latency = _joined(figures["ttft_ms"], further, np.add)
    return {"latency_ms": latency, "time_s": _scaled(latency, 1e-3)}


def _tokens(rows: Rows) -> Num | None:
    """Tokens of a sequence that throughput counts; None where the rows do not state them."""
    task = rows.text("task")
    if task == "decode":
        return 1.0
    return _stated(rows, "output" if task in _MADE else "prompt")


def _stated(rows: Rows, column: str) -> Num | None:
    values = rows.table.numbers[column][rows.index]
    return None if np.isnan(values).any() or np.any(values <= 0.0) else values


def _scaled(figure: Figure, scale: Num) -> Figure:
    return Figure(figure.value * scale, figure.roofline * scale, figure.spread)


def _joined(one: Figure, other: Figure, join: Callable[[Num, Num], Num]) -> Figure:
    spread = np.maximum(one.spread, other.spread)
    return Figure(join(one.value, other.value), join(one.roofline, other.roofline), spread)
