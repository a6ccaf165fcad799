"""Where techniques apply: conditions on a scenario, each giving the reason why not (empty where it holds)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ridgepoint.models.architecture import Experts, LatentAttention, Model, SelfAttention
from ridgepoint.models.networks.network import Network
from ridgepoint.scenario import Scenario, Values
from ridgepoint.tasks import Decode, Forward, Generate, Prefill, Sample, Train
from ridgepoint.techniques.technique import Condition


def every(*conditions: Condition) -> Condition:
    """All of them hold: the first reason otherwise."""

    def cannot(given: Scenario, values: Values) -> str:
        return next((reason for c in conditions if (reason := c(given, values))), "")

    return cannot


def task_is(*kinds: type) -> Condition:
    """The task is one of these kinds."""

    def cannot(given: Scenario, values: Values) -> str:
        names = " or ".join(kind.name for kind in kinds)  # type: ignore[attr-defined]
        return "" if isinstance(given.task, kinds) else f"it is for {names}, the task is {given.task.name}"

    return cannot


generates: Condition = task_is(Decode, Generate)
reads_prompts: Condition = task_is(Prefill, Generate)
serves: Condition = task_is(Prefill, Decode, Generate)
trains: Condition = task_is(Train)
infers: Condition = task_is(Prefill, Decode, Generate, Forward, Sample)
samples: Condition = task_is(Sample)


def transformer(given: Scenario, values: Values) -> str:
    """The model is made of token layers, not a network played on a tape."""
    return "" if isinstance(given.model, Model) else f"{given.model.name} is no token model"


def network(given: Scenario, values: Values) -> str:
    """The model is a network (vision, diffusion, graphs …)."""
    return "" if isinstance(given.model, Network) else f"{given.model.name} is a token model"


_MIXER_WORDS: Mapping[type, str] = {SelfAttention: "softmax attention", LatentAttention: "latent attention"}


def has_mixer(*kinds: type) -> Condition:
    """Some layer of the main stack mixes tokens in one of these ways."""

    def cannot(given: Scenario, values: Values) -> str:
        if not isinstance(given.model, Model):
            return f"{given.model.name} has no such layers"
        mixers = [layer.mixer for layer, _ in given.model.main.layers]
        if any(isinstance(mixer, kinds) for mixer in mixers):
            return ""
        if any(isinstance(mixer, LatentAttention) for mixer in mixers):
            return f"{given.model.name} attends over latents, not over keys and values"
        return f"{given.model.name} has no {' or '.join(_MIXER_WORDS[k] for k in kinds)}"

    return cannot


softmax_attention: Condition = has_mixer(SelfAttention)


def has_experts(given: Scenario, values: Values) -> str:
    """The model is a mixture of experts."""
    if not isinstance(given.model, Model):
        return f"{given.model.name} has no experts"
    found = any(isinstance(layer.feed, Experts) for layer, _ in given.model.main.layers)
    return "" if found else f"{given.model.name} has no experts"


def several_devices(given: Scenario, values: Values) -> str:
    """The machine has more than one device."""
    return "" if given.machine.devices > 1 else f"{given.machine.name} is one device"


def has_host(given: Scenario, values: Values) -> str:
    """The device reaches the memory of a host, or memory tiers of its own."""
    machine = given.machine
    behind = machine.tiers or machine.link("host") is not None
    return "" if behind else f"{machine.device.name} has one memory only: there is nowhere to move things to"


def wants(check: Callable[[Scenario, Any], bool], reason: str) -> Condition:
    """A condition of its own: ``reason`` where the check fails."""

    def cannot(given: Scenario, values: Values) -> str:
        return "" if check(given, values) else reason

    return cannot
