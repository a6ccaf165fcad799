"""A deployment: a model served on a machine under a plan, and what a simulation needs to know of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import msgspec

from ridgepoint.cost.energy import capped
from ridgepoint.cost.evaluate import evaluate
from ridgepoint.errors import RidgepointError, unknown_name
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.ops import Collective
from ridgepoint.plan import Plan
from ridgepoint.scenario import find
from ridgepoint.serving.capacity import Cache, cache_of
from ridgepoint.serving.clock import Clock
from ridgepoint.serving.engines import Engine, engines, with_software
from ridgepoint.serving.passes import Passes, passes
from ridgepoint.serving.scheduling import STATIC, Scheduling, Speculation, scheduling_of
from ridgepoint.serving.tables import Limits, StepTables

ENGINES = ("vllm", "sglang", "trtllm")
"""Engines whose scheduler is simulated."""
ROUTINGS = ("round_robin", "least_loaded", "power_of_two", "prefix_aware")


@dataclass(frozen=True)
class Deployment:
    """Replicas of an engine that serve ``model`` on ``machine``; every field is a plain value.

    ``plan`` describes all replicas together: its ``dp`` is their number (a group of data-parallel ranks that share experts is
    one). ``scheduling`` None: the engine's defaults. ``prefill_replicas`` > 0 disaggregates: that many replicas only read
    prompts and hand their caches to the others over the link between them. ``power_cap_w``: limit per device.
    """

    model: Model
    machine: Machine
    plan: Plan = field(default_factory=Plan)
    engine: str = "vllm"
    scheduling: Scheduling | None = None
    speculation: Speculation | None = None
    routing: str = "least_loaded"
    prefill_replicas: int = 0
    power_cap_w: float | None = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise unknown_name("engine", self.engine, ENGINES)
        if self.routing not in ROUTINGS:
            raise unknown_name("routing", self.routing, ROUTINGS)

    @cached_property
    def software(self) -> Engine:
        """The engine's entry in the catalogue; the plan may have its own mind on captured graphs."""
        found, captured = engines()[self.engine], self.plan.graph_capture
        return found if captured is None else msgspec.structs.replace(found, captured=captured)

    @cached_property
    def rules(self) -> Scheduling:
        """The scheduler's rules: as given, or the engine's defaults."""
        return self.scheduling or scheduling_of(self.software, self.machine.memory_bytes)

    @cached_property
    def _passes(self) -> tuple[Passes, tuple[str, ...]]:
        return passes(self.model, with_software(self.machine, self.software), self.plan, self.software.fused_attention)

    @property
    def passes(self) -> Passes:
        """The passes of one replica."""
        return self._passes[0]

    @cached_property
    def replicas(self) -> int:
        """Replicas that schedule by themselves."""
        found = self.passes
        return int(float(found.layout.dp) / found.pooled)

    @property
    def devices_per_replica(self) -> int:
        """Devices of one replica."""
        return int(float(self.passes.layout.replica) * self.passes.pooled)

    @cached_property
    def complete_plan(self) -> Plan:
        """The plan with all degrees, and the engine's part of the memory."""
        layout, plan = self.passes.layout, self.plan
        fraction = plan.memory_fraction if plan.memory_fraction is not None else self.software.memory_fraction
        narrow = self.software.kv if plan.weights in ("fp8", "int8", "int4", "nvfp4") else ""
        return replace(
            plan,
            tp=layout.tp,
            pp=layout.pp,
            dp=layout.dp,
            ep=layout.ep,
            cp=layout.cp,
            memory_fraction=fraction,
            kv=plan.kv or narrow or None,
        )

    def cache(self, length: float) -> Cache:
        """The cache of one replica, for sequences of about ``length`` tokens; pooled ranks count together.

        Errors: ``does_not_fit``.
        """
        rank = cache_of(self.model, self.machine, self.complete_plan, length)
        return replace(rank, blocks=rank.blocks * int(self.passes.pooled))

    def clock(self, longest: int, longest_prompt: int) -> Clock:
        """Step times for contexts up to ``longest`` tokens."""
        rules, drafted = self.rules, self.speculation.drafted if self.speculation else 0
        sequences = rules.static_batch if rules.policy == STATIC else rules.max_sequences
        budget = rules.static_batch * longest_prompt if rules.policy == STATIC else rules.token_budget
        lanes = self.passes.lanes
        sequences = int(-(-sequences // lanes)) if rules.policy == STATIC else sequences
        limits = Limits(int(budget) + sequences * (1 + drafted), sequences, longest + drafted + 1)
        tables = StepTables(self.passes, self.software, limits, drafted)
        return Clock(tables, self._draft(limits), self.slowdown)

    def _draft(self, limits: Limits) -> StepTables | None:
        if self.speculation is None or self.speculation.draft is None:
            return None
        model = find(self.speculation.draft)
        if isinstance(model, Network):
            raise RidgepointError("bad_speculation", f"{model.name} generates no tokens", "name a language model")
        layout = self.passes.layout
        plan = Plan(tp=layout.tp, pp=layout.pp, cp=layout.cp, dp=layout.dp)
        drafting, _ = passes(model, self.passes.machine, plan, self.software.fused_attention)
        return StepTables(drafting, self.software, replace(limits, tokens=limits.sequences))

    @cached_property
    def slowdown(self) -> float:
        """How much slower a device under full load is with the power cap."""
        limit = self.machine.device.power.tdp
        if self.power_cap_w is None:
            return 1.0
        if limit is None:
            raise RidgepointError("bad_power_cap", f"the sheet of {self.machine.name} states no power limit")
        idle = self.machine.coefficients.power.idle_fraction * limit
        if not idle < self.power_cap_w:
            raise RidgepointError(
                "bad_power_cap",
                f"a cap of {self.power_cap_w:g} W is below the idle power",
                f"use more than {idle:.0f} W",
            )
        return float(capped(self.machine, limit, min(self.power_cap_w, limit))[1])

    def transfer(self, cache: Cache) -> tuple[float, float]:
        """(seconds per token, seconds beside) of handing a cache to another replica: each device sends its part to its
        counterpart over the link between replicas.
        """

        def seconds(size: float) -> float:
            message = Collective(
                operation="send_recv",
                bytes=size,
                ranks=2.0,
                stride=float(self.devices_per_replica),
                label="kv.transfer",
            )
            return float(evaluate(message, self.machine, strict=True).time_s)

        small, large = 1e6, 1e9
        per_byte = (seconds(large) - seconds(small)) / (large - small)
        start = max(seconds(small) - small * per_byte, 0.0)
        return per_byte * cache.token_bytes, start + per_byte * cache.sequence_bytes

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the deployment rests on that was not said."""
        rules = self.rules
        said = list(self._passes[1])
        said.append(
            f"engine {self.software.title}: host times {self.software.provenance.kind} ({self.software.provenance.source})"
        )
        said.append(
            f"scheduler {rules.policy}, admission {rules.admits}, {rules.token_budget:,} tokens a step, at most "
            f"{rules.max_sequences:,} sequences; the whole prompt must fit before it is begun"
        )
        said.append("engines know neither output lengths nor stop early: a request makes exactly its output tokens")
        if self.speculation is not None:
            said.append(
                f"{self.speculation.drafted} drafted tokens, {self.speculation.tokens_per_step:.2f} tokens a step in the mean"
                + ("" if self.speculation.draft else "; drafting itself costs nothing")
            )
        if self.prefill_replicas:
            said.append("caches move layer by layer while the prompt is read; a replica sends one at a time")
        if self.power_cap_w is not None:
            said.append(
                f"{self.power_cap_w:g} W per device: the clock falls until full load fits, {self.slowdown:.2f}× slower"
            )
        return tuple(dict.fromkeys(said))


def deployment(
    model: Model | str,
    on: Machine | str,
    plan: Plan | None = None,
    engine: str = "vllm",
    scheduling: Scheduling | None = None,
    speculation: Speculation | None = None,
    routing: str = "least_loaded",
    prefill_replicas: int = 0,
    power_cap_w: float | None = None,
) -> Deployment:
    """A deployment by names; without degrees one replica takes as few devices of a node as hold a usual load.

    Errors: unknown names, ``bad_task`` for networks, ``bad_plan`` for degrees that do not fit.
    """
    found = find(model) if isinstance(model, str) else model
    if isinstance(found, Network):
        raise RidgepointError("bad_task", f"{found.name} generates no tokens", "give a language model")
    machine = find_machine(on) if isinstance(on, str) else on
    chosen = plan or Plan()
    given = Deployment(found, machine, chosen, engine, scheduling, speculation, routing, prefill_replicas, power_cap_w)
    if chosen.tp is None and chosen.dp is None and chosen.pp is None:
        given = _smallest(given)
    if prefill_replicas and not 0 < prefill_replicas < given.replicas:
        raise RidgepointError(
            "bad_plan",
            f"{prefill_replicas} of {given.replicas} replicas cannot read prompts for the others",
            "leave at least one of each kind: more devices, or a smaller --tp",
        )
    return given


USUAL_LENGTH, USUAL_SEQUENCES = 4096.0, 16.0
"""What a replica should hold where no degrees are given: that many sequences of that many tokens."""


def _smallest(given: Deployment) -> Deployment:
    """The smallest tensor-parallel degree of a node whose cache holds a usual load; else the one with the largest cache."""
    refused: RidgepointError | None = None
    best: Deployment | None = None
    tp = 1
    while tp <= given.machine.devices_per_node:
        trial = replace(given, plan=replace(given.plan, tp=float(tp)))
        tp *= 2
        try:
            cache = trial.cache(USUAL_LENGTH)
        except RidgepointError as error:
            if error.kind not in ("does_not_fit", "bad_plan"):
                raise
            refused = error if refused is None or error.kind == "does_not_fit" else refused
            continue
        best = trial
        if cache.sequences(USUAL_LENGTH) >= USUAL_SEQUENCES:
            break
    if best is None:
        raise refused or RidgepointError("does_not_fit", f"{given.model.name} does not fit {given.machine.name}")
    return best
