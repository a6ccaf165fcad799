"""Training few parameters: adapters, frozen layers, no gradients at all."""

from __future__ import annotations

import numpy as np

from ridgepoint.scenario import Scenario, Values
from ridgepoint.techniques.conditions import every, trains, transformer, wants
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import with_plan
from ridgepoint.techniques.technique import Condition, Parameter

everything_trained: Condition = wants(
    lambda g, _: g.plan.trainable == "full" and bool(np.all(np.asarray(g.plan.trained_layers) == 1.0)),
    "only a part of the parameters is trained already",
)
RANK = Parameter("rank", 16.0, "rank of the adapters", 1.0, 4096.0, whole=True)


@technique(
    "lora",
    title="low-rank adapters, everything else frozen",
    mechanism=("peft", "low_rank"),
    papers=("lora-computational-limits", "peft-survey", "mos-lora", "lorma"),
    quality="reported close to full fine-tuning on most tasks; not for pre-training",
    grade="near",
    cannot=every(trains, transformer, everything_trained),
    parameters=(RANK,),
    occupies=("what is trained",),
)
def lora(given: Scenario, values: Values) -> Scenario:
    """Products get a bypass of rank r; only these r·(n + k) parameters have gradients and optimizer states.

    Hu et al. 2021. Weight-gradient products, a third of the step's arithmetic, are not computed; states almost vanish; the
    bypass adds two thin products to each projection. Activations are kept as before.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Train(batch=8, seq=2048), apply=apply)
    >>> low, full = run("lora"), run()
    >>> low.memory["optimizer"] < 0.02 * full.memory["optimizer"], 0.6 < low.time_s / full.time_s < 1.0
    (True, True)
    """
    return with_plan(given, trainable="lora", lora_rank=values["rank"])


@technique(
    "qlora",
    title="adapters on 4-bit weights",
    mechanism=("peft", "weight_quantization"),
    papers=("efficientllm", "slm-ecommerce-quant", "oftv2"),
    quality="reported as equal to 16-bit adapters",
    grade="near",
    cannot=every(
        trains,
        transformer,
        everything_trained,
        wants(lambda g, _: g.plan.weights is None, "the weights have a format already"),
    ),
    parameters=(RANK, Parameter("format", "nf4", "what frozen weights are stored in", choices=("nf4", "int8", "int4"))),
    occupies=("what is trained", "weights format"),
)
def qlora(given: Scenario, values: Values) -> Scenario:
    """Frozen weights in 4 bits, widened before every product; adapters in 16 bits are trained.

    Dettmers et al. 2023. Weights take 4.13 bits in place of 16; each use pays for widening them.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Train(batch=1, seq=512), apply=apply)
    >>> run("qlora").memory["weights"] < 0.4 * run("lora").memory["weights"]
    True
    """
    return with_plan(given, trainable="lora", lora_rank=values["rank"], weights=values["format"], acts="bf16")


@technique(
    "freeze-layers",
    title="lower layers frozen",
    mechanism=("layer_freezing", "peft"),
    papers=("telly",),
    quality="depends on the task: reported as equal where only the upper layers change",
    grade="near",
    cannot=every(
        trains,
        transformer,
        everything_trained,
        wants(
            lambda g, _: g.plan.pp is None or bool(np.all(np.asarray(g.plan.pp) == 1.0)), "pipeline stages would idle"
        ),
    ),
    parameters=(Parameter("trained", 0.5, "part of the layers, from the head down, that is trained", 0.0, 1.0),),
    occupies=("what is trained",),
    neutral={"trained": 1.0},
)
def freeze_layers(given: Scenario, values: Values) -> Scenario:
    """Backward passes stop at the lowest trained layer: below it there are no gradients, states or kept activations.

    A step costs 1 + 2·trained forward passes in place of 3.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> float:
    ...     return rp.estimate("llama-3.2-1b", on="h100-sxm", task=rp.Train(batch=8, seq=2048), apply=apply).time_s
    >>> run("freeze-layers:trained=0.1") < run("freeze-layers:trained=0.5") < run()
    True
    """
    return with_plan(given, trained_layers=values["trained"])


@technique(
    "zeroth-order",
    title="gradients estimated from two forward passes",
    mechanism=("zeroth_order",),
    papers=("distzo2",),
    quality="needs many more steps; for fine-tuning only",
    grade="changed",
    cannot=every(trains, transformer, everything_trained),
    occupies=("what is trained", "recomputation", "optimizer states"),
)
def zeroth_order(given: Scenario, values: Values) -> Scenario:
    """Two forward passes with weights moved along one random direction: no backward pass, no activations, no states.

    Malladi et al. 2023 (MeZO). Memory is that of inference; a step costs two thirds of an ordinary one; the number of steps
    grows, which no single step shows.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Train(batch=8, seq=2048), apply=apply)
    >>> run().memory.fits, run("zeroth-order").memory.fits, run("zeroth-order").time_s < run().time_s
    (False, True, True)
    """
    return with_plan(given, trainable="zeroth_order", optimizer="none", recompute="none")
