"""Networks without tokens: one forward pass, a whole sampling run, a training step — as work on one device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.cost.ledger import Ledger
from ridgepoint.errors import RidgepointError, unknown_name
from ridgepoint.formats import FORMATS
from ridgepoint.machines.machine import Machine
from ridgepoint.models.backward import backward, with_statistics
from ridgepoint.models.execution import Execution, Formats
from ridgepoint.models.networks.catalog import find_network, network_names
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.registry import play
from ridgepoint.models.networks.tape import Tape
from ridgepoint.models.pieces import is_one
from ridgepoint.models.state import peak_transient_bytes
from ridgepoint.numeric import Num
from ridgepoint.plan import Plan
from ridgepoint.tasks import Decode, Forward, Prefill, Sample, Task, Train
from ridgepoint.tasks.activations import micro_batch_words, recompute_words
from ridgepoint.tasks.blocks import again, blocks, kept_bytes, planned_blocks
from ridgepoint.tasks.inference import per_replica
from ridgepoint.tasks.layout import Layout
from ridgepoint.tasks.memory import device_ledger, runtime_bytes
from ridgepoint.tasks.trained import any_frozen
from ridgepoint.tasks.training import exchanges, micro_batch
from ridgepoint.tasks.updates import (
    Trained,
    at_stage,
    ever,
    gradient_exchange,
    optimizer_step,
    shown_stage,
    sometimes,
    training_state,
)
from ridgepoint.work import Overlap, Repeat, Seq, Work


def network_layout(net: Network, machine: Machine, plan: Plan) -> Layout:
    """Data parallelism over the machine's devices; networks are not cut otherwise, but for captured ones that already are.

    Errors: ``bad_plan`` for any other degree, or more replicas than devices.
    """
    for name in ("tp", "pp", "ep", "cp"):
        value = getattr(plan, name)
        if value is not None and np.any(np.asarray(value) > 1.0):
            raise RidgepointError(
                "bad_plan", f"{net.name} cannot be cut by {name}", "use --dp: each device runs whole samples"
            )
    ranks = float(net.option("ranks", 1.0))
    if machine.devices % ranks:
        raise RidgepointError(
            "bad_plan",
            f"{net.name} was captured for {ranks:g} ranks, and {machine.name} has {machine.devices} devices",
            f"use a machine with a multiple of {ranks:g} devices",
        )
    replicas = _own_replicas(net)
    tp, most = ranks / replicas, float(machine.devices // ranks) * replicas
    dp = plan.dp if plan.dp is not None else most
    if np.any(np.asarray(dp) % replicas):
        raise RidgepointError(
            "bad_plan",
            f"{net.name} was captured with {replicas:g} sharded replicas, and dp = {np.max(dp):g}",
            f"give --dp in multiples of {replicas:g}, or leave it out",
        )
    if np.any(np.asarray(dp) * tp > machine.devices):
        raise RidgepointError(
            "bad_plan", f"dp = {np.max(dp):g}, but {machine.name} has {machine.devices} devices", "lower --dp"
        )
    said = (
        ("data parallel over all devices (no --dp given): the batch is split among them",)
        if machine.devices > ranks
        else ()
    )
    own = (f"tensor parallel over {tp:g} devices, as captured",) if tp > 1.0 else ()
    if replicas > 1.0:
        own = (
            *own,
            f"parameters sharded over {replicas:g} replicas, as captured; gathers and reductions of gradients run beside the "
            "computation, but for the first and the last",
        )
    return Layout(tp, 1.0, dp, 1.0, 1.0, own if plan.dp is not None else (*own, *said))


def _own_replicas(net: Network) -> float:
    """Replicas among which a captured pass itself shares parameters and reduces gradients."""
    return float(net.option("replicas", 1.0))


def formats_of(net: Network, plan: Plan) -> tuple[str, str]:
    """(activations, weights): 16 bit, or what a captured model was written in, unless the plan says otherwise."""
    wide = plan.weights if plan.weights and FORMATS[plan.weights].bits >= 16 else None
    acts = plan.acts or wide or str(net.option("format", "fp16"))
    return acts, plan.weights or acts


def forward_tape(net: Network, plan: Plan, batch: Num, sizes: dict[str, Num], task: str = "forward") -> Tape:
    """One forward pass of ``batch`` samples, as ``task`` asks for it where a captured model tells them apart."""
    acts, weights = formats_of(net, plan)
    tape = Tape(batch, acts, weights, fused=plan.compiled, attention=plan.fused_attention)
    tape.task = task
    return play(net, tape, sizes)


Part = tuple[str, Work, Num]
"""Name, work on one device, how often."""


@dataclass(frozen=True)
class NetworkRun:
    """The parts of a network's task in order, with its ledger, layout and assumptions."""

    parts: tuple[Part, ...]
    ledger: Ledger
    layout: Layout
    assumptions: tuple[str, ...]


