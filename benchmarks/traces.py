"""How long a large profiler trace takes to read and to tell (target: seconds for a million events)."""

import json
import tempfile
import time
from pathlib import Path

from benchmarks.registry import benchmark

LAYERS = 125_000


def _events(count: int) -> list[dict[str, object]]:
    """Products launched one after the other: per launch a module, two operators, a call, a kernel, a frame and an arrow."""
    host, found = {"pid": 1, "tid": 1}, []
    for i in range(count):
        at = 40.0 * i + 10.0
        joined = {"External id": 2 * i, "correlation": i}
        found += [
            {"ph": "X", "cat": "python_function", "name": f"nn.Module: Linear_{i % 100}", **host, "ts": at, "dur": 33.0},
            {"ph": "X", "cat": "python_function", "name": "model.py(3): forward", **host, "ts": at, "dur": 32.0},
            {"ph": "X", "cat": "cpu_op", "name": "aten::linear", **host, "ts": at + 1, "dur": 30.0, "args": {}},
            {"ph": "X", "cat": "cpu_op", "name": "aten::addmm", **host, "ts": at + 2, "dur": 25.0, "args": {}},
            {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", **host, "ts": at + 5, "dur": 5.0, "args": joined},
            {"ph": "s", "cat": "ac2g", "name": "ac2g", "id": i, **host, "ts": at + 5},
            {"ph": "f", "cat": "ac2g", "name": "ac2g", "id": i, "pid": 0, "tid": 7, "ts": at + 15},
            {"ph": "X", "cat": "kernel", "name": f"gemm<{i % 50}>(x)", "pid": 0, "tid": 7, "ts": at + 15, "dur": 33.0,
             "args": joined | {"device": 0, "stream": 7}},
        ]  # fmt: skip
    return found


@benchmark("trace-million", measures="ridgepoint trace of a million events", unit="s", target=10.0)
def trace_million() -> float:
    """Reading the file, and everything that the page shows."""
    from ridgepoint.report.trace import trace_page
    from ridgepoint.traces.profile import read_profile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        path.write_text(json.dumps({"traceEvents": _events(LAYERS)}))
        begun = time.perf_counter()
        trace_page(read_profile(path), 100)
        return time.perf_counter() - begun
