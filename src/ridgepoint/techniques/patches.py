"""A network run patch by patch: its first layers over parts of the picture, so that little lives at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.kernels.unknown import rules_of
from ridgepoint.models.networks.network import Network
from ridgepoint.models.state import peak_transient_bytes
from ridgepoint.numeric import Num, plain
from ridgepoint.ops import Conv
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Forward
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.techniques.conditions import every, network, task_is
from ridgepoint.techniques.reductions import fewer_tokens
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, with_entries
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Op, Repeat, Seq, Work, mapped, ops


def _convolves(given: Scenario, values: Values) -> str:
    assert isinstance(given.model, Network)
    found = any(isinstance(op, Conv) for phase in given.build().phases for op in ops(phase.work))
    return "" if found else f"{given.model.name} has no convolutions to run patch by patch"


def cut(work: Work, share: float) -> tuple[Work, Work]:
    """The first parts of a sequence, as many of its operations as ``share`` says, and the rest.

    A part is taken whole by its end; repeated blocks are cut between two of them.

    >>> from ridgepoint.ops import Delay
    >>> head, tail = cut(Seq(Delay(seconds=1.0), Repeat(4.0, Delay(seconds=1.0))), 0.6)
    >>> head.parts[1].count, tail.parts[0].count
    (2.0, 2.0)
    """
    parts = _flat(work)
    total = sum(count for count, _ in parts)
    left, head, tail = share * total, [], []
    for count, part in parts:
        inside = min(count, max(round(left), 0))
        left -= inside
        if inside:
            head.append(part if inside == 1 else Repeat(float(inside), part))
        if count > inside:
            tail.append(part if count - inside == 1 else Repeat(float(count - inside), part))
    return Seq(*head), Seq(*tail)


def _flat(work: Work) -> list[tuple[int, Work]]:
    """Parts in order with how many equal ones follow each other."""
    if isinstance(work, Seq):
        return [item for part in work.parts for item in _flat(part)]
    if (
        isinstance(work, Repeat)
        and isinstance(work.count, float)
        and work.count == round(work.count)
        and work.count >= 1.0
    ):
        return [(int(work.count), work.body)]
    return [(1, work)]


@technique(
    "patch-inference",
    title="the first layers patch by patch",
    mechanism=("patch_inference", "efficient_architecture"),
    papers=("mcunetv2",),
    quality="the same results; networks searched for it shift the receptive field to later layers",
    grade="exact",
    cannot=every(network, task_is(Forward), _convolves),
    parameters=(
        Parameter("patches", 2.0, "patches a side", 1.0, 64.0, whole=True),
        Parameter("share", 0.3, "part of the layers that run patch by patch, from the first", 0.0, 1.0, one_value=True),
        Parameter("halo", 0.1, "part of a patch's positions that neighbours compute too", 0.0, 10.0),
    ),
    neutral={"share": 0.0},
    occupies=("activations",),
)
def patch_inference(given: Scenario, values: Values) -> Scenario:
    """The first layers run for one of n × n patches at a time: activations of that part fall by n² / (1 + halo).

    peak = max(patched part / n² · (1 + halo) + its whole output, the rest). Overlapping borders are computed again, and each
    patch starts its own kernels: memory is bought with time.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("mobilenetv2_100", on="stm32h743", task=rp.Forward(batch=1), apply=apply)
    >>> whole, parts = run(), run("patch-inference:patches=4,share=0.4")
    >>> parts.memory["activations"] < whole.memory["activations"] / 2, parts.time_s > whole.time_s
    (True, True)
    """
    return edited(given, "patch-inference", _in_patches, values)


def _in_patches(built: Built, given: Scenario, values: Values) -> Built:
    count = values["patches"] ** 2.0
    phases: list[Phase] = []
    peak: Num = 0.0
    for phase in built.phases:
        early, late = cut(phase.work, values["share"])
        patched = mapped(early, lambda op: _patch(op, count, values["halo"]))
        phases.append(replace(phase, work=Seq(Repeat(count, patched), late) if values["share"] else phase.work))
        part = peak_transient_bytes(early) / count * (1.0 + values["halo"])
        peak = np.maximum(peak, np.maximum(part + written_bytes(early), peak_transient_bytes(late)))
    whole = built.ledger["activations"]
    changed = with_entries(replace(built, phases=tuple(phases)), activations=plain(np.minimum(peak, whole)))
    return assumed(changed, "patches are square and equal; the patched part keeps its output whole")


def _patch(op: Op, count: Num, halo: Num) -> Work:
    """``op`` over one patch, its overlap with the neighbours included."""
    share = plain((1.0 + halo) / count)
    if isinstance(op, Conv):
        side = plain(np.sqrt(share))
        return replace(op, h=op.h * side, w=op.w * side)
    return fewer_tokens(op, share)


def written_bytes(work: Work) -> Num:
    """What the last kernel of ``work`` writes that writes anything: a pass fused into the kernel before it does not."""
    sizes = [rules_of(op).write_bytes(op) for op in ops(work)]
    return next((size for size in reversed(sizes) if np.any(np.asarray(size) > 0.0)), 0.0)
