"""Rows of networks without tokens: forward passes and training steps of image models and recommenders.

All networks of a table on one machine are evaluated together (``stacked``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ridgepoint.cost.energy import capped, power_w
from ridgepoint.errors import RidgepointError
from ridgepoint.evidence.autocast import autocast
from ridgepoint.evidence.datasets import ASSUMED, EXAMPLES, ITERATION_S, LOADER_S, SIZES
from ridgepoint.evidence.derived_figures import completed
from ridgepoint.evidence.folding import folded
from ridgepoint.evidence.gradients import eager_gradients
from ridgepoint.evidence.optimizers import of_network, update_s
from ridgepoint.evidence.rows import InexpressibleError, Rows
from ridgepoint.evidence.run_scenarios import Figure, Figures, with_formats
from ridgepoint.evidence.stacked import Totals, flat, totals
from ridgepoint.evidence.step_rows import engine_of
from ridgepoint.kernels.unknown import rules_of
from ridgepoint.machines.machine import Machine
from ridgepoint.models.networks.network import Network
from ridgepoint.numeric import Array, Num
from ridgepoint.ops import Attention, Conv, Gemm
from ridgepoint.plan import Plan
from ridgepoint.serving.engines import Engine, dispatch_s, fuses_attention, with_software
from ridgepoint.tasks import Forward, Train
from ridgepoint.tasks.build import build
from ridgepoint.tasks.inference import has_host, kernel_count, without_host
from ridgepoint.tasks.networks import formats_of
from ridgepoint.work import Counted

PIXELS = {"ncnn": {"efficientnetv2_b0": 224.0}}
"""Sizes that a source's own program feeds where its rows state none and the network's usual one is another."""

_UNFUSED = ("pt111", "pt112", "pt113")
"""PyTorch before 2.0 has no fused attention."""


_SPREAD = {"forward": 0.28, "train_step": 0.35}
"""Standard deviation of log(measured / predicted) of whole networks: errors of single convolutions cancel in part. Where
convolutions were fitted to networks (processors, ncnn's shaders), it is their table's."""


@dataclass(frozen=True)
class Passes:
    """Rows with the work of one pass (or step), what their host adds, and the seconds in which examples are handed over."""

    rows: Rows
    ops: list[Counted]
    launches: Num
    engine: Engine
    update_s: Num = 0.0
    loader_s: Num = 0.0
    plain: tuple[Counted, ...] = ()
    """The ops without what eager code adds to gradients, each as often as it computes something."""
    arithmetic: str = "fp16"
    """The format whose peak MFU is a part of."""

    @property
    def size(self) -> int:
        """How many rows."""
        return len(self.rows)


def passes(rows: Rows, net: Network, machine: Machine) -> Passes:
    """The work of a group of rows of one network."""
    engine = engine_of(rows)
    if rows.text("mode") == "vulkan" and rows.text("precision") == "int8":
        raise InexpressibleError("int8 layers of ncnn run on the processor beside the GPU, which the row does not name")
    batch = rows.number("batch")
    stated = rows.table.numbers["image_px"][rows.index]
    own = PIXELS.get(rows.text("source"), {}).get(rows.text("model"))
    stated = np.where(np.isnan(stated), own, stated) if own is not None else stated
    sizes = None if np.isnan(stated).any() else stated
    training = rows.text("task") == "train_step"
    if training and machine.devices > 1:
        raise InexpressibleError(
            "training of a network on several devices is not read: gradients travel beside its passes"
        )
    plan = Plan(
        compiled=engine.compiled,
        fused_attention=fuses_attention(engine, machine, rows.text("precision")) and rows.tag("torch") not in _UNFUSED,
        optimizer="sgd",
        micro_batch=batch if training else None,
    )
    plan = with_formats(plan, rows, net, machine)
    inputs = SIZES.get(rows.tag("dataset"), {})
    task = Train(batch=batch, image_px=sizes, inputs=inputs) if training else Forward(batch=batch, image_px=sizes)
    ops = list(flat(without_host(build(net, machine, task, plan).device)))
    longest = max((float(np.max(op.q_len)) for op, _ in ops if isinstance(op, Attention)), default=0.0)
    if longest > engine.longest_fused:
        ops = list(flat(without_host(build(net, machine, task, replace(plan, fused_attention=False)).device)))
    if rows.text("precision") == "amp" and not engine.compiled:
        ops = autocast(ops)
    if engine.folded and not training:
        ops = folded(ops, formats_of(net, plan)[0])
    plain = tuple(ops)
    launches = 1.0 if engine.captured else sum(count * kernel_count(op) for op, count in ops)
    update: Num = 0.0
    loader = LOADER_S.get(rows.tag("dataset"), 0.0) * batch
    if training and not engine.compiled:
        update = update_s(rows, of_network(ops), machine) + (ITERATION_S if rows.tag("dataset") else 0.0)
        ops = list(eager_gradients(ops, rows.tag("layout")))
    return Passes(rows, ops, launches, engine, update, loader, plain, formats_of(net, plan)[0])


def network_figures(groups: list[tuple[Rows, Network, Machine]]) -> list[Figures | str]:
    """Figures of every group, or the reason why there are none."""
    found: list[Figures | str] = ["" for _ in groups]
    together: dict[str, list[tuple[int, Passes, Machine]]] = {}
    for place, (rows, net, machine) in enumerate(groups):
        try:
            work = passes(rows, net, machine)
            software = with_software(machine, work.engine)
            together.setdefault(f"{machine.name} {work.engine.title}", []).append((place, work, software))
        except (InexpressibleError, RidgepointError) as error:
            found[place] = str(error).split("\n")[0]
    for members in together.values():
        machine = members[0][2]
        try:
            every = totals([(one.ops, one.size) for _, one, _ in members], machine)
        except (InexpressibleError, RidgepointError) as error:
            for place, _, _ in members:
                found[place] = str(error).split("\n")[0]
            continue
        start = 0
        for place, one, _ in members:
            part = slice(start, start + one.size)
            found[place] = _figures(one, machine, every, part)
            start += one.size
    return found


def pass_seconds(one: Passes, machine: Machine, every: Totals, part: slice) -> Array:
    """Seconds of a pass: what its kernels take, what the host needs to launch them, or what its examples wait for."""
    host = machine.coefficients.host
    each = host.graph_launch_s if one.engine.captured else dispatch_s(one.engine, machine)
    on_host = one.launches * each + one.update_s if has_host(machine) else 0.0
    return np.asarray(
        np.maximum.reduce(np.broadcast_arrays(every.seconds[part], on_host, every.bound_s[part], one.loader_s))
    )


def _figures(one: Passes, machine: Machine, every: Totals, part: slice) -> Figures:
    seconds = pass_seconds(one, machine, every, part)
    table = machine.coefficients.conv
    spread = table.spread if table.channels_half > 0.0 else _SPREAD[one.rows.text("task")]
    batch = one.rows.number("batch")
    busy = {name: used[part] for name, used in every.busy_s.items()}
    power, slower = _power(one.rows, machine, busy, seconds)
    seconds = seconds * slower
    bound = every.bound_s[part]
    figures = {
        "latency_ms": Figure(seconds * 1e3, bound * 1e3, spread),
        "step_s": Figure(seconds, bound, spread),
        "throughput_samples_s": Figure(batch / seconds, batch / bound, spread),
    }
    if power is not None:
        limit = machine.device.power.tdp or 0.0
        figures["power_w"] = Figure(power, float(limit), machine.coefficients.power.spread)
    if any(one.rows.table.text["metric"][i] in _RATES for i in one.rows.index):
        figures |= _rates(one, machine, seconds, bound, spread)
    epoch = EXAMPLES.get(one.rows.tag("dataset"))
    if epoch is not None:
        steps, wider = np.ceil(epoch / batch), ASSUMED.get(one.rows.tag("dataset"), 1.0)
        figures["time_s"] = figures["epoch_s"] = Figure(steps * seconds, steps * bound, spread * wider)
    return completed(figures, one.rows, float(machine.devices))


_RATES = ("mfu", "tflops_per_device")


def _rates(one: Passes, machine: Machine, seconds: Array, bound: Array, spread: float) -> Figures:
    """FLOP/s of products, convolutions and attention, forwards and backwards, and their part of the peak."""
    flop = sum((count * rules_of(op).flop(op) for op, count in one.plain if isinstance(op, _PRODUCTS)), np.float64(0.0))
    peak = machine.arithmetic(one.arithmetic).flop_per_s
    return {
        "tflops_per_device": Figure(flop / seconds * 1e-12, flop / bound * 1e-12, spread),
        "mfu": Figure(flop / seconds / peak, flop / bound / peak, spread),
    }


_PRODUCTS = (Gemm, Conv, Attention)


def _power(rows: Rows, machine: Machine, busy: dict[str, Array], seconds: Array) -> tuple[Num | None, Num]:
    """Mean power, and how much slower the clock of a power limit makes the pass."""
    power = power_w(machine, busy, seconds)
    stated = rows.tag("power_limit_w")
    if power is None or not stated:
        return power, 1.0
    return capped(machine, power, float(stated))
