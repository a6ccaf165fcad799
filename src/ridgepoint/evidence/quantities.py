"""What a claim measures: figures of an estimate by name, and how two of them are compared (design §7).

Figures are in SI units and small ones are better only where the name says so; ``part`` narrows a figure to the components
whose labels fit a shell pattern (``*.attention.attention``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np

from ridgepoint.cost.utilization import arithmetic_utilization
from ridgepoint.errors import RidgepointError, nearest
from ridgepoint.estimates import Estimate
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.registry import play
from ridgepoint.models.networks.tape import Tape
from ridgepoint.models.parameters import active_parameters, total_parameters
from ridgepoint.ops import Collective
from ridgepoint.scenario import Scenario
from ridgepoint.tasks import Train
from ridgepoint.tasks.layout import execution
from ridgepoint.training.layouts import model_flop

Figure = Callable[[Estimate, str], float]
LARGEST_SIZE = 2.0**24
"""Where the search for what fits ends."""


def _time(est: Estimate, part: str) -> float:
    return float(est.time_s) if not part else _of_parts(est, part, "time_s")


def _flop(est: Estimate, part: str) -> float:
    return sum(float(np.sum(f)) for f in est.cost.flop.values()) if not part else _of_parts(est, part, "flop")


def _bytes(est: Estimate, part: str) -> float:
    return float(est.cost.bytes) if not part else _of_parts(est, part, "bytes")


def _of_parts(est: Estimate, part: str, field: str) -> float:
    found = [c for c in est.cost.components if any(fnmatchcase(c.label, p) for p in part.split("|"))]
    if not found:
        labels = sorted({c.label for c in est.cost.components})
        raise RidgepointError("bad_claim", f"no component is called '{part}'", "there are " + ", ".join(labels[:12]))
    return sum(float(getattr(c, field)) for c in found)


def _known(value: float | None, what: str) -> float:
    if value is None:
        raise RidgepointError("bad_claim", f"the scenario has no {what}", "choose another quantity or task")
    return float(value)


def _memory(est: Estimate, part: str) -> float:
    entries = est.memory.entries
    if not part:
        return float(est.memory.total_bytes)
    found = [
        float(np.max(size)) for name, size in entries.items() if any(fnmatchcase(name, p) for p in part.split("|"))
    ]
    if not found:
        raise RidgepointError(
            "bad_claim", f"no entry of the ledger is called '{part}'", "there are " + ", ".join(entries)
        )
    return sum(found)


def _parameters(est: Estimate, part: str) -> float:
    model = est.scenario.model
    if isinstance(model, Model):
        return active_parameters(model) if part == "active" else total_parameters(model)
    return play(model, Tape(1.0), dict(est.scenario.task.sizes())).total_parameters


def _sent(est: Estimate, part: str) -> float:
    return sum(float(op.bytes * count) for op, count in est.cost.occurrences if isinstance(op, Collective))


def _communication(est: Estimate, part: str) -> float:
    return sum(float(c.time_s) for c in est.cost.components if c.kind == "collective")


def _mfu(est: Estimate, _: str) -> float:
    """Model FLOP utilization of a training step: recomputation is no useful work."""
    given = est.scenario
    if not isinstance(given.model, Model) or not isinstance(given.task, Train):
        raise RidgepointError("bad_claim", "model FLOP utilization is of training steps of token models", "")
    run, _notes = execution(given.model, given.plan, est.built.layout, True)
    peak = given.machine.arithmetic(run.formats.inputs).flop_per_s * float(est.devices)
    return float(model_flop(given.model, given.task) / float(est.time_s) / peak)


def _products(est: Estimate) -> dict[str, float]:
    """Operations of one device's matrix engines by format, recomputed ones too: what papers call achieved FLOPs."""
    found = {key: float(np.sum(flop)) for key, flop in est.cost.flop.items()}
    return {key: flop for key, flop in found.items() if key.startswith("matrix/")} or found


def _flop_of_machine(est: Estimate, _: str) -> float:
    return sum(_products(est).values()) * float(est.devices) / _time(est, "")


def _hfu(est: Estimate, _: str) -> float:
    """Hardware FLOP utilization: products, recomputed ones too, over what the matrix engines could do."""
    rates = {key: est.scenario.machine.engine_rate(*key.split("/")) for key in _products(est)}
    return sum(flop / float(rates[key] or np.inf) for key, flop in _products(est).items()) / _time(est, "")


