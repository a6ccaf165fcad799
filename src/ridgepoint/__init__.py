"""Ridgepoint: what limits an AI workload on a machine, and what would lift the limit."""

from ridgepoint.errors import RidgepointError
from ridgepoint.estimate import Estimate, estimate
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.catalog import find_model
from ridgepoint.models.networks.network import Network
from ridgepoint.plan import Plan
from ridgepoint.scenario import Scenario, scenario
from ridgepoint.tasks import Decode, Forward, Generate, Prefill, Sample, Train

__version__ = "0.1.0"

__all__ = [
    "Decode",
    "Estimate",
    "Forward",
    "Generate",
    "Machine",
    "Model",
    "Network",
    "Plan",
    "Prefill",
    "RidgepointError",
    "Sample",
    "Scenario",
    "Train",
    "estimate",
    "find_machine",
    "find_model",
    "scenario",
]
