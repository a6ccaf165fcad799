"""Pages for people: they keep to the width, fold what is small, and say the numbers of the estimate (design §10)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

import ridgepoint as rp
from ridgepoint.estimates import Estimate
from ridgepoint.machines.catalog import device_names, find_machine
from ridgepoint.machines.ridge import rates
from ridgepoint.report.components import MOST_ROWS, SMALL, rows
from ridgepoint.report.roofline import roofline
from ridgepoint.report.sheet import machine_page
from ridgepoint.report.table import fitted
from ridgepoint.report.terminal import page
from ridgepoint.report.text import bar, flow, number, percent

ESTIMATES = {
    "decode": rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=32, context=8192)),
    "generate": rp.estimate("llama-3.1-8b", on="h100-sxm"),
    "moe": rp.estimate("deepseek-v3", on="8xh200-sxm", task=rp.Decode(batch=64, context=8192)),
    "train": rp.estimate("llama-3.1-70b", on="16x8xh100-sxm", task=rp.Train(batch=256), plan=rp.Plan(tp=8, pp=4)),
    "encoder": rp.estimate("bert-large", on="t4"),
    "hybrid": rp.estimate("qwen3.5-27b", on="m2-ultra", task=rp.Prefill(prompt=8192)),
    "cpu": rp.estimate("llama-3.1-8b", on="epyc-9654", task=rp.Decode(), plan=rp.Plan(weights="int4")),
    "too large": rp.estimate("llama-3.1-70b", on="t4", task=rp.Decode(batch=8, context=8192)),
    "network": rp.estimate("resnet50", on="a100-sxm-80gb", task=rp.Forward(batch=64)),
}


def drawn(what: RenderableType, width: int) -> str:
    console = Console(width=width, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


# design §10
@pytest.mark.parametrize("width", [60, 80, 96, 100, 120])
@pytest.mark.parametrize("name", ESTIMATES)
def test_a_page_keeps_to_its_width_and_cuts_no_number(name: str, width: int) -> None:
    text = drawn(page(ESTIMATES[name], width), width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    table = text.partition("Where the time goes")[2].partition("\n\n")[0].splitlines()[2:]
    assert all(" % " in line for line in table)
    if width >= 80:
        assert "ms…" not in text
        assert "infini…" not in text


# design §10
def test_the_page_names_task_machine_limit_and_bottleneck() -> None:
    text = drawn(page(ESTIMATES["decode"], 100), 100)
    est = ESTIMATES["decode"]
    assert "llama-3.1-8b on h100-sxm · decode · batch 32 · context 8,192" in text
    assert f"Bottleneck: {percent(est.shares['hbm'])} HBM3 bandwidth" in text
    assert f"{number(est.tokens_per_s)} tokens/s" in text
    assert f"at most batch {est.max_batch:,}, or context {est.max_context:,}" in text


# design §10
def test_what_does_not_fit_says_so_and_what_would() -> None:
    text = drawn(page(ESTIMATES["too large"], 100), 100)
    assert "does not fit: 11.3× what is usable" in text
    assert "Warnings" in text
    assert text.index("It does not fit in memory") < text.index("Time per step")
    assert "does not fit" not in drawn(page(ESTIMATES["decode"], 100), 100)


# design §10
def test_a_network_counts_samples() -> None:
    text = drawn(page(ESTIMATES["network"], 100), 100)
    assert "samples/s" in text
    assert "token" not in text


# design §3
@pytest.mark.parametrize("name", ESTIMATES)
def test_the_rows_hold_all_the_time_and_fold_what_is_small(name: str) -> None:
    est: Estimate = ESTIMATES[name]
    found = rows(est.cost.components, est.time_s)
    assert sum(row.time_s for row in found) == pytest.approx(est.cost.time_s, rel=1e-6)
    assert len(found) <= MOST_ROWS + 1
    shown = [row for row in found if row.parts == 1]
    assert all(row.time_s >= SMALL * est.time_s for row in shown[:-1])
    assert [row.time_s for row in shown] == sorted((row.time_s for row in shown), reverse=True)
    assert all(0.0 < row.achieved <= 1.0 for row in found)


# design §10
@given(
    cells=st.lists(st.tuples(st.text("abc ", max_size=40), st.integers(0, 10**9).map(str)), min_size=1, max_size=5),
    width=st.integers(24, 80),
)
def test_a_table_cuts_words_before_numbers(cells: list[tuple[str, str]], width: int) -> None:
    lines = drawn(fitted(["words", "n"], cells, width), 200).rstrip("\n").split("\n")
    assert len(lines) == len(cells) + 1
    assert all(len(line.rstrip()) <= width for line in lines)
    assert all(line.rstrip().endswith(number) for line, (_, number) in zip(lines[1:], cells, strict=True))


# design §4
@pytest.mark.parametrize("name", device_names())
def test_every_machine_has_a_page(name: str) -> None:
    text = drawn(machine_page(find_machine(name), 100), 100)
    assert max(map(len, text.splitlines())) <= 100
    assert "FLOP per byte" in text


# design §1
@pytest.mark.parametrize("width", [50, 76, 110])
def test_a_roofline_rises_to_its_ceilings_and_stays_in_its_frame(width: int) -> None:
    machine = find_machine("b200-sxm")
    lines = roofline([(fmt, rate) for _, fmt, rate in rates(machine)], machine.memory_bytes_per_s, width)
    assert max(map(len, lines)) <= width + 16
    for _, fmt, _ in rates(machine):
        assert any(fmt in line for line in lines)


# design §10
@given(st.floats(0.0, 1.0), st.integers(1, 40))
def test_a_bar_is_as_long_as_its_share(share: float, width: int) -> None:
    drawn_bar = bar(share, width)
    assert len(drawn_bar) <= width
    assert (len(drawn_bar) > 0) == (share > 0.0)
    assert abs(len(drawn_bar) - share * width) <= 1.0


# design §10
@given(st.lists(st.text("abc", min_size=1, max_size=12), min_size=1, max_size=12), st.integers(12, 40))
def test_phrases_are_never_broken(phrases: list[str], width: int) -> None:
    text = flow(phrases, width)
    assert text.split() == phrases
    assert all(len(line) <= width for line in text.split("\n"))


# design §10
@given(st.floats(1e-9, 1e15))
def test_numbers_keep_three_digits(value: float) -> None:
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=0.00501)
