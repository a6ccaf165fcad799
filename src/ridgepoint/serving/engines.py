"""Serving engines and frameworks: what they add to a pass beside the kernels, as data.

One step of an engine is

    step = max(device, launches) + step_s + sequence_s · sequences + token_s · prompt tokens

where launches are one captured graph or ``dispatch_s`` per kernel, and the rest is scheduling, input preparation, sampling
bookkeeping and detokenization that nothing hides. All of it is host time, so that it shows as such in the shares.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

import msgspec

from ridgepoint.machines.coefficients import Provenance
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Num
from ridgepoint.ops import Host
from ridgepoint.tasks.inference import kernel_count
from ridgepoint.work import Overlap, Seq, Work

BINARY = 1.0575
"""Sheets count memory in decimal units where the part holds binary ones; 1.5 % of it is not visible ("80 GB" are 84.6e9)."""


class Spread(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What serving adds to the kernels' spread of log(measured / predicted), by quantity; vLLM's where nothing is said."""

    ttft: float = 0.38
    """Of first tokens: how requests arrive, queue and are batched."""
    tpot: float = 0.13
    rate: float = 0.21
    """Of tokens or requests per second."""
    power: float = 0.14
    energy: float = 0.22
    provenance: str = ""


class Engine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an engine runs passes."""

    title: str
    provenance: Provenance
    serves: bool = False
    """Whether it schedules requests, so that deployments of it can be simulated."""
    captured: bool = True
    """Whether decode steps (and whole fused engines) are launched as one graph."""
    compiled: bool = True
    """Whether elementwise chains are fused."""
    fused_norms: bool = False
    """Whether its eager code has RMS norms of one kernel."""
    fused_attention: bool = True
    unfused: tuple[str, ...] = ()
    """Architecture families and formats for which it has no fused attention all the same."""
    longest_fused: float = 1e9
    """Longest sequence that its fused attention takes."""
    dispatch_s: float = 0.0
    """Host time per kernel where nothing is captured; 0: the machine's own, of compiled or of interpreted code."""
    step_s: float = 0.0
    """Serial host time of one step."""
    sequence_s: float = 0.0
    """Serial host time per running sequence of a step."""
    token_s: float = 0.0
    """Serial host time per prompt token of a step: inputs built token by token."""
    request_s: float = 0.0
    """Host time from the arrival of a request to its first pass, and from there to the user."""
    hidden_launch: dict[str, float] = {}
    """Part of every kernel's start that its predecessor hides (programmatic dependent launch), by architecture family."""
    hidden_links: float = 0.0
    """Part of the traffic between devices of a node that runs beside products (overlapped tensor parallelism)."""
    overlap_gradients: bool = True
    """Whether gradients are exchanged beside the last backward pass."""
    overlap_parameters: bool = True
    """Whether weights that are shared among replicas (ZeRO) are gathered beside the passes."""
    gradient_bytes: float | None = None
    """Bytes of an exchanged gradient value; as kept where None."""
    fused_loss: bool = False
    """Whether the loss overwrites the logits with their gradient instead of making 32-bit copies."""
    coefficients: dict[str, dict[str, Any]] = {}
    """What kernels of its time reach where they differ from the machine's tables: table → values."""
    gpu_coefficients: dict[str, dict[str, Any]] = {}
    """The same of its kernels for GPUs alone, where CPUs run other ones."""
    experts: dict[str, dict[str, str]] = {}
    """Whose grouped products it takes by default for experts of a stored format, by architecture family: the library's entry
    among the machine's ``grouped`` fractions; their ``default`` where nothing is said."""
    folded: bool = False
    """Whether norms over batches and simple activations are part of the convolutions before them (inference engines)."""
    token_budget: float = 8192.0
    """Prompt tokens that one step takes in."""
    max_sequences: float = 1e9
    """Sequences that run at once at most, by the engine's default."""
    memory_fraction: float = 0.9
    """Part of the device's memory that the engine takes."""
    mixed: bool = True
    """Whether prompts ride in decode steps, so that both read the weights once."""
    filled: float = 1.0
    """Part of padded positions that are computed: less where padding is removed (on data half as long as the maximum)."""
    spread: Spread = Spread()
    """How uncertain its figures are beside the kernels."""
    lag: float = 0.0
    """Decode steps between the one that makes a token and the one after which it is sent."""
    reserves: bool = False
    """Whether a request is admitted only when its whole output would fit, too; else it grows, and the mean counts."""
    kv: str = ""
    """Format of the cache where the weights are stored in 8 bits or fewer; empty: 16 bits."""