def build_network(net: Network, machine: Machine, task: Task, plan: Plan) -> NetworkRun:
    """Works, ledger, layout and assumptions of a network's task."""
    rule = _BUILDERS.get(type(task))
    if rule is None or (rule is _tokens and not net.tasks):
        tasks = "sample, forward or train" if net.is_sampler else " or ".join(net.tasks or ("forward", "train"))
        raise RidgepointError("bad_task", f"{net.name} has no task '{task.name}'", f"use --task {tasks}")
    layout = network_layout(net, machine, plan)
    acts, weights = formats_of(net, plan)
    if isinstance(task, Train) and plan.recompute == "planned" and not plan.recomputed:
        _check_training(net, plan)
        plan = _with_planned(net, machine, layout, task, plan)
    said = (
        *layout.assumptions,
        *net.notes,
        f"formats: activations {acts}, weights {weights}",
        "elementwise chains are fused (compiled)" if plan.compiled else "every elementwise step is a kernel (eager)",
        *_training_notes(task, plan),
    )
    parts, entries = rule(net, layout, task, plan)
    ledger = device_ledger(machine, task, plan, {**entries, "runtime": runtime_bytes(machine)})
    return NetworkRun(parts, ledger, layout, said)


def _training_notes(task: Task, plan: Plan) -> tuple[str, ...]:
    if not isinstance(task, Train):
        return ()
    batch = micro_batch_words(plan, "sample", "the device's whole batch (no --micro-batch given)")
    said = f"micro-batch: {batch}; optimizer {plan.optimizer}; ZeRO stage {shown_stage(plan)}"
    return (said if plan.recompute == "none" else f"{said}; recomputation {recompute_words(plan)}",)


def input_sizes(net: Network, task: Task) -> dict[str, Num]:
    """Input sizes that the task gives; the network's own are the defaults.

    Errors: ``bad_size`` for a name in the task's ``inputs`` that the network has no input of.
    """
    for name in getattr(task, "inputs", {}):
        if name not in dict(net.inputs):
            raise RidgepointError(
                "bad_size", f"{net.name} has no input '{name}'", f"it has {', '.join(dict(net.inputs))}"
            )
    return {name: value for name, value in task.sizes().items() if name in dict(net.inputs)}


Parts = tuple[tuple[Part, ...], dict[str, Num]]
"""The parts of a run, and its ledger's entries besides the runtime's."""


def _forward(net: Network, layout: Layout, task: Forward, plan: Plan) -> Parts:
    here = per_replica(task.batch, layout)
    tape = forward_tape(net, plan, here, input_sizes(net, task))
    return (("forward", tape.work, 1.0),), {"weights": _weight_bytes(tape), **_activations(tape)}


def _tokens(net: Network, layout: Layout, task: Prefill | Decode, plan: Plan) -> Parts:
    """A captured pass over a prompt, or a captured step of generation."""
    tape = forward_tape(net, plan, per_replica(task.batch, layout), input_sizes(net, task), task.name)
    return ((task.name, tape.work, 1.0),), {"weights": _weight_bytes(tape), **_activations(tape)}


