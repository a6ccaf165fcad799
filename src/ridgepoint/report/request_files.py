"""Simulated requests as files: one CSV row each, or a trace for Perfetto (Chrome's JSON trace format)."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ridgepoint.serving.outcome import Outcome
from ridgepoint.serving.series import series

COLUMNS = ("arrived_s", "began_s", "first_s", "done_s", "replica", "put_back", "cached_tokens")
MOST_TRACED = 20_000
"""Requests of a Perfetto trace: its viewer keeps all of them in memory."""


def write_csv(found: Outcome, path: Path) -> None:
    """One row per request in the order of the workload; times are empty where it never came to them."""
    prompts, outputs = found.requests.prompt.tolist(), found.requests.output.tolist()
    columns = [found.columns[name].tolist() for name in COLUMNS]
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["request", "input_tokens", "output_tokens", *COLUMNS])
        for i, values in enumerate(zip(prompts, outputs, *columns, strict=True)):
            rows.writerow([i, *("" if value != value else value for value in values)])


def write_perfetto(found: Outcome, path: Path) -> None:
    """Every request's waiting, reading and decoding by replica, and counters over time."""
    with path.open("w", encoding="utf-8") as stream:
        json.dump({"displayTimeUnit": "ms", "traceEvents": list(_events(found))}, stream)


def _events(found: Outcome) -> Iterator[dict[str, Any]]:
    for number in range(len(found.replicas)):
        yield {"ph": "M", "name": "process_name", "pid": number, "args": {"name": f"replica {number}"}}
    columns = {name: found.columns[name] for name in COLUMNS}
    for i in np.flatnonzero(found.completed)[:MOST_TRACED].tolist():
        arrived, began, first, done = (float(columns[name][i]) for name in COLUMNS[:4])
        where = int(columns["replica"][i])
        for phase, start, end in (("wait", arrived, began), ("read", began, first), ("decode", first, done)):
            at = {"name": phase, "cat": "request", "pid": where, "tid": 0, "id": i}
            yield at | {"ph": "b", "ts": start * 1e6, "args": {"request": i}}
            yield at | {"ph": "e", "ts": end * 1e6}
    over_time = series(found, bins=500)
    ends = over_time.pop("end_s")
    for name, values in over_time.items():
        for end, value in zip(ends.tolist(), values.tolist(), strict=True):
            yield {"ph": "C", "name": name, "pid": 0, "ts": end * 1e6, "args": {name: value}}
