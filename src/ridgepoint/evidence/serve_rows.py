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
from ridgepoint.serving.engines import Engine, step
from ridgepoint.serving.steady import Load, Service, Steady, running, steady
from ridgepoint.tasks import Decode, Prefill
from ridgepoint.tasks.build import build

PROMPTS = {"lm-arena-chat": 150.0, "gpqa": 250.0}
"""Mean prompt tokens of data sets that rows name instead of a length."""


def serving_figures(rows: Rows, model: Model | Network, machine: Machine) -> Figures:
    """TTFT, TPOT, throughput, power and energy per token in the steady state."""
    if isinstance(model, Network):
        raise InexpressibleError(f"{model.name} generates no tokens")
    engine = engine_of(rows)
    if rows.text("source").startswith("mlperf"):
        raise InexpressibleError("layout, batch and lengths of a tuned submission are not stated")
    plan = _plan(rows, model, engine)
    load = _load(rows)
    prompt = _prompt(rows)
    capacity = capacity_of(model, machine, plan, engine, prompt + load.output)
    count = running(load.clients, capacity)
    each = _decode(model, machine, plan, engine, count, prompt + load.output / 2.0)
    first = _prefill(model, machine, plan, engine, prompt, count)
    chunks = np.ceil(prompt / engine.token_budget)
    expected = steady(load, Service(each.seconds, first.seconds, chunks, capacity, engine.request_s))
    bound = steady(load, Service(each.roofline, first.roofline, chunks, capacity))
    return _figures(machine, expected, bound, each, first)


def _plan(rows: Rows, model: Model, engine: Engine) -> Plan:
    """Attention data parallelism is stated beside tp on the same devices: each rank then holds whole heads."""
    layout = degrees(rows)
    shared = np.asarray(layout["dp"]) > 1.0
    layout["tp"] = np.where(shared, np.maximum(np.asarray(layout["tp"]) / layout["dp"], 1.0), layout["tp"])
    layout["ep"] = np.where(shared, np.maximum(layout["ep"], layout["dp"]), layout["ep"])
    # Ranks that hold whole experts beside tensor-parallel attention on the same devices.
    devices = rows.number("devices", 1.0)
    alone = (np.asarray(layout["tp"]) == 1.0) & (np.asarray(layout["ep"]) == devices) & ~shared
    layout["dp"] = np.where(alone, devices, layout["dp"])
    plan = with_formats(Plan(memory_fraction=engine.memory_fraction, **layout), rows, model)
    narrow = rows.text("precision") in ("fp8", "nvfp4")
    return replace(plan, kv=engine.kv) if engine.kv and narrow and plan.kv is None else plan


def _load(rows: Rows) -> Load:
    clients = rows.number("concurrency", 1e9)
    return Load(clients, rows.number("output"), 0.2)


def _prompt(rows: Rows) -> Num:
    workload = rows.tag("workload")
    return rows.number("prompt", PROMPTS.get(workload))


def capacity_of(model: Model, machine: Machine, plan: Plan, engine: Engine, length: Num) -> Num:
    """Sequences of ``length`` tokens whose cache fits beside the weights, over all replicas."""
    replicas = plan.dp if plan.dp is not None else 1.0
    ledger = build(model, machine, Decode(batch=replicas, context=whole(length)), plan).ledger
    fixed = sum((size for name, size in ledger.entries.items() if name != "kv"), 0.0)
    room = np.maximum(ledger.usable_bytes - fixed, 0.0)
    return np.minimum(room / ledger["kv"] * replicas, engine.max_sequences * replicas)


def _decode(model: Model, machine: Machine, plan: Plan, engine: Engine, count: Num, context: Num) -> Timed:
    built = build(model, machine, Decode(batch=whole(count), context=whole(context)), plan)
    return timed(step(built.device, machine, engine, count, decode=True), built.device, machine)


def _prefill(model: Model, machine: Machine, plan: Plan, engine: Engine, prompt: Num, count: Num) -> Timed:
    """Device seconds per prompt: engines take in as many prompts at once as their token budget holds."""
    replicas = plan.dp if plan.dp is not None else 1.0
    together = np.maximum(replicas, 1.0)
    built = build(model, machine, Prefill(batch=whole(together), prompt=whole(prompt)), plan)
    run = timed(step(built.device, machine, engine, together), built.device, machine)
    return Timed(run.seconds / together, run.roofline / together, run.spread, run.busy_s)


def _figures(machine: Machine, found: Steady, bound: Steady, each: Timed, first: Timed) -> Figures:
    spread = each.spread
    figures = {
        "ttft_ms": Figure(found.ttft_s * 1e3, bound.ttft_s * 1e3, first.spread),
        "tpot_ms": Figure(found.tpot_s * 1e3, bound.tpot_s * 1e3, spread),
        "throughput_tok_s": Figure(found.tokens_per_s, bound.tokens_per_s, spread),
        "throughput_samples_s": Figure(found.requests_per_s, bound.requests_per_s, spread),
    }
    power = power_w(machine, each.busy_s, each.seconds)
    limit = float(machine.device.power.tdp or 0.0)
    if power is not None:
        every = power * machine.devices
        figures["power_w"] = Figure(every, limit * machine.devices, machine.coefficients.power.spread)
        joules = limit * machine.devices / bound.tokens_per_s
        figures["energy_j_per_token"] = Figure(every / found.tokens_per_s, joules, spread)
    return figures
