"""Data sets as rows name them (design §8): what the sets are, and what padding makes of their lengths."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgepoint.evidence.datasets import EXAMPLES, ITERATION_S, LENGTHS, LOADER_S, SIZES
from ridgepoint.evidence.run_rows import predict_runs
from ridgepoint.evidence.tables import Table, read_table
from ridgepoint.evidence.validate import reasons

COLUMNS = (
    *(
        "source",
        "machine",
        "devices",
        "framework",
        "model",
        "task",
        "precision",
        "batch",
        "micro_batch",
        "global_batch",
    ),
    *("mode", "extra", "metric", "value"),
)


def table(folder: Path, *rows: dict[str, Any]) -> Table:
    path = folder / "runs.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in rows:
            extra = json.dumps(row.get("extra", {}))
            writer.writerow({"source": "mine", "devices": 1, "value": 1.0} | row | {"extra": extra})
    return read_table(path)


def epoch(dataset: str, batch: int, **changes: Any) -> dict[str, Any]:
    row = {"machine": "a40", "framework": "pytorch", "model": "bert-base", "task": "train_step", "mode": "eager"}
    row |= {"batch": batch, "global_batch": batch, "metric": "time_s"}  # type: ignore[dict-item]
    return row | {"extra": {"dataset": dataset, "power_limit_w": 300}} | changes


def tune(micro: int = 1, precision: str = "bf16", method: str = "lora", **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"machine": "a100-sxm-40gb", "framework": "litgpt", "model": "llama-2-7b", "mode": "eager"}
    row |= {"task": "finetune_step", "precision": precision, "micro_batch": micro, "metric": "time_s"}
    return row | {"extra": {"method": method}} | changes


def test_batches_are_padded_to_their_longest_example():
    tweets = LENGTHS["sentiment140"]
    lengths = [float(tweets.padded(float(batch))) for batch in (1, 8, 256)]
    assert lengths == sorted(lengths)
    assert lengths[0] == 20.0, "alone, an example has its own length"
    assert lengths[-1] < 140 / 2, "a tweet has at most 140 characters"
    assert LENGTHS["squad"].padded(64.0) == 384.0, "windows are all padded alike"


def test_negatives_are_drawn_for_each_rating():
    # He et al. 2017: leave one out per user, four negatives each.
    assert EXAMPLES["movielens-1m"] == pytest.approx(5 * 994_169)


def test_an_epoch_takes_its_steps(tmp_path):
    found = predict_runs(table(tmp_path, epoch("sentiment140", 4), epoch("sentiment140", 256), epoch("squad", 64)))
    assert not found.refused
    small, large, squad = found.predicted
    assert large < small, "a host that launches small steps is slower than padding"
    # 1.6 million tweets of some forty tokens against 88,524 windows of 384.
    assert 1.0 < large / squad < 4.0


def test_an_unknown_set_is_refused_with_its_reason(tmp_path):
    found = predict_runs(table(tmp_path, epoch("my-set", 64)))
    assert np.isnan(found.predicted).all()
    assert "prompt" in reasons(found)[0][0]


def test_fine_tuning_is_a_micro_batch_and_frozen_4_bit_weights_are_widened(tmp_path):
    plain, more, narrow, prefix = predict_runs(
        table(tmp_path, tune(), tune(4), tune(precision="nf4"), tune(method="adapter"))
    ).predicted
    assert prefix < plain, "a prefix costs no products beside the projections"
    assert plain <= more < 4 * plain
    assert plain < narrow, "each product waits for a pass over its weights"


def test_an_unknown_method_is_refused(tmp_path):
    found = predict_runs(table(tmp_path, tune(method="prompt-tuning")))
    assert "prompt-tuning" in reasons(found)[0][0]


def test_an_utterance_is_as_long_as_the_hours_say():
    """960 hours of LibriSpeech in 281,241 utterances: 12.3 seconds each."""
    assert SIZES["librispeech"]["frames"] == pytest.approx(1229.0, abs=0.5)


def test_a_loader_in_python_bounds_small_networks(tmp_path: Path):
    """NCF's epoch ends no sooner on a faster device once batches are large: examples are handed over one by one."""
    found = [
        predict_runs(
            table(tmp_path, epoch("movielens-1m", batch, model="ncf-ml1m", machine=machine, precision="fp32"))
        ).predicted[0]
        for machine in ("a40", "h100-pcie")
        for batch in (16384, 32768)
    ]
    assert found == pytest.approx([EXAMPLES["movielens-1m"] * LOADER_S["movielens-1m"]] * 4, rel=0.01)


def test_a_step_takes_at_least_what_its_loop_takes(tmp_path: Path):
    """However small the batch: an epoch of single steps is bound by the host."""
    seconds = predict_runs(table(tmp_path, epoch("movielens-1m", 16, model="ncf-ml1m", precision="fp32"))).predicted[0]
    assert seconds > EXAMPLES["movielens-1m"] / 16 * ITERATION_S
