"""Calibration: known coefficients come back from noisy rows, intervals hold what they say, files keep them (design §4)."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ridgepoint.evidence.calibrate import cross_validated, fit_all, log_errors, with_values
from ridgepoint.evidence.coefficient_files import MARKER, merged, section, write_section
from ridgepoint.evidence.leave_one_out import generation, leave_one_out, neighbours, unfitted
from ridgepoint.evidence.rows import Batch, express
from ridgepoint.evidence.tables import find_tables, read_table
from ridgepoint.evidence.validation import BUILDERS
from ridgepoint.kernels.demand import settle
from ridgepoint.kernels.gemm import expected
from ridgepoint.machines.catalog import device_files, find_machine
from ridgepoint.machines.machine import Machine
from ridgepoint.machines.reader import read_device
from ridgepoint.ops import Gemm
from tests.evidence.tables import gemm_row, text, write

TRUE = {"efficiency.fp16": 0.88, "memory_efficiency": 0.71, "start_s.fp16": 4.0e-6, "tail": 0.8}


def synthetic(folder: Path, machines: dict[str, Machine], noise: float, rows: int = 500, seed: int = 3) -> list[Batch]:
    """Rows whose times are the model's under known coefficients, with noise."""
    rng = np.random.default_rng(seed)
    m = np.rint(2.0 ** rng.uniform(0, 13, rows))
    n, k = (np.rint(2.0 ** rng.uniform(7, 14, rows)) for _ in range(2))
    lines = []
    for name, machine in machines.items():
        time_us = settle(expected(Gemm(m=m, n=n, k=k), machine)).time_s * 1e6 * np.exp(rng.normal(0.0, noise, rows))
        shapes = zip(m, n, k, time_us, strict=True)
        lines += [gemm_row(int(a), int(b), int(c), float(t), machine=name) for a, b, c, t in shapes]
    return express(read_table(write(folder, text(lines))), BUILDERS).batches


def test_known_coefficients_come_back(tmp_path: Path) -> None:
    truth = with_values(find_machine("h100-sxm"), "gemm", TRUE)
    fit = fit_all(synthetic(tmp_path, {"h100-sxm": truth}, noise=0.05), "gemm", steps=12, polish=10)
    assert fit.values["efficiency.fp16"] == pytest.approx(0.88, rel=0.05)
    assert fit.values["memory_efficiency"] == pytest.approx(0.71, rel=0.05)
    assert fit.values["start_s.fp16"] == pytest.approx(4e-6, rel=0.25)
    assert fit.median_error < 0.045
    assert fit.spread == pytest.approx(0.05, rel=0.25), "the spread is the noise"


def test_an_interval_holds_nine_tenths_of_rows_held_back(tmp_path: Path) -> None:
    truth = with_values(find_machine("h100-sxm"), "gemm", TRUE)
    batches = synthetic(tmp_path, {"h100-sxm": truth}, noise=0.08)
    fit = fit_all(batches, "gemm", steps=10, polish=0)
    fresh = synthetic(tmp_path, {"h100-sxm": truth}, noise=0.08, seed=9)
    inside = np.abs(log_errors(fresh, "gemm", fit.values)) <= 1.645 * fit.spread
    assert 0.86 < inside.mean() < 0.94


def test_blocks_of_shapes_held_back(tmp_path: Path) -> None:
    truth = with_values(find_machine("a100-sxm-80gb"), "gemm", TRUE)
    found = cross_validated(synthetic(tmp_path, {"a100-sxm-80gb": truth}, noise=0.05), "gemm")
    assert found.median_error < 0.06, "a fit to some sizes predicts the others"


