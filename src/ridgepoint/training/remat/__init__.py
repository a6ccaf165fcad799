"""Rematerialisation: which results of a training step to keep, and which to compute again (design §2)."""

from ridgepoint.training.remat.flow import Flow, Run, Step, run
from ridgepoint.training.remat.planner import FlowPlan, plan_flow

__all__ = ["Flow", "FlowPlan", "Run", "Step", "plan_flow", "run"]
