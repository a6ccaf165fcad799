"""What a PyTorch module holds: trained numbers by module, names as reports show them, its number format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ridgepoint.capture.distributed import local
from ridgepoint.capture.stacks import shortened
from ridgepoint.capture.tracer import Recorder, format_of


def parameter_counts(module: Any, shown: Mapping[str, str]) -> dict[str, float]:
    """Trained numbers by module, each tensor once."""
    found: dict[str, float] = {}
    for name, parameter in module.named_parameters():
        owner = name.rpartition(".")[0]
        label = shown.get(owner, owner) or name
        found[label] = found.get(label, 0.0) + float(local(parameter).numel())
    return found


def shown_paths(module: Any) -> dict[str, str]:
    """Every module's path as reports name it."""
    with shortened(module) as runs:
        starred = {run.path for run in runs}
    recorder = Recorder()
    recorder.name(module, starred)
    return recorder.shown


def main_format(module: Any) -> str:
    """The number format of most parameters."""
    counts: dict[str, int] = {}
    for parameter in module.parameters():
        if parameter.is_floating_point():
            counts[format_of(parameter)] = counts.get(format_of(parameter), 0) + parameter.numel()
    return max(counts, key=lambda name: counts[name], default="fp32")
