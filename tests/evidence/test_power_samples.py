"""The highest sample of a board's power (design §4: power as idle plus activity with a cap)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.evidence.power_samples import SAMPLED_S, peak_w
from ridgepoint.evidence.run_rows import predict_runs
from ridgepoint.evidence.tables import read_table
from ridgepoint.machines.catalog import find_machine
from ridgepoint.ops import Gemm, Stream
from ridgepoint.work import Repeat, Seq

A100 = find_machine("a100-sxm-80gb")
PRODUCT = Gemm(m=8192.0, n=8192.0, k=8192.0, acts="fp16", weights="fp16", out="fp16")


@given(mean=st.floats(60.0, 400.0), count=st.floats(1.0, 1000.0))
def test_the_peak_lies_between_the_mean_and_the_limit(mean, count):
    assert mean * (1 - 1e-12) <= peak_w(Repeat(count, PRODUCT), A100, mean) <= 400.0 * (1 + 1e-12)


def test_a_long_pass_shows_its_hungriest_kernels_and_a_short_one_hardly_anything():
    """Samples are means over their interval: products of a few milliseconds do not show in them."""
    one = float(evaluate(PRODUCT, A100).time_s)
    full = peak_w(Repeat(10.0 * SAMPLED_S / one, PRODUCT), A100, 200.0)
    tenth = peak_w(Repeat(0.1 * SAMPLED_S / one, PRODUCT), A100, 200.0)
    assert full > 350.0
    assert tenth - 200.0 == pytest.approx(0.1 * (full - 200.0), rel=1e-6)


def test_kernels_of_next_to_no_time_do_not_show():
    """A product of a ten-thousandth of the pass is in no sample, however hungry."""
    copies = Repeat(1e5, Stream(read_bytes=2e7, write_bytes=2e7, pattern="copy"))
    assert peak_w(Seq(copies, PRODUCT), A100, 100.0) == pytest.approx(peak_w(copies, A100, 100.0), rel=1e-3)


def test_measured_peaks_of_generations(shared):
    """Splitwise's A100 draw their limit while they read prompts, and less where prompts are too short for a sample."""
    table = read_table(shared / "measurements" / "runs.csv.gz")
    found = predict_runs(table.take(np.array([i for i, m in enumerate(table.text["metric"]) if m == "power_peak_w"])))
    off = np.abs(found.predicted / found.measured - 1.0)
    assert np.median(off) <= 0.10
    assert np.mean(np.abs(np.log(found.predicted / found.measured)) <= 1.645 * found.spread) >= 0.8
