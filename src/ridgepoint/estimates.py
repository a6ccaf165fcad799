"""Estimate: time, limit, bottleneck, memory, energy and money of a scenario, or of a sweep of a million (design §3).

>>> import ridgepoint as rp
>>> est = rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=32, context=8192))
>>> est.bottleneck, est.memory.fits
('hbm', True)
>>> rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=[1, 8, 64], context=8192)).time_s.shape
(3,)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ridgepoint.cautions import cautions
from ridgepoint.citations import Reliance, reliance
from ridgepoint.cost.energy import power_w, under_load, usd
from ridgepoint.cost.evaluate import Cost, evaluate, largest_share
from ridgepoint.cost.ledger import Ledger
from ridgepoint.errors import RidgepointError
from ridgepoint.kernels.rules import BOUND, EXPECTED
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.numeric import Array, Num
from ridgepoint.plan import Plan
from ridgepoint.scenario import Scenario, scenario
from ridgepoint.tasks import Task, Train
from ridgepoint.tasks.build import Built
from ridgepoint.tasks.inference import without_host
from ridgepoint.tasks.memory import device_ledger
from ridgepoint.techniques.registry import applied
from ridgepoint.work import Work

CHUNK = 262144
"""Points of a sweep that are evaluated together: large enough for NumPy, small enough for the cache."""
FEW, LARGEST = 4096, 1e9
"""Points up to which the largest batch is sought in few steps, and the largest that is."""
NORMAL_90 = 1.645
"""Half-width of a 90 % interval in standard deviations."""


def estimate(
    model: Model | Network | str,
    *,
    on: Machine | str,
    task: Task | str | None = None,
    plan: Plan | None = None,
    apply: Sequence[str] = (),
    strict: bool = False,
    mode: str = EXPECTED,
) -> Estimate:
    """What a model takes on a machine. Every numeric field of ``task`` and ``plan`` may be an array; results broadcast.

    ``apply`` names techniques, one after the other, as on the command line: ``"kv-quantization:format=int4"``.
    ``strict`` raises on an op that no rule gives meaning to, instead of listing it with its share. ``mode`` is ``expected``,
    or ``bound`` for the physical limit and what makes it up.

    Errors: ``RidgepointError`` for unknown names, sizes or degrees that do not fit.
    """
    given = scenario(model, on, task, plan)
    return Estimate(applied(given, apply) if apply else given, strict, mode)


@dataclass(frozen=True)
class Estimate:
    """The answer for a scenario; everything is computed when first read and kept. Times in seconds, sizes in bytes."""

    scenario: Scenario
    strict: bool = False
    mode: str = EXPECTED

    def __post_init__(self) -> None:
        if self.mode not in (EXPECTED, BOUND):
            raise RidgepointError("bad_mode", f"mode is '{self.mode}'", f"use {EXPECTED} or {BOUND}")
        _ = self._core  # what is wrong with a scenario is said when the estimate is asked for, not later

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the sweep; () for one scenario."""
        return self.scenario.shape

    @cached_property
    def built(self) -> Built:
        """Works, ledger and layout of the whole scenario."""
        return self.scenario.build()

    @cached_property
    def cost(self) -> Cost:
        """The cost of the whole scenario, for looking inside (components, limits, tree)."""
        machine = self.scenario.machine
        if self.mode == BOUND:
            return evaluate(self.built.device, machine, mode=self.mode, strict=self.strict)
        loaded = under_load(machine) if isinstance(self.scenario.task, Train) else machine
        return evaluate(self.built.work, loaded, mode=self.mode, strict=self.strict)

    @cached_property
    def _core(self) -> dict[str, Any]:
        """The numbers that every report needs, computed chunk by chunk over large sweeps."""
        return self._over_sweep(_core_numbers)

    def _over_sweep(self, numbers: Callable[[Estimate], Mapping[str, Num]]) -> dict[str, Any]:
        """``numbers`` of this estimate; a large sweep is cut into chunks that are computed one after the other."""
        size = int(np.prod(self.shape, dtype=np.int64))
        if size <= CHUNK:
            return {name: _broadcast(value, self.shape) for name, value in numbers(self).items()}
        parts = []
        for start in range(0, size, CHUNK):
            points = slice(start, min(start + CHUNK, size))
            chunk = object.__new__(Estimate)
            object.__setattr__(chunk, "scenario", self.scenario.at(points))
            object.__setattr__(chunk, "strict", self.strict)
            object.__setattr__(chunk, "mode", self.mode)
            count = (points.stop - points.start,)
            parts.append({name: _broadcast(value, count) for name, value in numbers(chunk).items()})
        names = dict.fromkeys(name for part in parts for name in part)
        zeros = np.zeros
        return {
            name: np.concatenate([np.asarray(p.get(name, zeros(len(p["time_s"])))) for p in parts]).reshape(self.shape)
            for name in names
        }

    @property
    def time_s(self) -> Any:
        """Expected seconds of the task."""
        return self._core["time_s"]

    @property
    def bound_s(self) -> Any:
        """Seconds at the physical limit: peak rates, every byte once, no latency."""
        return self._core["bound_s"]

    @property
    def headroom(self) -> Any:
        """Expected over bound."""
        return self.time_s / np.maximum(self.bound_s, 1e-300)

    @property
    def interval_s(self) -> tuple[Any, Any]:
        """The interval that holds nine measurements in ten, from the spread of the coefficients; never below the limit."""
        spread = np.exp(NORMAL_90 * np.asarray(self._core["spread"]))
        low, high = np.maximum(self.time_s / spread, self.bound_s), self.time_s * spread
        return (float(low), float(high)) if low.ndim == 0 else (low, high)

    @property
    def ttft_s(self) -> Any:
        """Seconds to the first token, for tasks with a prefill."""
        return self._core.get("ttft_s")

    @property
    def tpot_s(self) -> Any:
        """Seconds per output token after the first, for tasks with decode steps."""
        return self._core.get("tpot_s")

    @property
    def tokens_per_s(self) -> Any:
        """Tokens of the whole machine per second: generated ones where any are generated, else processed ones."""
        return self._core["tokens"] / self.time_s

    @property
    def samples_per_s(self) -> Any:
        """Sequences of the whole machine per second."""
        return self._core["samples"] / self.time_s

    @cached_property
    def shares(self) -> dict[str, Any]:
        """Resource → fraction of the time that it is responsible for, largest first; they sum to 1."""
        found = {n.removeprefix("share/"): v for n, v in self._core.items() if n.startswith("share/")}
        return dict(sorted(found.items(), key=lambda item: -float(np.mean(item[1]))))

    @property
    def bottleneck(self) -> Any:
        """The resource with the largest share: a name, or an array of names over a sweep."""
        return largest_share(self.shares)

    @cached_property
    def limits(self) -> dict[str, Any]:
        """Resource → speed-up if it were infinitely fast."""
        found = self._over_sweep(lambda e: {"time_s": e.cost.time_s, **e.cost.limits})
        return {
            name: np.where(value > 0.0, value, 1.0) if np.ndim(value) else value
            for name, value in found.items()
            if name != "time_s"
        }

    @cached_property
    def memory(self) -> Ledger:
        """The ledger of the fullest device."""
        entries = {n.removeprefix("memory/"): v for n, v in self._core.items() if n.startswith("memory/")}
        return device_ledger(self.scenario.machine, self.scenario.task, self.scenario.plan, entries)

    @property
    def devices(self) -> Any:
        """Devices that take part."""
        return self._core["devices"]

    @property
    def power_w(self) -> Any:
        """Mean power of all devices that take part, or None where the machine's sheet states no power."""
        return self._core.get("power_w")

    @property
    def energy_j(self) -> Any:
        """Joules of all devices that take part, or None."""
        return None if self.power_w is None else self.power_w * self.time_s

    @property
    def cost_usd(self) -> Any:
        """Dollars at the catalogue's hourly price of the devices that take part, or None without a price."""
        return usd(self.scenario.machine, self.devices * self.time_s)

    @cached_property
    def max_batch(self) -> Any:
        """The largest batch that fits with everything else as it is; 0 where none does, None where it does not matter."""
        return largest_that_fits(self.scenario, "batch")

    @cached_property
    def max_context(self) -> Any:
        """The longest context of a decode step that fits; 0 where none does, None for other tasks."""
        return largest_that_fits(self.scenario, "context")

    @cached_property
    def assumptions(self) -> tuple[str, ...]:
        """What the figures rest on that was not said."""
        return tuple(dict.fromkeys((*self.built.assumptions, *self.cost.notes)))

    @cached_property
    def citations(self) -> tuple[str, ...]:
        """What this run relied on: publications behind its kernel models, techniques, provenance of its coefficients."""
        return self.reliance.lines

    @cached_property
    def reliance(self) -> Reliance:
        """The same before it is put into lines, to be united with that of other estimates."""
        return reliance(self.cost, self.scenario.techniques)

    @cached_property
    def work(self) -> Work:
        """The work of one device, for ``ridgepoint.work.tree``."""
        return self.built.work

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What the reader must know before using the figures."""
        unknown = self.cost.unknown_share
        listed = tuple(
            f"no rule for op kind '{op.kind}' ({op.label or 'no label'}): timed by its bytes, {np.max(unknown):.1%} of the time"
            for op in self.cost.unknown
        )
        return (*cautions(self.scenario, self.memory, self.built.layout, self.max_batch), *dict.fromkeys(listed))

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of design §10; lists where a sweep has arrays."""
        from ridgepoint.document import document

        return document(self)

    def _repr_html_(self) -> str:
        """What notebooks show."""
        from ridgepoint.report.notebook import estimate_html

        return estimate_html(self)


