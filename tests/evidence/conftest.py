"""Tables of whole runs as a user would write them."""

from __future__ import annotations

import csv
import json

import pytest

from ridgepoint.evidence.run_rows import predict_runs
from ridgepoint.evidence.tables import read_table

COLUMNS = (
    *("source", "machine", "devices", "nodes", "framework", "model", "task", "precision", "batch", "prompt", "output"),
    *("concurrency", "image_px", "tp", "pp", "dp", "ep", "cp", "micro_batch", "global_batch", "zero_stage"),
    *("recompute", "mode", "extra", "metric", "value", "unit"),
)


@pytest.fixture
def table(tmp_path):
    """Writes rows, with what most of them share, and reads them as a table."""

    def write(*rows, kind="runs"):
        path = tmp_path / f"{kind}.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for row in rows:
                extra = json.dumps(row.get("extra", {}))
                writer.writerow({"source": "mine", "nodes": 1, "devices": 1, "value": 1.0} | row | {"extra": extra})
        return read_table(path)

    return write


@pytest.fixture
def predicted_lines(tmp_path):
    """Writes a table of a header and lines, and predicts them."""

    def run(kind, header, *lines):
        path = tmp_path / f"{kind}.csv"
        path.write_text("\n".join([header, *lines]) + "\n")
        return predict_runs(read_table(path, kind))

    return run
