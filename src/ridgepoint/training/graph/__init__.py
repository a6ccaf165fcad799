"""Training as a graph of calls to several models (RLHF): a plan per call, and parameters moved between them."""

from ridgepoint.training.graph.graph import Call, Graph, Member, feedback
from ridgepoint.training.graph.planner import GraphPlan, Planned, plan_graph

__all__ = ["Call", "Graph", "GraphPlan", "Member", "Planned", "feedback", "plan_graph"]
