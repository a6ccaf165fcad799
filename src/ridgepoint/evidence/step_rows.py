"""Single passes: prefill, decode, generation and forward rows, as the framework of the row runs them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.cost.energy import power_w
from ridgepoint.evidence.folding import folded
from ridgepoint.evidence.model_flop import pass_flop
from ridgepoint.evidence.power_samples import peak_w
from ridgepoint.evidence.rows import Rows
from ridgepoint.evidence.run_scenarios import Figure, Figures, Timed, degrees, timed, whole, with_formats
from ridgepoint.evidence.stacked import flat
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.plan import Plan
from ridgepoint.serving.engines import Engine, engines, fuses_attention, speeds, step, with_software
from ridgepoint.tasks import Decode, Forward, Prefill
from ridgepoint.tasks.build import build
from ridgepoint.tasks.inference import without_host
from ridgepoint.tasks.layout import resolve_formats
from ridgepoint.work import Repeat, Seq, Work

STAND_INS = {
    "forward": "tensorrt",
    **dict.fromkeys(("train_step", "finetune_step", "train_total"), "nemo"),
    **dict.fromkeys(("prefill", "decode", "generate", "serve"), "vllm"),
}
"""Today's usual software for a task: what rows of software that nobody described are predicted with."""


_FUSION = 0.2
"""What encoders' libraries fuse and copy that their names do not tell, all kernels together: standard deviation of log(time).
With it 92 % of 585 passes by five libraries lie in their 90 % intervals, 79 % without."""


def engine_of(rows: Rows) -> Engine:
    """The engine that the rows' framework and mode name, or the one that stands in for it."""
    return engines()[engine_name(rows)]


def engine_name(rows: Rows) -> str:
    """Its name in the catalogue."""
    name = described(*(rows.text(column) for column in ("source", "framework", "mode")))
    return name or stand_in(rows.text("task"), rows.text("mode"))


def described(source: str, framework: str, mode: str) -> str:
    """The name that the catalogue has for a row's software; empty where it has none.

    >>> described("splitwise", "vllm", ""), described("", "vLLM", "serve"), described("", "tgi", "")
    ('splitwise:vllm', 'vllm', '')
    >>> described("", "TensorRT-LLM", ""), described("", "transformers", "")
    ('trtllm', 'pytorch-eager')
    """
    framework = _ALSO.get(framework.lower(), framework.lower())
    name = f"{framework}-{mode}" if mode in ("eager", "compiled") else framework
    interpreted = f"{framework}-eager"  # what a framework does where nothing else is said
    return next((known for known in (f"{source}:{name}", name, framework, interpreted) if known in engines()), "")


_ALSO = {
    **dict.fromkeys(("tensorrt-llm", "tensorrt_llm", "trt-llm", "trt_llm"), "trtllm"),
    **dict.fromkeys(("transformers", "hf", "huggingface", "hf-transformers", "torch", "timm"), "pytorch"),
    **dict.fromkeys(("trt",), "tensorrt"),
}
"""How tables call software that the catalogue has."""


def stand_in(task: str, mode: str) -> str:
    """What predicts software that nobody described.

    >>> stand_in("serve", ""), stand_in("forward", "eager")
    ('vllm', 'pytorch-eager')
    """
    return f"pytorch-{mode}" if mode in ("eager", "compiled") else STAND_INS.get(task, "vllm")


def plan_of(rows: Rows, model: Model | Network, machine: Machine, engine: Engine) -> Plan:
    """Formats and layout of the rows, fused and captured as the engine does."""
    fused = fuses_attention(engine, machine, rows.text("precision"), float(np.min(rows.number("prompt", 1.0))))
    plan = Plan(fused_attention=fused, compiled=engine.compiled)
    if isinstance(model, Model):
        plan = replace(plan, **degrees(rows))
    return with_formats(plan, rows, model, machine)


def step_figures(rows: Rows, model: Model | Network, machine: Machine) -> Figures:
    """Latency and power of one pass, or of a whole generation, its first token and its further ones."""
    engine, task = engine_of(rows), rows.text("task")
    plan = plan_of(rows, model, machine, engine)
    software = with_software(machine, engine)

    def run(task: str) -> Figures:
        work, device = _WORKS[task](rows, model, machine, plan, engine)
        return _figures(rows, software, timed(work, device, software, speeds(software, engine)))

    figures = run(task)
    if isinstance(model, Model):
        figures |= _rates(rows, model, machine, resolve_formats(model, plan)[0].inputs, figures["time_s"])
    if task == "generate":
        first, each = run("prefill"), run("decode")
        figures |= {"ttft_ms": first["latency_ms"], "tpot_ms": each["latency_ms"]}
        if "power_w" in figures:
            _, reading = _prefill(rows, model, machine, plan, engine)
            mean = figures["power_w"]
            figures["power_peak_w"] = replace(mean, value=peak_w(reading, software, mean.value))
    elif task in _OF_TOKENS:
        figures[_OF_TOKENS[task]] = figures["latency_ms"]
    return figures


