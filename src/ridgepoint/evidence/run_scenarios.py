"""What rows of whole runs say about their scenario: model, machine, formats, layout — and how a figure is held."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import msgspec
import numpy as np

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.errors import RidgepointError
from ridgepoint.evidence.rows import InexpressibleError, Rows
from ridgepoint.formats import FORMATS
from ridgepoint.kernels.rules import BOUND
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.description import BytesPerSecond
from ridgepoint.machines.machine import Machine
from ridgepoint.machines.threads import PROCESSORS
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.numeric import Num
from ridgepoint.plan import Plan
from ridgepoint.scenario import find
from ridgepoint.work import Work


@dataclass(frozen=True)
class Figure:
    """A predicted metric in the table's unit, what the plain roofline says, and the spread that is claimed."""

    value: Num
    roofline: Num
    spread: Num


Figures = dict[str, Figure]


SAME: dict[str, dict[str, str]] = {
    "ncnn": {
        "squeezenet": "squeezenet1_1",
        **{"mobilenet": "mobilenetv1_100", "mobilenet_v2": "mobilenetv2_100", "mobilenet_v3": "mobilenetv3_large_100"},
        **{"shufflenet_v2": "shufflenet_v2_x1_0", "mnasnet": "mnasnet_100", "regnety_400m": "regnety_004"},
        "vision_transformer": "vit_base_patch32_384",
    },
    "zeus": {"shufflenetv2": "shufflenet_v2_x1_0_cifar100", "ncf": "ncf-ml1m"},
    "litgpt": {"stablelm-3b": "stablelm-base-alpha-3b"},
    "fastertransformer": {"swin-v1-tiny": "swin_tiny_patch4_window7_224", "swin-v2-tiny": "swinv2_tiny_window8_256"},
    "neusight": {"gpt-3-xl": "neusight-gpt-3-xl", "switch-xl-4": "neusight-switch-xl-4"},
}
"""What the sources of measurements call networks that the catalogue knows by another name. LitGPT's table says StableLM Alpha,
whose adapters have as many parameters as it states."""


@cache
def _named(name: str) -> Model | Network | RidgepointError:
    try:
        return find(name)
    except RidgepointError as error:
        return error


def found_model(rows: Rows) -> Model | Network:
    """The catalogue's model or network of that name.

    Errors: ``InexpressibleError`` where the catalogue has none: one reason for all of them.
    """
    name = rows.text("model")
    found = _named(SAME.get(rows.text("source"), {}).get(name, name))
    if isinstance(found, RidgepointError):
        raise InexpressibleError("the catalogue has no such model or network") from found
    return found


TUNED = "mlperf"
"""What rows of submissions to MLPerf's benchmarks name as their framework."""


def is_tuned(rows: Rows) -> bool:
    """Whether the rows are submissions to a serving benchmark, which chose themselves how many devices share a replica."""
    return rows.text("framework") == TUNED and rows.text("task") == "serve"


_GBIT = re.compile(r"(?:(\d+)\s*x\s*)?(\d+)\s*G")


def found_machine(rows: Rows) -> Machine:
    """The devices and nodes of the rows, with the network that they state; one device of tuned submissions."""
    devices, nodes = (int(rows.number(name, 1.0)[0]) for name in ("devices", "nodes"))
    name = rows.text("machine")
    try:
        find_machine(name)
    except RidgepointError:
        raise InexpressibleError(f"the catalogue has no machine '{name}'") from None
    if is_tuned(rows):
        return find_machine(name)
    per_node = devices // max(nodes, 1)
    largest = _node_size(name)
    if largest > 16 or per_node > largest:  # one link domain over several boards, or a size that no node has
        per_node = max(size for size in range(1, min(largest, devices) + 1) if devices % size == 0)
        nodes = devices // per_node
    machine = find_machine(name if devices == 1 else f"{nodes}x{per_node}x{name}{_bridged(name, nodes, per_node)}")
    machine = find_machine(f"{name}@{threads}") if (threads := _threads(rows, machine)) else machine
    stated = _GBIT.search(rows.tag("net"))
    if stated is None or nodes == 1:
        return machine
    gigabits = float(stated.group(1) or 1) * float(stated.group(2))
    return with_network(machine, gigabits * 1e9 / 8.0 / per_node)


BRIDGE = 0.6
"""Part of the host link that traffic between pairs keeps on its way through the processor."""


def _bridged(name: str, nodes: int, per_node: int) -> str:
    """What joins groups of devices whose sheet names no network, as a change of the machine: the links to their hosts.

    >>> _bridged("h100-nvl", 4, 2), _bridged("h100-sxm", 4, 8)
    ('@network=18.9GB/s', '')
    """
    alone = find_machine(name)
    host = alone.link("host")
    if nodes == 1 or alone.link("cluster") is not None or host is None:
        return ""
    return f"@network={BRIDGE * host[1].bandwidth / per_node / 1e9:g}GB/s"


LITTLE = "1"
"""ncnn's ``powersave`` for the slow cores alone; 0 is all cores, 2 the fast ones."""


def _threads(rows: Rows, machine: Machine) -> str:
    """The threads that a row on a processor states, as a change of the machine; more than it has cores share them."""
    stated = rows.tag("threads")
    if not stated or machine.device.kind not in PROCESSORS or rows.text("mode") != "cpu":
        return ""
    word = "little-threads" if rows.tag("powersave") == LITTLE else "threads"
    return f"{word}={min(int(float(stated)), machine.device.chip.multiprocessors)}"


