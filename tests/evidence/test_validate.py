"""Rows become works and predictions; what cannot be predicted is counted with its reason (design §8)."""

from pathlib import Path

import numpy as np
import pytest

from ridgepoint.evidence.rows import express
from ridgepoint.evidence.tables import find_tables, read_table
from ridgepoint.evidence.validate import errors, group_errors, predict_kernels, reasons
from ridgepoint.evidence.validation import BUILDERS, document, validate_folder
from ridgepoint.ops import Gemm, Host, Stream
from ridgepoint.work import ops
from tests.evidence.tables import GEMM_HEADER, gemm_row, text, write


def test_every_row_is_predicted_or_refused_with_a_reason(tmp_path: Path) -> None:
    rows = [
        gemm_row(m=1),
        gemm_row(machine="abacus"),
        gemm_row(m=2),
        gemm_row(dtype="fp7"),
        gemm_row(m=3),
        gemm_row(dtype="w4a16", weight_dtype="int4"),
    ]
    result = predict_kernels(express(read_table(write(tmp_path, text(rows))), BUILDERS))
    assert result.covered.tolist() == [True, False, True, False, True, True]
    assert sorted(result.refused) == [1, 3]
    assert "abacus" in result.refused[1]
    assert result.refused[3] == "unknown format 'fp7'"
    assert sum(count for _, count in reasons(result)) == 2
    groups = group_errors(result)
    assert sum(g.rows for g in groups) == 6
    assert sum(g.covered for g in groups) == 4


def test_errors_by_hand() -> None:
    mdape, p90, bias = errors(np.array([1.0, 1.0, 2.0, 4.0]), np.array([1.1, 0.8, 2.0, 8.0]))
    assert mdape == pytest.approx(0.15)
    assert p90 == pytest.approx(np.percentile([0.1, 0.2, 0.0, 1.0], 90))
    assert bias == pytest.approx((1.1 * 0.8 * 2.0) ** 0.25)
    assert np.isnan(errors(np.array([]), np.array([]))[0])


def test_a_row_is_expressed_as_what_its_source_timed(tmp_path: Path) -> None:
    rows = [
        gemm_row(),
        gemm_row(source="neusight", dtype="fp32", machine="t4"),
        gemm_row(framework="trtllm", dtype="fp8"),
        gemm_row(framework="trtllm", dtype="w8a16", weight_dtype="int8", extra='{"kernel":"trt_flow_weightonly"}'),
    ]
    batches = express(read_table(write(tmp_path, text(rows))), BUILDERS).batches
    kinds = [[type(op) for op in ops(batch.work)] for batch in batches]
    assert kinds[0] == [Gemm]
    assert kinds[1] == [Host, Gemm, Host], "an eager call: host time before and beside the kernel"
    assert kinds[2] == [Stream, Stream, Gemm], "a dynamic scale, the conversion, the product"
    assert kinds[3] == [Host, Gemm], "an engine around the kernel"


def test_a_host_that_grows_slower_from_row_to_row_is_no_slower_kernel(tmp_path: Path) -> None:
    # one source's convolutions: the same shape again, at the end of the run, has waited longer for the same kernel
    header = (*GEMM_HEADER, "batch")
    shape = '{"c_in":64,"c_out":64,"h":28,"w":28,"kh":3,"kw":3,"stride":1,"pad":1,"groups":1}'
    rows = [[*gemm_row(source="neusight", machine="t4", op="conv2d", dtype="fp32", extra=shape), "8"] for _ in range(3)]
    (batch,) = express(read_table(write(tmp_path, text(rows, header))), BUILDERS).batches
    before, *kernel = ops(batch.work)
    assert isinstance(before, Host)
    grown = np.diff(before.seconds)
    assert grown[0] == pytest.approx(grown[1])
    assert 1e-4 < grown.sum() < 1e-3
    assert all(np.ptp(np.atleast_1d(op.seconds)) == 0.0 for op in kernel if isinstance(op, Host))


def test_small_operands_that_a_harness_repeats_stay_in_the_cache(tmp_path: Path) -> None:
    # L40S: 96 MB of cache hold the 4 MB of one product many times over, but not the 134 MB of another
    rows = [
        gemm_row(m=1, n=n, k=4096, machine="l40s", source=s) for n in (512, 16384) for s in ("aiconfigurator", "mine")
    ]
    batches = express(read_table(write(tmp_path, text(rows))), BUILDERS).batches
    cached = {(b.rows.text("source"), n): b.condition.cached for b in batches for n in b.rows.number("n").tolist()}
    assert cached == {
        ("aiconfigurator", 512.0): True,
        ("aiconfigurator", 16384.0): False,
        ("mine", 512.0): False,
        ("mine", 16384.0): False,
    }


def test_the_document_has_the_keys_that_users_rely_on(tmp_path: Path) -> None:
    # design §10: groups [{kind, group, machine, rows, covered, mdape, p90, bias, roofline_mdape}], summary
    write(tmp_path, text([gemm_row(), gemm_row(m=1, time_us=9.0), gemm_row(machine="abacus")]))
    answer = document(validate_folder(tmp_path))
    keys = {"kind", "group", "machine", "rows", "covered", "mdape", "p90", "bias", "roofline_mdape"}
    assert all(keys <= set(group) for group in answer["groups"])
    assert answer["summary"]["rows"] == 3
    assert answer["summary"]["covered"] == 2
    assert answer["summary"]["not_predicted"][0]["rows"] == 1
    unknown = next(group for group in answer["groups"] if group["machine"] == "abacus")
    assert unknown["mdape"] is None, "no figure is null, not a number that JSON lacks"
    worst = answer["summary"]["worst"][0]
    assert worst["line"] in (2, 3)
    assert sum(worst["shares"].values()) == pytest.approx(1.0, abs=0.05)


def test_the_development_tables(shared: Path) -> None:
    # design §8: coverage of at least 95 % in each class, and better than the plain roofline in each
    table = read_table(find_tables(shared / "measurements", ("kernels",))[0])
    result = predict_kernels(express(table, BUILDERS))
    labels = np.array(table.text["op"])
    for op in set(table.text["op"]):
        mine = labels == op
        assert result.covered[mine].mean() >= 0.95, op
        good = mine & result.covered & (result.measured >= 5e-6)
        ours, roofline = (errors(result.measured[good], p[good])[0] for p in (result.predicted, result.roofline))
        assert ours < roofline, op
    dense = (labels == "gemm") & (result.measured >= 5e-6)
    assert errors(result.measured[dense], result.predicted[dense])[0] < 0.09
