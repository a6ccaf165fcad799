"""Which catalogue devices keep a goal, with how few of them, and how near the others come (``serving/require.py``)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.errors import RidgepointError
from ridgepoint.formats import multiply_format
from ridgepoint.kernels.rules import BOUND
from ridgepoint.machines.catalog import find_device, find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.plan import Plan
from ridgepoint.serving.deployment import Deployment
from ridgepoint.serving.engines import BINARY
from ridgepoint.serving.operating import Operating, operating
from ridgepoint.tasks import Decode
from ridgepoint.tasks.build import build
from ridgepoint.tasks.layout import Layout, execution

REFERENCE = "custom:bf16=1P,memory=1T,bandwidth=1T"
"""A machine on which work is counted; its figures cancel."""
DEGREES = (1, 2, 4, 8, 16)
PARTS = ("attention", "feed", "experts")
"""Components whose products take the time of a prompt."""
TIMED = 10
"""Nearest of the machines that miss the goal at peak rates which are timed with real kernels, to be told in order."""


@dataclass(frozen=True)
class Goal:
    """What is asked of a platform: users at once, tokens of each, seconds to the first and per further token."""

    prompt: float
    output: float
    users: float
    ttft_s: float
    tpot_s: float

    def __post_init__(self) -> None:
        for name, value, least in (
            ("--prompt", self.prompt, 1.0),
            ("--output", self.output, 2.0),
            ("--users", self.users, 1.0),
        ):
            if not (np.isfinite(value) and value >= least and value == np.floor(value)):
                raise RidgepointError("bad_goal", f"{name} is {value:g}", f"give a whole number of at least {least:g}")
        for name, value in (("--ttft", self.ttft_s), ("--tpot", self.tpot_s)):
            if not (np.isfinite(value) and value > 0.0):
                raise RidgepointError("bad_goal", f"{name} is {value:g} s", "give a positive time, like 500ms")


@dataclass(frozen=True)
class Candidate:
    """A catalogue device that meets the goal: how many, how, and what they give."""

    machine: str
    title: str
    devices: int
    tp: int
    replicas: int
    users_per_replica: float
    ttft_s: float
    tpot_s: float
    usd_per_hour: float | None
    binding: str


@dataclass(frozen=True)
class Missed:
    """A device that cannot meet the goal however many there are: the nearest it comes, and what binds."""

    machine: str
    why: str
    over: float | None
    """How many times the goal a single user needs; None where not even one fits."""
    tp: int = 1
    """Devices of a replica that came nearest."""

    @property
    def rank(self) -> tuple[bool, float]:
        """Nearest first; last those where not even one user fits."""
        return self.over is None, self.over or 0.0


def bytes_alone(model: Model, plan: Plan, goal: Goal) -> float:
    """Bytes of a decode step of one user, on all devices of a replica together."""
    machine = find_machine(REFERENCE)
    alone = replace(plan, tp=1.0, dp=1.0, pp=1.0, ep=None, cp=1.0)
    step = build(model, machine, Decode(batch=1.0, context=np.ceil(goal.prompt)), alone)
    cost = evaluate(step.device, machine, BOUND, strict=True)
    return float(cost.busy_s[machine.main_memory]) * machine.memory_bytes_per_s


@dataclass(frozen=True)
class Asked:
    """The question, and what one user takes at least: operations of the prompt, bytes of a step, bytes of the weights."""

    model: Model
    plan: Plan
    goal: Goal
    engine: str
    prompt_flop: float
    step_bytes: float
    weight_bytes: float
    curves: dict[tuple[str, int], Operating] = field(default_factory=dict, compare=False, repr=False)
    """Those timed so far, by device and degree: machines that miss are looked at twice."""

    def on(self, name: str, timed: int = 0) -> Candidate | Missed | None:
        """The fewest devices of that name that keep the goal; what binds where no number does. None: nothing to serve with.
        ``timed``: the degree at which a miss is that of real kernels, not of peak rates.
        """
        device = find_device(name)
        if device.kind not in ("gpu", "tpu", "npu", "wafer"):
            return None
        node = find_machine(name).link("node")
        largest = int((node[1].devices if node is not None else None) or 8)
        best: Candidate | None = None
        refusals: list[tuple[float, int, str]] = []
        for tp in (d for d in DEGREES if d <= largest):
            if best is not None and tp >= best.devices:  # one replica alone has no fewer
                break
            try:
                found = self._with(name, tp, last=2 * tp > min(largest, DEGREES[-1]), timed=tp == timed)
            except RidgepointError as error:
                if error.kind == "bad_machine":  # devices that no link joins
                    break
                found = np.inf, error.message
            if isinstance(found, tuple):
                refusals.append((found[0], -tp, found[1]))
            elif found is not None and (best is None or found.devices < best.devices):
                best = found
        if best is not None:
            return best
        if not refusals:
            return None
        over, tp, why = min(refusals)
        return Missed(name, why, over if np.isfinite(over) else None, -tp)

    def _with(self, name: str, tp: int, last: bool, timed: bool) -> Candidate | tuple[float, str] | None:
        """The fewest devices in groups of ``tp``, or how far one user is from the goal and in what. None: the weights do not
        fit, which is said of the ``last`` degree alone.
        """
        machine = find_machine(name if tp == 1 else f"{tp}x{name}")
        devices = float(np.prod([float(n or 1.0) for n in (tp, self.plan.pp, self.plan.ep, self.plan.cp)]))
        if not last and self.weight_bytes / devices > machine.memory_bytes * BINARY:
            return None
        hopeless = None if timed else self._at_peak(machine, tp, devices)
        if hopeless is not None and not last:
            return hopeless
        given = Deployment(self.model, machine, replace(self.plan, tp=float(tp), dp=1.0), self.engine)
        if hopeless is not None:
            given.cache(self.goal.prompt + self.goal.output)  # where not even the weights fit, that is what is wrong
            return hopeless
        if (name, tp) not in self.curves:
            self.curves[name, tp] = operating(given, self.goal.prompt, self.goal.output)
        curve = self.curves[name, tp]
        return _fewest(machine, curve, self.goal, tp) or _distance(curve, self.goal)

    def _at_peak(self, machine: Machine, tp: int, devices: float) -> tuple[float, str] | None:
        """The same where one user misses the goal even at the machine's peak rates: nothing has to be timed for that."""
        run, _ = execution(self.model, self.plan, Layout(1.0, 1.0, 1.0, 1.0, 1.0), False)
        read = {multiply_format(run.formats.gemm_inputs(part), run.formats.weight(part)) for part in PARTS}
        rate = max(machine.arithmetic(format_name).flop_per_s for format_name in {*read, run.formats.kv})
        first = self.prompt_flop / (rate * devices) / self.goal.ttft_s
        each = self.step_bytes / (machine.memory_bytes_per_s * devices) / self.goal.tpot_s
        over = max(first, each)
        if over <= 1.0:
            return None
        name, value = (
            ("time to first token", self.goal.ttft_s) if over == first else ("time per token", self.goal.tpot_s)
        )
        return over, f"{_missing(name, over * value, tp, over)} at peak rates"


