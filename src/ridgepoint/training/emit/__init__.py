"""Configurations that realise a training plan, with the frameworks' documented option names (catalog/frameworks.toml).

What a framework cannot say is refused: no configuration means another run than the one that was planned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ridgepoint.errors import RidgepointError, unknown_name
from ridgepoint.models.networks.network import Network
from ridgepoint.plan import RANK_ORDERS
from ridgepoint.training.answer import TrainPlan
from ridgepoint.training.emit import deepspeed, fsdp, megatron, torchtitan
from ridgepoint.training.emit.facts import Facts

TARGETS: dict[str, Callable[[Facts, float | None], tuple[str, list[str]]]] = {
    "megatron": megatron.text,
    "deepspeed": deepspeed.text,
    "fsdp": fsdp.text,
    "torchtitan": torchtitan.text,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "megatron": {"gradients": "fp32", "hybrid": False},
    "deepspeed": {
        **{"gradients": "16bit", "hybrid": False, "rank_order": RANK_ORDERS[0]},
        **{"pp": 1, "cp": 1, "sequence_parallel": False},
    },
    "fsdp": {"gradients": "16bit", "rank_order": RANK_ORDERS[0], "pp": 1, "ep": 1, "zero_stage": 3},
    "torchtitan": {"gradients": "16bit", "gradient_bytes": 4.0, "rank_order": RANK_ORDERS[0], "zero_stage": 3},
}
"""What a plan for a framework takes over from it unless it is given: the frameworks' own defaults of gradients (Megatron-LM's
``arguments.py``, DeepSpeed's ``get_data_types``, FSDP2's reduction in the format of the products, torchtitan's in fp32), and no
layouts that it has no setting for.
"""


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
    if isinstance(found.model, Network):
        raise RidgepointError(
            "bad_model",
            f"{found.model.name} is a network; configurations are written for transformers",
            "leave --emit out",
        )
    try:
        text, notes = TARGETS[target](Facts(found.best), found.tokens)
    except RidgepointError as error:
        raise RidgepointError(error.kind, error.message, error.hint + _other(found, target)) from None
    return Written(target, text, (*notes, _taken_over(target)))


def _taken_over(target: str) -> str:
    """What the plan was searched with for the framework's sake."""
    named = {"hybrid": "shard groups"}
    said = ", ".join(
        f"no {named[name]}" if value is False and name in named else f"{name.replace('_', ' ')} {value}"
        for name, value in SETTINGS[target].items()
    )
    return f"searched as {target} has it, where no option says otherwise: {said}"


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
