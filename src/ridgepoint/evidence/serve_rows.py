"""Serving rows: the steady state of continuous batching at the row's concurrency."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.cost.energy import power_w
from ridgepoint.evidence.rows import InexpressibleError, Rows
from ridgepoint.evidence.run_scenarios import Figure, Figures, Timed, degrees, timed, whole, with_formats
from ridgepoint.evidence.step_rows import engine_of
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.numeric import Num
from ridgepoint.plan import Plan
from ridgepoint.serving.capacity import capacity_of
from ridgepoint.serving.engines import Engine, speeds, step
from ridgepoint.serving.steady import Load, Service, Steady, riding, running, steady
from ridgepoint.tasks import Decode, Prefill
from ridgepoint.tasks.build import build

PROMPTS = {"lm-arena-chat": 500.0, "gpqa": 250.0}
"""Mean prompt tokens of data sets that rows name instead of a length: a guess for GPQA, and for the chats what makes the
growth of TPOT with concurrency come out, since nothing states them."""


def serving_figures(rows: Rows, model: Model | Network, machine: Machine) -> Figures:
    """TTFT, TPOT, throughput, power and energy per token in the steady state."""
    if isinstance(model, Network):
        raise InexpressibleError(f"{model.name} generates no tokens")
    if rows.text("framework") == "mlperf":
        raise InexpressibleError("layout, batch and lengths of a tuned submission are not stated")
    engine = engine_of(rows)
    plan = _plan(rows, model, machine, engine)
    load = _load(rows, engine)
    prompt = _prompt(rows)
    capacity = capacity_of(model, machine, plan, engine, prompt, load.output)
    count = running(load.clients, capacity)
    each = _decode(model, machine, plan, engine, count, prompt + load.output / 2.0)
    first = _prefill(model, machine, plan, engine, prompt)
    shared = _shared_prefill(model, machine, plan, engine, prompt, load, count)
    chunks = np.ceil(prompt / engine.token_budget)
    fixed = {"chunks": chunks, "capacity": capacity}
    request = engine.request_s + (EQUAL_REQUEST_S if engine.mixed and _is_sweep(rows) else 0.0)
    expected = steady(
        load,
        Service(each.seconds, first.seconds, shared.seconds, lag=engine.lag, request_s=request, **fixed),
    )
    bound = steady(replace(load, burst=0.0), Service(each.roofline, first.roofline, shared.roofline, **fixed))
    return _figures(machine, expected, bound, each, shared)


def _plan(rows: Rows, model: Model, machine: Machine, engine: Engine) -> Plan:
    """Attention data parallelism is stated beside tp on the same devices: each rank then holds whole heads."""
    layout = degrees(rows)
    shared = np.asarray(layout["dp"]) > 1.0
    layout["tp"] = np.where(shared, np.maximum(np.asarray(layout["tp"]) / layout["dp"], 1.0), layout["tp"])
    layout["ep"] = np.where(shared, np.maximum(layout["ep"], layout["dp"]), layout["ep"])
    # Experts over all devices without data parallelism: attention is tensor-parallel over the same devices.
    devices = rows.number("devices", 1.0)
    alone = (np.asarray(layout["tp"]) == 1.0) & (np.asarray(layout["ep"]) == devices) & ~shared
    layout["tp"] = np.where(alone, devices, layout["tp"])
    plan = with_formats(Plan(memory_fraction=engine.memory_fraction, **layout), rows, model, machine)
    narrow = rows.text("precision") in ("fp8", "nvfp4")
    return replace(plan, kv=engine.kv) if engine.kv and narrow and plan.kv is None else plan


def _load(rows: Rows, engine: Engine) -> Load:
    """Benchmarks send ten requests per client, the first of each at once; sweeps of equal lengths keep theirs in step."""
    output = rows.number("output")
    if rows.text("source") != "aiconfigurator-silicon":
        return Load(rows.number("concurrency", 1e9), output)
    clients = rows.number("concurrency")
    if engine.mixed:
        return Load(clients, output, together=EQUAL_TOGETHER if _equal(rows) else 1.0, burst=BURST)
    return Load(clients, output, together=np.maximum(clients * (1.0 if _equal(rows) else IN_STEP), 1.0), burst=BURST)


BURST = 0.12
"""Part of the requests that arrive at once: the first of eight to ten of every client; fitted to TTFT."""
EQUAL_TOGETHER = 4.2
"""Requests that reach an engine together which mixes prompts and decode steps, where all have the same length; fitted."""
IN_STEP = 0.2
"""Part of the requests in step on an engine that takes prompts first, where lengths vary by a tenth; fitted."""


EQUAL_REQUEST_S = 0.045
"""What the client of such sweeps adds to every first token; fitted."""


def _is_sweep(rows: Rows) -> bool:
    """Whether all requests of a row have the same length."""
    return rows.text("source") == "aiconfigurator-silicon" and _equal(rows)


def _equal(rows: Rows) -> bool:
    return not rows.text("precision") or rows.tag("ver") == "1.0.0rc3"


def _prompt(rows: Rows) -> Num:
    workload = rows.tag("workload")
    return rows.number("prompt", PROMPTS.get(workload))


def _decode(model: Model, machine: Machine, plan: Plan, engine: Engine, count: Num, context: Num) -> Timed:
    built = build(model, machine, Decode(batch=whole(count), context=whole(context)), plan)
    return timed(
        step(built.device, machine, engine, count, decode=True), built.device, machine, speeds(machine, engine)
    )


def _prefill(model: Model, machine: Machine, plan: Plan, engine: Engine, prompt: Num, prompts: Num = 1.0) -> Timed:
    """Seconds of a step that takes in ``prompts`` prompts on every replica, per prompt of one replica."""
    replicas = plan.dp if plan.dp is not None else 1.0
    built = build(model, machine, Prefill(batch=whole(prompts * replicas), prompt=whole(prompt)), plan)
    return timed(step(built.device, machine, engine, prompts), built.device, machine, speeds(machine, engine))


def _shared_prefill(
    model: Model, machine: Machine, plan: Plan, engine: Engine, prompt: Num, load: Load, count: Num
) -> Timed:
    """What one prompt costs among others: as many share a step as arrive in one, up to the engine's token budget; the
    weights are read for the decode tokens anyway.
    """
    replicas = plan.dp if plan.dp is not None else 1.0
    room = np.maximum(np.floor(engine.token_budget / prompt), 1.0)
    prompts = np.clip(np.ceil(count / replicas / load.output), 1.0, room)
    run = _prefill(model, machine, plan, engine, prompt, prompts)
    each = run.seconds / prompts
    if engine.mixed:
        alone = _decode(model, machine, plan, engine, replicas, prompt)
        each = riding(each, alone.seconds, prompts)
    busy = {name: seconds / prompts / replicas for name, seconds in run.busy_s.items()}
    return Timed(each / replicas, run.roofline / prompts / replicas, run.spread, busy)


def _figures(machine: Machine, found: Steady, bound: Steady, each: Timed, first: Timed) -> Figures:
    spread = each.spread
    figures = {
        "ttft_ms": Figure(found.ttft_s * 1e3, bound.ttft_s * 1e3, first.spread),
        "tpot_ms": Figure(found.tpot_s * 1e3, bound.tpot_s * 1e3, spread),
        "throughput_tok_s": Figure(found.tokens_per_s, bound.tokens_per_s, spread),
        "throughput_samples_s": Figure(found.requests_per_s, bound.requests_per_s, spread),
    }
    power = power_w(machine, _busy(found, each, first), found.service_s)
    limit = float(machine.device.power.tdp or 0.0)
    if power is not None:
        every = power * machine.devices
        figures["power_w"] = Figure(every, limit * machine.devices, machine.coefficients.power.spread)
        joules = limit * machine.devices / bound.tokens_per_s
        figures["energy_j_per_token"] = Figure(every / found.tokens_per_s, joules, spread)
    return figures


def _busy(found: Steady, each: Timed, first: Timed) -> dict[str, Num]:
    """Seconds that each resource is busy while one request is served: its decode steps and all running requests' prompts."""
    steps = np.maximum(found.output - 1.0, 0.0)
    names = {**each.busy_s, **first.busy_s}
    return {name: steps * each.busy_s.get(name, 0.0) + found.running * first.busy_s.get(name, 0.0) for name in names}
