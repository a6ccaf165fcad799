"""A row's workload as a request."""

from __future__ import annotations

from ridgepoint.evidence.papers.rows import Workload
from ridgepoint.request import Request


def to_request(workload: Workload) -> Request:
    """What the workload says, ready for ``request.to_scenario``."""
    sizes = {key: value for key, value in workload.task.items() if key != "name"}
    return Request(
        workload.model,
        workload.machine,
        str(workload.task["name"]) if "name" in workload.task else None,
        sizes,
        workload.plan,
        workload.inputs,
    )
