"""What a row's unit says beyond its dimension: of how many devices a figure is, and of which stretch a time.

``validate`` reads ``unit`` because the same column holds power per device and of all devices, seconds of a step and of an
epoch: read alike, they would be wrong by the number of devices or steps, in silence.
"""

from __future__ import annotations

import re

from ridgepoint.evidence.rows import InexpressibleError

_OF_ALL = {"power_w": ("serve",), "power_peak_w": ("serve",)}
"""Metric → tasks whose figure is that of all devices together, where the unit says nothing; other tasks' is one device's."""
_EACH = re.compile(r"per[ _-](device|gpu|chip|accelerator)|/ ?(device|gpu)|each")
_ALL = re.compile(r"all|total|sum|together")
_SYSTEM = re.compile(r"system|node|server|wall")
_SPANS = {"epoch_s": re.compile(r"epoch"), "step_s": re.compile(r"step|iter|batch")}


def of_devices(metric: str, task: str, unit: str, devices: float) -> float:
    """What a predicted figure is multiplied with to be of as many devices as the row's unit says.

    >>> of_devices("power_w", "serve", "W per device", 8.0), of_devices("power_w", "generate", "W all devices", 8.0)
    (0.125, 8.0)
    >>> of_devices("power_w", "serve", "W", 8.0), of_devices("peak_memory_gb", "train_step", "GB per device", 8.0)
    (1.0, 1.0)

    Errors: ``InexpressibleError`` for power of a whole system, of which the devices are a part that nobody knows.
    """
    said = unit.lower()
    if metric not in (*_OF_ALL, "peak_memory_gb"):
        return 1.0
    if metric in _OF_ALL and _SYSTEM.search(said):
        raise InexpressibleError(f"{metric} of a whole system is not predicted, only that of its devices")
    every = task in _OF_ALL.get(metric, ())
    if _EACH.search(said):
        return 1.0 / devices if every else 1.0
    return devices if _ALL.search(said) and not every else 1.0


def time_of(metric: str, unit: str) -> str:
    """The figure that a row's time is: ``epoch_s`` or ``step_s`` where its unit names one, else its metric.

    >>> time_of("time_s", "s per epoch"), time_of("time_s", "s"), time_of("latency_ms", "ms")
    ('epoch_s', 'time_s', 'latency_ms')
    """
    if metric != "time_s":
        return metric
    return next((name for name, pattern in _SPANS.items() if pattern.search(unit.lower())), metric)
