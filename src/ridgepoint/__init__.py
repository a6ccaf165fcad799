"""Ridgepoint: what limits an AI workload on a machine, and what would lift the limit.

>>> import ridgepoint as rp
>>> est = rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=32, context=8192))
>>> est.bottleneck
'hbm'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ridgepoint.advice.advice import Advice, advise
    from ridgepoint.errors import RidgepointError
    from ridgepoint.estimates import Estimate, estimate
    from ridgepoint.evidence import papers
    from ridgepoint.machines.catalog import find_machine
    from ridgepoint.machines.machine import Machine
    from ridgepoint.models.architecture import Model
    from ridgepoint.models.catalog import find_model
    from ridgepoint.models.networks.network import Network
    from ridgepoint.plan import Plan
    from ridgepoint.scenario import Scenario
    from ridgepoint.search.result import Sweep
    from ridgepoint.search.sweep import sweep
    from ridgepoint.serving.adapters import Adapters
    from ridgepoint.serving.budget import PowerBudget
    from ridgepoint.serving.cascade import Cascade, simulate_cascade
    from ridgepoint.serving.failures import Failures
    from ridgepoint.serving.fleet import ServePlan, plan_serve
    from ridgepoint.serving.outcome import Outcome, Slo
    from ridgepoint.serving.require import Requirement, require
    from ridgepoint.serving.scaling import Scaling
    from ridgepoint.serving.simulate import simulate
    from ridgepoint.serving.tiers import CacheTiers
    from ridgepoint.serving.trace_file import read_trace
    from ridgepoint.serving.workload import Requests, client_requests, poisson_requests, session_requests
    from ridgepoint.tasks import Decode, Forward, Generate, Prefill, Sample, Train
    from ridgepoint.traces.profile import Profile, read_profile
    from ridgepoint.training.answer import TrainPlan
    from ridgepoint.training.planner import plan_train
    from ridgepoint.training.remat.recompute import RecomputePlan, plan_recompute

__version__ = "0.1.0"

__all__ = [
    "Adapters",
    "Advice",
    "CacheTiers",
    "Cascade",
    "Decode",
    "Estimate",
    "Failures",
    "Forward",
    "Generate",
    "Machine",
    "Model",
    "Network",
    "Outcome",
    "Plan",
    "PowerBudget",
    "Prefill",
    "Profile",
    "RecomputePlan",
    "Requests",
    "Requirement",
    "RidgepointError",
    "Sample",
    "Scaling",
    "Scenario",
    "ServePlan",
    "Slo",
    "Sweep",
    "Train",
    "TrainPlan",
    "advise",
    "client_requests",
    "estimate",
    "find_machine",
    "find_model",
    "papers",
    "plan_recompute",
    "plan_serve",
    "plan_train",
    "poisson_requests",
    "read_profile",
    "read_trace",
    "require",
    "session_requests",
    "simulate",
    "simulate_cascade",
    "sweep",
]

# Where each public name lives. Names are imported when first used, so that `ridgepoint --help` does not wait for NumPy.
_HOMES = {
    "ridgepoint.advice.advice": ("Advice", "advise"),
    "ridgepoint.errors": ("RidgepointError",),
    "ridgepoint.estimates": ("Estimate", "estimate"),
    "ridgepoint.machines.catalog": ("find_machine",),
    "ridgepoint.machines.machine": ("Machine",),
    "ridgepoint.models.architecture": ("Model",),
    "ridgepoint.models.catalog": ("find_model",),
    "ridgepoint.models.networks.network": ("Network",),
    "ridgepoint.plan": ("Plan",),
    "ridgepoint.scenario": ("Scenario",),
    "ridgepoint.search.result": ("Sweep",),
    "ridgepoint.search.sweep": ("sweep",),
    "ridgepoint.serving.adapters": ("Adapters",),
    "ridgepoint.serving.budget": ("PowerBudget",),
    "ridgepoint.serving.cascade": ("Cascade", "simulate_cascade"),
    "ridgepoint.serving.failures": ("Failures",),
    "ridgepoint.serving.fleet": ("ServePlan", "plan_serve"),
    "ridgepoint.serving.outcome": ("Outcome", "Slo"),
    "ridgepoint.serving.require": ("Requirement", "require"),
    "ridgepoint.serving.scaling": ("Scaling",),
    "ridgepoint.serving.simulate": ("simulate",),
    "ridgepoint.serving.tiers": ("CacheTiers",),
    "ridgepoint.serving.trace_file": ("read_trace",),
    "ridgepoint.serving.workload": ("Requests", "client_requests", "poisson_requests", "session_requests"),
    "ridgepoint.tasks": ("Decode", "Forward", "Generate", "Prefill", "Sample", "Train"),
    "ridgepoint.traces.profile": ("Profile", "read_profile"),
    "ridgepoint.training.answer": ("TrainPlan",),
    "ridgepoint.training.planner": ("plan_train",),
    "ridgepoint.training.remat.recompute": ("RecomputePlan", "plan_recompute"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = {"papers": "ridgepoint.evidence.papers"}
"""Public names that are modules."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name not in _HOME_OF:
        raise AttributeError(f"module 'ridgepoint' has no attribute '{name}'")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
