"""Memory rows: peak of a device, whether a run fits, tokens that a cache holds."""

from __future__ import annotations

from ridgepoint.evidence.rows import InexpressibleError, Rows
from ridgepoint.evidence.run_scenarios import Figures
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network


def memory_figures(rows: Rows, model: Model | Network, machine: Machine) -> Figures:
    raise InexpressibleError("later")
