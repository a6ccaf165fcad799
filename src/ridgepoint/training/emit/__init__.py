"""Configurations that realise a training plan, with the frameworks' documented option names (catalog/frameworks.toml).

What a framework cannot say is refused: no configuration means another run than the one that was planned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ridgepoint.errors import RidgepointError, unknown_name
from ridgepoint.training.emit import deepspeed, fsdp, megatron, torchtitan
from ridgepoint.training.emit.facts import Facts
from ridgepoint.training.planner import TrainPlan

TARGETS: dict[str, Callable[[Facts, float | None], tuple[str, list[str]]]] = {
    "megatron": megatron.text,
    "deepspeed": deepspeed.text,
    "fsdp": fsdp.text,
    "torchtitan": torchtitan.text,
}


@dataclass(frozen=True)
class Written:
    """A configuration, and what it leaves to its reader."""

    target: str
    text: str
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"target": self.target, "text": self.text, "notes": list(self.notes)}


def emit(found: TrainPlan, target: str) -> Written:
    """The configuration of the best layout for ``target``.

    Errors: ``unknown_target``; ``not_expressible`` where the framework cannot say what the layout is, with what to change and
    the first of the plan's layouts that it can say.
    """
    if target not in TARGETS:
        raise unknown_name("target", target, TARGETS)
    try:
        text, notes = TARGETS[target](Facts(found.best), found.tokens)
    except RidgepointError as error:
        raise RidgepointError(error.kind, error.message, error.hint + _other(found, target)) from None
    return Written(target, text, tuple(notes))


def _other(found: TrainPlan, target: str) -> str:
    """Words for the first other layout of the plan that the framework can say."""
    for place, layout in enumerate(found.layouts[1:], 2):
        facts = Facts(layout)
        try:
            TARGETS[target](facts, found.tokens)
        except RidgepointError:
            continue
        options = " ".join(f"--{name} {facts.degree(name)}" for name in ("tp", "pp", "dp", "ep", "cp"))
        return f"; layout {place} can be written: {options} --zero {facts.stage}"
    return ""