def _activations(tape: Tape) -> dict[str, Num]:
    """What lives beside the weights: as the captured graph states it, or the most that one kernel has at hand."""
    if tape.stated is None:
        return {"activations": peak_transient_bytes(tape.work)}
    cache = {"kv": tape.stated.cache_bytes} if np.any(np.asarray(tape.stated.cache_bytes) > 0.0) else {}
    return {**cache, "activations": tape.stated.peak_bytes}


def _sample(net: Network, layout: Layout, task: Sample, plan: Plan) -> Parts:
    """Conditioning once, ``steps`` denoising passes (twice the batch under guidance), decoding once."""
    if not net.is_sampler:
        raise RidgepointError("bad_task", f"{net.name} does not sample", "use --task forward")
    here, sizes = per_replica(task.batch, layout), input_sizes(net, task)
    defaults = dict(net.sampling)
    steps = task.steps if task.steps is not None else defaults["steps"]
    passes = defaults.get("guidance", 1.0)
    tape = forward_tape(net, plan, here * passes, sizes)
    before = _conditioning(net, plan, here * passes)
    whole = {**dict(net.inputs), **sizes}
    after = [forward_tape(_part(name), plan, here, whole) for name in net.option("decoders", ())]
    parts: list[Part] = [("conditioning", Seq(*(t.work for t in before)), 1.0)] if before else []
    parts.append(("step", tape.work, steps))
    parts += [("decoding", Seq(*(t.work for t in after)), 1.0)] if after else []
    tapes = [*before, tape, *after]
    activations: Num = 0.0
    for t in tapes:
        activations = np.maximum(activations, peak_transient_bytes(t.work))
    entries = {"weights": sum(_weight_bytes(t) for t in tapes), "activations": activations}
    return tuple(parts), entries


def _conditioning(net: Network, plan: Plan, batch: Num) -> list[Tape]:
    """The prompt's encoders, each over the ``conditioning_tokens`` that this pipeline gives it (or its own default)."""
    names = net.option("conditioning", ())
    tokens = net.option("conditioning_tokens", (None,) * len(names))
    sizes: list[dict[str, Num]] = [{} if count is None else {"tokens": float(count)} for count in tokens]
    return [forward_tape(_part(name), plan, batch, size) for name, size in zip(names, sizes, strict=True)]


def _train(net: Network, layout: Layout, task: Train, plan: Plan) -> Parts:
    """Forward, backward, exchange of gradients, update. Tables of which only looked-up rows change have neither dense
    gradients nor optimizer states (a row-wise optimizer keeps one number per row).
    """
    _check_training(net, plan)
    replicas = _own_replicas(net)
    outside = replace(layout, tp=layout.tp * replicas, dp=layout.dp / replicas)
    whole = plan if plan.micro_batch is not None else replace(plan, micro_batch=per_replica(task.batch, layout))
    size, count = micro_batch(task, whole, layout)
    tape = forward_tape(net, plan, size, input_sizes(net, task), "train")
    own = tape.stated.backward if tape.stated is not None else None
    _refuse_captured(net, tape, plan)
    forward = with_statistics(tape.work)
    back = own or backward(forward)
    chain = blocks(forward)
    runs_again = again(chain, forward, plan)
    parameters = Trained(tape.total_parameters - tape.sparse_parameters - tape.untrained_parameters)
    exchange = [] if is_one(outside.dp) else [gradient_exchange(outside, plan, parameters)]
    together = Overlap(back, *exchange) if plan.overlap_gradients else Seq(back, *exchange)
    last = sometimes(plan, together, back)
    update = optimizer_step(_execution(tape), outside, plan, parameters)
    device: Work = Seq(Repeat(count - 1.0, Seq(forward, *runs_again, back)), forward, *runs_again, last, update)
    if not is_one(outside.dp) and ever(plan, 1.0):
        whole_parameters = Trained(tape.total_parameters)
        hidden, exposed = exchanges(_execution(tape), outside, plan, whole_parameters, parameters, count)
        device = Seq(Overlap(device, *hidden), *exposed)
    entries = {
        "weights": _weight_bytes(tape) / at_stage(plan, 3.0, outside.dp, 1.0),
        **training_state(_execution(tape), outside, plan, parameters),
        "activations": tape.stated.peak_bytes if tape.stated and own else kept_bytes(chain, plan),
    }
    return (("train", device, 1.0),), entries


