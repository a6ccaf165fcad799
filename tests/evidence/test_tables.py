"""Measured tables are read strictly: every malformed cell is named, nothing is dropped (design §8)."""

from pathlib import Path

import numpy as np
import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.evidence.tables import find_tables, read_table
from tests.evidence.tables import GEMM_HEADER, gemm_row, text, write


def row_of(**cells: str) -> list[str]:
    """A good row with other text in some cells."""
    stated = dict(zip(GEMM_HEADER, gemm_row(), strict=True))
    return list((stated | cells).values())


def cell(column: str, content: str) -> list[str]:
    return row_of(**{column: content})


def refused(folder: Path, content: str, name: str = "kernels.csv") -> str:
    with pytest.raises(RidgepointError) as caught:
        read_table(write(folder, content, name))
    assert caught.value.kind == "bad_table"
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("packed", [False, True])
def test_a_table_keeps_every_row_and_its_line(tmp_path: Path, packed: bool) -> None:
    rows = [gemm_row(), gemm_row(m=1, extra='{"kernel":\n"a"}'), gemm_row(m=2, time_us=3.5)]
    table = read_table(write(tmp_path, text(rows), packed=packed))
    assert table.text["machine"] == ["h100-sxm"] * 3
    assert table.numbers["m"].tolist() == [64.0, 1.0, 2.0]
    assert np.isnan(table.numbers["experts"]).all(), "a column that the file lacks is not stated"
    assert table.extra[1] == {"kernel": "a"}
    assert table.lines.tolist() == [2, 3, 5], "the row after a cell of two lines starts two lines on"
    assert table.measured().tolist() == [20.0, 20.0, 3.5]


# design §8: a clear error for every malformed row
@pytest.mark.parametrize(
    ("row", "column", "says"),
    [
        (cell("m", "many"), "m", "'many' is not a number above 0"),
        (cell("m", "-1"), "m", "'-1' is not a number above 0"),
        (cell("m", "inf"), "m", "'inf' is not"),
        (cell("time_us", "0"), "time_us", "'0' is not a number above 0"),
        (cell("time_us", ""), "time_us", "holds no measurement"),
        (cell("k", ""), "k", "a row of gemm needs it"),
        (gemm_row(op="gem"), "op", "did you mean gemm?"),
        (gemm_row(machine=""), "machine", "is empty"),
        (gemm_row(extra="{"), "extra", "is not a JSON object"),
        (gemm_row(extra="[1]"), "extra", "is not a JSON object"),
        (gemm_row()[:-1], "", "10 cells where the header has 11"),
        ([*gemm_row(), "1"], "", "12 cells where the header has 11"),
    ],
)
def test_a_malformed_cell_is_named_with_file_line_and_column(
    tmp_path: Path, row: list[str], column: str, says: str
) -> None:
    message = refused(tmp_path, text([gemm_row(), row, gemm_row()]))
    assert message.startswith("kernels.csv, line 3")
    assert (f"column `{column}`" in message) == bool(column)
    assert says in message
    assert "\n" not in message, "one fault, one sentence"


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    rows = [row_of(m="x", n="y"), gemm_row(), gemm_row(dtype="")]
    lines = refused(tmp_path, text(rows)).split("\n")
    assert [line.split(":")[0] for line in lines] == [
        "kernels.csv, line 2, column `m`",
        "kernels.csv, line 2, column `n`",
        "kernels.csv, line 4, column `dtype`",
    ]
    many = refused(tmp_path, text([row_of(m="x")] * 100))
    assert many.endswith("… and 80 more")


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ([*GEMM_HEADER[:-1], "time_ms"], "no such column in a kernels table (did you mean time_us?)"),
        (GEMM_HEADER[:-1], "column `time_us`: is missing"),
        ([*GEMM_HEADER, "m"], "column `m`: appears twice"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path: Path, header: list[str], says: str) -> None:
    assert says in refused(tmp_path, text([["1"] * len(header)], header))


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    assert "no header line" in refused(tmp_path, "")
    assert "not the name of a table" in refused(tmp_path, text([]), "measured.csv")
    broken = tmp_path / "kernels.csv.gz"
    broken.write_bytes(b"\x1f\x8b broken")
    with pytest.raises(RidgepointError, match="UTF-8 text, plain or gzipped"):
        read_table(broken)
    with pytest.raises(RidgepointError, match="check the path"):
        read_table(tmp_path / "absent" / "kernels.csv")


