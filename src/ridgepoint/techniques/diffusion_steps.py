"""Fewer or cheaper denoising passes: steps, guidance, resolution by step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ridgepoint.models.networks.network import Network
from ridgepoint.numeric import Num
from ridgepoint.ops import Stream
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Sample
from ridgepoint.tasks.build import Built, Phase
from ridgepoint.tasks.inference import per_replica
from ridgepoint.techniques.conditions import every
from ridgepoint.techniques.reductions import before
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.resolution import is_sampled, pixels, resized, smaller_than_now
from ridgepoint.techniques.rewrite import assumed, edited, with_phases
from ridgepoint.techniques.technique import Parameter
from ridgepoint.work import Seq


def _steps(given: Scenario) -> Num:
    stated: Num | None = getattr(given.task, "steps", None)
    if stated is not None:
        return stated
    assert isinstance(given.model, Network)
    return dict(given.model.sampling)["steps"]


def _in_steps(given: Scenario, steps: Num) -> Scenario:
    assert isinstance(given.task, Sample)
    return replace(given, task=replace(given.task, steps=steps))


def _more_steps(given: Scenario, values: Values) -> str:
    present = _steps(given)
    fewer = bool(np.all(np.asarray(values["steps"]) < np.asarray(present)))
    return "" if fewer else f"it takes {np.min(present):g} steps already"


def _guided(given: Scenario, values: Values) -> str:
    model = given.model
    guided = isinstance(model, Network) and dict(model.sampling).get("guidance", 1.0) > 1.0
    return "" if guided else f"{model.name} runs one pass per step: there is no guidance to leave out"


def unguided(given: Scenario) -> Scenario:
    """``given`` with one pass of the network per step: no unconditional branch."""
    model = given.model
    assert isinstance(model, Network)
    sampling = {**dict(model.sampling), "guidance": 1.0}
    return replace(given, model=replace(model, sampling=tuple(sampling.items())))


_STEPS = Parameter("steps", 10.0, "denoising passes", 1.0, 1e4, whole=True)


@technique(
    "step-reduction",
    title="a better solver takes fewer denoising steps",
    mechanism=("step_reduction",),
    papers=("sid-protein", "magnets", "inner-loop-feedback"),
    quality="depends on solver and model; samples change",
    grade="near",
    cannot=every(is_sampled, _more_steps),
    parameters=(_STEPS,),
    occupies=("steps",),
)
def step_reduction(given: Scenario, values: Values) -> Scenario:
    """``steps`` passes of the same network; encoding of the prompt and decoding of the latent stay.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     return rp.estimate("dit-xl-2", on="h100-sxm", task="sample", apply=apply).time_s
    >>> 12.0 < time() / time("step-reduction:steps=20") < 12.5
    True
    """
    return _in_steps(given, values["steps"])


@technique(
    "step-distillation",
    title="distilled to one or a few steps, guidance included",
    mechanism=("step_reduction", "distillation"),
    papers=("instaflow", "sid-protein", "adcsr"),
    quality="InstaFlow: FID 23.3 in one step on COCO 2017; fewer steps lose diversity and detail",
    grade="changed",
    cannot=every(is_sampled, _more_steps),
    parameters=(
        replace(_STEPS, default=1.0),
        Parameter("guided", False, "the student still needs the unconditional pass"),
    ),
    occupies=("steps", "guidance"),
    training_free=False,
)
def step_distillation(given: Scenario, values: Values) -> Scenario:
    """A student of the same shape takes ``steps`` passes, without an unconditional branch unless ``guided``.

    With one step the prompt's encoder and the decoder of the latent, which no distillation shrinks, become the larger part.

    >>> import ridgepoint as rp
    >>> def run(*apply: str) -> rp.Estimate:
    ...     return rp.estimate("sd-1.5", on="a100-sxm-80gb", task="sample", apply=apply)
    >>> 10 < run().time_s / run("step-distillation").time_s < 60
    True
    """
    fewer = _in_steps(given, values["steps"])
    return fewer if values["guided"] else unguided(fewer)


@technique(
    "guidance-skipping",
    title="no unconditional pass once denoising has converged",
    mechanism=("step_reduction", "adaptive_compute"),
    papers=("adaptive-guidance",),
    quality="Adaptive Guidance: the same quality with half of the steps plain",
    grade="near",
    cannot=every(is_sampled, _guided),
    parameters=(Parameter("plain", 0.5, "part of the steps without the unconditional pass", 0.0, 1.0),),
    neutral={"plain": 0.0},
    occupies=("guidance",),
)
def guidance_skipping(given: Scenario, values: Values) -> Scenario:
    """Of N guided steps a part runs one network evaluation instead of two: 2 − plain evaluations per step in the mean.

    The saving is plain/2 of the passes where arithmetic binds; at small batches half the rows take more than half the time.

    >>> import ridgepoint as rp
    >>> def bound(*apply: str) -> float:
    ...     task = rp.Sample(batch=16)
    ...     return rp.estimate("dit-xl-2", on="h100-sxm", task=task, apply=apply).bound_s
    >>> 0.24 < 1 - bound("guidance-skipping:plain=0.5") / bound() < 0.26
    True
    """
    return edited(given, "guidance-skipping", _plain_steps, values)


def _plain_steps(built: Built, given: Scenario, values: Values) -> Built:
    alone = unguided(before(given, "guidance-skipping")).build()
    plain_step = next(phase.work for phase in alone.phases if phase.name == "step")

    def change(phase: Phase) -> tuple[Phase, ...]:
        count = phase.count
        later = replace(phase, name="step.plain", work=plain_step, count=count * values["plain"])
        return replace(phase, count=count * (1.0 - values["plain"])), later

    return with_phases(built, change, "step")


@technique(
    "guidance-distillation",
    title="guidance learned by the network: one pass per step",
    mechanism=("step_reduction", "distillation", "peft"),
    papers=("lora-distill-diffusion", "adaptive-guidance"),
    quality="image quality kept (LoRA distillation of Stable Diffusion); the guidance scale becomes an input or is fixed",
    grade="near",
    cannot=every(is_sampled, _guided),
    occupies=("guidance",),
    training_free=False,
)
def guidance_distillation(given: Scenario, values: Values) -> Scenario:
    """Every step runs one evaluation instead of two; adapters are merged into the weights and cost nothing.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     return rp.estimate("sdxl", on="h100-sxm", task=rp.Sample(batch=4), apply=apply).time_s
    >>> 1.5 < time() / time("guidance-distillation") <= 2.05
    True
    """
    return unguided(given)


@technique(
    "resolution-cascade",
    title="early steps at low resolution, late ones at full",
    mechanism=("resolution_input", "step_reduction"),
    papers=("frecas", "ultragen"),
    quality="unknown; FreCas reports good images at 2048 pixels",
    grade="near",
    cannot=every(is_sampled, smaller_than_now),
    parameters=(
        Parameter("px", 128.0, "pixels a side of the early steps", 8.0, 65536.0, whole=True),
        Parameter("share", 0.5, "part of the steps at that size", 0.0, 1.0),
    ),
    neutral=None,
    occupies=("input size",),
)
def resolution_cascade(given: Scenario, values: Values) -> Scenario:
    """steps · [share · step(px) + (1 − share) · step(full)]: a step's cost falls with the area, its attention with the square.

    The latent is interpolated once between the stages. For more than two stages give ``px`` and ``share`` of the one that
    dominates.

    >>> import ridgepoint as rp
    >>> def time(*apply: str) -> float:
    ...     task = rp.Sample(batch=1, image_px=2048)
    ...     return rp.estimate("sdxl", on="h100-sxm", task=task, apply=apply).time_s
    >>> time("resolution-cascade:px=1024,share=0.8") < time("resolution-cascade:px=1024,share=0.5") < 0.7 * time()
    True
    """
    return edited(given, "resolution-cascade", _cascaded, values)


def _cascaded(built: Built, given: Scenario, values: Values) -> Built:
    small = resized(before(given, "resolution-cascade"), values["px"]).build()
    low = next(phase.work for phase in small.phases if phase.name == "step")
    share = values["share"]
    batch = per_replica(given.task.sizes()["batch"], built.layout)
    latent = 2.0 * 16.0 * batch * (pixels(given) / 8.0) ** 2.0
    stretch = Stream(read_bytes=latent, write_bytes=latent, flop=4.0 * latent, label="step.interpolate")

    def change(phase: Phase) -> tuple[Phase, ...]:
        early = replace(phase, name="step.small", work=low, count=phase.count * share)
        between = replace(phase, name="step.between", work=Seq(stretch), count=1.0)
        return early, between, replace(phase, count=phase.count * (1.0 - share))

    return assumed(with_phases(built, change, "step"), "two resolutions; every step of one of them costs the same")
