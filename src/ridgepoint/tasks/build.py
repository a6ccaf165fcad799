"""From model, machine, task and plan to what an estimate needs: works, ledger, layout, and what had to be assumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ridgepoint.cost.ledger import Ledger
from ridgepoint.errors import RidgepointError
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.execution import Execution
from ridgepoint.models.networks.network import Network
from ridgepoint.numeric import Num
from ridgepoint.plan import Plan
from ridgepoint.tasks import Decode, Forward, Generate, Prefill, Sample, Task, Train
from ridgepoint.tasks.inference import decode_work, forward_work, generate_parts, has_host, prefill_work, with_host
from ridgepoint.tasks.layout import Layout, complete, execution
from ridgepoint.tasks.memory import TOKEN_BUDGET, ledger, trained_parameters
from ridgepoint.tasks.networks import build_network
from ridgepoint.tasks.training import step_work
from ridgepoint.work import Repeat, Seq, Work


@dataclass(frozen=True)
class Built:
    """One scenario (or a sweep of them) made concrete.

    ``device`` is the work of one device without the host that launches it: its physical limit is the run's. ``ttft`` and
    ``tpot`` are the parts that give time to first token and time per output token. ``tokens`` and ``samples`` are what the
    whole machine produces in the time of ``work``.
    """

    work: Work
    device: Work
    ledger: Ledger
    layout: Layout
    tokens: Num
    samples: Num
    ttft: Work | None = None
    tpot: Work | None = None
    assumptions: tuple[str, ...] = field(default=())


def build(model: Model | Network, machine: Machine, task: Task, plan: Plan) -> Built:
    """Works, ledger and assumptions of a scenario."""
    if isinstance(model, Network):
        return Built(**build_network(model, machine, task, plan))
    if isinstance(task, Sample):
        raise RidgepointError("bad_task", f"{model.name} is no diffusion model", "use --task generate or forward")
    if getattr(task, "inputs", None):
        raise RidgepointError("bad_size", f"{model.name} has no input sizes of its own", "give batch and lengths alone")
    training = isinstance(task, Train)
    layout = complete(model, machine, plan, training)
    run, notes = execution(model, plan, layout, training)
    parts = _BUILDERS[type(task)](model, machine, run, layout, task, plan)
    return Built(
        ledger=ledger(model, machine, run, layout, task, plan),
        layout=layout,
        assumptions=(*layout.assumptions, *notes, *model.notes, *_conventions(machine, task, plan, run)),
        **parts,
    )


def _captured(plan: Plan, default: bool) -> bool:
    return default if plan.graph_capture is None else plan.graph_capture


def _prefill(
    model: Model, machine: Machine, run: Execution, layout: Layout, task: Prefill, plan: Plan
) -> dict[str, Any]:
    device = prefill_work(model, run, layout, task.batch, task.prompt)
    work = with_host(device, machine, _captured(plan, False))
    tokens = task.batch * task.prompt
    return {"work": work, "device": device, "ttft": work, "tokens": tokens, "samples": task.batch}


def _decode(model: Model, machine: Machine, run: Execution, layout: Layout, task: Decode, plan: Plan) -> dict[str, Any]:
    source = task.context if model.encoder is not None else 0.0
    device = decode_work(model, run, layout, task.batch, task.context, source)
    work = with_host(device, machine, _captured(plan, True))
    return {"work": work, "device": device, "tpot": work, "tokens": task.batch, "samples": task.batch}


def _generate(
    model: Model, machine: Machine, run: Execution, layout: Layout, task: Generate, plan: Plan
) -> dict[str, Any]:
    first, step = generate_parts(model, run, layout, task)
    steps = np.maximum(task.output - 1.0, 0.0)
    ttft = with_host(first, machine, _captured(plan, False))
    tpot = with_host(step, machine, _captured(plan, True))
    return {
        "work": Seq(ttft, Repeat(steps, tpot)),
        "device": Seq(first, Repeat(steps, step)),
        "ttft": ttft,
        "tpot": tpot,
        "tokens": task.batch * task.output,
        "samples": task.batch,
    }


def _forward(
    model: Model, machine: Machine, run: Execution, layout: Layout, task: Forward, plan: Plan
) -> dict[str, Any]:
    device = forward_work(model, run, layout, task.batch, task.seq)
    work = with_host(device, machine, _captured(plan, False))
    return {"work": work, "device": device, "tokens": task.batch * task.seq, "samples": task.batch}


def _train(model: Model, machine: Machine, run: Execution, layout: Layout, task: Train, plan: Plan) -> dict[str, Any]:
    parameters = trained_parameters(model, run, layout)
    device = step_work(model, run, layout, task, plan, parameters)
    work = with_host(device, machine, _captured(plan, False))
    return {"work": work, "device": device, "tokens": task.batch * task.seq, "samples": task.batch}


_BUILDERS: dict[type, Callable[..., dict[str, Any]]] = {
    Prefill: _prefill,
    Decode: _decode,
    Generate: _generate,
    Forward: _forward,
    Train: _train,
}


def _conventions(machine: Machine, task: Task, plan: Plan, run: Execution) -> list[str]:
    """What the figures rest on, whatever the model: said with every estimate."""
    said = []
    if isinstance(task, Decode | Generate):
        captured = "in one captured graph" if _captured(plan, True) else "one by one from the host"
        launched = f"decode kernels are launched {captured}; " if has_host(machine) else ""
        said.append(f"{launched}scheduling and network time of a serving engine are not included")
    if isinstance(task, Prefill | Generate):
        captured = "in one captured graph" if _captured(plan, False) else "one by one from the host"
        launched = f"prefill kernels are launched {captured}; " if has_host(machine) else ""
        said.append(
            f"{launched}prefill computes logits for the last position of each prompt only; its activations in memory are "
            f"those of {TOKEN_BUDGET:,.0f} tokens at a time"
        )
    if not isinstance(task, Forward):
        said.append("causal attention counts exactly the query–key pairs that the mask allows")
    if isinstance(task, Train):
        size = "1 sequence (default)" if plan.micro_batch is None else "as given"
        said.append(
            f"micro-batch: {size}; optimizer {plan.optimizer}; ZeRO stage {plan.zero_stage}; recomputation {plan.recompute}"
        )
    said.append(
        f"formats: products read {run.formats.inputs}, activations {run.formats.stream}, "
        + ", ".join(f"{name} weights {fmt}" for name, fmt in run.formats.weights).replace("default weights", "weights")
        + ("" if isinstance(task, Train | Forward) else f", KV cache {run.formats.kv}")
    )
    return said
