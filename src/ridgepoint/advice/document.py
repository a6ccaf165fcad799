"""The JSON document of advice: design §10's keys, plain values only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridgepoint.advice.combine import Combination, Step
from ridgepoint.advice.evidence import evidence
from ridgepoint.advice.remedies import Remedy
from ridgepoint.document import document as estimate_document
from ridgepoint.document import plain

if TYPE_CHECKING:
    from ridgepoint.advice.advice import Advice

Document = dict[str, Any]


def document(found: Advice) -> Document:
    """Baseline, remedies in order, what does not help or apply, combinations, hardware."""
    return {
        "baseline": estimate_document(found.baseline),
        "objective": found.objective.name,
        "quality": found.limits.quality,
        "remedies": [_remedy(found, r) for r in (*found.remedies, *found.presuming, *found.useless)]
        + [_refused(r) for r in found.refused],
        "waterfall": [_step(step) for step in found.steps],
        "combinations": [_combination(c) for c in found.combinations],
        "hardware": {
            "faster_parts": [
                {
                    "resource": p.resource,
                    "label": p.label,
                    "twice_as_fast": plain(p.speedup),
                    "infinite": plain(p.infinite),
                }
                for p in found.faster_parts
            ],
            "other_machines": [
                {"machine": m.machine, "speedup": plain(m.speedup), "cost_ratio": plain(m.cost_ratio)}
                for m in found.other_machines
            ],
        },
        "citations": list(found.citations),
    }


def _named(remedy: Remedy) -> Document:
    found = remedy.technique
    return {
        "technique": found.name,
        "title": found.title,
        "parameters": {name: plain(value) for name, value in remedy.parameters.items()},
        "applies": remedy.applies,
        "reason": remedy.reason or None,
        "quality": found.quality,
        "grade": found.grade,
        "training_free": found.training_free,
        "presumes": found.presumes or None,
        "mechanism": list(found.mechanism),
        "papers": list(found.papers),
        "evidence": evidence(found),
    }


def _remedy(found: Advice, remedy: Remedy) -> Document:
    return _named(remedy) | {
        "gain": plain(found.gain(remedy)),
        "speedup": plain(remedy.speedup),
        "interval": [plain(end) for end in remedy.interval],
        "throughput_gain": plain(remedy.throughput_gain),
        "memory_ratio": plain(remedy.memory_ratio),
        "fits": remedy.fits,
        "time_s": plain(remedy.changed.time_s),
        "bottleneck": remedy.changed.bottleneck,
    }


def _refused(remedy: Remedy) -> Document:
    missing = ("gain", "speedup", "interval", "throughput_gain", "memory_ratio", "fits", "time_s", "bottleneck")
    return _named(remedy) | dict.fromkeys(missing)


def _step(step: Step) -> Document:
    after = step.remedy.changed
    return {
        "technique": after.scenario.techniques[-1],
        "gain_alone": plain(step.alone),
        "gain_on_top": plain(step.gain),
        "time_s": plain(after.time_s),
        "memory_gb": plain(after.memory.total_bytes / 1e9),
        "fits": plain(after.memory.fits),
    }


def _combination(found: Combination) -> Document:
    return {
        "techniques": list(found.techniques),
        "gain": plain(found.gain),
        "time_s": plain(found.estimate.time_s),
        "memory_gb": plain(found.estimate.memory.total_bytes / 1e9),
        "fits": plain(found.estimate.memory.fits),
    }
