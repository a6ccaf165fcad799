"""Training in less memory: recomputation, sharded, compressed and offloaded states, fewer trained parameters.

Ψ parameters on a device (after tp and pp) take 2Ψ bytes of weights, 4Ψ of gradients and 12Ψ of Adam states in mixed
precision; N is the number of data-parallel replicas.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.numeric import Num, plain
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.conditions import every, has_host, several_devices, trains, transformer, wants
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, scaled_entries, with_plan
from ridgepoint.techniques.technique import Parameter

_ADAM_LIKE = ("adam", "adam8bit", "adafactor", "lion")
stores_activations = wants(lambda given, _: given.plan.recompute == "none", "activations are recomputed already")
whole_model = wants(lambda given, _: given.plan.trainable == "full", "only a part of the parameters is trained already")
has_states = wants(lambda given, _: given.plan.optimizer in _ADAM_LIKE, "the optimizer keeps no moments")


@technique(
    "recompute-full",
    title="every layer recomputed in the backward pass",
    mechanism=("rematerialization",),
    papers=("sublinear-memory", "academic-pretraining"),
    quality="same gradients",
    grade="exact",
    cannot=every(trains, stores_activations),
    occupies=("recomputation",),
)
def recompute_full(given: Scenario, values: Values) -> Scenario:
    """Only each layer's input is kept; its forward pass runs again before its backward pass: a third more arithmetic.

    Chen et al. 2016. Memory falls from all that a layer saves to one input of 2·s·b·h bytes; time grows by one forward pass
    of three. It helps where activations decide whether a run, or a larger micro-batch, fits.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("llama-3.1-8b", on="8xh100-sxm", task=rp.Train(batch=8, seq=4096), apply=apply)
    >>> less, more = run("recompute-full"), run()
    >>> less.memory["activations"] < 0.3 * more.memory["activations"], 1.2 < less.time_s / more.time_s < 1.4
    (True, True)
    """
    return with_plan(given, recompute="full")


@technique(
    "recompute-selective",
    title="attention scores recomputed in the backward pass",
    mechanism=("rematerialization",),
    papers=("llm-runtime-dissection", "moccasin"),
    quality="same gradients",
    grade="exact",
    cannot=every(
        trains,
        transformer,
        stores_activations,
        wants(lambda given, _: not given.plan.fused_attention, "the fused kernel keeps no scores to recompute"),
    ),
    occupies=("recomputation",),
)
def recompute_selective(given: Scenario, values: Values) -> Scenario:
    """Scores and probabilities of unfused attention, 5·a·s²·b bytes a layer, are not kept but computed twice.

    Korthikanti et al. 2022. The fused kernel does the same by itself, so this is for runs without it.

    >>> import ridgepoint as rp
    >>> plan = rp.Plan(fused_attention=False)
    >>> def run(*apply: str) -> rp.Estimate:
    ...     task = rp.Train(batch=8, seq=4096)
    ...     return rp.estimate("llama-2-7b", on="8xa100-sxm-80gb", task=task, plan=plan, apply=apply)
    >>> run("recompute-selective").memory["activations"] < 0.6 * run().memory["activations"]
    True
    """
    return with_plan(given, recompute="selective")


@technique(
    "recompute-segments",
    title="√n checkpointing: segments of layers recomputed",
    mechanism=("rematerialization",),
    papers=("sublinear-memory", "moccasin"),
    quality="same gradients",
    grade="exact",
    cannot=every(trains, transformer, stores_activations),
    parameters=(
        Parameter(
            "segment", 0.0, "layers between kept inputs; 0 takes the square root of the depth", 0.0, 1000.0, whole=True
        ),
    ),
    occupies=("recomputation",),
)
def recompute_segments(given: Scenario, values: Values) -> Scenario:
    """One input is kept per segment of k layers, and one segment's activations at a time are recomputed.

    Chen et al. 2016: memory L/k inputs + k layers, least at k = √(L · input/layer); time as for full recomputation. With
    k = 1 it is full recomputation.

    >>> import ridgepoint as rp
    >>> def kept(*apply: str) -> float:
    ...     task = rp.Train(batch=8, seq=8192)
    ...     return rp.estimate("llama-2-7b", on="8xa100-sxm-80gb", task=task, apply=apply).memory["activations"]
    >>> kept("recompute-segments:segment=1") == kept("recompute-full")
    True
    """
    return edited(with_plan(given, recompute="full"), "recompute-segments", _in_segments, values)


def _in_segments(built: Built, given: Scenario, values: Values) -> Built:
    """The ledger's L inputs and one layer become L/k inputs and k layers."""
    whole = replace(given, plan=replace(given.plan, recompute="none"), edits=()).build().ledger["activations"]
    full = built.ledger["activations"]
    model = given.model
    depth = float(model.main.depth)  # type: ignore[union-attr]
    layer = whole / depth
    inputs = np.maximum(np.asarray(full) - layer, 0.0) / depth
    best = np.maximum(np.round(np.sqrt(depth * inputs / np.maximum(layer, 1.0))), 1.0)
    size = np.where(np.asarray(values["segment"]) > 0.0, values["segment"], best)
    kept = np.ceil(depth / size) * inputs + size * layer
    result = np.where(size == 1.0, full, kept)
    return scaled_entries(built, result / np.maximum(np.asarray(full), 1e-9), "activations")


