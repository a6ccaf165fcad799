"""Training without a backward pass through the network: every layer learns from a loss of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np

from ridgepoint.kernels.conv_counts import out_size
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Conv, Gemm, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.conditions import every, network, trains, wants
from ridgepoint.techniques.products import summed, weights_of
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, scaled_entries, with_ops
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Seq, Work, walk

_GRADIENTS = (".grad", ".grad_input", ".grad_weight")


def _is_product(op: Work) -> bool:
    """A layer's own product or convolution in the forward pass."""
    return isinstance(op, Conv | Gemm) and not op.label.endswith(_GRADIENTS) and not op.label.startswith("optimizer")


def outputs(op: Conv | Gemm) -> tuple[Num, Num]:
    """(samples, values of one) that a product gives: rows of a Gemm are taken for samples.

    >>> outputs(Gemm(m=128.0, n=10.0, k=64.0)), outputs(Conv(batch=8.0, c_in=3.0, c_out=4.0, h=6.0, w=6.0, kh=1.0, kw=1.0))
    ((128.0, 10.0), (8.0, 144.0))
    """
    if isinstance(op, Gemm):
        return op.m, op.n * op.batch
    height, width = out_size(op)
    return op.batch, plain(op.c_out * height * width)


@technique(
    "local-losses",
    title="every layer trained on a loss of its own, without a backward pass through the network",
    mechanism=("local_learning", "training_recipe"),
    papers=("mono-forward-study",),
    quality="Mono-Forward: reported at or above backpropagation for small networks; unknown for large ones",
    grade="changed",
    cannot=every(
        trains,
        network,
        wants(lambda g, _: g.plan.recompute == "none", "nothing is recomputed: activations are used at once"),
    ),
    parameters=(Parameter("classes", 10.0, "classes that each layer's loss tells apart", 2.0, 1e6, whole=True),),
    occupies=("what is trained", "recomputation"),
    training_free=False,
)
def local_losses(given: Scenario, values: Values) -> Scenario:
    """A layer's outputs are projected to class scores, whose loss trains layer and projection: no gradient is handed on.

    Mono-Forward (Gong et al. 2025). Of the three products of a layer the gradient of its input goes; three thin ones come
    (scores, their gradient in projection and outputs: 6 · samples · values · classes operations), and a softmax. Activations
    live for one layer. The last layer has the network's own loss.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     task, plan = rp.Train(batch=128, image_px=32), rp.Plan(weights="fp32")
    ...     return rp.estimate("vgg11", on="rtx-3090", task=task, plan=plan, apply=apply)
    >>> local, whole = run("local-losses"), run()
    >>> local.time_s < whole.time_s, local.memory["activations"] < whole.memory["activations"]
    (True, True)
    """
    return edited(given, "local-losses", _local, values)


def _local(built: Built, given: Scenario, values: Values) -> Built:
    works = [phase.work for phase in built.phases]
    products = [op for work in works for op in walk(work) if isinstance(op, Conv | Gemm) and _is_product(op)]
    last, classes = products[-1].label, values["classes"]

    def change(op: Op) -> Work:
        if isinstance(op, Conv | Gemm) and op.label.endswith(".grad_input"):
            return Seq()
        if _is_product(op) and op.label != last:
            assert isinstance(op, Conv | Gemm)
            return Seq(op, *_head(op, classes))
        return op

    def of_products(value: Callable[[Conv | Gemm], Num]) -> Num:
        """The sum over all products of the forward pass, of repeated ones as often as they run in a pass."""
        return sum((summed(work, lambda op: value(op) if _is_product(op) else 0.0) for work in works), 0.0)

    largest = reduce(np.maximum, (_kept(op) for op in products))
    passes = of_products(lambda op: 1.0 if op.label == last else 0.0)
    total = of_products(_kept) / passes
    own = of_products(weights_of)
    projections = of_products(lambda op: 0.0 if op.label == last else outputs(op)[1] * classes)
    changed = scaled_entries(with_ops(built, change), plain(largest / total), "activations")
    changed = scaled_entries(changed, plain(1.0 + projections / own), "weights", "gradients", "optimizer")
    return assumed(changed, "every layer but the last has a projection to the classes of its own")


def _kept(op: Conv | Gemm) -> Num:
    samples, width = outputs(op)
    return samples * width


def _head(op: Conv | Gemm, classes: Num) -> list[Work]:
    """Scores, softmax, and the gradients of projection and outputs."""
    samples, width = outputs(op)
    shapes = (
        ("scores", samples, classes, width),
        ("grad_projection", width, classes, samples),
        ("grad_outputs", samples, width, classes),
    )
    thin = [
        Gemm(m=m, n=n, k=k, acts=op.acts, weights=op.acts, out=op.acts, label=f"{op.label}.local_{name}")
        for name, m, n, k in shapes
    ]
    scores = samples * classes * 4.0
    loss = Stream(
        read_bytes=plain(scores),
        write_bytes=plain(scores),
        flop=plain(5.0 * samples * classes),
        special=plain(samples * classes),
        pattern="softmax",
        rows=samples,
        label=f"{op.label}.local_loss",
    )
    return [thin[0], loss, *thin[1:]]
