"""`ridgepoint validate` and `ridgepoint calibrate` (design §8, §10)."""

import shutil
from pathlib import Path

import pytest

from ridgepoint.machines.catalog import device_files
from tests.cli.conftest import Run
from tests.evidence.tables import gemm_row, text, write


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [gemm_row(m=m, n=n, k=k, time_us=t, machine="rtx-a6000") for m, n, k, t in SHAPES]
    write(tmp_path, text(rows))
    return tmp_path


BUILT_IN = device_files()["rtx-a6000"]
SHAPES = [(2**i, 4096, 2**j, 8.0 + 2**i * 4096 * 2**j * 2 / 1.1e8) for i in range(12) for j in range(8, 13)]


def test_tables_for_people_and_for_programs(run: Run, data: Path) -> None:
    document = run("validate", "--data", str(data), "--json").document
    assert document["groups"][0]["group"] == "gemm bf16"
    assert document["summary"]["covered"] == len(SHAPES)
    page = run("validate", "--data", str(data), "--kind", "kernels")
    assert page.code == 0
    assert f"{len(SHAPES)} of {len(SHAPES)} rows predicted (100.0%)" in page.out
    assert "Farthest from their predictions" in page.out
    assert page.err == ""


def test_the_page_is_one_file_with_a_plot(run: Run, data: Path) -> None:
    out = data / "page.html"
    assert run("validate", "--data", str(data), "--html", str(out)).code == 0
    content = out.read_text()
    assert content.count("<circle") == len(SHAPES)
    assert "://" not in content, "nothing is loaded from elsewhere"


NETWORKS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
RUNS = ("machine", "framework", "model", "task", "precision", "batch", "mode", "metric", "value")


def test_networks_are_put_in_order(run: Run, tmp_path: Path) -> None:
    """Deeper residual networks are slower (He et al. 2016), so that rates that fall with depth rank 1, in every output."""
    common = {"machine": "rtx-3090", "framework": "pytorch", "task": "forward", "precision": "amp", "mode": "eager"}
    common |= {"batch": "64", "metric": "throughput_samples_s"}
    rows = [common | {"model": name, "value": str(5000.0 / (i + 1))} for i, name in enumerate(NETWORKS)]
    write(tmp_path, text([[row[name] for name in RUNS] for row in rows], RUNS), "runs.csv")
    options = ("validate", "--data", str(tmp_path))
    (rank,) = run(*options, "--json").document["summary"]["ranks"]
    assert (rank["way"], rank["machine"], rank["spearman"]) == ("forward pytorch eager amp", "rtx-3090", 1.0)
    assert "1.00 rtx-3090" in run(*options, "--html", str(tmp_path / "page.html")).out
    assert "In the measured order" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ((), "no_data", "--data DIR"),
        (("--data", "nowhere"), "no_data", "holds no measured table"),
        (("--data", ".", "--kind", "kernel"), "bad_option", "kernels, runs, memory"),
        (("--data", ".", "--leave-one-out", "--table", "gem"), "bad_option", "gemm"),
    ],
)
def test_what_is_wrong_is_said(run: Run, data: Path, options: tuple[str, ...], kind: str, says: str) -> None:
    error = run("validate", *options, "--json").error
    assert error["kind"] == kind
    assert says in f"{error['message']} {error['hint']}"


def test_a_malformed_table_is_refused_with_its_line(run: Run, data: Path) -> None:
    write(data, text([gemm_row(dtype="")]))
    assert (
        "kernels.csv, line 2, column `dtype`: is empty"
        in run("validate", "--data", str(data), "--json").error["message"]
    )


def test_calibrate_prints_the_section_and_writes_it_where_asked(run: Run, data: Path) -> None:
    catalogue = data / "catalog" / "machines"
    catalogue.mkdir(parents=True)
    shutil.copy(BUILT_IN, catalogue)
    document = run("calibrate", "--from", str(data), "--json").document
    assert document["machine"] == "rtx-a6000"
    assert document["median_error"] < 0.25
    page = run("calibrate", "--from", str(data / "kernels.csv"), "--machine", "a6000", "--write")
    assert page.out.startswith("[coefficients.gemm]")
    assert str(catalogue) in page.out
    assert 'source = "mine"' in (catalogue / "rtx-a6000.toml").read_text()
    assert 'source = "mine"' not in BUILT_IN.read_text(), "a user's copy comes before the built-in file"


def test_calibrate_makes_a_copy_of_its_own_where_there_is_none(run: Run, data: Path) -> None:
    """A user's measurements belong into the user's catalogue, not among the files that an installer put there."""
    page = run("calibrate", "--from", str(data), "--write")
    assert page.code == 0, page.err
    own = data / "catalog" / "machines" / "rtx-a6000.toml"
    assert str(own) in page.out
    assert 'source = "mine"' in own.read_text()
    assert 'source = "mine"' not in BUILT_IN.read_text()


def test_calibrate_asks_which_machine(run: Run, data: Path) -> None:
    write(data, text([gemm_row(machine=name) for name in ("h100-sxm", "a100-sxm-80gb")]))
    error = run("calibrate", "--from", str(data), "--json").error
    assert error["kind"] == "no_data"
    assert error["hint"] == "name one: --machine a100-sxm-80gb or h100-sxm"


def test_calibrate_fits_a_family_without_what_its_machines_keep_for_themselves(run: Run, data: Path) -> None:
    # every table of kernels has a fit; a family's section has no `coefficients.` in front
    page = run("calibrate", "--from", str(data), "--family", "ampere", "--table", "gemm")
    assert page.out.startswith("[gemm]")
    assert "on rtx-a6000" in page.out
    assert (
        run("calibrate", "--from", str(data), "--family", "ampere", "--table", "scan", "--json").error["kind"]
        == "no_data"
    )
    error = run("calibrate", "--from", str(data), "--family", "amper", "--json").error
    assert "ampere" in error["hint"]
    assert "networks" in run("calibrate", "--from", str(data), "--table", "network", "--json").error["hint"]
