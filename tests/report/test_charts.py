"""Charts: what is drawn is what the figures say (design §9)."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ridgepoint.report.charts import memory_picture, resource_colours, roofline_picture, share_picture, time_picture
from ridgepoint.report.palette import FILLS
from ridgepoint.report.plot import plot
from ridgepoint.report.roofline_points import roofline_of
from ridgepoint.report.svg import Scale
from ridgepoint.report.svg_bars import Step, waterfall_svg
from ridgepoint.report.svg_map import Cell, heat_map_svg, ink_on, shade
from ridgepoint.report.svg_scatter import MOST_DOTS, Dot, scatter_svg
from tests.report.test_pages import ESTIMATES


@given(st.floats(1e-6, 1e6), st.floats(1.01, 1e6), st.floats(0.0, 1.0))
def test_a_scale_puts_values_between_its_ends(low: float, ratio: float, part: float) -> None:
    scale = Scale(low, low * ratio, 10.0, 90.0)
    value = low * ratio**part
    assert scale(value) == pytest.approx(10.0 + 80.0 * part, abs=1e-6)
    assert all(low * 0.999999 <= tick <= low * ratio * 1.000001 for tick in scale.ticks())


@pytest.mark.parametrize("name", ESTIMATES)
def test_no_mark_is_above_the_roof(name: str) -> None:
    """The physical limit of a component is below every ceiling of its formats, and what is expected below its limit."""
    est = ESTIMATES[name]
    found = roofline_of(est)
    top = max(rate for _, rate in found.ceilings)
    for mark in found.marks:
        assert mark.flop_per_s <= mark.bound_flop_per_s * (1.0 + 1e-9)
        assert mark.bound_flop_per_s <= top * (1.0 + 1e-9)
        assert mark.bound_flop_per_s <= found.slopes[0][1] * mark.flop_per_byte * (1.0 + 1e-6)
    assert found.marks[0].share == 1.0


@pytest.mark.parametrize("name", ESTIMATES)
def test_bars_are_as_long_as_the_shares(name: str) -> None:
    est = ESTIMATES[name]
    widths = [float(w) for w in re.findall(r'<rect [^>]*width="([\d.]+)%"', share_picture(est).svg)]
    shares = [100.0 * float(s) for s in est.shares.values() if s >= 0.0002]
    assert widths == pytest.approx(shares, abs=0.01)
    assert time_picture(est).svg.count("<text") >= 2
    assert roofline_picture(est).svg.count("<circle") >= len(roofline_of(est).marks)


def test_the_memory_bar_is_on_the_scale_of_the_capacity() -> None:
    est = ESTIMATES["decode"]
    widths = [float(w) for w in re.findall(r'<rect [^>]*width="([\d.]+)%"', memory_picture(est).svg)]
    weights = float(est.memory["weights"])
    assert widths[1] / widths[0] == pytest.approx(weights / est.memory.capacity_bytes, rel=1e-3)
    assert "does not" not in memory_picture(est).svg
    assert memory_picture(ESTIMATES["too large"]).svg.count("<rect") >= 3


def test_a_waterfall_ends_where_its_steps_lead() -> None:
    steps = [
        Step("now", 20.0, "20 ms", True), Step("a", -8.0, "−8 ms"), Step("b", 2.0, "+2 ms"), Step("then", 14.0, "14 ms", True),
    ]  # fmt: skip
    svg = waterfall_svg(steps, "steps")
    found = re.findall(r'<rect x="([\d.]+)%"[^>]*width="([\d.]+)%"', svg)
    assert [(float(x), float(w)) for x, w in found] == [(0.0, 100.0), (60.0, 40.0), (60.0, 10.0), (0.0, 70.0)]
    assert "b: +2 ms" in svg
    better, worse = FILLS["host"], FILLS["matrix"]
    assert (svg.count(better), svg.count(worse)) == (1, 1)
    rising = waterfall_svg(steps, "steps", rising=True)
    assert rising.index(worse) < rising.index(better), (
        "where more is better, a step down is in the colour of what is worse"
    )


def test_a_scatter_thins_out_evenly() -> None:
    rng = np.random.default_rng(1)
    dots = [Dot("a", float(v), float(v) * 1.1) for v in rng.lognormal(0, 2, 3 * MOST_DOTS)]
    assert scatter_svg(dots, "measured", "predicted", "x").count("<circle") == MOST_DOTS
    few = [Dot("a", 1.0, 2.0, "one & two"), Dot("b", 3.0, 2.0, "three")]
    svg = scatter_svg(few, "reported", "predicted", "claims", within=0.25)
    assert "one &amp; two" in svg
    assert svg.count(FILLS["memory"]) == 1 == svg.count(FILLS["matrix"])


def test_the_frontier_runs_between_what_fits_and_what_does_not() -> None:
    cells = [[Cell(1.0, "1", "a"), Cell(2.0, "2", "b")], [Cell(3.0, "3", "c"), Cell(4.0, "4", "d", fits=False)]]
    svg = heat_map_svg(("x", ["1", "2"]), ("y", ["1", "2"]), cells, "map")
    assert svg.count("rp-frontier") == 2, "left of the cell, and below it"
    unknown = [[Cell(1.0, "1", "a"), Cell(None, "–", "no answer", fits=False)]]
    assert "rp-frontier" not in heat_map_svg(("x", ["1", "2"]), ("y", ["1"]), unknown, "map")


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_larger_values_are_lighter(a: float, b: float) -> None:
    def light(share: float) -> float:
        red, green, blue = (int(shade(share)[i : i + 2], 16) for i in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    if a < b - 0.02:
        assert light(a) < light(b)


@pytest.mark.parametrize("name", ESTIMATES)
@pytest.mark.parametrize("width", [60, 100, 120])
def test_the_picture_in_characters_keeps_to_its_width(name: str, width: int) -> None:
    console = Console(width=width, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(plot(ESTIMATES[name], width))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    assert any("✱" in line for line in lines)
    assert "the whole" in captured.get()


def test_colours_are_distinct() -> None:
    assert len(set(FILLS.values())) == len(FILLS)


@pytest.mark.parametrize("name", ESTIMATES)
def test_no_two_resources_look_the_same(name: str) -> None:
    """Two links beside each other in a bar would read as one."""
    est = ESTIMATES[name]
    shown = [colour for resource, colour in resource_colours(est).items() if est.shares[resource] > 0.001]
    assert len(set(shown)) == len(shown)


@pytest.mark.parametrize("share", np.linspace(0.0, 1.0, 41))
def test_figures_in_a_map_can_be_read_on_their_colours(share: float) -> None:
    """WCAG's 4.5 to 1, with both inks and all of the scale."""

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255.0 for i in (1, 3, 5)]
        red, green, blue = (v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    a, b = sorted((light(shade(share)), light(ink_on(shade(share)))))
    assert (b + 0.05) / (a + 0.05) >= 4.5
