"""Keys and values behind the device's memory: in host memory, in storage, or in memory that computes attention itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.kernels.attention import read_keys
from ridgepoint.machines.description import Bytes, BytesPerSecond, MemoryLevel
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import LatentAttention, SelfAttention
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Transfer
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.techniques.attended import attends, key_bytes, steps_of, with_attention
from ridgepoint.techniques.conditions import every, generates, has_host, has_mixer, transformer
from ridgepoint.techniques.products import summed
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, scaled_entries, with_entries, with_phases
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Overlap, Seq, Work, mapped

_caches = has_mixer(SelfAttention, LatentAttention)


def _only_attention(work: Work, become: Callable[[Attention], Work]) -> Work:
    """The work with its self-attention replaced and everything else left out."""
    return mapped(work, lambda op: become(op) if isinstance(op, Attention) and attends(op) else Seq())


@technique(
    "kv-offload",
    title="keys and values kept in host memory or storage, read for every step",
    mechanism=("kv_offload", "offload_cpu", "offload_ssd"),
    papers=("triforce", "instinfer", "long-context-peak-analysis"),
    quality="exact",
    grade="exact",
    cannot=every(transformer, generates, _caches, has_host),
    parameters=(
        Parameter("tier", "host", "where they lie", choices=("host", "storage")),
        Parameter("resident", 0.0, "part of the cache that stays on the device", 0.0, 1.0),
        Parameter("overlapped", True, "a layer's keys and values arrive while the one before computes"),
    ),
    occupies=("kv place",),
    neutral={"resident": 1.0},
)
def kv_offload(given: Scenario, values: Values) -> Scenario:
    """Each step fetches the part of the cache that is not ``resident`` over the host's link, layer by layer.

    step ≥ (1 − resident) · KV bytes / link bandwidth: a slow way that makes long contexts or large batches fit. A prefill
    writes the cache out beside its work. The device holds buffers for two layers. Policies that read less (page-selection)
    fetch less.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("llama-2-7b", on="rtx-4090", task=rp.Decode(batch=1, context=32768), apply=apply)
    >>> away = run("kv-offload")
    >>> run().memory.fits, away.memory.fits, away.tpot_s > run().tpot_s
    (False, True, True)
    """
    return edited(given, "kv-offload", _offloaded, values)


def _offloaded(built: Built, given: Scenario, values: Values) -> Built:
    away = 1.0 - values["resident"]

    def moved(op: Attention, direction: str) -> Work:
        keys = read_keys(op) if direction == "read" else op.q_len
        size = away * key_bytes(op, keys)
        return Transfer(bytes=size, tier=values["tier"], direction=direction, label=f"{op.label}.kv_{direction}")

    def change(phase: Phase) -> Phase:
        direction = "read" if phase.role == "next" else "write"
        copies = _only_attention(phase.work, lambda op: moved(op, direction))
        if np.all(np.asarray(away) == 0.0):
            return phase
        joined = Overlap(phase.work, copies) if values["overlapped"] else Seq(phase.work, copies)
        return replace(phase, work=joined)

    def count(op: Op) -> Num:
        return 1.0 if isinstance(op, Attention) and attends(op) else 0.0

    layers = np.maximum(summed(built.phases[-1].work, count) / built.layout.pp, 1.0)
    size = built.ledger["kv"]
    changed = with_entries(
        with_phases(built, change), kv=size * (1.0 - away), kv_buffer=plain(away * size * 2.0 / layers)
    )
    said = f"{np.max(away * size) / 1e9:.1f} GB of keys and values per device lie in {values['tier']}"
    return assumed(changed, said)


def with_tier(machine: Machine, name: str, label: str, bytes_per_s: float, capacity: float) -> Machine:
    """``machine`` whose devices have a further memory behind the main one, with a bandwidth of its own.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> with_tier(find_machine("l40s"), "near_memory", "computational storage", 5e10, 8e12).tiers["near_memory"].bytes_per_s
    50000000000.0
    """
    level = MemoryLevel(label, "tier", Bytes(capacity), BytesPerSecond(bytes_per_s))
    device = machine.device
    return replace(machine, device=msgspec.structs.replace(device, memory={**device.memory, name: level}))


def _too_small(given: Scenario, values: Values) -> str:
    held = float(np.max(given.build().ledger["kv"])) / 1e9
    room = values["capacity"]
    return f"a cache of {held:.1f} GB per device does not fit into {room:g} GB" if held > room else ""


@technique(
    "near-memory-attention",
    title="attention inside the drives or memories that hold the cache",
    mechanism=("near_memory", "kv_offload", "offload_ssd"),
    papers=("instinfer", "fenghuang", "lamina"),
    quality="exact (InstInfer's sparse variant: near)",
    grade="exact",
    cannot=every(transformer, generates, _caches, has_host, _too_small),
    parameters=(
        Parameter("bandwidth", 12.8, "what the memories deliver inside, per device of the machine", 0.001, 1e6, "GB/s",
                  one_value=True),
        Parameter("capacity", 8000.0, "what they hold, per device of the machine", 0.001, 1e9, "GB", one_value=True),
        Parameter("read", 1.0, "part of the keys and values that attention reads there (1: dense)", 0.0, 1.0),
    ),
    occupies=("kv place", "kv reads"),
)  # fmt: skip
def near_memory_attention(given: Scenario, values: Values) -> Scenario:
    """Decode attention runs where the cache lies: keys and values are read inside at ``bandwidth``, queries and outputs cross.

    step = products on the device, then per layer max(internal read) between sending q, k, v and receiving the outputs over the
    host's link. Compared with fetching the cache over that link (kv-offload) it gains internal over link bandwidth; compared
    with a cache in the device's own memory it loses. The units there are taken to keep up with their memory. The device holds
    no cache; a prefill computes attention itself and sends keys and values out.

    >>> import ridgepoint as rp
    >>> def tpot(*apply: str) -> float:
    ...     task = rp.Decode(batch=32, context=8192)
    ...     return rp.estimate("llama-2-13b", on="a6000", task=task, apply=apply).tpot_s
    >>> bool(tpot("near-memory-attention:bandwidth=40") < tpot("kv-offload:tier=storage"))
    True
    """
    machine = with_tier(
        given.machine, "near_memory", "memory that computes", values["bandwidth"] * 1e9, values["capacity"] * 1e9
    )
    return edited(replace(given, machine=machine), "near-memory-attention", _inside, values)


def _inside(built: Built, given: Scenario, values: Values) -> Built:
    def step(op: Attention) -> Work:
        width = FORMATS[op.acts].bytes
        query = op.batch * op.q_len * op.heads * op.head_dim * width
        fresh = key_bytes(op, op.q_len)
        out = (
            op.batch
            * op.q_len
            * op.heads
            * plain(np.where(np.asarray(op.value_dim) > 0, op.value_dim, op.head_dim))
            * width
        )
        read = values["read"] * key_bytes(op, read_keys(op))
        return Seq(
            Transfer(bytes=query + fresh, tier="host", direction="write", label=f"{op.label}.send"),
            Transfer(bytes=read, tier="near_memory", direction="inside", label=op.label),
            Transfer(bytes=out, tier="host", label=f"{op.label}.receive"),
        )

    def sent(phase: Phase) -> Phase:
        if phase.role == "next":
            return phase
        writes = _only_attention(
            phase.work, lambda op: Transfer(bytes=key_bytes(op, op.q_len), direction="write", label=f"{op.label}.send")
        )
        return replace(phase, work=Overlap(phase.work, writes))

    changed = with_phases(with_attention(built, step, steps_of(built)), sent)
    said = f"{np.max(built.ledger['kv']) / 1e9:.1f} GB of keys and values per device lie in the memory that computes"
    return assumed(scaled_entries(changed, 0.0, "kv"), said)
