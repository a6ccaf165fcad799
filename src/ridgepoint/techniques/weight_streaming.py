"""Inference with weights that do not lie on the device: layers streamed from host memory or storage, or computed there."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeGuard

import numpy as np

from ridgepoint.formats import FORMATS
from ridgepoint.kernels.host import reached_bytes_per_s
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.state import OF_TOKENS
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Gemm, Host, Transfer
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.tasks.layout import resolve_formats
from ridgepoint.techniques.conditions import every, generates, has_host, infers, transformer
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, with_entries, with_phases
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Overlap, Repeat, Seq, Work, mapped, walk

_RESIDENT = Parameter("resident", 0.0, "part of the layers' weights that stays on the device", 0.0, 1.0)


def _reachable(given: Scenario, values: Values) -> str:
    """Storage can be read by every machine; host memory only over a link to it."""
    return has_host(given, values) if values["tier"] == "host" else ""


def layers_bytes(built: Built, given: Scenario) -> Num:
    """Bytes of one device's layers: its weights without the tables of a token model, which are looked up or kept.

    >>> from ridgepoint.scenario import scenario
    >>> given = scenario("llama-2-7b", "h100-sxm", "decode")
    >>> round(layers_bytes(given.build(), given) / 1e9, 2)
    12.95
    """
    model = given.model
    weights = built.ledger["weights"]
    if not isinstance(model, Model):
        return weights
    formats = resolve_formats(model, given.plan)[0]
    table = model.embedding.vocab * (model.embedding.width or model.hidden)
    copies = 1.0 if model.embedding.tied else 2.0
    slices = 1.0 if given.plan.whole_tables else np.asarray(built.layout.tp)
    kept = copies * table * FORMATS[formats.weight("embedding")].bytes / slices
    return plain(np.maximum(weights - kept, 0.0))


def depth(built: Built, given: Scenario) -> Num:
    """Layers of one device: those of its stage, or the repetitions in a network.

    >>> from ridgepoint.scenario import scenario
    >>> given = scenario("vit_base_patch16_224", "h100-sxm", "forward")
    >>> float(depth(given.build(), given))
    12.0
    """
    if isinstance(given.model, Model):
        return plain(np.maximum(given.model.main.depth / np.asarray(built.layout.pp, dtype=float), 1.0))
    counts = [float(np.max(n.count)) for p in built.phases for n in walk(p.work) if isinstance(n, Repeat)]
    return max(counts, default=1.0)


@technique(
    "weight-streaming",
    title="layers fetched from host memory or storage for every pass",
    mechanism=("offload_cpu", "offload_ssd"),
    papers=("superpipeline", "hermes-pipeload", "tpi-llm", "llm-in-a-flash", "hetegen", "fenghuang"),
    quality="same results",
    grade="exact",
    cannot=every(infers, _reachable),
    parameters=(
        Parameter("tier", "host", "where the layers lie", choices=("host", "storage")),
        _RESIDENT,
        Parameter("overlapped", True, "layers arrive beside the computation of those before"),
        Parameter("window", 2.0, "layers on the device that are in work or in transit", 1.0, 1000.0, whole=True),
        Parameter("loaders", 1.0, "processes that load layers at the same time", 1.0, 256.0, whole=True),
        Parameter("unpacked", 0.0, "bytes per second that one of them reads and unpacks; 0: no limit", 0.0, unit="B/s"),
        Parameter("pinned", True, "copied from pinned memory"),
    ),
    occupies=("weights place",),
    neutral={"resident": 1.0},
)
def weight_streaming(given: Scenario, values: Values) -> Scenario:
    """Every pass reads (1 − resident) of the layers' bytes over the link; ``window`` layers and the resident ones take memory.

    pass ≥ (1 − resident) · layer bytes / bandwidth, beside the computation or before it. Decoding is slowed by the ratio of
    the memory's to the link's bandwidth unless the batch is large; a long prefill hides it. Where loading is the work of
    processes (read, deserialize, copy), ``loaders`` of them share it at ``unpacked`` bytes per second each.

    >>> import ridgepoint as rp
    >>> def run(*apply: str, batch: float = 1.0) -> rp.Estimate:
    ...     return rp.estimate("opt-30b", on="rtx-4090", task=rp.Decode(batch=batch, context=512), apply=apply)
    >>> run().memory.fits, run("weight-streaming").memory.fits
    (False, True)
    >>> together, alone = run("weight-streaming", batch=32.0), run("weight-streaming")
    >>> together.tokens_per_s > 20.0 * alone.tokens_per_s
    True
    """
    return edited(given, "weight-streaming", _streamed, values)


def _streamed(built: Built, given: Scenario, values: Values) -> Built:
    away = 1.0 - np.asarray(values["resident"], dtype=float)
    size, layers = layers_bytes(built, given), depth(built, given)
    fetch: Work = Transfer(
        bytes=plain(size * away),
        tier=values["tier"],
        pieces=plain(layers * away),
        pinned=values["pinned"],
        label="weights.fetch",
    )
    if np.any(np.asarray(values["unpacked"]) > 0.0):
        seconds = np.where(np.asarray(values["unpacked"]) > 0.0, size * away / np.maximum(values["unpacked"], 1.0), 0.0)
        fetch = Overlap(fetch, Host(seconds=plain(seconds), workers=values["loaders"], label="weights.unpack"))

    def change(phase: Phase) -> Phase:
        if not np.any(away > 0.0):
            return phase
        joined = Overlap(phase.work, fetch) if values["overlapped"] else Seq(phase.work, fetch)
        return replace(phase, work=joined)

    window = np.minimum(values["window"], layers) / layers
    kept = built.ledger["weights"] - size * away * (1.0 - window)
    said = (
        f"{np.max(size * away) / 1e9:.2f} GB of weights per device lie in {values['tier']} and are read for every pass"
    )
    return assumed(with_entries(with_phases(built, change), weights=plain(kept)), said)


@technique(
    "weights-on-cpu",
    title="weights in host memory, multiplied by the processor and the device at once",
    mechanism=("offload_cpu",),
    papers=("hetegen",),
    quality="same results",
    grade="exact",
    cannot=every(transformer, generates, has_host),
    parameters=(
        Parameter("share", -1.0, "part of the products that the processor computes; -1: what ends together", -1.0, 1.0),
        _RESIDENT,
    ),
    occupies=("weights place",),
    neutral={"resident": 1.0},
)
def weights_on_cpu(given: Scenario, values: Values) -> Scenario:
    """A matrix that is not resident is cut: the processor computes ``share`` of it from its memory while the rest is sent over.

    HeteGen, 2024: share · W / host memory = (1 − share) · W / link gives the balance. With share 0 it is weight streaming.
    Prefill, where the processor's arithmetic would bind, streams everything.

    >>> import ridgepoint as rp
    >>> def run(apply: str) -> float:
    ...     task = rp.Decode(batch=1, context=512)
    ...     return rp.estimate("opt-30b", on="desktop-rtx-4090", task=task, apply=[apply]).time_s
    >>> run("weights-on-cpu") < run("weight-streaming")
    True
    """
    return edited(given, "weights-on-cpu", _divided, values)


def balanced_share(machine: Machine) -> float:
    """The part of a matrix that the processor computes in the time in which the link brings the rest.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> round(balanced_share(find_machine("desktop-rtx-4090")), 2)
    0.73
    """
    link = machine.link("host")
    processor = reached_bytes_per_s(machine) / machine.devices_per_node
    sent = 0.0 if link is None else float(link[1].bandwidth) * machine.coefficients.transfer.efficiency
    return processor / (processor + sent)


def _of_layers(op: Op) -> TypeGuard[Gemm]:
    """Whether it is a product with a weight of a layer."""
    return isinstance(op, Gemm) and "layers." in op.label and not op.label.endswith(OF_TOKENS)


def _divided(built: Built, given: Scenario, values: Values) -> Built:
    away = 1.0 - np.asarray(values["resident"], dtype=float)
    wanted = np.asarray(values["share"], dtype=float)
    share = np.where(wanted < 0.0, balanced_share(built.machine), wanted)
    size, layers = layers_bytes(built, given), depth(built, given)

    def smaller(op: Op) -> Work:
        return replace(op, n=plain(np.maximum(op.n * (1.0 - away * share), 1.0))) if _of_layers(op) else op

    def told(op: Op) -> Work:
        """Inputs go to the processor, its part of the outputs comes back."""
        if not _of_layers(op):
            return Seq()
        width = op.k * FORMATS[op.acts].bytes + op.n * share * FORMATS[op.out].bytes
        return Transfer(bytes=plain(op.m * op.batch * away * width), pieces=2.0, label=f"{op.label}.activations")

    def change(phase: Phase) -> Phase:
        alone = phase.role != "next"
        part = np.zeros_like(share) if alone else share
        fetch = Transfer(bytes=plain(size * away * (1.0 - part)), pieces=plain(layers * away), label="weights.fetch")
        if alone:
            return replace(phase, work=Overlap(phase.work, fetch))
        there = Seq(mapped(phase.work, told), Host(bytes=plain(size * away * part), label="weights.host"))
        return replace(phase, work=Overlap(mapped(phase.work, smaller), there, fetch))

    if not np.any(away > 0.0):
        return built
    kept = built.ledger["weights"] - size * away * (1.0 - np.minimum(2.0, layers) / layers)
    return with_entries(with_phases(built, change), weights=plain(kept))