def _core_numbers(est: Estimate) -> dict[str, Num]:
    machine, built, cost = est.scenario.machine, est.built, est.cost
    at_limit = est.mode == BOUND
    bound = cost if at_limit else evaluate(built.device, machine, mode=BOUND, strict=est.strict, like=cost)
    numbers: dict[str, Num] = {
        "time_s": np.maximum(cost.time_s, bound.time_s),
        "bound_s": bound.time_s,
        "spread": 0.0 if at_limit else cost.relative_spread,
        "tokens": built.tokens,
        "samples": built.samples,
        "devices": built.layout.devices,
    }
    numbers |= {f"share/{resource}": share for resource, share in cost.shares.items()}
    kept = {**built.ledger.entries, **built.ledger.away}
    numbers |= {f"memory/{entry}": size for entry, size in kept.items()}
    power = power_w(machine, cost.busy_s, cost.time_s)
    if power is not None:
        numbers["power_w"] = power * built.layout.devices
    for name, part in (("ttft_s", built.ttft), ("tpot_s", built.tpot)):
        if part is not None:
            alone = without_host(part) if at_limit else part
            numbers[name] = cost.time_s if part is built.work else evaluate(alone, machine, est.mode, like=cost).time_s
    return numbers


def _broadcast(value: Any, shape: tuple[int, ...]) -> Any:
    if shape == ():
        return float(value)
    return np.broadcast_to(np.asarray(value, dtype=float), shape)


