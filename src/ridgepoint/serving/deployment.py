"""A deployment: a model served on a machine under a plan, and what a simulation needs to know of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil
from typing import Any

import msgspec

from ridgepoint.cost.energy import clock_under
from ridgepoint.cost.evaluate import evaluate
from ridgepoint.errors import RidgepointError, unknown_name
from ridgepoint.formats import FORMATS
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.ops import Transfer
from ridgepoint.plan import Plan
from ridgepoint.scenario import find
from ridgepoint.serving.adapters import Adapters, AdapterTable
from ridgepoint.serving.budget import PowerBudget
from ridgepoint.serving.capacity import Cache, cache_of
from ridgepoint.serving.clock import Clock
from ridgepoint.serving.engines import Engine, engines, experts_of, servers, with_experts, with_software
from ridgepoint.serving.failures import Failures
from ridgepoint.serving.passes import Passes, passes
from ridgepoint.serving.scaling import Scaling
from ridgepoint.serving.scheduling import STATIC, Scheduling, Speculation, scheduling_of
from ridgepoint.serving.sharing import halves
from ridgepoint.serving.tables import Limits, StepTables
from ridgepoint.serving.tiers import CacheTiers
from ridgepoint.serving.together import assumptions_of, checked
from ridgepoint.tasks.trained import adapter_parameters
from ridgepoint.work import Work

ROUTINGS = ("round_robin", "least_loaded", "power_of_two", "prefix_aware")
KEPT = 8
"""Step tables that a deployment keeps: those of every clock level of its power budget, for loads of one size."""


@dataclass(frozen=True)
class Deployment:
    """Replicas of an engine that serve ``model`` on ``machine``; every field is a plain value.

    ``plan`` describes all replicas together: its ``dp`` is their number (a group of data-parallel ranks that share experts is
    one). ``scheduling`` None: the engine's defaults. ``prefill_replicas`` > 0 disaggregates: that many replicas only read
    prompts and hand their caches to the others over the link between them; ``mixed_replicas`` do both when those are full.
    ``sharing``: part of every device's multiprocessors that reads prompts while the rest decodes. ``tiers``: memory below the
    device's for prefixes. ``power_cap_w``: limit per device; ``budget``: of all devices together. ``reading``: replicas on
    other devices that only read prompts for all of these, with a plan and a cap of their own.
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
    mixed_replicas: int = 0
    sharing: float | None = None
    tiers: CacheTiers | None = None
    adapters: Adapters | None = None
    failures: Failures | None = None
    scaling: Scaling | None = None
    budget: PowerBudget | None = None
    reading: Deployment | None = None

    def __post_init__(self) -> None:
        if self.engine not in servers():
            raise unknown_name("engine", self.engine, servers())
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
        software = self.software
        found, said = passes(self.model, with_software(self.machine, software), self.plan, software.fused_attention)
        stored = found.run.formats.weight("experts")
        run = replace(found.run, expert_library=experts_of(software, found.machine, stored))
        return replace(found, machine=with_experts(found.machine, software, stored), run=run), said

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

    @property
    def parts(self) -> tuple[Deployment, ...]:
        """The deployments on devices of one type each, in the order in which their replicas are numbered."""
        return (self,) if self.reading is None else (self.reading, self)

    @property
    def all_replicas(self) -> int:
        """Replicas of all parts."""
        return sum(part.replicas for part in self.parts)

    @property
    def readers(self) -> int:
        """The first replicas, which only read prompts."""
        return self.prefill_replicas if self.reading is None else self.reading.replicas

    def of(self, number: int) -> Deployment:
        """The part that a replica belongs to."""
        return self if self.reading is None or number >= self.reading.replicas else self.reading

    @property
    def machine_name(self) -> str:
        """The machines of all parts, those that read prompts first."""
        return " + ".join(part.machine.name for part in self.parts)

    def resource_label(self, resource: str) -> str:
        """How a report names a resource of the machines."""
        machines = [part.machine for part in self.parts]
        having = [
            m for m in machines if any(resource in t for t in (m.device.engines, m.device.memory, m.device.links))
        ]
        return " or ".join(dict.fromkeys(machine.resource_label(resource) for machine in having or [self.machine]))

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
        """The cache of one replica, for sequences of about ``length`` tokens; pooled ranks count together, and slots of
        adapters take their part.

        Errors: ``does_not_fit``.
        """
        rank = cache_of(self.model, self.machine, self.complete_plan, length)
        taken = 0
        if self.adapters is not None:
            block = rank.token_bytes * rank.block if rank.token_bytes else rank.sequence_bytes
            taken = ceil(self.adapters.slots * self.adapter_bytes / block)
            if taken >= rank.blocks:
                raise RidgepointError(
                    "does_not_fit",
                    f"{self.adapters.slots} adapters of {self.adapter_bytes / 1e6:.0f} MB leave no room for a cache",
                    "use fewer slots, a smaller rank, or a larger --tp",
                )
        return replace(rank, blocks=(rank.blocks - taken) * int(self.passes.pooled))

    @cached_property
    def adapter_bytes(self) -> float:
        """What one adapter takes on a device."""
        if self.adapters is None:
            return 0.0
        plan, run = replace(self.complete_plan, lora_rank=float(self.adapters.rank)), self.passes.run
        count = adapter_parameters(self.model, run, self.passes.layout, plan)
        return float(count) * FORMATS[run.formats.stream].bytes

    @cached_property
    def adapter_load_s(self) -> float:
        """Seconds to copy one adapter from host memory; every device copies its part."""
        return self.seconds(Transfer(bytes=self.adapter_bytes, label="adapter.load"))

    def clock(self, longest: int, longest_prompt: int) -> Clock:
        """Step times for contexts up to ``longest`` tokens."""
        return self.clocks(longest, longest_prompt)[0]

    def clocks(self, longest: int, longest_prompt: int) -> tuple[Clock, ...]:
        """The same at every level of the device's clock: the usual one first, then those of the power budget."""
        limits = self.limits(longest, longest_prompt)
        levels = (1.0, *self.budget.clocks) if self.budget is not None else (1.0,)
        return tuple(self._clock(self.passes, limits, self.frequency * level) for level in levels)

    def halves(self, longest: int, longest_prompt: int, prompt: float) -> tuple[tuple[Clock, ...], tuple[Clock, ...]]:
        """Clocks of the two halves of a shared device, that which reads prompts (of ``prompt`` tokens in the mean) and that
        which decodes: alone, and beside the other.
        """
        assert self.sharing is not None
        limits = self.limits(longest, longest_prompt)
        tokens = min(float(self.rules.step_tokens(prompt)), prompt)
        reading, decoding, left = halves(self.passes, self.software, self.sharing, tokens)
        alone = self._clock(self.passes, limits, self.frequency)
        first = self._clock(reading, limits, self.frequency, self.sharing)
        second = self._clock(decoding, limits, self.frequency, 1.0 - self.sharing, left)
        return (alone, first), (alone, second)

    def limits(self, longest: int, longest_prompt: int) -> Limits:
        """How far the tables reach."""
        rules, drafted = self.rules, self.speculation.drafted if self.speculation else 0
        sequences = rules.static_batch if rules.policy == STATIC else rules.max_sequences
        # What a request has made is read with its prompt when it begins again.
        budget = rules.static_batch * longest_prompt if rules.policy == STATIC else rules.step_tokens(longest)
        lanes = self.passes.lanes
        sequences = int(-(-sequences // lanes)) if rules.policy == STATIC else sequences
        piece = longest_prompt if rules.policy == STATIC else min(int(rules.step_tokens(longest)), longest)
        return Limits(int(budget) + sequences * (1 + drafted), sequences, longest + drafted + 1, piece)

    def _clock(self, found: Passes, limits: Limits, frequency: float, part: float = 1.0, memory: float = 1.0) -> Clock:
        tables = self._step_tables(found, limits, frequency)
        adapters = None
        if self.adapters is not None:
            adapters = AdapterTable(tables, self.adapters.rank, min(self.adapters.slots, self.adapters.count))
        return Clock(tables, self._draft(found.machine, limits, frequency), adapters, frequency, part, memory)

    def _step_tables(self, found: Passes, limits: Limits, frequency: float) -> StepTables:
        """The tables of the deployment's own passes are kept: rates are found by simulating it again and again."""
        drafted = self.speculation.drafted if self.speculation else 0
        if found is not self.passes:
            return StepTables(found, self.software, limits, drafted, frequency)
        kept, key = self._kept, (limits, frequency)
        if key not in kept:
            if len(kept) >= KEPT:
                kept.clear()
            kept[key] = StepTables(found, self.software, limits, drafted, frequency)
        return kept[key]

    @cached_property
    def _kept(self) -> dict[tuple[Limits, float], StepTables]:
        return {}

    def _draft(self, machine: Machine, limits: Limits, frequency: float) -> StepTables | None:
        if self.speculation is None or self.speculation.draft is None:
            return None
        model = find(self.speculation.draft)
        if isinstance(model, Network):
            raise RidgepointError("bad_speculation", f"{model.name} generates no tokens", "name a language model")
        layout = self.passes.layout
        plan = Plan(tp=layout.tp, pp=layout.pp, cp=layout.cp, dp=layout.dp)
        drafting, _ = passes(model, machine, plan, self.software.fused_attention)
        return StepTables(drafting, self.software, replace(limits, tokens=limits.sequences), frequency=frequency)

    @cached_property
    def frequency(self) -> float:
        """The clock over the usual one at which a device under full load keeps the power cap."""
        return 1.0 if self.power_cap_w is None else clock_under(self.machine, self.power_cap_w)

    def seconds(self, work: Work) -> float:
        """Seconds that a work takes on the machine."""
        return float(evaluate(work, self.machine, strict=True).time_s)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the passes rest on that was not said."""
        return self._passes[1]

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the deployment rests on that was not said."""
        return assumptions_of(self)

    def checked(self) -> Deployment:
        """Itself, if its parts go together.

        Errors: ``bad_plan``, ``bad_sharing``, ``bad_scaling``, ``bad_adapters``, ``bad_power_budget``.
        """
        return checked(self)


def language_model(model: Model | str) -> Model:
    """The model of that name, which generates tokens.

    Errors: unknown names, ``bad_task`` for networks.
    """
    found = find(model) if isinstance(model, str) else model
    if isinstance(found, Network):
        raise RidgepointError("bad_task", f"{found.name} generates no tokens", "give a language model")
    return found


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
    **conditions: Any,
) -> Deployment:
    """A deployment by names; without degrees one replica takes as few devices of a node as hold a usual load. ``conditions``:
    further fields of ``Deployment``.

    Errors: unknown names, ``bad_task`` for networks, ``bad_plan`` for degrees that do not fit.
    """
    found = language_model(model)
    machine = find_machine(on) if isinstance(on, str) else on
    chosen = plan or Plan()
    given = Deployment(found, machine, chosen, engine, scheduling, speculation, routing, prefill_replicas, power_cap_w)
    if chosen.tp is None and chosen.dp is None and chosen.pp is None:
        given = _smallest(given)
    return replace(given, **conditions).checked()


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
        raise refused or RidgepointError(
            "does_not_fit", f"{given.model.name} does not fit {given.machine.name}", "use more devices or --tp"
        )
    return best