def test_a_folder_without_tables_says_which_names_it_needs(tmp_path: Path) -> None:
    with pytest.raises(RidgepointError, match=r"kernels\.csv\[\.gz\], runs\.csv\[\.gz\]") as caught:
        find_tables(tmp_path)
    assert caught.value.kind == "no_data"
    write(tmp_path, text([gemm_row()]), packed=True)
    assert [path.name for path in find_tables(tmp_path)] == ["kernels.csv.gz"]


def test_runs_and_memory_have_schemas_of_their_own(tmp_path: Path) -> None:
    header = ("machine", "model", "task", "metric", "value", "unit", "recompute")
    good = ["h100-sxm", "llama-3.1-8b", "decode", "tpot_ms", "7.5", "ms", ""]
    assert len(read_table(write(tmp_path, text([good], header), "runs.csv"))) == 1
    bad = [*good[:2], "dekode", "tpot", "-1", "ms", "some"]
    message = refused(tmp_path, text([bad], header), "runs.csv")
    for says in ("did you mean decode?", "unknown metric 'tpot'", "'-1' is not a number from 0", "unknown recompute"):
        assert says in message
    assert "unknown metric 'tpot_ms'" in refused(tmp_path, text([good], header), "memory.csv")


def test_the_shared_tables_keep_to_the_schema(shared: Path) -> None:
    sizes = {path.name: len(read_table(path)) for path in find_tables(shared / "measurements")}
    assert sizes == {"kernels.csv.gz": 55972, "runs.csv.gz": 22201, "memory.csv.gz": 423}


@pytest.mark.parametrize(
    ("metric", "unit", "says"),
    [
        ("ttft_ms", "s", "ttft_ms is in ms, not in 's'"),
        ("ttft_ms", "ms median", ""),
        ("time_s", "ms", "time_s is in s"),
        ("time_s", "s per epoch", ""),
        ("throughput_tok_s", "ktok/s", "is in tok/s"),
        ("throughput_tok_s", "output tok/s", ""),
        ("throughput_tok_s", "tokens per second", ""),
        ("power_w", "kW", "is in W"),
        ("power_w", "W per device", ""),
        ("mfu", "%", "is in fraction"),
        ("peak_memory_gb", "GiB", "unknown metric"),
    ],
)
def test_a_value_in_another_unit_than_its_metric_is_named(tmp_path: Path, metric: str, unit: str, says: str) -> None:
    """28 ms written as 0.028 s would be an error of 1000 that looks like the prediction's."""
    content = f"machine,model,task,metric,value,unit\nh100-sxm,llama-3.1-8b,prefill,{metric},28,{unit}\n"
    if says:
        assert says in refused(tmp_path, content, "runs.csv")
    else:
        assert len(read_table(write(tmp_path, content, "runs.csv"))) == 1


def test_memory_is_in_powers_of_ten(tmp_path: Path) -> None:
    content = "machine,model,task,metric,value,unit\nh100-sxm,llama-3.1-8b,train_step,peak_memory_gb,28,GiB\n"
    assert "peak_memory_gb is in GB, not in 'GiB'" in refused(tmp_path, content, "memory.csv")


def test_what_a_cell_may_hold_is_listed_as_text(tmp_path: Path) -> None:
    """Where nothing is near, the choices stand in the message as a user would type them."""
    assert "known: all_gather, all_reduce" in refused(tmp_path, text([gemm_row(op="frobnicate")]))


@pytest.mark.parametrize(
    ("written", "meant"),
    [("BF16", "bf16"), ("float16", "fp16"), ("float8_e4m3fn", "fp8"), ("FP8-Block", "fp8_block"), ("W4A16", "w4a16")],
)
def test_formats_are_read_by_any_usual_spelling(tmp_path: Path, written: str, meant: str) -> None:
    """``validate`` refused rows of ``BF16`` as an unknown format."""
    table = read_table(write(tmp_path, text([gemm_row(dtype=written)])))
    assert table.text["dtype"] == [meant]