def _check_training(net: Network, plan: Plan) -> None:
    """Refuse what needs the layers of a transformer."""
    asked = {
        "trainable or trained_layers": any_frozen(plan),
        "offload_params": plan.offload_params != "none",
        "offload_activations": plan.offload_activations != "none",
        "optimizer_rank": bool(np.any(np.asarray(plan.optimizer_rank) > 0.0)),
        "vocab_parallel": plan.vocab_parallel,
        "stages": plan.stages != "uniform",
        "dropout": plan.dropout > 0.0,
        "rank_order": plan.rank_order != "tp-cp-dp-pp",
        "shard_group": plan.shard_group is not None,
        "lengths": plan.lengths is not None,
        "jitter": bool(np.any(np.asarray(plan.jitter) > 0.0)),
    }
    for name in (name for name, given in asked.items() if given):
        raise RidgepointError("bad_plan", f"{name} is not modelled for the network {net.name}", "leave it out")
    if plan.recompute == "selective":
        raise RidgepointError(
            "bad_plan",
            f"selective recomputation is of a transformer's attention scores; {net.name} is a network",
            "use --recompute full, sqrt or planned: its blocks run again",
        )


def _with_planned(net: Network, machine: Machine, layout: Layout, task: Train, plan: Plan) -> Plan:
    """``plan`` with the blocks that run again so that the step fits."""
    _, entries = _train(net, layout, task, replace(plan, recompute="none"))
    without = device_ledger(machine, task, plan, {**entries, "runtime": runtime_bytes(machine)})
    excess = without.total_bytes - without.usable_bytes
    if np.ndim(excess):
        raise RidgepointError(
            "bad_plan", "planned recomputation is found for one scenario at a time", "sweep over none, sqrt or full"
        )
    whole = plan if plan.micro_batch is not None else replace(plan, micro_batch=per_replica(task.batch, layout))
    size, _ = micro_batch(task, whole, layout)
    tape = forward_tape(net, plan, size, input_sizes(net, task), "train")
    _refuse_captured(net, tape, plan)
    chain = blocks(with_statistics(tape.work))
    chosen = planned_blocks(chain, float(excess), lambda work: float(evaluate(work, machine).time_s))
    return replace(plan, recomputed=chosen)


def _refuse_captured(net: Network, tape: Tape, plan: Plan) -> None:
    """A captured step says itself what it keeps."""
    if tape.stated is not None and tape.stated.backward is not None and plan.recompute != "none":
        raise RidgepointError(
            "bad_plan",
            f"{net.name} is a captured training step, whose capture says what it keeps: --recompute does not change it",
            "use `ridgepoint plan recompute FILE.work.json --on MACHINE --memory SIZE`, or capture it with checkpointing",
        )


def _execution(tape: Tape) -> Execution:
    return Execution(Formats((("default", tape.weights),), stream=tape.acts))


def _part(name: str) -> Network:
    found = find_network(name)
    if found is None:
        raise unknown_name("model", name, network_names())
    return found


def _weight_bytes(tape: Tape) -> float:
    return tape.total_parameters * FORMATS[tape.weights].bytes


_BUILDERS: dict[type, Callable[..., Parts]] = {
    Forward: _forward,
    Sample: _sample,
    Train: _train,
    Prefill: _tokens,
    Decode: _tokens,
}
