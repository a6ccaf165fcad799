"""The JSON document of a trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ridgepoint.traces.compare import Beside, Comparison
from ridgepoint.traces.devices import Device
from ridgepoint.traces.profile import NS, Profile, Row

LONGEST = 20
"""Launch-bound stretches that are listed, longest first."""


def document(found: Profile, beside: Comparison | None = None) -> dict[str, Any]:
    """Everything that a trace says, as values that JSON knows; with ``beside`` also the comparison."""
    launches = found.launches
    return {
        "trace": found.trace.title,
        "events": len(found.trace),
        "span_s": found.span_s,
        "busy_s": found.busy_s,
        "idle_s": found.idle_s,
        "steps": {"count": len(found.steps_s), "times_s": found.steps_s.tolist()},
        "verdict": found.verdict.bound,
        "sentence": found.verdict.sentence,
        "shares": found.verdict.shares,
        "devices": [_device(found, device) for device in found.devices],
        "host": {"busy_s": found.host_busy_s, "waiting_s": found.waiting_s},
        "launches": None
        if launches is None
        else {"kernels": launches.kernels, "delay_s": launches.delay_s, "queued_s": launches.waited_s},
        "ops": [_row(row) | {"total_s": row.total_s} for row in found.ops],
        "kernels": [_row(row) | {"total_s": row.total_s} for row in found.kernels],
        "components": [_row(row) for row in found.components],
        "kinds": [_row(row) for row in found.by_kind],
        "warnings": [*found.warnings, *(() if beside is None else beside.warnings)],
        "comparison": None if beside is None else _comparison(beside),
    }


def _row(row: Row) -> dict[str, Any]:
    return {"name": row.name, "kind": row.kind, "count": row.count, "time_s": row.time_s}


def _device(found: Profile, device: Device) -> dict[str, Any]:
    begin = found.trace.begin
    longest = sorted(device.stretches, key=lambda s: s.start - s.end)
    idle = {name: value * NS for name, value in vars(device.idle).items()}
    return {
        "device": device.number,
        "name": device.name,
        "streams": device.streams,
        "kernels": device.kernels,
        "busy_s": device.busy * NS,
        "computing_s": device.computing * NS,
        "communication_s": device.communicating * NS,
        "communication_hidden_s": device.hidden * NS,
        "communication_exposed_s": device.exposed[1] * NS,
        "copies_s": device.copying * NS,
        "idle_s": device.idle.total * NS,
        "idle": idle,
        "launch_bound": {
            "stretches": len(device.stretches),
            "time_s": sum(s.end - s.start for s in device.stretches) * NS,
            "longest": [
                {
                    "start_s": (s.start - begin) * NS,
                    "time_s": (s.end - s.start) * NS,
                    "busy_s": s.busy * NS,
                    "kernels": s.kernels,
                    "component": found.component_of(s.first),
                }
                for s in longest[:LONGEST]
            ],
        },
    }


def _comparison(beside: Comparison) -> dict[str, Any]:
    given = beside.estimate.scenario
    return {
        "model": given.model.name,
        "machine": given.machine.name,
        "task": given.task.name,
        "runs": beside.runs,
        "measured_s": beside.whole.measured_s,
        "predicted_s": beside.whole.predicted_s,
        "ratio": beside.whole.ratio,
        "interval_s": list(beside.estimate.interval_s),
        "within_interval": beside.within,
        "kinds": _sides(beside.kinds),
        "components": _sides(beside.components),
        "products": _sides(beside.products),
        "assumptions": list(beside.estimate.assumptions),
        "citations": list(beside.estimate.citations),
    }


def _sides(rows: Sequence[Beside]) -> list[dict[str, Any]]:
    return [{"name": r.name, "measured_s": r.measured_s, "predicted_s": r.predicted_s, "ratio": r.ratio} for r in rows]