@technique(
    "zero",
    title="states sharded over data-parallel replicas (ZeRO, FSDP)",
    mechanism=("optimizer_memory", "data_parallel"),
    papers=("zero", "frontier-llm-training", "llm-runtime-dissection"),
    quality="same updates",
    grade="exact",
    cannot=every(
        trains,
        several_devices,
        wants(lambda g, v: bool(np.all(_wanted_stage(g, v) > g.plan.zero_stage)), "that stage is on already"),
    ),
    parameters=(
        Parameter(
            "stage",
            0.0,
            "1: optimizer states, 2: gradients too, 3: weights too, 0: one more than there is",
            0.0,
            3.0,
            whole=True,
        ),
    ),
    occupies=("zero stage",),
)
def zero(given: Scenario, values: Values) -> Scenario:
    """Stage 1 keeps 12Ψ/N bytes of states a device, stage 2 also 4Ψ/N of gradients, stage 3 also 2Ψ/N of weights.

    Rajbhandari et al. 2020. Stages 1 and 2 move as many bytes as an all-reduce; stage 3 gathers the weights in the forward and
    backward passes, 1.5 times as much in all.

    >>> import ridgepoint as rp
    >>> def states(*apply: str) -> float:
    ...     task = rp.Train(batch=64, seq=2048)
    ...     return rp.estimate("llama-2-7b", on="8xa100-sxm-80gb", task=task, apply=apply).memory["optimizer"]
    >>> round(states() / states("zero:stage=1"))
    8
    """
    return with_plan(given, zero_stage=_wanted_stage(given, values))


def _wanted_stage(given: Scenario, values: Values) -> Num:
    """The stage that is asked for; none said: the next one."""
    following = np.minimum(np.asarray(given.plan.zero_stage) + 1.0, 3.0)
    return plain(np.where(np.asarray(values["stage"]) > 0.0, values["stage"], following))


@technique(
    "keep-activations",
    title="activations kept instead of computed again",
    mechanism=("rematerialization",),
    papers=("parallelization-layouts",),
    quality="same gradients",
    grade="exact",
    cannot=every(
        trains,
        transformer,
        wants(lambda given, _: given.plan.recompute in ("full", "sqrt", "selective"), "nothing is computed again"),
    ),
    parameters=(Parameter("part", 1.0, "of the layers that keep theirs", 0.0, 1.0),),
    occupies=("recomputation",),
)
def keep_activations(given: Scenario, values: Values) -> Scenario:
    """Layers that keep what their backward pass reads save their second forward pass: up to a quarter of the arithmetic.

    Hagemann et al. 2023 find layouts without recomputation the fastest wherever other means make them fit.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     plan = rp.Plan(recompute="full", zero_stage=3)
    ...     return rp.estimate("llama-3.1-8b", on="8xh100-sxm", task=rp.Train(batch=8, seq=4096), plan=plan, apply=apply)
    >>> half, kept = run("keep-activations:part=0.5"), run("keep-activations")
    >>> kept.time_s < half.time_s < run().time_s, kept.memory["activations"] > half.memory["activations"]
    (True, True)
    """
    return with_plan(given, recomputed_layers=given.plan.recomputed_layers * (1.0 - values["part"]))


@technique(
    "optimizer-8bit",
    title="optimizer states in 8 bits",
    mechanism=("optimizer_memory",),
    papers=("llm-runtime-dissection", "academic-pretraining"),
    quality="reported as equal to 32-bit states with block-wise scaling",
    grade="near",
    cannot=every(trains, wants(lambda given, _: given.plan.optimizer == "adam", "the optimizer is not 32-bit Adam")),
    occupies=("optimizer states",),
)
def optimizer_8bit(given: Scenario, values: Values) -> Scenario:
    """Adam's two moments in 8 bits each with block-wise scales: 2Ψ bytes in place of 8Ψ, and as much less traffic.

    Dettmers et al. 2022. The master copy of the weights stays in 32 bits.

    >>> import ridgepoint as rp
    >>> def states(*apply: str) -> float:
    ...     task = rp.Train(batch=8, seq=2048)
    ...     return rp.estimate("llama-3.2-1b", on="h100-sxm", task=task, apply=apply).memory["optimizer"]
    >>> 0.4 < states("optimizer-8bit") / states() < 0.6
    True
    """
    return with_plan(given, optimizer="adam8bit")


