"""Training few parameters: adapters, frozen layers, no gradients at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.numeric import plain
from ridgepoint.ops import Gemm
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.tasks.trained import has_adapter
from ridgepoint.techniques.conditions import every, trains, transformer, wants
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import edited, with_entries, with_ops, with_plan
from ridgepoint.techniques.technique import Condition, Parameter
from ridgepoint.work import Op, Seq, Work

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
    occupies=("what is trained", "weight format"),
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
    occupies=("what is trained", "recomputation", "optimizer states", "optimizer place", "gradient format"),
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


@technique(
    "orthogonal-tuning",
    title="frozen weights turned by trained orthogonal blocks (OFT)",
    mechanism=("peft",),
    papers=("oftv2",),
    quality="reported as equal to adapters or better",
    grade="near",
    cannot=every(trains, transformer, everything_trained),
    parameters=(
        Parameter("block", 32.0, "width of the orthogonal blocks", 2.0, 1024.0, whole=True),
        Parameter("moves", "activations", "what the blocks turn", choices=("weights", "activations")),
    ),
    occupies=("what is trained",),
)
def orthogonal_tuning(given: Scenario, values: Values) -> Scenario:
    """Every product's input, or its weight, is turned by a block-diagonal orthogonal matrix, whose blocks are trained.

    Turning the k × n weight (OFT: 2·k²·n operations with the blocks written out as one matrix, forward, and as many and the
    weight's gradient backward) costs the same whatever the batch, and the turned weights are kept; turning activations (OFTv2)
    costs 2·b operations per value of the input. As many numbers are trained as with adapters of rank b/4.

    >>> import ridgepoint as rp
    >>> def run(moves: str) -> rp.Estimate:
    ...     apply = [f"orthogonal-tuning:moves={moves}"]
    ...     return rp.estimate("llama-3.2-1b", on="h100-sxm", task=rp.Train(batch=1, seq=512), apply=apply)
    >>> new, old = run("activations"), run("weights")
    >>> new.time_s < old.time_s, new.memory.total_bytes < old.memory.total_bytes
    (True, True)
    """
    adapted = with_plan(given, trainable="lora", lora_rank=np.ceil(np.asarray(values["block"]) / 4.0))
    return edited(adapted, "orthogonal-tuning", _turned, values)


def _turned(built: Built, given: Scenario, values: Values) -> Built:
    block, whole = np.asarray(values["block"], dtype=float), values["moves"] == "weights"

    def extra(op: Gemm) -> list[Work]:
        """What turning adds to a product, or to its gradient of the input (whose n and k have changed places)."""
        back = op.label.endswith(".grad_input")
        rows, wide, out = op.m, (op.n if back else op.k), (op.k if back else op.n)
        turn = replace(op, label=f"{op.label}.turn")
        if whole:
            product = replace(turn, m=wide, n=out, k=wide)
            return [product, replace(turn, m=wide, n=out, k=rows)] if back else [product]
        along = replace(turn, m=rows, n=block, k=block, batch=op.batch * wide / block)
        return [along, replace(along, m=block, k=rows)] if back else [along]

    def change(op: Op) -> Work:
        if not isinstance(op, Gemm):
            return op
        if ".lora_" in op.label:
            return Seq()
        return Seq(op, *extra(op)) if has_adapter(op) else op

    changed = with_ops(built, change)
    turned = built.ledger["weights"] if whole else 0.0
    return with_entries(changed, activations=plain(built.ledger["activations"] + turned))