@cache
def engines() -> dict[str, Engine]:
    """All engines of the catalogue by name."""
    raw = tomllib.loads((resources.files("ridgepoint.catalog") / "engines.toml").read_text("utf-8"))
    return {name: msgspec.convert(values, Engine) for name, values in raw.items()}


@cache
def servers() -> tuple[str, ...]:
    """Names of the engines whose deployments can be simulated.

    >>> servers()[:3]
    ('vllm', 'sglang', 'trtllm')
    """
    return tuple(name for name, engine in engines().items() if engine.serves)


def step(
    device: Work, machine: Machine, engine: Engine, sequences: Num, decode: bool = False, tokens: Num = 0.0
) -> Work:
    """One pass of the engine: the device's work beside its launches, then the host's own part for ``sequences`` running
    ones and ``tokens`` new tokens of prompts.
    """
    if machine.device.kind in ("cpu", "mcu"):
        return device
    host = machine.coefficients.host
    if engine.captured and decode:
        launches = Host(seconds=host.graph_launch_s, label="host.graph_launch")
    else:
        each = dispatch_s(engine, machine)
        launches = Host(seconds=kernel_count(device) * each, label="host.dispatch")
    serial = engine.step_s + engine.sequence_s * sequences + engine.token_s * tokens
    return Seq(Overlap(device, launches), Host(seconds=serial, label="host.engine"))


def fuses_attention(engine: Engine, machine: Machine, format_name: str, length: float = 1.0) -> bool:
    """Whether the engine has fused attention for a format on this machine, and for sequences of this length."""
    lacking = {machine.device.family, format_name} & set(engine.unfused)
    return engine.fused_attention and not lacking and length <= engine.longest_fused


def dispatch_s(engine: Engine, machine: Machine) -> float:
    """Host time to start one kernel: the engine's own, or the machine's for compiled or interpreted code."""
    host = machine.coefficients.host
    return engine.dispatch_s or (host.dispatch_s if engine.compiled else host.eager_s)


def speeds(machine: Machine, engine: Engine) -> dict[str, float]:
    """How much faster than described the engine makes resources: kernel launches that overlap the kernel before."""
    hidden = engine.hidden_launch.get(machine.device.family, 0.0)
    found = {"launch": 1.0 / (1.0 - hidden)} if hidden else {}
    link = machine.link("node")
    if engine.hidden_links and link is not None:
        found[link[0]] = 1.0 / (1.0 - engine.hidden_links)
    return found


def with_software(machine: Machine, engine: Engine) -> Machine:
    """The machine with the coefficients of the engine's own kernels."""
    found = engine.coefficients
    if engine.gpu_coefficients and not machine.coefficients.device.processor:
        found = found | engine.gpu_coefficients
    if not found:
        return machine
    device = machine.device
    tables = dict(device.coefficients)
    for name, values in found.items():
        tables[name] = dict(tables.get(name, {})) | values
    return replace(machine, device=msgspec.structs.replace(device, coefficients=tables))


def experts_of(engine: Engine, machine: Machine, stored: str) -> str:
    """The library that the engine takes for experts ``stored`` in a format on this machine; empty where nothing is said."""
    return engine.experts.get(machine.device.family, {}).get(stored, "")


def with_experts(machine: Machine, engine: Engine, stored: str) -> Machine:
    """The machine with the grouped products of the library that the engine takes for experts ``stored`` in a format.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> h100 = find_machine("h100-sxm")
    >>> triton = with_experts(h100, engines()["vllm"], "bf16").coefficients.gemm.grouped["default"]
    >>> triton == h100.coefficients.gemm.grouped["triton-bf16"] < h100.coefficients.gemm.grouped["default"]
    True
    """
    entry = experts_of(engine, machine, stored)
    if not entry:
        return machine
    table = msgspec.to_builtins(machine.coefficients.gemm)
    own = {
        name: table[name] | {"default": table[name][entry]}
        for name in ("grouped", "grouped_memory")
        if entry in table[name]
    }
    coefficients = machine.device.coefficients | {"gemm": table | own}
    return replace(machine, device=msgspec.structs.replace(machine.device, coefficients=coefficients))
