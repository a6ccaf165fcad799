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

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ridgepoint.citations import Reliance, reliance
from ridgepoint.cost.evaluate import evaluate
from ridgepoint.errors import RidgepointError, unknown_name
from ridgepoint.formats import FORMATS
from ridgepoint.kernels.rules import BOUND
from ridgepoint.machines.catalog import device_names, find_machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.plan import Plan
from ridgepoint.scenario import find
from ridgepoint.serving.asking import asking
from ridgepoint.serving.candidates import (
    DEGREES,
    REFERENCE,
    TIMED,
    Asked,
    Candidate,
    Goal,
    Missed,
    bytes_alone,
)
from ridgepoint.serving.citing import SCHEDULING
from ridgepoint.serving.engines import servers
from ridgepoint.serving.reach import beyond
from ridgepoint.tasks import Decode, Prefill
from ridgepoint.tasks.build import build
from ridgepoint.tasks.layout import Layout, execution

FEW = 16
"""Devices for which a process of its own does not pay."""
LINK_SHARE = 0.1
"""Part of a decode step that sums over devices may take."""


@dataclass(frozen=True)
class Platform:
    """What a platform must have in all: operations and bytes per second."""

    flop_per_s: float
    bytes_per_s: float


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
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
) -> Requirement:
    """What a platform must have to serve ``users`` at once within ``ttft_s`` and ``tpot_s``, and which catalogue devices do.
    ``workers``: processes that time devices (call it from a guarded main module then, where processes cannot be forked).

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
    asked = Asked(found, chosen, goal, engine, counted[0], bytes_alone(found, chosen, goal), counted[3])
    met: list[Candidate] = []
    missed: list[Missed] = []
    with asking(asked, min(workers, len(names) // FEW)) as answers:
        for done, answer in enumerate(answers((name, 0) for name in names)):
            if progress is not None:
                progress(done, len(names))
            if isinstance(answer, Candidate):
                met.append(answer)
            elif answer is not None:
                missed.append(answer)
        missed.sort(key=lambda m: m.rank)
        timed = list(answers((m.machine, m.tp) for m in missed[:TIMED]))
    met.sort(key=lambda c: (c.usd_per_hour is None, c.usd_per_hour or 0.0, c.devices))
    missed = sorted([*(m for m in timed if isinstance(m, Missed)), *missed[TIMED:]], key=lambda m: m.rank)
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
