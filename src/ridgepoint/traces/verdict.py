"""Who waits for whom: a run is bound by its host where the device waits for it longer than it works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ridgepoint.traces.devices import Device

HOST, DEVICE = "host", "device"
_WORTH_SAYING = 0.02


@dataclass(frozen=True)
class Verdict:
    """``bound`` is ``host`` or ``device``; the shares are parts of the span and sum to 1."""

    bound: str
    sentence: str
    shares: dict[str, float]


def verdict(span_s: float, busy_s: float, devices: Sequence[Device], by_kind: Sequence[tuple[str, float]]) -> Verdict:
    """The verdict over all devices of a trace, or over the processor where none took part.

    ``by_kind``: kinds of op with the seconds that are theirs, most first.
    """
    return _of_devices(span_s, devices, by_kind) if devices else _of_processor(span_s, busy_s, by_kind)


def _of_processor(span_s: float, busy_s: float, by_kind: Sequence[tuple[str, float]]) -> Verdict:
    share = busy_s / span_s if span_s > 0.0 else 1.0
    shares = {"operators": share, "between operators": 1.0 - share}
    most = _most(by_kind)
    if share >= 0.5:
        sentence = f"Device-bound: the processor spends {_percent(share)} of the time in operators{most}."
    else:
        sentence = (
            f"Host-bound: {_percent(1.0 - share)} of the time passes between operators (Python, the framework, input), "
            f"{_percent(share)} in them."
        )
    return Verdict(DEVICE if share >= 0.5 else HOST, sentence, shares)


def _of_devices(span_s: float, devices: Sequence[Device], by_kind: Sequence[tuple[str, float]]) -> Verdict:
    whole = max(span_s * 1e9 * len(devices), 1.0)

    def part(nanoseconds: Sequence[int]) -> float:
        return sum(nanoseconds) / whole

    shares = {
        "computing": part([d.exposed[0] for d in devices]),
        "exposed communication": part([d.exposed[1] for d in devices]),
        "exposed copies": part([d.exposed[2] for d in devices]),
        "waiting for the host": part([d.idle.host + d.idle.end for d in devices]),
        "launching": part([d.idle.launch for d in devices]),
        "queued": part([d.idle.queued for d in devices]),
        "idle for unknown reasons": part([d.idle.unknown for d in devices]),
    }
    late = shares["waiting for the host"] + shares["launching"]
    busy = part([d.busy for d in devices])
    whose = "the device" if len(devices) == 1 else f"the {len(devices)} devices"
    waits, works = ("waits", "works") if len(devices) == 1 else ("wait", "work")
    if late > busy:
        told = (
            f"Host-bound: {whose} {waits} for the host {_percent(late)} of the time and {works} {_percent(busy)} of it."
        )
        return Verdict(HOST, told, shares)
    told = f"Device-bound: {whose} {works} {_percent(busy)} of the time{_most(by_kind)}"
    others = {
        "waiting for the host": late,
        "idle with launched kernels": shares["queued"],
        "idle for unknown reasons": shares["idle for unknown reasons"],
        "communication that nothing hides": shares["exposed communication"],
    }
    rest = [f"{name} {_percent(value)}" for name, value in others.items() if value >= _WORTH_SAYING]
    return Verdict(DEVICE, told + ("; " + ", ".join(rest) if rest else "") + ".", shares)


def _most(by_kind: Sequence[tuple[str, float]]) -> str:
    total = sum(seconds for _, seconds in by_kind)
    if total <= 0.0:
        return ""
    kind, seconds = by_kind[0]
    return f", most of it ({_percent(seconds / total)}) in {WORDS.get(kind, kind)}"


WORDS = {
    "gemm": "matrix products",
    "attention": "attention",
    "conv": "convolutions",
    "scan": "recurrent passes",
    "stream": "memory-bound ops",
    "collective": "communication",
    "transfer": "copies to and from the device",
    "host": "operators that move no data",
    "pass": "passes of pipeline stages",
    "step": "steps of the engine",
}
"""Kinds of op in words."""


def _percent(share: float) -> str:
    return "less than 1 %" if 0.0 < share < 0.01 else f"{100.0 * share:.0f} %"
