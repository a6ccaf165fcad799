"""Training rows: seconds of a step, tokens per second, model FLOP/s and MFU by each source's own formula."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.cost.energy import capped, power_w, under_load
from ridgepoint.evidence.datasets import EXAMPLES, sequence_length
from ridgepoint.evidence.finetune_memory import ALL_WEIGHTS
from ridgepoint.evidence.finetune_rows import finetuning_figures
from ridgepoint.evidence.model_flop import flop_per_token
from ridgepoint.evidence.optimizers import of_model, update_s
from ridgepoint.evidence.recipes import as_run, recipe_of, with_further_tokens, with_recomputation
from ridgepoint.evidence.rows import InexpressibleError, Rows
from ridgepoint.evidence.run_scenarios import Figure, Figures, Timed, degrees, states, timed, with_formats
from ridgepoint.evidence.step_rows import engine_of
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.numeric import Num
from ridgepoint.ops import Host
from ridgepoint.plan import Plan
from ridgepoint.serving.engines import speeds, step, with_software
from ridgepoint.tasks import Train
from ridgepoint.tasks.build import build
from ridgepoint.work import Overlap


def training_figures(rows: Rows, model: Model | Network, machine: Machine) -> Figures:
    """Time, throughput, FLOP/s and power of one optimizer step."""
    if isinstance(model, Network):
        raise InexpressibleError(f"{model.name} is a network: its rows are read with all others")
    if rows.text("task") == "finetune_step" and rows.tag("method") not in ALL_WEIGHTS:
        return finetuning_figures(rows, model, machine)
    engine = engine_of(rows)
    recipe = recipe_of(rows, model)
    model = with_further_tokens(model, recipe.further)
    task, plan = step_of(rows, model, machine)
    device = as_run(build(model, machine, task, with_recomputation(plan, recipe, model, machine)).device, recipe)
    loaded = under_load(with_software(machine, engine))
    update = Host(seconds=update_s(rows, of_model(model), machine), label="host.optimizer")
    run = timed(Overlap(step(device, machine, engine, 0.0), update), device, loaded, speeds(machine, engine))
    return _figures(rows, model, machine, run, task.batch * task.seq)


def step_of(rows: Rows, model: Model, machine: Machine) -> tuple[Train, Plan]:
    """The optimizer step that the rows time, and its plan."""
    layout = degrees(rows)
    batch = rows.number("global_batch" if states(rows, "global_batch") else "batch", -1.0)
    if not states(rows, "global_batch"):  # fewer sequences than replicas are those of one
        batch = np.where(batch < layout["dp"], batch * layout["dp"], batch)
    micro = rows.number("micro_batch", -1.0)
    if np.any((batch <= 0.0) & (micro <= 0.0)):
        raise InexpressibleError("neither global_batch nor micro_batch is stated")
    micro = np.where(micro > 0.0, micro, batch / layout["dp"])
    accumulated = rows.extra("micro_num", 1.0)
    batch = np.where(batch > 0.0, batch, micro * layout["dp"] * accumulated)
    zero = int(rows.number("zero_stage", 0.0)[0])
    chunks = rows.number("vp", 1.0)
    engine = engine_of(rows)
    plan = Plan(
        **layout,
        micro_batch=micro,
        zero_stage=zero,
        shard_group=shard_group(rows) if zero else None,
        recompute=rows.text("recompute") or "none",
        schedule="interleaved" if np.any(chunks > 1.0) else "1f1b",
        chunks=chunks,
        compiled=engine.compiled,
        fused_norms=engine.fused_norms or None,
        fused_attention=engine.fused_attention,
        overlap_gradients=engine.overlap_gradients,
        overlap_parameters=engine.overlap_parameters,
        gradient_bytes=engine.gradient_bytes,
        sequence_parallel=None if rows.tag("sequence_parallel") == "" else rows.tag("sequence_parallel") == "1",
    )
    return Train(batch=batch, seq=sequence_length(rows)), with_formats(plan, rows, model, machine)


def shard_group(rows: Rows) -> Num | None:
    """Replicas that share states, where rows say it (InternEvo's zero1: -1 for all of them)."""
    group = rows.extra("zero1", -1.0)
    return np.where(group > 0.0, group, rows.number("dp", 1.0)) if np.any(group > 0.0) else None


def _figures(rows: Rows, model: Model, machine: Machine, run: Timed, tokens: Num) -> Figures:
    power = power_w(machine, run.busy_s, run.seconds)
    limit = rows.tag("power_limit_w")
    if power is not None and limit:
        power, slower = capped(machine, power, float(limit))
        run = replace(run, seconds=run.seconds * slower)
    each = tokens / machine.devices
    flop = flop_per_token(rows, model, sequence_length(rows))
    peak = machine.arithmetic("bf16").flop_per_s

    def rate(scale: Num) -> Figure:
        return Figure(each / run.seconds * scale, each / run.roofline * scale, run.spread)

    of_step = Figure(run.seconds, run.roofline, run.spread)
    epoch = _epoch(rows, run)
    figures: dict[str, Figure | None] = {
        "time_s": epoch if limit and rows.tag("dataset") else of_step,
        "step_s": of_step,
        "epoch_s": epoch,
        "throughput_tok_s_per_device": rate(1.0),
        "throughput_tok_s": rate(float(machine.devices)),
        "tflops_per_device": rate(flop * 1e-12),
        "mfu": rate(flop / peak),
    }
    if power is not None:
        figures["power_w"] = Figure(power, float(machine.device.power.tdp or 0.0), machine.coefficients.power.spread)
    return {name: figure for name, figure in figures.items() if figure is not None}


def _epoch(rows: Rows, run: Timed) -> Figure | None:
    """Seconds of an epoch where the data set's size is known."""
    examples = EXAMPLES.get(rows.tag("dataset"))
    if examples is None or not states(rows, "global_batch"):
        return None
    steps = np.ceil(examples / rows.number("global_batch"))
    return Figure(steps * run.seconds, steps * run.roofline, run.spread)
