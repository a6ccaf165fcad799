"""Charts as files: one SVG that needs nothing else, PNG and PDF drawn from it (design §9, §10)."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.report.charts import pictures
from ridgepoint.report.html_advice import waterfall_picture
from ridgepoint.report.html_sweep import named
from ridgepoint.report.objective import shown
from ridgepoint.report.palette import FILLS
from ridgepoint.report.picture_file import WIDTH, chosen, picture_svg, wanted, write_pictures
from tests.report.test_pages import ESTIMATES

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", ESTIMATES)
def test_a_file_is_whole_and_has_its_own_colours(name: str) -> None:
    """Read by any program: valid XML, no variable left, nothing from elsewhere, every legend entry inside."""
    drawn = pictures(ESTIMATES[name])
    text = picture_svg(drawn, "a < b & c")
    root = ET.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert float(root.attrib["width"]) == WIDTH
    assert "var(" not in text
    assert not re.search(r"url\(|href|<script|@import", text)
    said = " ".join(element.text or "" for element in root.iter(f"{SVG}text"))
    assert "a < b & c" in said
    for picture in drawn:
        assert picture.title in said
        for _, words in picture.colours:
            assert words in said
    placed = [float(e.attrib["y"]) + float(e.attrib["height"]) for e in root.findall(f"{SVG}svg")]
    assert placed == sorted(placed), "charts are below one another"
    assert placed[-1] < float(root.attrib["height"])


def test_the_rules_know_every_colour() -> None:
    text = picture_svg(pictures(ESTIMATES["decode"]), "x")
    for role, fill in FILLS.items():
        assert f".rp-{role} {{ fill: {fill}; }}" in text


def test_names_choose_charts() -> None:
    drawn = pictures(ESTIMATES["decode"])
    assert [p.name for p in chosen(drawn, "")] == ["shares", "roofline", "time", "memory"]
    assert [p.name for p in chosen(drawn, "time")] == ["time"]
    with pytest.raises(RidgepointError, match="did you mean roofline") as refused:
        chosen(drawn, "rooflin")
    assert refused.value.kind == "unknown_chart"


@pytest.mark.parametrize("text", ["a.jpg", "a", "=a.svg", "roofline=", "roofline=a"])
def test_other_endings_are_refused(text: str) -> None:
    with pytest.raises(RidgepointError, match="--chart is"):
        wanted([text])


def test_without_the_extra_a_png_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ridgepoint.report.picture_file.find_spec", lambda name: None)
    assert wanted(["a.svg"])[0].path == Path("a.svg")
    with pytest.raises(RidgepointError, match="vl-convert-python") as refused:
        wanted(["a.svg", "a.png"])
    assert refused.value.kind == "missing_extra"


@pytest.mark.parametrize(("kind", "begins"), [(".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_pictures_are_drawn(tmp_path: Path, kind: str, begins: bytes) -> None:
    pytest.importorskip("vl_convert", reason="drawing needs the extra report")
    path = tmp_path / f"chart{kind}"
    write_pictures(pictures(ESTIMATES["decode"]), "decode", path)
    assert path.read_bytes().startswith(begins)
    assert path.stat().st_size > 20_000, "not an empty sheet"


def test_a_png_shows_the_colours_of_its_chart(tmp_path: Path) -> None:
    """Percentages, style rules and legends reach the picture: the memory bar has as much blue as weights."""
    pytest.importorskip("vl_convert", reason="drawing needs the extra report")
    image = pytest.importorskip("PIL.Image", reason="counting pixels needs pillow")
    est = ESTIMATES["decode"]
    write_pictures(chosen(pictures(est), "memory"), "memory", tmp_path / "m.png")
    pixels = image.open(tmp_path / "m.png").convert("RGB")
    rows = [[pixels.getpixel((x, y)) for x in range(pixels.width)] for y in range(0, pixels.height, 8)]
    blue = tuple(int(FILLS["memory"][i : i + 2], 16) for i in (1, 3, 5))
    longest = max(row.count(blue) for row in rows)
    inside = 2.0 * (WIDTH - 48.0)
    assert longest / inside == pytest.approx(float(est.memory["weights"]) / est.memory.capacity_bytes, abs=0.005)


def test_sweeps_draw_any_column() -> None:
    found = rp.sweep("llama-3.1-8b", on="h100-sxm", task="decode", vary={"batch": [1, 64], "context": "1k:64k:x4"})
    assert [p.name for p in named(found, "")] == ["time_s", "bottleneck"]
    assert [p.name for p in named(found, "throughput")] == ["tokens_per_s"]
    with pytest.raises(RidgepointError, match="tokens_per_s"):
        named(found, "tokens_pers")


# design §6
@pytest.mark.parametrize("objective", ["latency", "throughput", "cost", "energy", "memory"])
def test_the_waterfall_is_of_the_objective(objective: str) -> None:
    """Its totals are the objective's figures, and their ratio is the gain by which remedies are ranked."""
    found = rp.advise("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=8, context=32768), objective=objective)
    told, picture = shown(found), waterfall_picture(found)
    assert picture is not None
    figures = [told.figure(found.baseline), *(told.figure(s.remedy.changed) for s in found.steps)]
    assert f"now: {told.say(figures[0])}" in picture.svg
    assert picture.svg.count(told.say(figures[-1])) >= 2
    for before, after, step in zip(figures, figures[1:], found.steps, strict=False):
        assert (after / before if told.rising else before / after) == pytest.approx(step.gain)
    own = {"latency": found.baseline.time_s, "throughput": found.baseline.tokens_per_s,
           "memory": found.baseline.memory.total_bytes}  # fmt: skip
    if objective in own:
        assert figures[0] == pytest.approx(float(own[objective]))


def test_validation_plots_keep_units_and_colours_apart() -> None:
    """One plot per figure, because milliseconds and watts share no axis; no two classes of kernels in one colour."""
    from ridgepoint.report.validation import pictures as plots

    runs = [(name, 1.0 + i, 1.1 + i) for name in ("ttft_ms", "power_w") for i in range(5)]
    kernels = [(f"op {k}", 1e-6 * (i + 1), 1e-6 * (i + 2)) for k in range(14) for i in range(20 - k)]
    few = [("fits", 1.0, 1.0)] * 9
    found = plots({"kernels": kernels, "runs": runs, "memory": few})
    assert [p.title for p in found] == ["Time of kernels, seconds", "ttft_ms", "power_w"]
    colours = [colour for colour, _ in found[0].colours]
    assert len(set(colours)) == len(colours) == len(FILLS)
    assert found[0].colours[-1][1] == "6 other classes"
