"""Fewer pixels: smaller inputs, full resolution on key frames only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ridgepoint.models.networks.network import Network
from ridgepoint.numeric import Num
from ridgepoint.ops import Conv, Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Forward, Sample, Train
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.tasks.inference import per_replica
from ridgepoint.techniques.conditions import every, network, task_is
from ridgepoint.techniques.reductions import before
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import assumed, edited, with_phases
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Seq, Work


def pixels(given: Scenario) -> Num:
    """Pixels a side of the network's input under the task."""
    stated = getattr(given.task, "image_px", None)
    return given.model.size("image_px") if stated is None else stated  # type: ignore[union-attr]


def smaller_than_now(given: Scenario, values: Values) -> str:
    """The network reads images, larger ones than ``px``."""
    if not isinstance(given.model, Network) or "image_px" not in dict(given.model.inputs):
        return f"{given.model.name} has no image size"
    present = pixels(given)
    small = np.all(np.asarray(values["px"]) < np.asarray(present))
    return "" if small else f"the input has {np.min(present):g} pixels a side already"


def resized(given: Scenario, px: Num) -> Scenario:
    """``given`` with images of ``px`` pixels a side."""
    task: Any = given.task
    return replace(given, task=replace(task, image_px=px))


@technique(
    "smaller-input",
    title="images of fewer pixels, or fragments of them",
    mechanism=("resolution_input", "token_reduction"),
    papers=("fast-vqa", "rt-detr"),
    quality="falls with small objects and fine texture; FAST-VQA's fragments of raw pixels are reported to keep it",
    grade="changed",
    cannot=every(network, task_is(Forward, Train), smaller_than_now),
    parameters=(
        Parameter("px", 160.0, "pixels a side", 8.0, 65536.0, whole=True),
        Parameter(
            "source_px", 0.0, "pixels a side of the picture that is resized (0: it arrives at that size)", 0.0, 1e6
        ),
    ),
    occupies=("input size",),
    training_free=False,
)
def smaller_input(given: Scenario, values: Values) -> Scenario:
    """The network runs on px × px pixels: convolutions scale with the area, attention over positions with its square.

    Resizing reads the source once; fragments (FAST-VQA) read only what they keep, for which ``source_px`` is 0. Multiples
    of the network's patch or stride lose nothing at the border.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     return rp.estimate("resnet50", on="h100-sxm", task=rp.Forward(batch=256), apply=apply).time_s
    >>> 1.6 < time() / time("smaller-input:px=160") < (224 / 160) ** 2 * 1.05
    True
    """
    changed = resized(given, values["px"])
    return (
        edited(changed, "smaller-input", _resize, values) if np.any(np.asarray(values["source_px"]) > 0.0) else changed
    )


def _resize(built: Built, given: Scenario, values: Values) -> Built:
    batch = per_replica(given.task.sizes()["batch"], built.layout)
    source, kept = values["source_px"] ** 2.0, values["px"] ** 2.0
    op = Stream(
        read_bytes=3.0 * batch * source, write_bytes=12.0 * batch * kept, flop=24.0 * batch * kept, label="input.resize"
    )
    return with_phases(built, lambda phase: replace(phase, work=Seq(op, phase.work)))


@technique(
    "key-frames",
    title="full resolution on key frames; other frames run small and reuse the key frame's features",
    mechanism=("resolution_input", "feature_caching"),
    papers=("ar-seg",),
    quality="AR-Seg: accuracy kept on CamVid at 67 % fewer operations",
    grade="near",
    cannot=every(network, task_is(Forward), smaller_than_now),
    parameters=(
        Parameter("every", 12.0, "frames from one key frame to the next", 1.0, 1e6, whole=True),
        Parameter("px", 112.0, "pixels a side of the other frames", 8.0, 65536.0, whole=True),
        Parameter("channels", 512.0, "channels of the features that are warped and fused", 0.0, 65536.0, whole=True),
        Parameter("stride", 8.0, "pixels of a full frame per position of these features", 1.0, 256.0, whole=True),
    ),
    occupies=("input size",),
    training_free=False,
    presumes="the inputs are frames of a video",
)
def key_frames(given: Scenario, values: Values) -> Scenario:
    """A frame costs [full + (L − 1) · (small + fusion)] / L in the mean over L frames.

    Fusion warps the key frame's features along motion vectors (which the codec has) and joins them with the small frame's
    by attention in a 7 × 7 neighbourhood (AR-Seg's local attention): a gather, a 1 × 1 convolution for queries, keys and
    values each, and 2 · 49 · channels multiply-adds per position.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     return rp.estimate("resnet50", on="h100-sxm", task=rp.Forward(batch=64), apply=apply).time_s
    >>> time("key-frames:every=12,channels=0") < time("key-frames:every=12") < time("key-frames:every=2") < time()
    True
    """
    return edited(given, "key-frames", _between_key_frames, values)


def _between_key_frames(built: Built, given: Scenario, values: Values) -> Built:
    small = resized(before(given, "key-frames"), values["px"]).build()
    others = {phase.name: phase.work for phase in small.phases}
    share = 1.0 / values["every"]
    fused = _fusion(built, given, values)

    def change(phase: Phase) -> tuple[Phase, ...]:
        rest = replace(
            phase,
            name=f"{phase.name}.between",
            work=Seq(others[phase.name], fused),
            count=phase.count * (1.0 - share),
        )
        return replace(phase, count=phase.count * share), rest

    return assumed(with_phases(built, change), "motion vectors come from the video's codec")


def _fusion(built: Built, given: Scenario, values: Values) -> Work:
    batch = per_replica(given.task.sizes()["batch"], built.layout)
    side, channels = pixels(given) / values["stride"], values["channels"]
    size = batch * side**2.0 * channels
    project = Conv(
        batch=batch, c_in=channels, c_out=channels, h=side, w=side, kh=1.0, kw=1.0, acts="fp16", weights="fp16",
        label="fusion.project",
    )  # fmt: skip
    warp = Stream(read_bytes=2.0 * size, write_bytes=2.0 * size, pattern="gather", label="fusion.warp")
    local = Stream(
        read_bytes=6.0 * size, write_bytes=2.0 * size, flop=4.0 * 49.0 * size, special=49.0 * size / np.maximum(channels, 1.0),
        label="fusion.local_attention",
    )  # fmt: skip
    if isinstance(channels, float) and channels == 0.0:
        return Seq()
    return Seq(warp, project, project, project, local)


def is_sampled(given: Scenario, values: Values) -> str:
    """The network generates by repeated denoising, and that is asked of it."""
    found = isinstance(given.model, Network) and given.model.is_sampler and isinstance(given.task, Sample)
    return "" if found else "nothing is sampled by repeated denoising"
