"""The one writer of traces for Perfetto and chrome://tracing (Chrome's Trace Event Format).

Everything that runs on a device is written as the PyTorch profiler writes it: complete events of category ``kernel`` with the
device and the stream among their arguments, launched by calls of category ``cuda_runtime``. So ``ridgepoint trace`` and
other readers of such traces take them. What a name cannot say (the kind of op, the component, how many executions an event
stands for) is stated among the arguments.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ridgepoint.files import write_whole

Event = dict[str, Any]
HOST = 1_000_000
"""Number of the host's process: above all devices."""


@dataclass(frozen=True)
class Span:
    """Work on a stream of a device, in seconds. ``launch_s`` of it, at its beginning, is the host's call.

    ``kind`` is a kind of op (design §2), ``component`` where it belongs, ``runs`` the executions that it stands for.
    """

    name: str
    start_s: float
    end_s: float
    device: int = 0
    stream: str = "compute"
    kind: str = ""
    component: str = ""
    runs: float = 1.0
    launch_s: float = 0.0
    more: Mapping[str, Any] = field(default_factory=dict)


def device_events(spans: Iterable[Span], devices: Mapping[int, str]) -> Iterator[Event]:
    """The events of spans; every device is a process, every stream a thread, and spans that overlap get streams of their own.

    >>> events = list(device_events([Span("gemm", 1e-6, 3e-6, launch_s=0.5e-6)], {0: "h100-sxm"}))
    >>> [(e["cat"], e["name"], e["ts"], e["dur"]) for e in events if e["ph"] == "X"]
    [('cuda_runtime', 'launch', 1.0, 0.5), ('kernel', 'gemm', 1.5, 1.5)]
    """
    named: dict[tuple[int, str], int] = {}
    yield from (process(device, title) for device, title in devices.items())
    yield process(HOST, "host")
    for number, (span, lane) in enumerate(_lanes(spans), 1):
        thread = named.get((span.device, lane))
        if thread is None:
            thread = named[span.device, lane] = len(named) + 1
            yield {**_named(span.device, "thread_name", lane), "tid": thread}
        yield from _span_events(span, thread, number)


def _span_events(span: Span, thread: int, number: int) -> Iterator[Event]:
    begin = span.start_s + span.launch_s
    if span.launch_s > 0.0:
        call = _complete("cuda_runtime", "launch", HOST, span.device + 1, span.start_s, begin)
        yield call | {"args": {"correlation": number}}
    stated = {"kind": span.kind, "component": span.component}
    args: dict[str, Any] = {"device": span.device, "stream": thread, "correlation": number}
    args |= {name: value for name, value in stated.items() if value}
    if span.runs != 1.0:
        args["runs"] = span.runs
    cat = "gpu_memcpy" if span.kind == "transfer" else "kernel"
    yield _complete(cat, span.name, span.device, thread, begin, span.end_s) | {"args": args | dict(span.more)}


def host_event(name: str, start_s: float, end_s: float, runs: float = 1.0) -> Event:
    """Something that the host does beside its launches."""
    event = _complete("cpu_op", name, HOST, 0, start_s, end_s)
    return event if runs == 1.0 else event | {"args": {"runs": runs}}


def process(number: int, title: str) -> Event:
    """The name of a process."""
    return _named(number, "process_name", title)


def counter(name: str, number: int, at_s: float, value: float) -> Event:
    """The value of a counter from ``at_s`` on."""
    return {"ph": "C", "name": name, "pid": number, "ts": microseconds(at_s), "args": {name: value}}


def asynchronous(
    name: str, category: str, key: int, number: int, start_s: float, end_s: float, **args: Any
) -> Iterator[Event]:
    """Something that overlaps others of its kind: the two ends of it."""
    at: Event = {"name": name, "cat": category, "pid": number, "tid": 0, "id": key}
    yield at | {"ph": "b", "ts": microseconds(start_s), "args": args}
    yield at | {"ph": "e", "ts": microseconds(end_s)}


def document(events: Iterable[Event], devices: Iterable[str] = (), about: Mapping[str, Any] | None = None) -> Event:
    """A whole trace. ``devices`` are named as the profiler names them; ``about`` says what the trace is of."""
    listed = [{"id": number, "name": name} for number, name in enumerate(devices)]
    metadata = {"otherData": dict(about)} if about else {}
    return {"displayTimeUnit": "ms", **metadata, "deviceProperties": listed, "traceEvents": list(events)}


def write(found: Mapping[str, Any], path: Path) -> None:
    """Write a trace, compressed where the file's name ends in ``.gz``; whole or not at all."""
    text = json.dumps(found, separators=(",", ":"), allow_nan=False)
    write_whole(path, gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text)


def microseconds(seconds: float) -> float:
    """A time in the format's unit, in whole nanoseconds, as the profiler has them.

    >>> microseconds(1.23456789e-3)
    1234.568
    """
    return round(seconds * 1e9) / 1e3


def _complete(cat: str, name: str, pid: int, tid: int, start_s: float, end_s: float) -> Event:
    start, end = round(start_s * 1e9), round(end_s * 1e9)
    return {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid, "ts": start / 1e3, "dur": (end - start) / 1e3}


def _named(number: int, what: str, title: str) -> Event:
    return {"ph": "M", "name": what, "pid": number, "tid": 0, "args": {"name": title}}


def _lanes(spans: Iterable[Span]) -> Iterator[tuple[Span, str]]:
    """Every span with the first stream of its name that is free when it begins."""
    free: dict[tuple[int, str], list[float]] = {}
    for span in sorted(spans, key=lambda s: (s.start_s, s.end_s)):
        ends = free.setdefault((span.device, span.stream), [])
        lane = next((i for i, end in enumerate(ends) if end <= span.start_s + 1e-12), len(ends))
        ends[lane:] = [span.end_s, *ends[lane + 1 :]]
        yield span, span.stream if lane == 0 else f"{span.stream} {lane + 1}"