def _peak_share(est: Estimate, part: str) -> float:
    """Operations per second of components over the peak of the format that products read (16 bit unless planned)."""
    return (
        _flop(est, part)
        / _time(est, part)
        / est.scenario.machine.arithmetic(est.scenario.plan.acts or "fp16").flop_per_s
    )


def _largest(est: Estimate, change: Callable[[Scenario, float], Scenario]) -> float:
    """The largest whole number with which the changed scenario fits, by doubling and bisection; 0 where 1 does not."""

    def fits(size: float) -> bool:
        try:
            return bool(np.all(change(est.scenario, size).build().ledger.fits))
        except RidgepointError:
            return False

    low, high = 0.0, 1.0
    while fits(high) and high < LARGEST_SIZE:
        low, high = high, 2.0 * high
    while high - low > max(1.0, 1e-3 * low):
        middle = float(np.floor((low + high) / 2.0))
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _as_one_micro_batch(given: Scenario, batch: float) -> Scenario:
    return replace(given, task=replace(given.task, batch=batch), plan=replace(given.plan, micro_batch=batch))


def _as_long(given: Scenario, seq: float) -> Scenario:
    """Lengths in steps of 64 tokens."""
    if not isinstance(given.task, Train):
        raise RidgepointError("bad_claim", "the longest sequence is asked of training steps", "choose another quantity")
    return replace(given, task=replace(given.task, seq=64.0 * seq))


def _as_deep(given: Scenario, layers: float) -> Scenario:
    """The same width with so many layers, all like the first."""
    assert isinstance(given.model, Model)
    stack = replace(given.model.main, layers=((given.model.main.layers[0][0], int(layers)),))
    model = given.model
    deep = replace(model, encoder=stack) if model.decoder is None else replace(model, decoder=stack)
    return replace(given, model=deep)


def _deepest(est: Estimate, _: str) -> float:
    layers = _largest(est, _as_deep)
    model = _as_deep(est.scenario, layers).model
    return total_parameters(model) if isinstance(model, Model) and layers else 0.0


FIGURES: Mapping[str, Figure] = {
    "time": _time,
    "time_per_sample": lambda est, _: 1.0 / float(est.samples_per_s),
    "time_per_token": lambda est, _: 1.0 / float(est.tokens_per_s),
    "ttft": lambda est, _: _known(est.ttft_s, "time to first token"),
    "tpot": lambda est, _: _known(est.tpot_s, "time per output token"),
    "tokens_per_s": lambda est, _: float(est.tokens_per_s),
    "samples_per_s": lambda est, _: float(est.samples_per_s),
    "flop": _flop,
    "flop_per_s": lambda est, part: _flop(est, part) / _time(est, part),
    "flop_per_sample": lambda est, part: _flop(est, part) / (float(est.samples_per_s) * float(est.time_s)),
    "bytes": _bytes,
    "memory": _memory,
    "max_batch": lambda est, _: _known(est.max_batch, "largest batch"),
    "max_context": lambda est, _: _known(est.max_context, "longest context"),
    "energy": lambda est, _: _known(est.energy_j, "energy"),
    "energy_per_sample": lambda est, _: _known(est.energy_j, "energy") / float(est.samples_per_s * est.time_s),
    "cost": lambda est, _: _known(est.cost_usd, "cost"),
    "cost_per_sample": lambda est, _: _known(est.cost_usd, "cost") / float(est.samples_per_s * est.time_s),
    "power": lambda est, _: _known(est.power_w, "power"),
    "mfu": _mfu,
    "hfu": _hfu,
    "peak_share": _peak_share,
    "utilization": lambda est, _: float(arithmetic_utilization(est.cost)),
    "parameters": _parameters,
    "sent_bytes": _sent,
    "communication_time": _communication,
    "devices": lambda est, _: float(est.devices),
    "device_hours": lambda est, _: float(est.devices * est.time_s) / 3600.0,
    "machine_flop_per_s": _flop_of_machine,
    "samples_per_device": lambda est, _: float(est.samples_per_s / est.devices),
    "communication_share": lambda est, part: _communication(est, part) / float(est.time_s),
    "intensity": lambda est, part: _flop(est, part) / _bytes(est, part),
    "largest_micro_batch": lambda est, _: _largest(est, _as_one_micro_batch),
    "longest_sequence": lambda est, _: 64.0 * _largest(est, _as_long),
    "largest_model": _deepest,
}
"""The last three ask what fits a training step: its micro-batch (the whole batch), its length, the depth of its model."""


