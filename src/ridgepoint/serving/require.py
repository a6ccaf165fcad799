"""What a platform must have: the model inverted (the question of GenZ, Bambhaniya et al. 2024).

``users`` requests are under way at any time, each with ``prompt`` and ``output`` tokens. With C FLOP/s and W bytes/s in all,
a prompt takes F = flop_p / C (reading is limited by arithmetic) and a decode step of all users D = bytes_d / W (decoding by
memory). What is asked is kept when

    F ≤ TTFT                 D + (users − 1) · F / (output − 1) ≤ TPOT

for while one request makes its further tokens, one prompt of every other user is read. The second trades C against W: with
the share x of the time for decoding, W = bytes_d / (x · TPOT) and C = (users − 1) · flop_p / ((output − 1) · (1 − x) · TPOT).
``least`` of either holds when the other is infinitely fast; ``balanced`` takes x = ½, which makes C · W smallest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ridgepoint.citations import Reliance, reliance
from ridgepoint.cost.evaluate import BOUND, evaluate
from ridgepoint.errors import RidgepointError, unknown_name
from ridgepoint.formats import FORMATS, multiply_format
from ridgepoint.machines.catalog import device_names, find_device, find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.plan import Plan
from ridgepoint.scenario import find
from ridgepoint.serving.citing import SCHEDULING
from ridgepoint.serving.deployment import Deployment
from ridgepoint.serving.engines import BINARY, servers
from ridgepoint.serving.operating import Operating, operating
from ridgepoint.serving.reach import beyond
from ridgepoint.tasks import Decode, Prefill
from ridgepoint.tasks.build import build
from ridgepoint.tasks.layout import Layout, execution

REFERENCE = "custom:bf16=1P,memory=1T,bandwidth=1T"
"""A machine on which work is counted; its figures cancel."""
LINK_SHARE = 0.1
"""Part of a decode step that sums over devices may take."""
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
class Platform:
    """What a platform must have in all: operations and bytes per second."""

    flop_per_s: float
    bytes_per_s: float


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


@dataclass(frozen=True)
class Requirement:
    """The answer. ``prefill_flop`` of one prompt, ``decode_flop`` and ``decode_bytes`` of a step of all users;
    ``cache_bytes`` with every user at full length. ``links``: number of devices that share every layer → bytes per second
    and direction that each must send.
    """

    model: Model
    plan: Plan
    goal: Goal
    prefill_flop: float
    decode_flop: float
    decode_bytes: float
    weight_bytes: float
    cache_bytes: float
    least: Platform
    balanced: Platform
    links: dict[int, float]
    candidates: tuple[Candidate, ...]
    missed: tuple[Missed, ...]

    @property
    def capacity_bytes(self) -> float:
        """Weights and every user's cache at full length."""
        return self.weight_bytes + self.cache_bytes

    @cached_property
    def citations(self) -> tuple[str, ...]:
        """What the figures relied on; coefficients are those of the machines that meet the goal."""
        machines = [find_machine(c.machine) for c in self.candidates]
        step = build(self.model, find_machine(REFERENCE), Decode(batch=1.0, context=self.goal.prompt), self.plan)
        own = Reliance(("bambhaniya-2024", *SCHEDULING))
        return (own | reliance(evaluate(step.device, find_machine(REFERENCE))).on(machines)).lines

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader must know before using the figures."""
        return beyond(self.model, self.goal.prompt + self.goal.output)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the figures rest on that was not said."""
        return (
            "least: what either resource needs if the other were infinitely fast; balanced: half of the time for reading "
            "prompts and half for decoding, which makes the product of both smallest",
            "the platform's figures are physical limits: peak rates, every byte once, no latency; reading prompts is limited "
            "by arithmetic, decoding by memory; caches are at their mean length in a step and all at full length in memory",
            f"sums over devices take at most {LINK_SHARE:.0%} of a decode step, as ring all-reduces of every layer",
            "devices are counted with what real kernels reach, vLLM's host times, and users spread evenly over replicas; "
            "latencies are means",
        )