def largest_that_fits(given: Scenario, name: str) -> Any:
    """The largest whole value of the task's field ``name`` with which the ledger fits.

    0 where not even 1 fits; None for training, whose batch is cut into micro-batches and does not fill memory.
    """
    if isinstance(given.task, Train) or not hasattr(given.task, name):
        return None
    shape = np.broadcast_shapes(given.shape, np.shape(given.plan.dp or 1.0))

    def counted(tried: Array) -> Array:
        """How many of the rising values along the first axis fit."""
        sizes: dict[str, Any] = {name: np.minimum(tried, LARGEST)}
        fits = replace(given, task=replace(given.task, **sizes)).build().ledger.fits
        return np.asarray(np.sum(np.cumprod(np.broadcast_to(fits, (len(tried), *shape)), axis=0), axis=0))

    # Many values are tried in one ledger; a large sweep tries one at a time, to spare memory.
    few = np.prod(shape, dtype=np.int64) <= FEW
    try:
        found = _power_and_rest(counted, len(shape)) if few else _bit_by_bit(counted, shape)
    except RidgepointError:
        return None
    low = np.minimum(found, LARGEST)
    return int(low) if low.ndim == 0 else low


_BITS, _AT_ONCE = 30, 256.0


def _power_and_rest(counted: Callable[[Array], Array], axes: int) -> Array:
    """The largest power of two that fits, then what fits above it, 256 values at a time."""
    powers: Array = np.exp2(np.arange(_BITS, dtype=float)).reshape(-1, *[1] * axes)
    count = counted(powers)
    low = np.asarray(np.where(count > 0, 2.0 ** (count - 1.0), 0.0))
    step, digits = low, np.arange(1.0, _AT_ONCE).reshape(-1, *[1] * axes)
    while np.any(step > 1.0):
        step = np.maximum(step / _AT_ONCE, 1.0)
        low = low + step * counted(low + digits * step)
    return low


def _bit_by_bit(counted: Callable[[Array], Array], shape: tuple[int, ...]) -> Array:
    low = np.zeros(shape)
    for scale in 2.0 ** np.arange(_BITS)[::-1]:
        low = low + scale * counted((low + scale)[np.newaxis])
    return low