def figure(est: Estimate, name: str, part: str = "") -> float:
    """The figure of that name.

    Errors: ``bad_claim`` with the nearest name, or where the scenario has no such figure.
    """
    if name not in FIGURES:
        close = nearest(name, FIGURES, count=1)
        raise RidgepointError("bad_claim", f"unknown quantity '{name}'", f"did you mean {close[0]}?" if close else "")
    return FIGURES[name](est, part)


COMPARE: Mapping[str, Callable[[float, float], float]] = {
    "factor": lambda before, after: before / after,
    "percent_more": lambda before, after: 100.0 * (before / after - 1.0),
    "percent_less": lambda before, after: 100.0 * (1.0 - after / before),
    "percent_of": lambda before, after: 100.0 * after / before,
    "growth": lambda before, after: after / before,
    "percent_growth": lambda before, after: 100.0 * (after / before - 1.0),
    "difference": lambda before, after: before - after,
    "absolute": lambda before, after: after,
}
"""Baseline's and changed figure → what the claim states."""

UNITS: Mapping[str, float] = {
    "s": 1.0, "ms": 1e3, "us": 1e6, "µs": 1e6, "min": 1 / 60, "h": 1 / 3600, "days": 1 / 86400, "day": 1 / 86400,
    "B": 1e-9, "M": 1e-6, "K": 1e-3, "T": 1e-12, "GB": 1e-9, "MB": 1e-6, "kB": 1e-3, "TB": 1e-12, "W": 1.0, "%": 100.0,
    "TFLOP/s": 1e-12, "PFLOP/s": 1e-15, "GFLOP": 1e-9, "TFLOP": 1e-12, "GMACs": 0.5e-9, "MMACs": 0.5e-6,
    "FPS": 1.0, "tokens/s": 1.0, "images/s": 1.0, "steps/s": 1.0, "samples/s": 1.0, "x": 1.0, "$": 1.0, "s/token": 1.0,
}  # fmt: skip
"""The claim's unit in SI units' terms: the factor from SI to it, by the unit's first word."""

_BY_METRIC: Mapping[str, tuple[str, str, str]] = {
    "speedup": ("time", "factor", "percent_more"),
    "throughput_gain": ("time_per_sample", "factor", "percent_more"),
    "latency_reduction": ("time", "factor", "percent_less"),
    "memory_reduction": ("memory", "factor", "percent_less"),
    "flops_reduction": ("flop", "factor", "percent_less"),
    "energy_reduction": ("energy_per_sample", "factor", "percent_less"),
    "cost_reduction": ("cost_per_sample", "factor", "percent_less"),
    "comm_reduction": ("sent_bytes", "factor", "percent_less"),
    "compression_ratio": ("memory", "factor", "percent_less"),
    "params": ("parameters", "absolute", "absolute"),
    "mfu": ("utilization", "absolute", "absolute"),
    "throughput": ("samples_per_s", "absolute", "absolute"),
    "time": ("time", "absolute", "absolute"),
    "latency": ("time", "absolute", "absolute"),
}
"""Metric → usual quantity, comparison for units in ×, comparison for units in %."""


def usual(metric: str, unit: str) -> tuple[str, str]:
    """The quantity and the comparison that a claim's metric and unit mean unless the claim says otherwise.

    >>> usual("speedup", "x"), usual("memory_reduction", "% of KV cache")
    (('time', 'factor'), ('memory', 'percent_less'))
    """
    quantity, times, percent = _BY_METRIC.get(metric, ("time", "absolute", "absolute"))
    return quantity, percent if unit.startswith("%") else times


def in_unit(value: float, unit: str) -> float:
    """An SI value in the claim's unit.

    Errors: ``bad_claim`` for a unit that nobody listed.

    >>> in_unit(0.012, "ms"), in_unit(7e9, "B extra parameters")
    (12.0, 7.0)
    """
    first = unit.split()[0] if unit.split() else ""
    if first not in UNITS:
        raise RidgepointError("bad_claim", f"unknown unit '{unit}'", "known: " + ", ".join(UNITS))
    return value * UNITS[first]