_OF_TOKENS = {"prefill": "ttft_ms", "decode": "tpot_ms"}
"""What one pass of these tasks takes, as a metric of tokens."""


def _figures(rows: Rows, machine: Machine, run: Timed) -> Figures:
    spread = np.hypot(run.spread, _FUSION if rows.text("task") == "forward" else 0.0)

    def at(scale: float) -> Figure:
        return Figure(run.seconds * scale, run.roofline * scale, spread)

    figures = {"time_s": at(1.0), "latency_ms": at(1e3)}
    if not np.isnan(rows.table.numbers["batch"][rows.index]).any():
        batch = rows.number("batch")
        figures["throughput_samples_s"] = Figure(batch / run.seconds, batch / run.roofline, spread)
    power = power_w(machine, run.busy_s, run.seconds)
    if power is not None:
        limit = machine.device.power.tdp
        spread = machine.coefficients.power.spread
        figures["power_w"] = Figure(power, float(limit or 0.0), spread)
    return figures


def _rates(rows: Rows, model: Model, machine: Machine, arithmetic: str, run: Figure) -> Figures:
    """Model FLOP/s of a device, and its part of the peak in the format that products read."""
    flop, peak = pass_flop(rows, model) / machine.devices, machine.arithmetic(arithmetic).flop_per_s

    def per_second(scale: float) -> Figure:
        return Figure(flop / run.value * scale, flop / run.roofline * scale, run.spread)

    return {"tflops_per_device": per_second(1e-12), "mfu": per_second(1.0 / peak)}


def _forward(rows: Rows, model: Model | Network, machine: Machine, plan: Plan, engine: Engine) -> tuple[Work, Work]:
    batch = rows.number("batch")
    if isinstance(model, Network):
        stated = rows.table.numbers["image_px"][rows.index]
        task = Forward(batch=batch, image_px=None if np.isnan(stated).any() else stated)
    else:
        # Without padding sequences are shorter; unfused attention puts it back, so that they are fewer.
        filled = batch * engine.filled
        sequences = batch if plan.fused_attention else whole(filled)
        task = Forward(batch=sequences, seq=whole(rows.number("prompt") * filled / sequences))
    device = build(model, machine, task, plan).device
    if engine.folded and isinstance(model, Model):
        kept = folded(list(flat(without_host(device))), plan.acts or "fp16")
        device = Seq(*(Repeat(count, op) for op, count in kept))
    return step(device, machine, engine, batch, decode=True), device


def _prefill(rows: Rows, model: Model | Network, machine: Machine, plan: Plan, engine: Engine) -> tuple[Work, Work]:
    batch, prompt = rows.number("batch"), rows.number("prompt")
    whole_output = rows.text("source") == "neusight"  # transformers' forward pass: logits for every position
    task = Forward(batch=batch, seq=prompt) if whole_output else Prefill(batch=batch, prompt=prompt)
    built = build(model, machine, task, plan)
    return step(built.device, machine, engine, batch, tokens=batch * prompt), built.device


def _decode(rows: Rows, model: Model | Network, machine: Machine, plan: Plan, engine: Engine) -> tuple[Work, Work]:
    batch = rows.number("batch")
    context = whole(rows.number("prompt") + rows.number("output", 0.0) / 2.0)
    built = build(model, machine, Decode(batch=batch, context=context), plan)
    return step(built.device, machine, engine, batch, decode=True), built.device


def _generate(rows: Rows, model: Model | Network, machine: Machine, plan: Plan, engine: Engine) -> tuple[Work, Work]:
    first, device_first = _prefill(rows, model, machine, plan, engine)
    each, device_each = _decode(rows, model, machine, plan, engine)
    steps = np.maximum(rows.number("output") - 1.0, 0.0)
    return Seq(first, Repeat(steps, each)), Seq(device_first, Repeat(steps, device_each))


_WORKS = {"forward": _forward, "prefill": _prefill, "decode": _decode, "generate": _generate}