def _fewest(machine: Machine, curve: Operating, goal: Goal, tp: int) -> Candidate | None:
    within = curve.concurrency <= min(curve.capacity, goal.users)
    place = curve.most_within(goal.ttft_s, goal.tpot_s)
    if place is None:
        return None
    good = np.flatnonzero(within[: place + 1])
    at = int(good[-1]) if good.size else 0
    each = float(curve.concurrency[at])
    replicas = int(np.ceil(goal.users / each))
    price = machine.device.price
    hourly = None if price is None or price.usd_per_hour is None else price.usd_per_hour * replicas * tp
    title = machine.device.title
    binding = _binding(curve, goal, at)
    return Candidate(
        machine.device.name, title, replicas * tp, tp, replicas, goal.users / replicas, float(curve.ttft_s[at]),
        float(curve.tpot_s[at]), hourly, binding,
    )  # fmt: skip


def _binding(curve: Operating, goal: Goal, at: int) -> str:
    """What keeps a replica from taking more users."""
    if at + 1 >= len(curve.concurrency) or curve.concurrency[at] >= goal.users:
        return "users" if curve.concurrency[at] >= goal.users else "memory capacity"
    if curve.concurrency[at + 1] > curve.capacity:
        return "memory capacity"
    return "time per token" if curve.tpot_s[at + 1] > goal.tpot_s else "time to first token"


def _distance(curve: Operating, goal: Goal) -> tuple[float, str]:
    """How far a single user is from the goal, and in what."""
    first, each = float(curve.ttft_s[0]) / goal.ttft_s, float(curve.tpot_s[0]) / goal.tpot_s
    name, over, value = (
        ("time to first token", first, float(curve.ttft_s[0]))
        if first >= each
        else ("time per token", each, float(curve.tpot_s[0]))
    )
    return over, _missing(name, value, float(curve.deployment.passes.layout.tp), over)


def _missing(name: str, seconds: float, tp: float, over: float) -> str:
    return (
        f"{name} of {seconds * 1e3:,.1f} ms for one user on tp {tp:g}, {over:,.{2 if over < 100.0 else 0}f}× the goal"
    )