def _node_size(name: str) -> int:
    link = find_machine(name).link("node")
    return int(link[1].devices or 8) if link is not None else 1


def with_network(machine: Machine, bytes_per_s: float) -> Machine:
    """The machine with that much network bandwidth per device."""
    found = machine.link("cluster")
    if found is None:
        return machine
    name, link = found
    links = dict(machine.device.links) | {name: msgspec.structs.replace(link, bandwidth=BytesPerSecond(bytes_per_s))}
    return replace(machine, device=msgspec.structs.replace(machine.device, links=links))


def degrees(rows: Rows, names: tuple[str, ...] = ("tp", "pp", "dp", "ep", "cp")) -> dict[str, Any]:
    """The parallel degrees that the rows state; 1 for the others, but that all devices take part.

    What stated degrees leave of the devices are replicas, where rows state none. Inference of which no degree is stated
    divides the model among all devices, as it must where it does not fit on one.
    """
    found = {name: rows.number(name, 1.0) for name in names}
    if states(rows, "dp"):
        return found
    devices = rows.number("devices", 1.0)
    if not rows.text("task").endswith("_step") and not any(states(rows, name) for name in ("tp", "pp", "ep", "cp")):
        found["tp"] = devices
    found["dp"] = np.maximum(np.floor(devices / (found["tp"] * found["pp"] * found["cp"])), 1.0)
    return found


def states(rows: Rows, column: str) -> bool:
    """Whether every row fills the column."""
    return not np.isnan(rows.table.numbers[column][rows.index]).any()


_PLANS: dict[str, dict[str, str | None]] = {
    "": {},
    "fp32": {"weights": "fp32"},
    "amp": {"weights": "fp16"},
    "w4a16": {"weights": "int4", "acts": "bf16"},
    "w4a16-gptq": {"weights": "int4", "acts": "fp16"},
    "w4a16-awq": {"weights": "int4", "acts": "fp16"},
    "w8a16": {"weights": "int8", "acts": "bf16"},
    "w8a8": {"weights": "int8", "acts": "int8"},
    "w4a8": {"weights": "int4", "acts": "fp8"},
    "int8-bnb": {"weights": "int8", "acts": "fp16"},
    "nf4": {"weights": "nf4", "acts": "bf16"},
    "nf4-dq": {"weights": "nf4", "acts": "bf16"},
    "mxfp4": {},
}


_WEIGHTS_ALONE = {f"int{bits}" for bits in range(1, 8)}
"""Arithmetics that no engine for language models computes in: AWQ, GPTQ and llama.cpp keep weights so."""


def formats(rows: Rows, model: Model | Network, machine: Machine) -> dict[str, str | None]:
    """``weights``, ``acts`` and ``kv`` of the plan that the rows' precision means.

    A quantized checkpoint keeps what it is stored in where the row names the same arithmetic (fp8 in blocks, MXFP4
    experts with 16-bit attention).
    """
    precision = rows.text("precision")
    if precision == "fp":  # 16 bits where the machine computes in them, else 32
        precision = "fp16" if machine.arithmetic("fp16").format in ("fp16", "bf16") else "fp32"
    if not precision and rows.text("task") == "train_step":
        precision = "fp32"
    found = dict(_PLANS[precision]) if precision in _PLANS else _same(rows, model, precision)
    if precision == "mxfp4" and machine.arithmetic("mxfp4").format == "fp4":
        found["acts"] = "mxfp8"  # engines on devices with 4-bit arithmetic read 8-bit activations there
    kv = rows.text("kv_dtype")
    return found | ({"kv": kv} if kv else {})


def _same(rows: Rows, model: Model | Network, precision: str) -> dict[str, str | None]:
    if precision not in FORMATS:
        raise InexpressibleError(f"precision {precision} is not known")
    quantized = "fp8_block" if "fp8_block" in (rows.tag("gemm_quant"), rows.tag("moe_quant")) else precision
    narrow = FORMATS[precision].bits < 16
    if FORMATS[precision].math in _WEIGHTS_ALONE or precision.startswith("q"):
        return {"weights": precision}  # what engines store so is widened to what they compute in
    if narrow and isinstance(model, Model) and FORMATS[model.precision.weights].math == FORMATS[precision].math:
        return {}
    return {"weights": quantized, "acts": quantized if narrow else None}


def with_formats(plan: Plan, rows: Rows, model: Model | Network, machine: Machine) -> Plan:
    """The plan with the formats of the rows."""
    return replace(plan, **formats(rows, model, machine))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Timed:
    """Expected seconds of a work, its plain roofline, and the spread of the expectation."""

    seconds: Num
    roofline: Num
    spread: Num
    busy_s: dict[str, Num]


def timed(work: Work, device: Work, machine: Machine, speed: Mapping[str, float] | None = None) -> Timed:
    """``work`` as it runs, resources ``speed`` times as fast, beside its device part at the physical limit."""
    cost = evaluate(work, machine, strict=True)
    bound = evaluate(device, machine, BOUND, strict=True)
    timing = cost.timing_at(speed) if speed else cost.timing
    seconds = np.maximum(timing.time_s, bound.time_s)
    return Timed(seconds, bound.time_s, cost.relative_spread, timing.busy_s)


def whole(values: Num) -> Num:
    """Nearest whole numbers, at least 1: sizes of tasks."""
    return np.maximum(np.rint(values), 1.0)
