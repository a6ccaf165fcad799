"""Simulated requests as files: one CSV row each, or a trace for Perfetto (Chrome's JSON trace format)."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ridgepoint.serving.outcome import Outcome
from ridgepoint.serving.series import series
from ridgepoint.traces.perfetto import Event, Span, asynchronous, counter, device_events, document, write

COLUMNS = ("arrived_s", "began_s", "first_s", "done_s", "replica", "put_back", "cached_tokens")
MORE = ("fetched_tokens", "restarted", "shed", "adapter")
"""Columns of the CSV behind those, where the simulation has them."""
MOST_TRACED = 20_000
"""Requests of a Perfetto trace, and actions of a replica: its viewer keeps all of them in memory."""


def write_csv(found: Outcome, path: Path) -> None:
    """One row per request in the order of the workload; times are empty where it never came to them."""
    prompts, outputs = found.requests.prompt.tolist(), found.requests.output.tolist()
    names = [*COLUMNS, *(name for name in MORE if name in found.columns)]
    columns = [found.columns[name].tolist() for name in names]
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["request", "input_tokens", "output_tokens", *names])
        for i, values in enumerate(zip(prompts, outputs, *columns, strict=True)):
            rows.writerow([i, *("" if value != value else value for value in values)])


def write_perfetto(found: Outcome, path: Path) -> None:
    """What every replica did, every request's waiting, reading and decoding there, and counters over time."""
    titles = {number: f"replica {number}" for number in range(len(found.replicas))}
    events = [*device_events(_actions(found), titles), *_requests(found), *_counters(found)]
    drawn = min(int(found.completed.sum()), MOST_TRACED)
    about = {"writer": "Ridgepoint", "requests": len(found.requests), "requests drawn": drawn}
    write(document(events, titles.values(), about), path)


def _actions(found: Outcome) -> Iterator[Span]:
    """Prompts read and steps decoded, replica by replica; steps of an unchanged batch are one span."""
    for number, done in enumerate(found.actions):
        log = {name: done.log[name][:MOST_TRACED].tolist() for name in ("start_s", "seconds", "steps", "sequences")}
        reading = set(done.reads["row"].astype(np.int64).tolist())
        for row, (start, seconds, steps, sequences) in enumerate(zip(*log.values(), strict=True)):
            parts = [name for name, does in (("read", row in reading), ("decode", sequences > 0)) if does]
            name = " and ".join(parts) or "wait"
            told = {"steps": steps, "sequences": sequences}
            yield Span(name, start, start + seconds, number, "engine", "step", name, max(steps, 1.0), more=told)


def _requests(found: Outcome) -> Iterator[Event]:
    columns = {name: found.columns[name] for name in COLUMNS}
    for i in np.flatnonzero(found.completed)[:MOST_TRACED].tolist():
        arrived, began, first, done = (float(columns[name][i]) for name in COLUMNS[:4])
        where = int(columns["replica"][i])
        for phase, start, end in (("wait", arrived, began), ("read", began, first), ("decode", first, done)):
            yield from asynchronous(phase, "request", i, where, start, end, request=i)


def _counters(found: Outcome) -> Iterator[Event]:
    over_time = series(found, bins=500)
    ends = over_time.pop("end_s")
    for name, values in over_time.items():
        for end, value in zip(ends.tolist(), values.tolist(), strict=True):
            yield counter(name, 0, end, value)