def require(
    model: Model | str,
    *,
    prompt: float,
    output: float,
    users: float,
    ttft_s: float,
    tpot_s: float,
    plan: Plan | None = None,
    machines: tuple[str, ...] | None = None,
    engine: str = "vllm",
) -> Requirement:
    """What a platform must have to serve ``users`` at once within ``ttft_s`` and ``tpot_s``, and which catalogue devices do.

    >>> found = require("llama-3.1-8b", prompt=4096, output=512, users=100, ttft_s=0.5, tpot_s=0.02, machines=("h100-sxm",))
    >>> 0.1e15 < found.least.flop_per_s < 2e15, found.candidates[0].machine
    (True, 'h100-sxm')

    Errors: ``bad_goal``, ``bad_task`` for models that generate no tokens, unknown names.
    """
    found = find(model) if isinstance(model, str) else model
    if isinstance(found, Network) or found.decoder is None or found.encoder is not None:
        raise RidgepointError(
            "bad_task", f"{found.name} is no decoder-only language model", "name one, like llama-3.1-8b"
        )
    if engine not in servers():
        raise unknown_name("engine", engine, servers())
    goal = Goal(prompt, output, users, ttft_s, tpot_s)
    chosen = plan or Plan()
    counted = _counted(found, chosen, goal)
    least, balanced = _platforms(goal, counted)
    names = machines if machines is not None else tuple(device_names())
    asked = _Asked(found, chosen, goal, engine, counted[0], _bytes_alone(found, chosen, goal), counted[3])
    answers = [answer for answer in map(asked.on, names) if answer is not None]
    met = [answer for answer in answers if isinstance(answer, Candidate)]
    met.sort(key=lambda c: (c.usd_per_hour is None, c.usd_per_hour or 0.0, c.devices))
    missed = sorted((answer for answer in answers if isinstance(answer, Missed)), key=_nearest)
    timed = [asked.on(m.machine, timed=m.tp) for m in missed[:TIMED]]
    missed = sorted([*(m for m in timed if isinstance(m, Missed)), *missed[TIMED:]], key=_nearest)
    links = {n: _link(found, chosen, goal, n) for n in DEGREES[1:]}
    return Requirement(found, chosen, goal, *counted, least, balanced, links, tuple(met), tuple(missed))


def _counted(model: Model, plan: Plan, goal: Goal) -> tuple[float, float, float, float, float]:
    """(FLOP of a prompt, FLOP and bytes of a decode step of all users, bytes of weights, of all caches at full length)."""
    machine = find_machine(REFERENCE)
    alone = replace(plan, tp=1.0, dp=1.0, pp=1.0, ep=None, cp=1.0)
    first = build(model, machine, Prefill(batch=1.0, prompt=goal.prompt), alone)
    middle = np.ceil(goal.prompt + goal.output / 2.0)
    step = build(model, machine, Decode(batch=goal.users, context=middle), alone)
    end = build(model, machine, Decode(batch=goal.users, context=goal.prompt + goal.output), alone)
    costs = [evaluate(b.device, machine, BOUND, strict=True) for b in (first, step)]
    flops = [float(sum(c.flop for c in cost.components if c.kind in ("gemm", "attention"))) for cost in costs]
    moved = float(costs[1].busy_s[machine.main_memory]) * machine.memory_bytes_per_s
    return flops[0], flops[1], moved, float(end.ledger["weights"]), float(end.ledger["kv"])


def _platforms(goal: Goal, counted: tuple[float, float, float, float, float]) -> tuple[Platform, Platform]:
    prefill, decode, moved, _, _ = counted
    beside = (goal.users - 1.0) * prefill / (goal.output - 1.0)
    first = prefill / goal.ttft_s
    least = Platform(max(first, (beside + decode) / goal.tpot_s), moved / goal.tpot_s)
    if beside == 0.0:
        return least, least
    # All arithmetic of a step, that of decoding included, fits into the half that reading gets.
    return least, Platform(max(first, 2.0 * (beside + decode) / goal.tpot_s), 2.0 * moved / goal.tpot_s)


def _link(model: Model, plan: Plan, goal: Goal, devices: int) -> float:
    """Bytes per second and direction that each of ``devices`` sends when layers are summed over all of them."""
    layout = Layout(1.0, 1.0, 1.0, 1.0, 1.0)
    run, _ = execution(model, plan, layout, False)
    message = goal.users * model.hidden * FORMATS[run.formats.stream].bytes
    per_layer = 2.0 * message * 2.0 * (devices - 1) / devices
    return model.main.depth * per_layer / (LINK_SHARE * goal.tpot_s)


def _bytes_alone(model: Model, plan: Plan, goal: Goal) -> float:
    """Bytes of a decode step of one user, on all devices of a replica together."""
    machine = find_machine(REFERENCE)
    alone = replace(plan, tp=1.0, dp=1.0, pp=1.0, ep=None, cp=1.0)
    step = build(model, machine, Decode(batch=1.0, context=np.ceil(goal.prompt)), alone)
    cost = evaluate(step.device, machine, BOUND, strict=True)
    return float(cost.busy_s[machine.main_memory]) * machine.memory_bytes_per_s


@dataclass(frozen=True)
class _Asked:
    """The question, and what one user takes at least: operations of the prompt, bytes of a step, bytes of the weights."""

    model: Model
    plan: Plan
    goal: Goal
    engine: str
    prompt_flop: float
    step_bytes: float
    weight_bytes: float

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
        curve = operating(given, self.goal.prompt, self.goal.output)
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


def _nearest(missed: Missed) -> tuple[bool, float]:
    return missed.over is None, missed.over or 0.0


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
