"""Measured beside predicted: one execution in a trace, and an estimate of the same scenario.

The estimate is laid out as a time line (``traces.work_line``) and read as a trace is, so that both sides are told by the same
rules: own times of ops sum to the time that a device is busy, and what is left is waiting, for launches and for the host.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

import msgspec

from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.machines.machine import Machine
from ridgepoint.traces.events import columns
from ridgepoint.traces.file import parsed
from ridgepoint.traces.kinds import HOST
from ridgepoint.traces.profile import OUTSIDE, Profile, profile
from ridgepoint.traces.work_line import estimate_trace
from ridgepoint.units import duration

_PROCESSORS = ("cpu", "soc", "mcu")
OUTSIDE_STEPS = 0.05
"""Part of the span outside all steps from which it is said."""
_GRADIENT = re.compile(r"\.grad\w*$")


@dataclass(frozen=True)
class Beside:
    """Seconds of one execution: measured, and predicted; None where one side has nothing of that name."""

    name: str
    measured_s: float | None
    predicted_s: float | None

    @property
    def ratio(self) -> float | None:
        """Predicted over measured."""
        if not self.measured_s or self.predicted_s is None:
            return None
        return self.predicted_s / self.measured_s


@dataclass(frozen=True)
class Comparison:
    """One execution measured and predicted: in all, by kind of op, and by component where both sides name it alike."""

    estimate: Estimate
    runs: float
    whole: Beside
    kinds: tuple[Beside, ...]
    components: tuple[Beside, ...]
    products: tuple[Beside, ...]
    """Matrix products by their sizes, where the trace has them and shares some with the estimate."""
    warnings: tuple[str, ...]

    @property
    def within(self) -> bool:
        """Whether the measured time lies in the estimate's interval."""
        low, high = self.estimate.interval_s
        return bool(low <= (self.whole.measured_s or 0.0) <= high)


def compare(found: Profile, est: Estimate, runs: float | None = None) -> Comparison:
    """``found`` beside ``est``. ``runs``: how often the trace executes the scenario's task; its steps, or once.

    Errors: ``bad_option`` for a sweep, or for ``runs`` that are no positive number.
    """
    if est.shape != ():
        raise RidgepointError(
            "bad_option", "a trace is compared with one scenario, not with a sweep", "choose one point of it"
        )
    times = runs if runs is not None else float(len(found.steps_s)) or 1.0
    if not 0.0 < times < float("inf"):
        raise RidgepointError("bad_option", f"--runs is {times:g}", "say how often the trace executes the task")
    predicted = predicted_profile(est)
    theirs = _components(predicted, 1.0, ())
    return Comparison(
        estimate=est,
        runs=times,
        whole=Beside("whole", found.span_s / times, float(est.time_s)),
        kinds=_joined(_kinds(found, times), _kinds(predicted, 1.0)),
        components=_alike(_components(found, times, theirs), theirs),
        products=_alike(_products(found, times), _products(predicted, 1.0)),
        warnings=tuple(_warnings(found, est.scenario.machine, runs)),
    )


def predicted_profile(est: Estimate) -> Profile:
    """What the trace of an estimate says, were it a trace."""
    return profile(columns(parsed(msgspec.json.encode(estimate_trace(est))), "prediction"))


def _kinds(found: Profile, runs: float) -> dict[str, float]:
    """Seconds of one execution on one device by kind of op; ``host`` is what devices do not work."""
    share = 1.0 / runs / max(len(found.devices), 1)
    seconds = {HOST: found.idle_s / runs}
    for row in found.by_kind:
        seconds[row.kind] = seconds.get(row.kind, 0.0) + row.time_s * share
    return seconds


def _joined(measured: Mapping[str, float], predicted: Mapping[str, float]) -> tuple[Beside, ...]:
    names = dict.fromkeys((*measured, *predicted))
    found = [Beside(name, measured.get(name), predicted.get(name)) for name in names]
    taking = [one for one in found if (one.measured_s or 0.0) > 0.0 or (one.predicted_s or 0.0) > 0.0]
    return tuple(sorted(taking, key=lambda one: -max(one.measured_s or 0.0, one.predicted_s or 0.0)))


def _alike(measured: Mapping[str, float], predicted: Mapping[str, float]) -> tuple[Beside, ...]:
    """Beside each other by name; empty where no name is on both sides."""
    return _joined(measured, predicted) if measured.keys() & predicted.keys() else ()


def _components(found: Profile, runs: float, known: Container[str]) -> dict[str, float]:
    return _by_name(found, runs, lambda event: _named(found, event, known))


def _products(found: Profile, runs: float) -> dict[str, float]:
    sizes = (*found.trace.products, "")  # the last one for events without an operator
    named = _by_name(found, runs, lambda event: sizes[event] or sizes[int(found.operator[event])])
    return {name: seconds for name, seconds in named.items() if name}


def _by_name(found: Profile, runs: float, name_of: Callable[[int], str]) -> dict[str, float]:
    """Own seconds of one execution on one device by the name of every event."""
    share = 1e-9 / runs / max(len(found.devices), 1)
    seconds: dict[str, float] = {}
    for event, nanoseconds in zip(found.counted.tolist(), found.own[found.counted].tolist(), strict=True):
        name = name_of(event)
        seconds[name] = seconds.get(name, 0.0) + nanoseconds * share
    return seconds


def _named(found: Profile, event: int, known: Container[str]) -> str:
    """An event's component, or one of the operators around it within that, whichever is ``known``."""
    component = _GRADIENT.sub(" backward", found.component_of(event))
    if component in known:
        return component
    path, space, backward = component.removeprefix(OUTSIDE).partition(" ")
    operator = int(found.operator[event])
    while operator >= 0:
        short = found.labels[operator].rpartition("::")[2].strip("_")
        inside = f"{path}.{short}".strip(".") + space + backward
        if inside in known:
            return inside
        operator = int(found.host.caller[operator])
    return component


def _warnings(found: Profile, machine: Machine, runs: float | None) -> list[str]:
    said = []
    if runs is None and not len(found.steps_s):
        said.append("the trace tells no steps apart: it counts as one execution of the task; --runs says otherwise")
    outside = found.span_s - float(found.steps_s.sum())
    if runs is None and len(found.steps_s) and outside > OUTSIDE_STEPS * found.span_s:
        said.append(
            f"{duration(outside)} of {duration(found.span_s)} lie outside the trace's steps and count as waiting"
        )
    if found.on_host:
        if machine.device.kind not in _PROCESSORS:
            said.append(f"the trace is of a processor, the prediction of {machine.device.title}")
        return said
    named = {device.name for device in found.devices}
    for name in sorted(named):
        telling = [
            word for word in re.split(r"[\s_-]+", name) if re.search(r"[A-Za-z]", word) and re.search(r"\d", word)
        ]
        if telling and telling[0].lower() not in f"{machine.device.title} {machine.name}".lower().replace("-", " "):
            said.append(f"the trace was recorded on {name}, the prediction is of {machine.device.title}")
    if machine.devices > 1 and len(found.devices) not in (1, machine.devices):
        said.append(f"the trace has {len(found.devices)} devices, the machine {machine.devices}")
    return said