@technique(
    "optimizer-factored",
    title="factored second moments (Adafactor)",
    mechanism=("optimizer_memory",),
    papers=("llm-runtime-dissection",),
    quality="close to Adam; some tasks need other hyperparameters",
    grade="near",
    cannot=every(trains, has_states),
    occupies=("optimizer states",),
)
def optimizer_factored(given: Scenario, values: Values) -> Scenario:
    """Second moments as row and column means: n + m numbers for an n × m matrix in place of n·m.

    Shazeer, Stern 2018. Without first moments the states are almost nothing; the update reads the gradient once more.

    >>> import ridgepoint as rp
    >>> def states(*apply: str) -> float:
    ...     task = rp.Train(batch=8, seq=2048)
    ...     return rp.estimate("llama-3.2-1b", on="h100-sxm", task=task, apply=apply).memory["optimizer"]
    >>> states("optimizer-factored") < 0.7 * states()
    True
    """
    return with_plan(given, optimizer="adafactor")


@technique(
    "gradient-low-rank",
    title="moments of gradients projected to a low rank (GaLore)",
    mechanism=("optimizer_memory", "low_rank"),
    papers=("llm-runtime-dissection",),
    quality="reported close to full-rank training at ranks of a quarter of the width",
    grade="near",
    cannot=every(trains, transformer, has_states),
    parameters=(Parameter("rank", 1024.0, "rank that gradients are projected to", 1.0, 65536.0, whole=True),),
    occupies=("optimizer states",),
)
def gradient_low_rank(given: Scenario, values: Values) -> Scenario:
    """Adam's moments are kept for r × n projections of the n × m gradients: 2·r·n values in place of 2·n·m.

    Zhao et al. 2024. Each update projects the gradient and projects back: two more products of 2·r·n·m operations a matrix.

    >>> import ridgepoint as rp
    >>> def states(*apply: str) -> float:
    ...     task = rp.Train(batch=8, seq=2048)
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply).memory["optimizer"]
    >>> states("gradient-low-rank:rank=512") < states("gradient-low-rank:rank=2048") < states()
    True
    """
    return with_plan(given, optimizer_rank=values["rank"])


@technique(
    "offload-optimizer",
    title="optimizer states in host memory or on NVMe",
    mechanism=("offload_cpu", "optimizer_memory"),
    papers=("deep-optimizer-states", "fuyou", "zero"),
    quality="same updates",
    grade="exact",
    cannot=every(trains, has_host, has_states),
    parameters=(Parameter("tier", "host", "where to", choices=("host", "nvme")),),
    occupies=("optimizer place",),
)
def offload_optimizer(given: Scenario, values: Values) -> Scenario:
    """States leave the device: gradients go out and updated weights come back each step, and the host computes the update.

    Rajbhandari et al. 2021. 12Ψ bytes are freed; a step moves 2Ψ + 2Ψ bytes over the host link and streams the states
    through the host's memory (or NVMe), beside the other work as far as the schedule allows.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     task = rp.Train(batch=8, seq=2048)
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, apply=apply)
    >>> run("offload-optimizer").memory.total_bytes < run().memory.total_bytes
    True
    """
    return with_plan(given, offload_optimizer=values["tier"])


@technique(
    "offload-weights",
    title="weights in host memory or on NVMe, fetched layer by layer",
    mechanism=("offload_cpu", "offload_ssd"),
    papers=("fuyou", "zero"),
    quality="same updates",
    grade="exact",
    cannot=every(trains, has_host),
    parameters=(Parameter("tier", "host", "where to", choices=("host", "nvme")),),
    occupies=("weights place",),
)
def offload_weights(given: Scenario, values: Values) -> Scenario:
    """Each layer's weights come over the host link before its forward and its backward pass, for every micro-batch.

    The link hides behind the arithmetic of a micro-batch of m tokens if 2·m operations per parameter take longer than its
    bytes: large micro-batches make it free, small ones wait for the link.

    >>> import ridgepoint as rp
    >>> def slower(batch: float) -> float:
    ...     task, plan = rp.Train(batch=batch, seq=2048), rp.Plan(micro_batch=batch, recompute="full")
    ...     both = ["offload-weights"], []
    ...     runs = [rp.estimate("llama-3.1-8b", on="h100-sxm", task=task, plan=plan, apply=a) for a in both]
    ...     return runs[0].time_s / runs[1].time_s
    >>> slower(16.0) < slower(1.0)
    True
    """
    return with_plan(given, offload_params=values["tier"])


@technique(
    "offload-activations",
    title="activations in host memory or on NVMe until the backward pass",
    mechanism=("offload_cpu", "offload_ssd", "rematerialization"),
    papers=("ssdtrain-hector-dissertation", "fuyou"),
    quality="same gradients",
    grade="exact",
    cannot=every(trains, has_host),
    parameters=(Parameter("tier", "host", "where to", choices=("host", "nvme")),),
    occupies=("activations place",),
)
def offload_activations(given: Scenario, values: Values) -> Scenario:
    """What layers save goes out after the forward pass and comes back before the backward pass, beside the arithmetic.

    Bytes saved per layer over the link's rate against the layer's arithmetic decide whether it is free.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     task = rp.Train(batch=8, seq=8192)
    ...     return rp.estimate("llama-3.2-1b", on="h100-sxm", task=task, apply=apply)
    >>> run("offload-activations").memory["activations"] < run().memory["activations"]
    True
    """
    return with_plan(given, offload_activations=values["tier"])
