"""What a plan of a training step is asked: which step, on which machine, what is given, what counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ridgepoint.machines.machine import Machine
from ridgepoint.tasks import Train


@dataclass(frozen=True)
class Question:
    """The ``top`` layouts of a step that make ``objective`` least in ``usable_bytes`` per device; ``fixed`` are the fields of
    a plan that are given.
    """

    machine: Machine
    task: Train
    fixed: Mapping[str, Any]
    usable_bytes: float
    objective: str
    top: int

    def fits(self, needed_bytes: float) -> bool:
        """Whether so much fits on a device, but for rounding."""
        return needed_bytes <= self.usable_bytes * (1.0 + 1e-9)

    def with_fields(self, change: Mapping[str, Any]) -> Question:
        """The question with some fields of the plan changed."""
        return replace(self, fixed={**self.fixed, **change})

    def on(self, machine: Machine) -> Question:
        """The question on another machine, whose replicas are its own."""
        free = {name: value for name, value in self.fixed.items() if name != "dp"}
        return replace(self, machine=machine, fixed=free)
