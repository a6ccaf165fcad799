"""Networks made smaller: fewer channels, whole operators left out, layers folded into their neighbours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Attention, Conv, Gemm, Scan, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.conditions import every, infers, network
from ridgepoint.techniques.products import divided, summed, weights_of, with_linear, with_weight_bytes
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import Rule, edited, labelled, scaled_entries, with_ops
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Repeat, Seq, Work, ops


@technique(
    "channel-pruning",
    title="narrower networks",
    mechanism=("structured_pruning", "efficient_architecture"),
    papers=("adcsr", "aptp", "turbo-vaed", "compressor-3mb"),
    quality="needs fine-tuning or distillation; three quarters of the channels are often enough for one task",
    grade="changed",
    cannot=every(network, infers),
    parameters=(
        Parameter("kept", 0.75, "part of the channels of every layer that is kept", 0.01, 1.0),
        Parameter("within", "*", "labels of the ops that become narrower (shell pattern)"),
        Parameter("decoder", 0.0, "part that is kept in a decoder of images (decoder.*); 0: as everywhere", 0.0, 1.0),
    ),
    occupies=("channels",),
    training_free=False,
    neutral={"kept": 1.0},
)
def channel_pruning(given: Scenario, values: Values) -> Scenario:
    """Every layer keeps the part ``kept`` of its channels: products and weights fall with its square, passes linearly.

    Fixed steps (launches, sampling of text encoders left out by ``within``) stay, and narrow layers fill an engine less
    well: time falls less than the operations. Neighbours of a pruned part keep their widths.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     return rp.estimate("resnet50", on="h100-sxm", task=rp.Forward(batch=64), apply=apply).time_s
    >>> bool(1.2 < time() / time("channel-pruning:kept=0.5") < 4.0)
    True
    """
    return edited(given, "channel-pruning", _narrowed, values)


def _narrow(op: Op, kept: Num) -> Work:
    if isinstance(op, Gemm):
        return replace(op, n=op.n * kept, k=op.k * kept)
    if isinstance(op, Conv):
        depthwise = isinstance(op.groups, float) and op.groups == op.c_in
        inside = op.c_in if op.c_in == 3.0 else op.c_in * kept
        return replace(op, c_in=inside, c_out=op.c_out * kept, groups=op.groups * kept if depthwise else op.groups)
    if isinstance(op, Attention):
        return replace(op, heads=op.heads * kept, kv_heads=op.kv_heads * kept)
    if isinstance(op, Scan):
        return replace(op, heads=op.heads * kept)
    if isinstance(op, Stream):
        names = ("read_bytes", "write_bytes", "flop", "special", "saved_bytes")
        changes: dict[str, Any] = {name: getattr(op, name) * kept for name in names}
        return replace(op, **changes)
    return op


def _narrowed(built: Built, given: Scenario, values: Values) -> Built:
    kept, decoder = values["kept"], values["decoder"]
    last = plain(np.where(np.asarray(decoder) > 0.0, decoder, kept))

    def change(op: Op) -> Work:
        if not labelled(op, values["within"]):
            return op
        return _narrow(op, last if labelled(op, "decoder.*") else kept)

    ratio = _weights(built, change) / _weights(built, lambda op: op)
    return scaled_entries(with_weight_bytes(with_ops(built, change), given, ratio), values["kept"], "activations")


def _weights(built: Built, change: Rule) -> Num:
    """Weights that the products read once, over all phases."""

    def held(op: Op) -> Num:
        return summed(change(op), lambda new: weights_of(new) if isinstance(new, Gemm | Conv) else 0.0)

    return sum((summed(phase.work, held) for phase in built.phases), 0.0)


def _matches(given: Scenario, values: Values) -> str:
    found = any(labelled(op, values["operators"]) for phase in given.build().phases for op in ops(phase.work))
    return "" if found else f"no operator of {given.model.name} is labelled {values['operators']}"


@technique(
    "operator-removal",
    title="operators left out of a network",
    mechanism=("structured_pruning", "routing_cascade"),
    papers=("ld-pruner", "adcsr", "aptp"),
    quality="operators that change the result least go first; retraining recovers (LD-Pruner: slightly better FID)",
    grade="changed",
    cannot=every(network, infers, _matches),
    parameters=(
        Parameter(
            "operators", "*.attention.*", "labels of the operators (shell pattern), e.g. *.transformer.*, down3.*"
        ),
        Parameter("removed", 0.5, "part of them that is left out", 0.0, 1.0),
    ),
    occupies=("operators",),
    training_free=False,
    neutral={"removed": 0.0},
)
def operator_removal(given: Scenario, values: Values) -> Scenario:
    """A part of the operators whose labels match is not run and not stored; the others stay as they are.

    Time falls by what those operators took, not by their part of the parameters. Whole modules (a text encoder, an encoder)
    go by their label at ``removed`` 1; different variants for different prompts (APTP) are their mean.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("sdxl", on="h100-sxm", task=rp.Sample(batch=1), apply=apply)
    >>> pruned = run("operator-removal:operators=*.transformer.*,removed=0.3")
    >>> bool(1.1 < run().time_s / pruned.time_s < 1.43), pruned.memory["weights"] < run().memory["weights"]
    (True, True)
    """
    return edited(given, "operator-removal", _removed, values)


def _removed(built: Built, given: Scenario, values: Values) -> Built:
    def change(op: Op) -> Work:
        return divided(values["removed"], Seq(), op) if labelled(op, values["operators"]) else op

    ratio = _weights(built, change) / _weights(built, lambda op: op)
    return with_weight_bytes(with_ops(built, change), given, ratio)


def _expands(given: Scenario, values: Values) -> str:
    found = any(labelled(op, "*feed.up", "*mlp.up") for phase in given.build().phases for op in ops(phase.work))
    return "" if found else f"{given.model.name} has no plain feed-forward part (up, nonlinearity, down)"


@technique(
    "linear-channel-folding",
    title="idle feed-forward channels folded into one small matrix",
    mechanism=("structural_reparameterization", "low_rank", "efficient_architecture"),
    papers=("repavit",),
    quality="RePa-ViT-L and -H are reported 1.7 and 1.1 points better than plain ones of the same training",
    grade="changed",
    cannot=every(network, infers, _expands),
    parameters=(Parameter("idle", 0.75, "part of the hidden channels that skips the nonlinearity", 0.0, 1.0),),
    occupies=("feed-forward form",),
    training_free=False,
)
def linear_channel_folding(given: Scenario, values: Values) -> Scenario:
    """The part ``idle`` of the feed-forward channels has no nonlinearity and folds into one d × d product at inference.

    Operations of the feed-forward part go from 8d² to 8d²·(1 − idle) + 2d² per token (weights from 8d² to 8d²(1 − idle) + d²
    in the paper's count of multiply-adds); attention and norms stay.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     task = rp.Forward(batch=128)
    ...     return rp.estimate("vit_large_patch16_224", on="a100-sxm-80gb", task=task, apply=apply).time_s
    >>> bool(1.3 < time() / time("linear-channel-folding:idle=0.75") < 2.0)
    True
    """
    return edited(given, "linear-channel-folding", _folded, values)


def _folded(built: Built, given: Scenario, values: Values) -> Built:
    active = 1.0 - values["idle"]

    def change(op: Op) -> Work:
        if isinstance(op, Gemm) and labelled(op, "*feed.up", "*mlp.up"):
            return replace(op, n=op.n * active)
        if isinstance(op, Gemm) and labelled(op, "*feed.down", "*mlp.down"):
            folded = replace(op, k=op.n, label=op.label.removesuffix("down") + "folded")
            return Seq(replace(op, k=op.k * active), folded)
        return op

    def act(op: Op) -> Work:
        inside = isinstance(op, Stream) and labelled(op, "*feed.act", "*mlp.act")
        return _narrow(op, active) if inside else op

    ratio = _weights(built, change) / _weights(built, lambda op: op)
    return with_weight_bytes(with_ops(with_linear(built, given, change), act), given, ratio)


def _is_norm(op: Op) -> bool:
    return isinstance(op, Stream) and labelled(op, "*norm", "*norm[0-9]")


def _normalises(given: Scenario, values: Values) -> str:
    found = any(_is_norm(op) for phase in given.build().phases for op in ops(phase.work))
    return "" if found else f"{given.model.name} has no normalisations of their own"


@technique(
    "norm-folding",
    title="normalisations folded into the products beside them",
    mechanism=("reparameterization", "kernel_fusion"),
    papers=("slab", "mobileone"),
    quality="SLAB is reported within 0.1 points of LayerNorm after training towards it",
    grade="changed",
    cannot=every(network, infers, _normalises),
    parameters=(Parameter("folded", 1.0, "part of the normalisations that become affine and fold away", 0.0, 1.0),),
    occupies=("normalisations",),
    training_free=False,
    neutral={"folded": 0.0},
)
def norm_folding(given: Scenario, values: Values) -> Scenario:
    """Normalisations whose statistics are fixed (BatchNorm in place of LayerNorm) fold into the next product: no pass is left.

    What is saved is memory traffic and a launch per norm; no matrix product changes. Norms that are fused with a
    modulation or an addition keep that part.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     return rp.estimate("vit_large_patch16_224", on="h100-sxm", task=rp.Forward(batch=8), apply=apply).time_s
    >>> bool(1.0 < time() / time("norm-folding") < 1.3)
    True
    """

    def change(op: Op) -> Work:
        return Repeat(1.0 - values["folded"], op) if _is_norm(op) else op

    return edited(given, "norm-folding", lambda built, _, __: with_ops(built, change), values)
