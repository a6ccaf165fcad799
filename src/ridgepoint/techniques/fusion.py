"""Fewer passes over memory: elementwise chains in one kernel, passes in the products before them, layouts without copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ridgepoint.numeric import plain
from ridgepoint.ops import Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks.build import Built
from ridgepoint.techniques.conditions import infers, wants
from ridgepoint.techniques.reductions import sometimes
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, labelled, with_ops, with_plan
from ridgepoint.techniques.technique import Condition, Parameter
from ridgepoint.work import Op, Work, ops

_eager = wants(lambda given, _: not given.plan.compiled, "elementwise chains are fused already (compiled)")


def _some(found: Callable[[Op], bool], reason: str) -> Condition:
    """An op of that kind is there to change."""

    def cannot(given: Scenario, values: Values) -> str:
        present = any(found(op) for phase in given.build().phases for op in ops(phase.work))
        return "" if present else f"{given.model.name} {reason}"

    return cannot


@technique(
    "operator-fusion",
    title="chains of elementwise operators in one kernel",
    mechanism=("kernel_fusion", "compiler_autotune"),
    papers=("data-movement-transformers", "fused-kernel-library", "skip-tklqt", "sn40l"),
    quality="the same results up to rounding",
    grade="exact",
    cannot=_eager,
    occupies=("elementwise kernels",),
)
def operator_fusion(given: Scenario, values: Values) -> Scenario:
    """A chain reads its first input and writes its last result once: residual additions join norms, scalings their neighbours.

    Fewer bytes, fewer launches. Products and attention stay; nothing is gained where they take all the time.

    >>> import ridgepoint as rp
    >>> def time(batch: int, *apply: str) -> float:
    ...     plan = rp.Plan(compiled=False)
    ...     task = rp.Train(batch=batch, seq=512)
    ...     return rp.estimate("bert-large", on="v100-sxm-32gb", task=task, plan=plan, apply=apply).time_s
    >>> 1.0 < time(8) / time(8, "operator-fusion") < 1.5
    True
    """
    return with_plan(given, compiled=True)


_EPILOGUES = ("*.activation", "*.act", "*.scale", "*.add", "*.residual", "*_norm", "*.norm3")
_SECOND_INPUT = ("*.add", "*.residual", "*.norm3", "*.scale")
_WITH_PRODUCTS = ("elementwise", "gate", "batch_norm")


def _is_epilogue(op: Op) -> bool:
    fits = isinstance(op, Stream) and op.pattern in _WITH_PRODUCTS
    return fits and labelled(op, *_EPILOGUES) and not labelled(op, "stem.*", "head.*")


@technique(
    "epilogue-fusion",
    title="elementwise passes inside the products before them",
    mechanism=("kernel_fusion",),
    papers=("convnet-efficiency", "thunderkittens", "sn40l", "data-movement-transformers"),
    quality="the same results up to rounding",
    grade="exact",
    cannot=lambda given, values: (
        infers(given, values) or _some(_is_epilogue, "has no elementwise pass behind a product")(given, values)
    ),
    parameters=(Parameter("fused", 1.0, "part of these passes that is fused", 0.0, 1.0),),
    neutral={"fused": 0.0},
    occupies=("elementwise kernels",),
)
def epilogue_fusion(given: Scenario, values: Values) -> Scenario:
    """Nonlinearities, scalings, folded norms and residual additions run on a product's tile before it is written.

    The pass disappears: its result is what the product writes. A residual addition still reads its other input, inside the
    product; the arithmetic stays. Norms over rows are not fused, for a tile does not hold the row.

    >>> import ridgepoint as rp
    >>> def time(model: str, *apply: str) -> float:
    ...     return rp.estimate(model, on="h100-sxm", task=rp.Forward(batch=64), apply=apply).time_s
    >>> time("resnet50") / time("resnet50", "epilogue-fusion") > time("vgg16") / time("vgg16", "epilogue-fusion") > 1.0
    True
    """
    return edited(given, "epilogue-fusion", _into_products, values)


def _into_products(built: Built, given: Scenario, values: Values) -> Built:
    left = 1.0 - values["fused"]

    def rule(op: Op) -> Work:
        if not _is_epilogue(op):
            return op
        assert isinstance(op, Stream)
        other = 0.5 if labelled(op, *_SECOND_INPUT) else 0.0
        kept = left + values["fused"] * other
        return replace(
            op, read_bytes=plain(op.read_bytes * kept), write_bytes=op.write_bytes * left, launches=op.launches * left
        )

    return assumed(with_ops(built, rule), "of a fused addition half of what it read, the other input, is still read")


def _is_copy(op: Op) -> bool:
    return isinstance(op, Stream) and op.pattern in ("copy", "permute") and not labelled(op, "*fft")


@technique(
    "layout-selection",
    title="layouts chosen so that operators need no copies between them",
    mechanism=("compiler_autotune", "memory_layout_planning", "kernel_fusion"),
    papers=("data-movement-transformers", "fluidml"),
    quality="the same results",
    grade="exact",
    cannot=_some(_is_copy, "copies nothing from layout to layout"),
    parameters=(Parameter("removed", 1.0, "part of the copies that is not needed any more", 0.0, 1.0),),
    neutral={"removed": 0.0},
    occupies=("layouts",),
)
def layout_selection(given: Scenario, values: Values) -> Scenario:
    """Permutations and copies between operators go; producers write what consumers read.

    The gain ends at what copies take: shifted windows and patches of vision transformers much, plain stacks nothing.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     task = rp.Forward(batch=64)
    ...     return rp.estimate("swin_base_patch4_window7_224", on="h100-sxm", task=task, apply=apply).time_s
    >>> 1.05 < time() / time("layout-selection") < 2.0
    True
    """
    return edited(given, "layout-selection", _without_copies, values)


def _without_copies(built: Built, given: Scenario, values: Values) -> Built:
    left = 1.0 - values["removed"]

    def rule(op: Op) -> Work:
        return sometimes(left, op) if _is_copy(op) else op

    return with_ops(built, rule)
