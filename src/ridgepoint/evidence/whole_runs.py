"""Rows of whole training runs (``train_total``): as many steps as their ``extra`` says, each as a training step's row has it.

A run is told by its optimizer steps, its tokens, its samples, or its epochs of a data set whose size is known; everything else
of such a row (rates, MFU, power, energy per token) is that of a step.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.evidence.rows import InexpressibleError, Rows
from ridgepoint.evidence.run_scenarios import Figure, Figures
from ridgepoint.numeric import Num

TOTAL = "train_total"
_LENGTHS = (
    (("steps", "iterations", "max_steps", "train_steps"), "step_s", True),
    (("epochs", "num_epochs"), "epoch_s", True),
    (("tokens", "train_tokens", "total_tokens"), "throughput_tok_s", False),
    (("samples", "examples", "sequences"), "throughput_samples_s", False),
)
"""Keys of ``extra``, the figure of one (or of a second), and whether the time is their product."""
_SCALES = (("", 1.0), ("_K", 1e3), ("_M", 1e6), ("_B", 1e9), ("_T", 1e12))


def as_steps(rows: Rows) -> Rows:
    """The same rows of a table whose task is a training step."""
    if rows.text("task") != TOTAL:
        return rows
    steps = ["train_step" if task == TOTAL else task for task in rows.table.text["task"]]
    return Rows(replace(rows.table, text={**rows.table.text, "task": steps}), rows.index)


def whole_run(rows: Rows, figures: Figures) -> Figures:
    """The figures of rows of whole runs, from those of their steps; other rows' as they are.

    Errors: ``InexpressibleError`` where nothing says how long a run is, or where it would be shorter than a step.
    """
    if rows.text("task") != TOTAL:
        return figures
    for keys, source, product in _LENGTHS:
        amount = _amount(rows, keys)
        if amount is None:
            continue
        if source not in figures:
            raise InexpressibleError(f"how many steps {keys[0]} are is not known: state extra.steps")
        one = figures[source]
        run = (amount * one.value, amount * one.roofline) if product else (amount / one.value, amount / one.roofline)
        times = Figure(*run, one.spread)
        if "step_s" in figures and np.any(np.asarray(times.value) < 0.999 * np.asarray(figures["step_s"].value)):
            raise InexpressibleError(
                f"extra.{keys[0]} is less than one step: write it out, or as {keys[0]}_B in billions"
            )
        return figures | {"time_s": times}
    raise InexpressibleError("how long the run is, is not stated: extra.steps, tokens, samples or epochs")


def _amount(rows: Rows, keys: tuple[str, ...]) -> Num | None:
    """The first of the keys that every row states, plain or in thousands, millions, billions or trillions."""
    for key in keys:
        for ending, scale in _SCALES:
            name = next((n for n in (key + ending, key + ending.lower()) if rows.tag(n)), "")
            if name:
                return np.asarray(rows.extra(name)) * scale
    return None
