"""Serving rows: the steady state of a deployment at the row's concurrency, as ``analyze --task serve`` has it.

Clients of benchmarks do not come at random: ``Clients`` says how they do, and what that moves from between tokens to
before the first one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ridgepoint.cost.energy import power_w
from ridgepoint.evidence.power_samples import peak_w
from ridgepoint.evidence.rows import InexpressibleError, Rows
from ridgepoint.evidence.run_scenarios import Figure, Figures, Timed, degrees, states, timed, whole, with_formats
from ridgepoint.evidence.step_rows import engine_name
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.numeric import Array, Num
from ridgepoint.plan import Plan
from ridgepoint.serving.deployment import Deployment
from ridgepoint.serving.engines import Engine, engines, servers, speeds, step, with_experts
from ridgepoint.serving.loops import Pace, Steady, closed_loop
from ridgepoint.serving.operating import paces
from ridgepoint.tasks import Decode, Prefill
from ridgepoint.tasks.build import build
from ridgepoint.tasks.layout import resolve_formats
from ridgepoint.work import Work

PROMPTS = {"lm-arena-chat": 500.0, "gpqa": 250.0}
"""Mean prompt tokens of data sets that rows name instead of a length: a guess for GPQA, and for the chats what makes the
growth of TPOT with concurrency come out, since nothing states them."""
DEGREES = ("tp", "pp", "dp", "ep", "cp")
MOST_CLIENTS = 1e8
"""Clients of rows that send all requests at once."""


def serving_figures(rows: Rows, model: Model | Network, machine: Machine) -> Figures:
    """TTFT, TPOT, throughput, power and energy per token in the steady state."""
    if isinstance(model, Network):
        raise InexpressibleError(f"{model.name} generates no tokens")
    name = engine_name(rows)
    engine = engines()[name]
    plan = _plan(rows, model, machine, engine)
    machine = with_experts(machine, engine, resolve_formats(model, plan)[0].weight("experts"))
    clients = _clients(rows, engine)
    prompt = rows.number("prompt", PROMPTS.get(rows.tag("workload"))) * _drawn(rows)
    found = _expected(
        Deployment(model, machine, plan, name if name in servers() else "vllm"), clients, prompt, len(rows)
    )
    each = decode_step(model, machine, plan, engine, found.running, prompt + clients.output / 2.0)
    first = prefill_step(model, machine, plan, engine, prompt)
    among = prefill_among_others(model, machine, plan, engine, prompt, clients.output, found.running)
    figures = steady_figures(machine, found, bound_of(found, each, first, among), each, among)
    if "power_w" in figures and any(rows.table.text["metric"][i] == "power_peak_w" for i in rows.index):
        # Samples are of all devices: the hungriest kernels of a prompt, as far as its pass fills one.
        mean, reading = figures["power_w"], prefill_work(model, machine, plan, prompt)
        peak = peak_w(reading, machine, mean.value / machine.devices) * machine.devices
        figures["power_peak_w"] = replace(mean, value=peak)
    return widened(figures, engine)


_SPREADS = {
    **{"ttft_ms": "ttft", "tpot_ms": "tpot", "throughput_tok_s": "rate", "throughput_samples_s": "rate"},
    **{"power_w": "power", "power_peak_w": "power", "energy_j_per_token": "energy"},
}


def widened(figures: Figures, engine: Engine) -> Figures:
    """The same figures with what serving adds to the spread of the kernels (``serving/certainty.py``)."""
    return {
        name: replace(figure, spread=np.hypot(figure.spread, getattr(engine.spread, _SPREADS[name])))
        for name, figure in figures.items()
    }


def _plan(rows: Rows, model: Model, machine: Machine, engine: Engine) -> Plan:
    """Attention data parallelism is stated beside tp on the same devices: each rank then holds whole heads."""
    layout = degrees(rows)
    shared = (np.asarray(layout["dp"]) > 1.0) & states(rows, "dp")
    layout["tp"] = np.where(shared, np.maximum(np.asarray(layout["tp"]) / layout["dp"], 1.0), layout["tp"])
    layout["ep"] = np.where(shared, np.maximum(layout["ep"], layout["dp"]), layout["ep"])
    # Experts over all devices without data parallelism: attention is tensor-parallel over the same devices.
    devices = rows.number("devices", 1.0)
    alone = (np.asarray(layout["tp"]) == 1.0) & (np.asarray(layout["ep"]) == devices) & (devices > 1.0) & ~shared
    layout["tp"], layout["dp"] = np.where(alone, devices, layout["tp"]), np.where(alone, 1.0, layout["dp"])
    plan = with_formats(Plan(memory_fraction=engine.memory_fraction, **layout), rows, model, machine)
    kv = _kv(rows, machine, engine)
    return replace(plan, kv=kv) if kv and plan.kv is None else plan


def _kv(rows: Rows, machine: Machine, engine: Engine) -> str:
    """The cache's format where the weights are narrow: the engine's own, or that of the scripts for Blackwell
    (``--kv-cache-dtype fp8``, which NVIDIA's checkpoints in FP8 and NVFP4 ask for as well).
    """
    precision = rows.text("precision")
    scripted = _scripted(rows) and machine.device.family == "blackwell" and precision in ("fp8", "nvfp4", "mxfp4")
    return "fp8" if scripted else engine.kv if precision in ("fp8", "nvfp4") else ""


def _scripted(rows: Rows) -> bool:
    """Whether the rows are InferenceMAX's; the rest of that source are sweeps over equal lengths on H100."""
    swept = not rows.text("precision") or rows.tag("ver") == "1.0.0rc3"
    return rows.text("source") == "aiconfigurator-silicon" and not swept


DRAWN = 0.9
"""Mean length over the stated one: InferenceMAX draws both lengths evenly between 0.8 and 1 (``RANDOM_RANGE_RATIO``)."""


def _drawn(rows: Rows) -> float:
    return DRAWN if _scripted(rows) else 1.0


@dataclass(frozen=True)
class Clients:
    """``count`` requests under way at any time, ``output`` tokens each; ``together`` of them arrive at a time, and the part
    ``burst`` of all at once, before anything runs; ``request_s`` is their own part of every first token. The engine looks for
    requests every ``polled`` steps only.
    """

    count: Num
    output: Num
    together: Num = 1.0
    burst: float = 0.0
    request_s: float = 0.0
    polled: Num = 1.0

    def seen(self, found: Steady, prompt_s: Array) -> Steady:
        """``found``, which is that of clients at random, as these see it: prompts (``prompt_s`` each) that arrive with the
        own one lie before its first token and no longer between its tokens; those of the burst lie before it, too.
        """
        count, further = np.asarray(found.running), np.maximum(np.asarray(self.output) - 1.0, 1.0)
        with_it = (np.minimum(self.together, count) - 1.0) * prompt_s / 2.0
        moved = np.minimum(with_it, MOST_MOVED * found.tpot_s * further)
        ahead = self.burst * (count - 1.0) * prompt_s / 2.0
        unseen = (np.asarray(self.polled) - 1.0) / 2.0 * found.tpot_s
        first = found.ttft_s + with_it + ahead + unseen + self.request_s
        return replace(found, ttft_s=first, tpot_s=found.tpot_s - moved / further)


BURST = 0.12
"""Part of the requests that arrive at once: the first of eight to ten of every client; fitted to TTFT."""
EQUAL_TOGETHER = 2.0
"""Requests that reach an engine together which mixes prompts and decode steps, where all have the same length; fitted."""
IN_STEP = 0.15
"""Part of the requests in step on an engine that takes prompts first, where lengths are drawn; fitted."""
EQUAL_REQUEST_S = 0.02
"""What the client of sweeps over equal lengths adds to every first token; fitted."""
MOST_MOVED = 0.9
"""Largest part of the time between tokens that was others' prompts."""


def _clients(rows: Rows, engine: Engine) -> Clients:
    """Benchmarks send ten requests per client, the first of each at once; sweeps of equal lengths keep theirs in step."""
    output = rows.number("output") * _drawn(rows)
    if rows.text("source") != "aiconfigurator-silicon":
        return Clients(rows.number("concurrency", MOST_CLIENTS), output)
    count, equal = rows.number("concurrency"), not _scripted(rows)
    if engine.mixed:
        return Clients(count, output, EQUAL_TOGETHER if equal else 1.0, BURST, EQUAL_REQUEST_S if equal else 0.0)
    together = np.maximum(count * (1.0 if equal else IN_STEP), 1.0)
    return Clients(count, output, together, BURST, polled=1.0 if equal else np.where(count >= 16.0, *POLLED))


POLLED = (30.0, 10.0)
"""Steps after which InferenceMAX's SGLang looks for requests, from 16 clients on and below (``--scheduler-recv-interval``)."""


def _expected(given: Deployment, clients: Clients, prompt: Num, size: int) -> Steady:
    """The steady state of every row: layout by layout, all sizes of one at once; of all replicas together."""
    columns = [getattr(given.plan, degree) for degree in DEGREES]
    columns = [1.0 if column is None else column for column in columns] + [prompt, clients.output, clients.count]
    table = np.stack([np.broadcast_to(np.asarray(column, dtype=float), (size,)) for column in columns], axis=1)
    answers = np.full((5, size), np.nan)
    for layout in np.unique(table[:, : len(DEGREES)], axis=0):
        mine = np.flatnonzero((table[:, : len(DEGREES)] == layout).all(axis=1))
        tp, pp, dp, ep, cp = map(float, layout)
        of_layout = replace(given, plan=replace(given.plan, tp=tp, pp=pp, dp=dp, ep=ep, cp=cp))
        replicas = float(of_layout.replicas)
        # What was measured did run: where our count of memory leaves no room for one request, there was some for all.
        ran = max(min(float(table[mine, -1].max()), given.rules.max_sequences) / replicas, 1.0)
        sizes = sorted({(float(p), float(o)) for p, o in table[mine, len(DEGREES) : -1]})
        for (p, o), pace in zip(sizes, paces(of_layout, sizes, least=ran), strict=True):
            here = mine[(table[mine, -3] == p) & (table[mine, -2] == o)]
            if pace is not None:
                answers[:, here] = _at(pace, table[here, -1], replicas)
    count, first, each, service, prompt_s = answers
    return clients.seen(Steady(count, first, each, service, np.zeros(size), clients.output), prompt_s)


def _at(pace: Pace, clients: Array, replicas: float) -> Array:
    """(requests running on all replicas, TTFT, TPOT, service, what a further prompt costs) for clients of all replicas."""
    found = closed_loop(pace, np.maximum(np.minimum(clients, MOST_CLIENTS) / replicas, 1.0))
    prompt_s = np.interp(np.asarray(found.running), pace.concurrency, pace.further_s) / pace.lanes / replicas
    return np.stack(
        np.broadcast_arrays(found.running * replicas, found.ttft_s, found.tpot_s, found.service_s, prompt_s)
    )


def decode_step(model: Model, machine: Machine, plan: Plan, engine: Engine, count: Num, context: Num) -> Timed:
    """A step that decodes ``count`` sequences of ``context`` tokens."""
    built = build(model, machine, Decode(batch=whole(count), context=whole(context)), plan)
    return timed(
        step(built.device, machine, engine, count, decode=True), built.device, machine, speeds(machine, engine)
    )


def prefill_step(model: Model, machine: Machine, plan: Plan, engine: Engine, prompt: Num, prompts: Num = 1.0) -> Timed:
    """A step that takes in ``prompts`` prompts on every replica."""
    work = prefill_work(model, machine, plan, prompt, prompts)
    return timed(step(work, machine, engine, prompts), work, machine, speeds(machine, engine))


def prefill_work(model: Model, machine: Machine, plan: Plan, prompt: Num, prompts: Num = 1.0) -> Work:
    """What a device runs to take in ``prompts`` prompts on every replica."""
    replicas = plan.dp if plan.dp is not None else 1.0
    return build(model, machine, Prefill(batch=whole(prompts * replicas), prompt=whole(prompt)), plan).device


def prefill_among_others(
    model: Model, machine: Machine, plan: Plan, engine: Engine, prompt: Num, output: Num, count: Num
) -> Timed:
    """What one prompt of all replicas takes where as many share a step as arrive in one, up to the token budget."""
    replicas = plan.dp if plan.dp is not None else 1.0
    room = np.maximum(np.floor(engine.token_budget / prompt), 1.0)
    prompts = np.clip(np.ceil(count / replicas / output), 1.0, room)
    run, part = prefill_step(model, machine, plan, engine, prompt, prompts), prompts * replicas
    busy: dict[str, Num] = {name: seconds / part for name, seconds in run.busy_s.items()}
    return Timed(run.seconds / part, run.roofline / part, run.spread, busy)


def bound_of(found: Steady, each: Timed, first: Timed, among: Timed) -> Steady:
    """The same at the physical limit: while one request is served, the prompts of all that run are read once."""
    further, others = np.maximum(found.output - 1.0, 0.0), (found.running - 1.0) * among.roofline
    tpot = each.roofline + others / np.maximum(further, 1.0)
    service = first.roofline + others + further * each.roofline
    return Steady(found.running, first.roofline, tpot, service, found.wait_s, found.output)


def steady_figures(machine: Machine, found: Steady, bound: Steady, each: Timed, among: Timed) -> Figures:
    """Every metric of a steady state, at its ``bound``, from a decode step and the prompts that ride in it."""
    spread = each.spread
    figures = {
        "ttft_ms": Figure(found.ttft_s * 1e3, bound.ttft_s * 1e3, among.spread),
        "tpot_ms": Figure(found.tpot_s * 1e3, bound.tpot_s * 1e3, spread),
        "throughput_tok_s": Figure(found.tokens_per_s, bound.tokens_per_s, spread),
        "throughput_samples_s": Figure(found.requests_per_s, bound.requests_per_s, spread),
    }
    power = power_w(machine, _busy(found, each, among), found.service_s)
    limit = float(machine.device.power.tdp or 0.0)
    if power is not None:
        every = power * machine.devices
        figures["power_w"] = Figure(every, limit * machine.devices, machine.coefficients.power.spread)
        joules = limit * machine.devices / bound.tokens_per_s
        figures["energy_j_per_token"] = Figure(every / found.tokens_per_s, joules, spread)
    return figures


def _busy(found: Steady, each: Timed, among: Timed) -> dict[str, Num]:
    """Seconds that each resource is busy while one request is served: its decode steps and all running requests' prompts."""
    steps = np.maximum(found.output - 1.0, 0.0)
    names = {**each.busy_s, **among.busy_s}
    return {name: steps * each.busy_s.get(name, 0.0) + found.running * among.busy_s.get(name, 0.0) for name in names}