# design §4, §8: about 90 % of held-back development rows inside the 90 % interval
@pytest.mark.parametrize("name", ["a100-pcie-80gb", "rtx-a6000", "h100-sxm"])
def test_intervals_on_development_rows(name: str, shared: Path) -> None:
    table = read_table(find_tables(shared / "measurements", ("kernels",))[0])
    mine = (np.array(table.text["machine"]) == name) & (np.array(table.text["op"]) == "gemm")
    index = np.random.default_rng(0).permutation(np.flatnonzero(mine))
    half = len(index) // 2
    learnt, held = (express(table.take(np.sort(part)), BUILDERS).batches for part in (index[:half], index[half:]))
    fit = fit_all(learnt, "gemm", steps=6, polish=0)
    inside = np.abs(log_errors(held, "gemm", fit.values)) <= 1.645 * fit.spread
    assert 0.85 < inside.mean() < 0.96


def test_fitted_values_survive_the_catalogue_file(tmp_path: Path) -> None:
    path = tmp_path / "rtx-a6000.toml"
    shutil.copy(device_files()["rtx-a6000"], path)
    sheet = find_machine("rtx-a6000")
    fit = fit_all(synthetic(tmp_path, {"rtx-a6000": sheet}, noise=0.02, rows=60), "gemm", steps=2, polish=0)
    values = merged(sheet, "gemm", {**fit.values, "efficiency.fp16": 0.432})
    for _ in range(2):  # writing again replaces, it does not append
        write_section(path, "coefficients.gemm", section("coefficients.gemm", values, fit, 0.12, "mine", 60, "2026-11"))
    content = path.read_text()
    assert content.count("[coefficients.gemm]") == 1
    assert content.count(MARKER) <= 1
    device = read_device(content, "rtx-a6000.toml")
    table = Machine("rtx-a6000", device).coefficients.gemm
    assert table.efficiency["fp16"] == 0.432
    assert (table.spread, table.provenance.kind, table.provenance.rows) == (0.12, "fitted", 60)
    before = read_device(device_files()["rtx-a6000"].read_text(), "rtx-a6000.toml")
    assert msgspec.structs.replace(device, coefficients={}) == msgspec.structs.replace(before, coefficients={})


def test_a_machine_left_out_is_predicted_from_the_others(tmp_path: Path) -> None:
    # both machines really follow one set of coefficients: what one teaches holds for the other
    machines = {n: with_values(unfitted(find_machine(n), "gemm"), "gemm", TRUE) for n in ("h100-sxm", "a100-sxm-80gb")}
    batches = synthetic(tmp_path, machines, noise=0.03, rows=250)
    results = leave_one_out(batches[0].rows.table, BUILDERS, "gemm")
    assert {(r.machine, r.fitted_on) for r in results} == {
        ("h100-sxm", ("a100-sxm-80gb",)),
        ("a100-sxm-80gb", ("h100-sxm",)),
    }
    assert all(r.mdape < 0.08 for r in results)


def test_a_machine_never_learns_from_itself() -> None:
    sheet = find_machine("h100-sxm")
    plain = unfitted(sheet, "gemm").coefficients.gemm
    assert plain != sheet.coefficients.gemm
    assert plain == unfitted(find_machine("l40s"), "gemm").coefficients.gemm
    assert neighbours("x", {"x": []}) == []


def test_an_unseen_machine_inherits_what_its_relatives_draw(tmp_path: Path) -> None:
    """Design §4: energy per operation belongs to how engines are fed; a product that no row timed tells nothing."""
    machines = {name: find_machine(name) for name in ("h100-sxm", "b200-sxm", "v100-sxm-16gb")}
    hopper, blackwell, volta = synthetic(tmp_path, machines, noise=0.0, rows=4)
    known = machines["h100-sxm"].coefficients.gemm.joule_per_flop["fp16"]
    assert set(generation("joule_per_flop", "hopper", [hopper, volta])) == {"joule_per_flop.fp16"}
    assert generation("joule_per_flop", "hopper", [hopper, volta])["joule_per_flop.fp16"] == known
    assert generation("joule_per_flop", "blackwell", [hopper, volta])["joule_per_flop.fp16"] == known
    newer = machines["b200-sxm"].coefficients.gemm.joule_per_flop["fp16"]
    assert generation("joule_per_flop", "hopper", [blackwell])["joule_per_flop.fp16"] == newer
    assert generation("joule_per_flop", "ampere", [hopper, volta]) == {}
