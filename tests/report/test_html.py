"""HTML reports: one file, nothing from elsewhere, everything escaped, the figures of the estimate (design §9, §10)."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.evidence.reproduce import BOUNDED, COMPARED, reproduce
from ridgepoint.report.html_advice import advice_page
from ridgepoint.report.html_estimate import estimate_page
from ridgepoint.report.html_reproduce import COLOURS, reproduce_page
from ridgepoint.report.html_sweep import sweep_page
from ridgepoint.report.notebook import estimate_html
from ridgepoint.report.palette import FILLS
from ridgepoint.report.text import number, percent
from ridgepoint.units import duration
from tests.report.test_pages import ESTIMATES

EVIL = '<script>alert("1")</script>'
VOID = {"meta", "line", "rect", "circle", "br"}


class Reader(HTMLParser):
    """Elements with their attributes, texts, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


@pytest.fixture(scope="module")
def sweep() -> rp.Sweep:
    vary = {"batch": "1:256:x4", "context": "1k:64k:x4", "tp": [1, 3], "weights": "bf16,int4"}
    return rp.sweep("llama-3.1-8b", on="4xh100-sxm", task="decode", vary=vary)


def check(page: str) -> Reader:
    """What holds for every page."""
    found = Reader(page)
    assert found.open == [], "every element is closed"
    assert len(page.encode()) < 500_000
    tags = {tag for tag, _ in found.elements}
    assert not tags & {"script", "link", "iframe", "img", "object", "embed", "form", "base"}
    for _, attributes in found.elements:
        assert not attributes.keys() & {"src", "href", "style"}
        assert not any(name.startswith("on") for name in attributes)
    policy = next(a["content"] for tag, a in found.elements if tag == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    for marked in (a for _, a in found.elements if a.get("tabindex") == "0"):
        assert marked.get("aria-label"), "what takes the focus says what it is"
    assert all(a.get("aria-label") or a.get("aria-hidden") for tag, a in found.elements if tag == "svg")
    numbers = [v for _, a in found.elements for k, v in a.items() if k in ("x", "y", "cx", "cy", "width", "height")]
    assert all(re.fullmatch(r"-?[\d.]+%?|device-width", str(v)) for v in numbers), "no nan, no inf in a chart"
    return found


@pytest.mark.parametrize("name", ESTIMATES)
def test_every_report_is_one_small_whole_file(name: str) -> None:
    est = ESTIMATES[name]
    page = check(estimate_page(est, "ridgepoint analyze"))
    assert duration(float(est.time_s)) in page.text
    assert percent(float(est.shares[est.bottleneck])) in page.text
    for assumption in est.assumptions:
        assert " ".join(assumption.split()) in page.text


def test_a_report_says_verdict_command_sources_and_what_fits() -> None:
    est = ESTIMATES["decode"]
    page = check(estimate_page(est, "ridgepoint analyze llama-3.1-8b --on h100-sxm"))
    assert "ridgepoint analyze llama-3.1-8b --on h100-sxm" in page.text
    assert "Infinitely fast HBM3 bandwidth would give" in page.text
    assert number(est.tokens_per_s) in page.text
    assert "memory.hbm.bandwidth" in page.text
    labels = [str(a.get("aria-label")) for _, a in page.elements]
    assert any(label.startswith("ridge point of fp16, bf16") for label in labels)
    assert any(label.startswith("attention: 6") for label in labels)
    too_large = check(estimate_page(ESTIMATES["too large"])).text
    assert "It does not fit: 11.3×" in too_large


def test_what_a_name_says_is_text() -> None:
    machine = rp.find_machine(f"h100-sxm@title={EVIL.replace('=', '')}")
    model = rp.find_model("gpt2")
    from dataclasses import replace

    est = rp.estimate(replace(model, name=EVIL, title=EVIL), on=machine, task=rp.Decode(context=64))
    page = estimate_page(est, EVIL)
    assert EVIL not in page
    assert check(page).text.count("alert") >= 3
    assert EVIL not in estimate_html(est)


def test_a_sweep_is_one_file_with_maps_and_reasons(sweep: rp.Sweep) -> None:
    page = check(sweep_page(sweep, "ridgepoint sweep", ["latency", "throughput"]))
    assert "What nothing beats in latency and throughput" in page.text
    assert "does not divide" in page.text
    cells = [a for _, a in page.elements if a.get("data-x") is not None]
    assert len(cells) == 2 * sweep.size, "a map of times and one of bottlenecks, each with every point"
    assert any("rp-frontier" in str(a.get("class")) for _, a in page.elements)


def test_one_axis_gives_curves() -> None:
    one = rp.sweep("resnet50", on="h100-sxm", vary={"batch": [1, 8, 64]})
    assert "Hollow" not in check(sweep_page(one)).text
    names = rp.sweep("gpt2", on="h100-sxm", task="decode", vary={"machine": ["h100-sxm", "t4"]})
    assert "machine t4" in check(sweep_page(names)).text


def test_notebooks_show_estimates_and_sweeps(sweep: rp.Sweep) -> None:
    for shown in (
        ESTIMATES["decode"],
        sweep,
        rp.estimate("gpt2", on="t4", task=rp.Decode(batch=np.array([1.0, 2.0]))),
    ):
        text = shown._repr_html_()
        assert text.startswith('<div class="rp rp-boxed"><style>')
        assert Reader(text).open == []


def test_the_style_keeps_to_its_own() -> None:
    """A rule outside .rp would change the notebook around the report."""
    from ridgepoint.report.html import style

    rules = re.sub(r"/\*.*?\*/", "", style(), flags=re.DOTALL)
    for selectors in re.findall(r"([^{}]+)\{", rules):
        for selector in selectors.split(","):
            text = selector.strip()
            assert text.startswith((".rp", "body.rp", "@media")) or "max-" in text or text.startswith("prefers"), text
    for name in re.findall(r"url\(|@import|://", rules):
        raise AssertionError(name)


def test_files_come_with_the_command_that_made_them(tmp_path: Path) -> None:
    from tests.cli.conftest import answer

    out = tmp_path / "report.html"
    assert answer("analyze", "gpt2", "--on", "t4", "--html", str(out)).code == 0
    assert f"ridgepoint analyze gpt2 --on t4 --html {out}" in check(out.read_text()).text
    assert answer("analyze", "gpt33333", "--on", "t4", "--html", str(tmp_path / "none.html")).code == 2
    assert not (tmp_path / "none.html").exists()


def test_advice_is_one_file_with_a_waterfall(tmp_path: Path) -> None:
    found = rp.advise("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=8, context=32768))
    page = check(advice_page(found, "ridgepoint advise"))
    for step in found.steps:
        assert step.remedy.technique.name in page.text
    assert "one after the other" in page.text
    assert Reader(found._repr_html_()).open == []
    nothing = rp.advise("resnet50", on="t4", quality="exact")
    assert check(advice_page(nothing)).text


def test_every_state_that_is_drawn_has_a_colour() -> None:
    """Claims move from state to state as models are refitted; a state without a colour would end the whole page."""
    assert set(COLOURS) == {*COMPARED, *BOUNDED}
    assert set(COLOURS.values()) <= set(FILLS)


def test_bounds_are_marked_and_counted_beside_the_figures() -> None:
    """Who reads a share within 25 % must see that bounds ("over 3 tokens/s") are no part of it."""
    page = check(reproduce_page(reproduce(["fiddler"]), "ridgepoint reproduce fiddler"))
    assert "≥ 3" in page.text
    assert "of 1 stated bounds agree" in page.text
    assert "bounds agree" not in check(reproduce_page(reproduce(["triforce"]), "x")).text


def test_reproduced_claims_are_one_file_with_a_plot(tmp_path: Path) -> None:
    outcomes = reproduce(["keyformer"]) or reproduce(None)[:20]
    page = check(reproduce_page(outcomes, "ridgepoint reproduce"))
    assert outcomes[0].claim.slug in page.text
    compared = [o for o in outcomes if o.ratio is not None and o.ratio > 0.0]
    assert sum(tag == "circle" for tag, _ in page.elements) == len(compared)
