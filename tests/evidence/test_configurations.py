"""Request latencies and ranks of serving configurations (issue 10's checks; design §8)."""

from __future__ import annotations

import numpy as np
import pytest

from ridgepoint.evidence.configurations import LEAST, latency_class, rankings, request_latencies, spearman
from ridgepoint.evidence.run_rows import predict_runs
from ridgepoint.evidence.tables import Table, read_table
from ridgepoint.evidence.validate import Predicted

COLUMNS = ("source", "machine", "framework", "model", "task", "precision", "metric", "unit")


def predicted(rows: list[tuple[str, float, float, float, float]]) -> Predicted:
    """Rows of (metric, output, concurrency, measured, predicted) of one model on one machine."""
    size = len(rows)
    text = {name: ["x"] * size for name in COLUMNS} | {"task": ["serve"] * size, "metric": [r[0] for r in rows]}
    numbers = {
        "output": np.array([r[1] for r in rows]),
        "concurrency": np.array([r[2] for r in rows]),
        "prompt": np.full(size, 1000.0),
        "value": np.array([r[3] for r in rows]),
    }
    table = Table("runs", "runs.csv", np.arange(size), text, numbers, [{} for _ in rows])
    value = np.array([r[4] for r in rows])
    return Predicted(table, numbers["value"], value, value / 2.0, np.full(size, 0.1), {}, [])


def test_a_request_takes_its_first_token_and_the_further_ones():
    """Were rows of other configurations paired, latencies would mix concurrencies."""
    found = request_latencies(
        predicted(
            [
                ("ttft_ms", 101.0, 1.0, 50.0, 60.0),
                ("ttft_ms", 101.0, 8.0, 80.0, 80.0),
                ("tpot_ms", 101.0, 1.0, 10.0, 9.0),
                ("tpot_ms", 101.0, 8.0, 12.0, 15.0),
                ("tpot_ms", 101.0, 64.0, 20.0, 20.0),
            ]
        )
    )
    assert found.measured.tolist() == [1050.0, 1280.0]
    assert found.predicted.tolist() == [960.0, 1580.0]


def test_a_configuration_without_the_length_of_its_output_has_no_latency():
    rows = [("ttft_ms", np.nan, 1.0, 50.0, 60.0), ("tpot_ms", np.nan, 1.0, 10.0, 9.0)]
    assert latency_class(predicted(rows)) is None


@pytest.mark.parametrize(("factor", "rank"), [(2.0, 1.0), (-1.0, -1.0)])
def test_ranks_know_order_not_size(factor, rank):
    """A prediction that is twice too high everywhere ranks perfectly; one that falls where the truth rises is −1."""
    rows = [("throughput_tok_s", 100.0, float(c), float(c), 100.0 + factor * c) for c in range(1, LEAST + 1)]
    found = [r for r in rankings(predicted(rows)) if r.load == "any"]
    assert [r.spearman for r in found] == [rank]
    assert [r for r in rankings(predicted(rows)) if r.load == "equal"] == []


def test_ties_share_their_rank():
    assert spearman(np.array([1.0, 1.0, 2.0]), np.array([5.0, 5.0, 9.0])) == 1.0
    assert np.isnan(spearman(np.ones(4), np.arange(4.0)))


def test_serving_of_the_development_measurements_is_ranked_and_timed_as_asked(shared):
    """Median error of request latency at most 15 %; configurations per model and machine ranked with at least 0.9."""
    table = read_table(shared / "measurements" / "runs.csv.gz")
    result = predict_runs(table.take(np.array([i for i, task in enumerate(table.text["task"]) if task == "serve"])))
    row = latency_class(result)
    assert row is not None
    assert float(str(row["mdape"])) <= 0.15
    ranks = [r for r in rankings(result) if r.load == "any"]
    for figure in ("request latency", "throughput_tok_s"):
        assert min(r.spearman for r in ranks if r.figure == figure) >= 0.9
