"""Traces in Kineto's layout, written by hand: no GPU was at hand when these tests were written.

The fields and their order are those of ``export_chrome_trace``: an operator (``cpu_op``) holds the runtime's call
(``cuda_runtime``), which shares ``correlation`` with the kernel on the device and ``External id`` with the operator; flow
arrows (``ac2g``) stand between them. Times are microseconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Event = dict[str, Any]
HEADER = {"schemaVersion": 1, "with_stack": 1, "displayTimeUnit": "ms", "baseTimeNanoseconds": 1790857026000000000}
GPU = {"id": 0, "name": "NVIDIA H100 80GB HBM3", "numSms": 132, "totalGlobalMem": 85029158912}


@dataclass
class Recording:
    """Events of one process with a thread, and of device 0."""

    pid: int = 4242
    events: list[Event] = field(default_factory=list)
    launched: int = 0

    def add(self, cat: str, name: str, ts: float, dur: float, tid: int = 4242, **args: Any) -> Event:
        event = {"ph": "X", "cat": cat, "name": name, "pid": self.pid, "tid": tid, "ts": ts, "dur": dur, "args": args}
        self.events.append(event)
        return event

    def module(self, name: str, ts: float, dur: float) -> Event:
        return self.add("python_function", f"nn.Module: {name}", ts, dur, **{"Python id": len(self.events)})

    def op(self, name: str, ts: float, dur: float, *, tid: int = 4242, sequence: int | None = None, back: bool = False):
        args: dict[str, Any] = {"External id": len(self.events) + 1, "Record function id": 0}
        if sequence is not None:
            args |= {"Sequence number": sequence, "Fwd thread id": int(back)}
        return self.add("cpu_op", name, ts, dur, tid, **args)

    def kernel(
        self,
        name: str,
        start: float,
        dur: float,
        *,
        call: tuple[float, float] | None = None,
        stream: int = 7,
        device: int = 0,
        by: str = "cudaLaunchKernel",
        tid: int = 4242,
    ) -> Event:
        """A kernel (or copy) and the call that launched it, where ``call`` says when and how long."""
        self.launched += 1
        shared = {"External id": self.launched, "correlation": self.launched}
        if call is not None:
            self.add("cuda_runtime", by, *call, tid, cbid=211, **shared)
            arrow = {"ph": "s", "id": self.launched, "pid": self.pid, "tid": tid, "ts": call[0]}
            self.events.append(arrow | {"cat": "ac2g", "name": "ac2g"})
        cat = "gpu_memcpy" if name.startswith("Memcpy") else "gpu_memset" if name.startswith("Memset") else "kernel"
        event = self.add(cat, name, start, dur, stream, device=device, context=1, stream=stream, queued=0, **shared)
        event |= {"pid": device}
        return event

    def document(self) -> dict[str, Any]:
        named = {"ph": "M", "name": "process_name", "pid": self.pid, "tid": 0, "ts": 0.0, "args": {"name": "python"}}
        return {**HEADER, "deviceProperties": [GPU], "traceEvents": [named, *self.events]}

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(self.document()))
        return path
