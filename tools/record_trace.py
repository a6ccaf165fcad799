"""Record the small profiler traces that tests and documentation read, on this machine's processor.

python -m tools.record_trace             writes all of them
python -m tools.record_trace forward     writes one

Traces are trimmed: Python frames that are no module go (they are most of a trace with stacks), everything else stays as the
profiler wrote it. Recording again changes every time in them, and with them what the documentation shows.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ridgepoint.traces.naming import named

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "docs" / "examples" / "small_net.py"
FORWARD = ROOT / "docs" / "examples" / "small_net.trace.json.gz"
TRAIN = ROOT / "tests" / "traces" / "data" / "small_net_train.json.gz"
WARM_UP, STEPS = 3, 2


def forward() -> None:
    """Forward passes of the documentation's example on 8 images, whose modules name themselves."""
    import torch

    net = _example().Net().eval()
    image = torch.randn(8, 3, 224, 224)

    def step() -> None:
        with torch.no_grad():
            net(image)

    _write(_recorded(step, named(net)), FORWARD)


def train() -> None:
    """Training steps of a smaller one, with the stacks from which the profiler tells modules, and shapes."""
    import torch

    net = _example().Net(depth=2, width=16)
    optimizer = torch.optim.AdamW(net.parameters(), foreach=False)
    image, target = torch.randn(4, 3, 64, 64), torch.randint(10, (4,))

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(image), target).backward()
        optimizer.step()

    _write(_recorded(step, nullcontext(), with_stack=True, record_shapes=True), TRAIN)


def _example() -> Any:
    found = importlib.util.spec_from_file_location("small_net", EXAMPLE)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _recorded(step: Callable[[], None], around: AbstractContextManager[Any], **options: bool) -> dict[str, Any]:
    """What the profiler writes about ``STEPS`` steps after a warm-up."""
    from torch.profiler import ProfilerActivity, profile, schedule

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        plan = schedule(wait=0, warmup=WARM_UP, active=STEPS, repeat=1)
        with (
            around,
            profile(
                activities=[ProfilerActivity.CPU],
                schedule=plan,
                on_trace_ready=lambda done: done.export_chrome_trace(str(path)),
                **options,
            ) as profiler,
        ):
            for _ in range(WARM_UP + STEPS):
                step()
                profiler.step()
        document: dict[str, Any] = json.loads(path.read_text())
    return document


def trimmed(document: dict[str, Any]) -> dict[str, Any]:
    """The trace without Python frames that are no module, and without what tells this machine's name."""
    events = [
        event
        for event in document["traceEvents"]
        if event.get("cat") != "python_function" or event["name"].startswith("nn.Module: ")
    ]
    about = {key: value for key, value in document.items() if key not in ("host_name", "trace_id", "traceName")}
    return about | {"traceEvents": events}


def _write(document: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(trimmed(document), separators=(",", ":"))
    # Without a name and a date in its head, equal traces are equal files.
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{path.relative_to(ROOT)}: {len(document['traceEvents']):,} events, {path.stat().st_size:,} bytes")


RECORDINGS = {"forward": forward, "train": train}


def main(wanted: list[str]) -> None:
    """Record what is asked for, or everything."""
    for name in wanted or RECORDINGS:
        RECORDINGS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
