"""The local page as people use it: the first minute, sliders, comparison, links, errors, papers, keyboard, phone, dark."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import ridgepoint as rp
from tests.browser.conftest import Watched, watch

CONFIG = {
    "model_type": "llama", "hidden_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2,
    "intermediate_size": 2048, "vocab_size": 32000, "torch_dtype": "bfloat16",
}  # fmt: skip


def choose(page: Any, field: str, value: str) -> None:
    page.fill(f"#{field}", value)
    page.press(f"#{field}", "Enter")


def test_the_first_minute(seen: Watched) -> None:
    """Open, name a model and a machine of one's own, read what limits it."""
    page = seen.open()
    assert "HBM3 bandwidth" in page.inner_text("#verdict")
    choose(page, "model", "qwen2.5-7b")
    choose(page, "machine", "rtx-4090")
    seen.until("GDDR6")
    page.wait_for_selector("#command:has-text('rtx-4090')")
    page.wait_for_selector("#model-about:has-text('Qwen')")
    task = rp.Decode(batch=32, context=8192)
    est = rp.estimate("qwen2.5-7b", on="rtx-4090", task=task)
    assert f"{100 * est.shares[est.bottleneck]:.0f} %" in page.inner_text("#verdict")
    assert page.locator("#roofline svg .rp-mark").count() > 5
    assert page.locator("#time svg rect").count() > 5
    assert "GB" in page.inner_text("#memory")
    command = page.inner_text("#command")
    assert command == "ridgepoint analyze qwen2.5-7b --on rtx-4090 --task decode --batch 32 --context 8192"


def test_a_pasted_configuration(seen: Watched) -> None:
    page = seen.open()
    page.click("#paste summary")
    page.fill("#config", "{ no json")
    page.click("#use-config")
    assert "This is no config.json" in page.inner_text("#config-wrong")
    page.fill("#config", json.dumps(CONFIG))
    page.click("#use-config")
    page.wait_for_selector("#model-about:has-text('4 layers')")
    page.wait_for_selector("#command:has-text('config.json')")
    assert page.inner_text("#config-wrong") == ""


def test_sliders_move_the_answer(seen: Watched) -> None:
    page = seen.open()
    first = page.inner_text("#facts")
    slider = page.locator("#sizes .slider:has(#size-batch) [type=range]")
    slider.focus()
    for _ in range(4):
        slider.press("ArrowRight")
    page.wait_for_selector("#command:has-text('--batch 64')")
    assert page.input_value("#size-batch") == "64"
    assert page.inner_text("#facts") != first
    page.fill("#size-context", "2k")
    page.press("#size-context", "Enter")
    page.wait_for_selector("#command:has-text('--context 2k')")
    assert "0 %" not in page.inner_text("#verdict").split()[0]


def test_figures_of_a_machine_change_under_sliders(seen: Watched) -> None:
    page = seen.open()
    page.click("#figures-box summary")
    slider = page.locator("#figures .slider:has(#figure-bandwidth) [type=range]")
    slider.focus()
    for _ in range(4):
        slider.press("ArrowRight")
    page.wait_for_selector("#command:has-text('h100-sxm@bandwidth=6.7T')")
    est = rp.estimate("llama-3.1-8b", on="h100-sxm@bandwidth=6.7T", task=rp.Decode(batch=32, context=8192))
    seen.until(f"{est.time_s * 1e3:.1f} ms")
    page.click("#reset-figures")
    page.wait_for_selector("#command:not(:has-text('@'))")
    choose(page, "machine", "custom")
    page.wait_for_selector("#command:has-text('custom:bf16=400T,memory=64G,bandwidth=2T')")
    seen.until("main memory bandwidth")


def test_one_node_of_eight(seen: Watched) -> None:
    page = seen.open()
    choose(page, "model", "llama-3.1-70b")
    seen.until("does not fit")
    choose(page, "count", "8")
    page.wait_for_selector("#command:has-text('8xh100-sxm')")
    seen.until("fits", "#memory")
    page.select_option("#plan-weights", "fp8")
    page.wait_for_selector("#command:has-text('--weights fp8')")
    page.select_option("#plan-graph_capture", "false")
    page.wait_for_selector("#command:has-text('--no-graphs')")


def test_a_sweep_shows_the_frontier_and_loads_a_cell(seen: Watched) -> None:
    page = seen.open()
    page.click("#tab-sweep")
    page.wait_for_selector("#sweep .rp-frontier", state="attached")
    assert page.locator("#sweep [data-x]").count() == 11 * 9
    page.select_option("#sweep-column", "bottleneck")
    page.wait_for_selector("#sweep .rp-legend:has-text('HBM3')")
    page.select_option("#sweep-column", "tokens_per_s")
    page.wait_for_selector("#sweep svg[aria-label^='Throughput']")
    cell = page.locator("#sweep [data-x='2'][data-y='4']")
    cell.hover()
    assert "batch 16, context 2,048" in page.inner_text("#tip")
    cell.focus()
    cell.press("Enter")
    page.wait_for_selector("#command:has-text('--batch 16 --context 2048')", state="attached")
    assert page.input_value("#size-batch") == "16"
    page.select_option("#sweep-across", "batch")
    page.wait_for_selector("#sweep svg circle, #sweep svg .rp-cell")


def test_four_scenarios_side_by_side(seen: Watched) -> None:
    page = seen.open()
    for machine in ("h200-sxm", "a100-sxm-80gb", "mi300x"):
        page.click("text=+ compare")
        choose(page, "machine", machine)
        page.wait_for_selector(f"#command:has-text('{machine}')")
    assert page.locator("text=+ compare").count() == 0, "four are the most"
    page.click("#tab-compare")
    page.wait_for_selector("#compare table")
    heads = page.locator("#compare thead th").all_inner_texts()
    assert [h.split()[-1] for h in heads[1:]] == ["h100-sxm", "h200-sxm", "a100-sxm-80gb", "mi300x"]
    times = page.locator("#compare tbody tr:nth-child(2) td").all_inner_texts()
    estimates = [
        rp.estimate("llama-3.1-8b", on=m, task=rp.Decode(batch=32, context=8192)).time_s
        for m in ("h100-sxm", "h200-sxm", "a100-sxm-80gb", "mi300x")
    ]
    for text, seconds in zip(times, estimates, strict=True):
        assert float(text.split()[0]) == pytest.approx(seconds * 1e3, rel=0.006)
    page.click("[aria-label='Remove scenario B']")
    page.wait_for_selector("#compare thead th:nth-child(4):last-child")


def test_a_link_holds_everything(seen: Watched, browser: Any, address: str) -> None:
    page = seen.open()
    choose(page, "machine", "8xh100-sxm")
    page.wait_for_selector("#command:has-text('8xh100-sxm')")
    page.fill("#plan-tp", "4")
    page.press("#plan-tp", "Enter")
    page.wait_for_selector("#command:has-text('--tp 4')")
    page.click("#techniques-box summary")
    page.fill("#technique-filter", "kv-quantization")
    page.click("#techniques button")
    page.wait_for_selector("#command:has-text('--apply kv-quantization')")
    page.fill("#apply-kv-quantization-format", "int4")
    page.press("#apply-kv-quantization-format", "Enter")
    page.wait_for_selector("#command:has-text('format=int4')")
    page.click("text=+ compare")
    choose(page, "model", "qwen2.5-7b")
    page.wait_for_selector("#command:has-text('qwen2.5-7b')")
    page.click("#tab-sweep")
    page.wait_for_selector("#sweep svg")
    page.wait_for_timeout(300)
    link = page.url.removeprefix(address)
    other = watch(browser, address)
    again = other.open(link)
    again.wait_for_selector("#command:has-text('qwen')", state="attached")
    assert again.text_content("#command") == page.text_content("#command")
    assert again.get_attribute("#tab-sweep", "aria-selected") == "true"
    again.click("#scenarios .chip:first-child button:first-child")
    again.wait_for_selector("#command:has-text('format=int4')", state="attached")
    assert "--tp 4" in again.text_content("#command")
    assert other.said == []
    other.page.context.close()


def test_an_error_is_shown_well(seen: Watched) -> None:
    page = seen.open()
    choose(page, "model", "lama-3.1-8b")
    page.wait_for_selector("#wrong .error")
    assert "unknown model 'lama-3.1-8b'" in page.inner_text("#wrong").lower()
    assert page.locator("#panel-result").is_hidden(), "no old figures beside an error"
    page.click("#wrong button:has-text('llama-3.1-8b')")
    page.wait_for_selector("#verdict .rp-verdict")
    assert page.locator("#wrong .error").count() == 0
    page.fill("#size-batch", "many")
    page.press("#size-batch", "Enter")
    page.wait_for_selector("#wrong .error:has-text('task.batch')")
    assert "write it like" in page.inner_text("#wrong").lower()
    assert all("Failed to load resource" in said for said in seen.said)
    seen.said.clear()


def test_a_name_that_is_markup_is_shown_as_text(seen: Watched) -> None:
    evil = "<img src=x onerror=alert(1)>"
    page = seen.open(f"#model={evil}&on=h100-sxm&task=decode")
    assert evil in page.inner_text("#wrong")
    assert page.locator("main img, #scenarios img").count() == 0
    page.goto("about:blank")
    page = seen.open(f"#model=gpt2&on=h100-sxm@title={evil.replace('=', '%3D').replace(' ', '+')}&task=decode")
    assert page.locator("main img, form img").count() == 0
    assert all("Failed to load resource" in said for said in seen.said)
    seen.said.clear()


def test_techniques_and_advice(seen: Watched) -> None:
    page = seen.open("#model=llama-3.1-70b&on=8xh100-sxm&task=decode&batch=1&context=32768")
    page.click("#tab-advice")
    page.wait_for_selector("#advice svg")
    name = page.locator("#advice tbody button").first.inner_text()
    before = page.inner_text("#verdict strong")
    page.locator("#advice tbody button").first.click()
    page.wait_for_selector(f"#applied:has-text('{name}')")
    page.wait_for_selector(f"#command:has-text('{name}')", state="attached")
    assert page.inner_text("#verdict strong") != before
    page.click(f"[aria-label='Switch {name} off']")
    page.wait_for_selector(f"#command:not(:has-text('{name}'))", state="attached")
    assert page.inner_text("#verdict strong") == before


def test_the_waterfall_is_of_the_objective(seen: Watched) -> None:
    page = seen.open("#model=llama-3.1-8b&on=h100-sxm&task=decode&batch=8&context=32768&view=advice")
    page.wait_for_selector("#advice svg[aria-label*='to time']")
    for objective, said in (
        ("throughput", "tokens per second"),
        ("cost", "cost per million tokens"),
        ("memory", "memory per device"),
    ):
        page.select_option("#objective", objective)
        page.wait_for_selector(f"#advice svg[aria-label*='to {said}']")
        assert f"--objective {objective}" in page.inner_text("#command-advice")


def test_a_simulation_runs_and_follows_its_sliders(seen: Watched) -> None:
    """Percentiles, goodput, occupancy over time; the figures are those of the same call in Python."""
    page = seen.open()
    page.click("#tab-serving")
    page.wait_for_selector("#serving .rp-verdict:has-text('100 % of requests keep the goals')")
    drawn = rp.poisson_requests(4.0, 1000, "lognormal:1024", "lognormal:256", seed=0)
    found = rp.simulate("llama-3.1-8b", on="h100-sxm", requests=drawn)
    first = found.summary("ttft_s")
    assert first is not None
    row = page.locator("#serving tr", has_text="Time to first token").inner_text()
    assert f"{first.p50 * 1e3:.1f} ms" in row
    assert page.locator("#serving svg").count() >= 7
    for words in ("Goodput", "KV cache in use", "Requests in the system", "Arrivals per second"):
        assert words in page.inner_text("#serving")
    page.locator("#serving [data-said]").nth(5).hover()
    assert "being answered" in page.inner_text("#tip")
    slider = page.locator(".slider:has(#load-rate) [type=range]")
    slider.focus()
    for _ in range(14):
        slider.press("ArrowRight")
    page.wait_for_selector("#serving .rp-no:has-text('does not keep up')")
    assert "--rate 45" in page.inner_text("#command-serving")
    choose(page, "count", "8")
    page.wait_for_selector("#serving p:has-text('8 replicas')")
    page.wait_for_selector("#serving .rp-verdict:not(.rp-warn)")
    assert "serve.rate=45" in page.url
    with page.expect_download() as download:
        page.click("#download summary")
        page.click("[data-file=json]")
    assert download.value.suggested_filename == "simulation.json"
    told = json.loads(Path(download.value.path()).read_text())
    assert told["plan"]["replicas"] == 8
    with page.expect_download() as download:
        page.click("#download summary")
        page.click("[data-file=html]")
    assert download.value.suggested_filename == "simulation.html"


def test_a_simulation_that_cannot_be_says_why(seen: Watched) -> None:
    page = seen.open("#model=resnet50&on=t4&task=forward&view=serving")
    page.wait_for_selector("#serving .error:has-text('generates no tokens')")
    assert page.locator("#command-serving").is_hidden()
    choose(page, "model", "gpt2")
    page.wait_for_selector("#serving svg")
    page.fill("#load-ttft", "soon")
    page.press("#load-ttft", "Enter")
    page.wait_for_selector("#serving .error:has-text('soon')")
    assert all("Failed to load resource" in said for said in seen.said)
    seen.said.clear()


def test_the_answer_comes_first_on_a_phone(browser: Any, address: str) -> None:
    watched = watch(browser, address, viewport={"width": 390, "height": 844})
    page = watched.open()
    box = page.locator("#verdict .rp-verdict").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 844, "the verdict is on the first screen"
    assert page.locator("#model").bounding_box()["y"] > box["y"]
    assert watched.said == []
    watched.page.context.close()


def test_arrow_keys_move_in_a_map(seen: Watched) -> None:
    """One stop of the tab key; the cell of the scenario is marked."""
    page = seen.open("#model=llama-3.1-8b&on=h100-sxm&task=decode&batch=32&context=8192&view=sweep")
    page.wait_for_selector("#sweep [data-x]")
    assert page.locator("#sweep [data-x][tabindex='0']").count() == 1
    assert "batch 32, context 8,192" in page.get_attribute("#sweep .here", "aria-label")
    page.focus("#sweep [data-x='0'][data-y='0']")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("[document.activeElement.dataset.x, document.activeElement.dataset.y]") == ["1", "1"]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.y") == "0", "the edge holds"


def test_papers_are_found_opened_and_loaded(seen: Watched) -> None:
    page = seen.open()
    page.click("#tab-papers")
    page.wait_for_selector("#papers button")
    page.fill("#question", "quantspec")
    page.wait_for_selector("#papers button:has-text('QuantSpec')")
    page.locator("#papers button", has_text="QuantSpec").first.click()
    page.wait_for_selector("#paper h2:has-text('QuantSpec')")
    page.click("button:has-text('Load its scenario')")
    page.wait_for_selector("#command:has-text('llama-2-7b')")
    assert page.get_attribute("#tab-result", "aria-selected") == "true"
    assert page.locator("#scenarios .chip").count() == 2


def test_files(seen: Watched, downloads: Path) -> None:
    page = seen.open()
    texts = {}
    for kind, name in {
        "html": "ridgepoint.html",
        "json": "ridgepoint.json",
        "toml": "scenario.toml",
        "csv": "sweep.csv",
    }.items():
        page.click("#download summary")
        with page.expect_download() as download:
            page.click(f"[data-file={kind}]")
        assert download.value.suggested_filename == name
        download.value.save_as(downloads / name)
        texts[kind] = (downloads / name).read_text()
    assert "Infinitely fast HBM3 bandwidth" in texts["html"]
    assert json.loads(texts["json"])["bottleneck"] == "hbm"
    assert tomllib.loads(texts["toml"])["task"]["name"] == "decode"
    assert len(texts["csv"].splitlines()) == 100


# basic accessibility ------------------------------------------------------------------------------------------------------

NAMELESS = """() => [...document.querySelectorAll('input, select, textarea, button, summary, [role=tab], [tabindex="0"]')]
  .filter(e => !(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim())).map(e => e.outerHTML)"""
TWICE = """() => { const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
  return ids.filter((id, i) => ids.indexOf(id) !== i); }"""
DANGLING = """() => [...document.querySelectorAll('[aria-controls], [aria-labelledby], [aria-describedby], label[for]')]
  .flatMap(e => ['aria-controls', 'aria-labelledby', 'aria-describedby', 'for'].map(a => e.getAttribute(a)).filter(Boolean))
  .filter(id => !document.getElementById(id))"""
FAINT = """() => {
  const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const back = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$|transparent/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
  return [...document.querySelectorAll('body *')].filter(e => e.offsetParent && !e.closest('svg') &&
      [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())).map(e => {
    const [a, b] = [light(getComputedStyle(e).color), light(back(e))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), e.tagName, e.textContent.trim().slice(0, 40)]; }).filter(([ratio]) => ratio < 4.5);
}"""

LEVELS = """() => [...document.querySelectorAll('h1, h2, h3, h4')].filter(e => e.offsetParent).map(e => Number(e.tagName[1]))
  .filter((level, i, all) => i && level > all[i - 1] + 1)"""
SMALL = """() => [...document.querySelectorAll('button, select, input, summary, [role=tab]')].filter(e => e.offsetParent)
  .map(e => [e.getBoundingClientRect(), e.outerHTML.slice(0, 80)]).filter(([b]) => b.height < 23.5 || b.width < 23.5)
  .map(([b, said]) => [b.width, b.height, said])"""
HIDDEN_FOCUS = """() => [...document.querySelectorAll('[aria-hidden=true]')]
  .filter(e => e.matches('[tabindex="0"]') || e.querySelector('[tabindex="0"], button, input')).map(e => e.outerHTML)"""
TABS = {
    "result": "#roofline svg", "sweep": "#sweep svg", "compare": "#compare table", "advice": "#advice svg",
    "serving": "#serving svg", "papers": "#papers button",
}  # fmt: skip


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_names_ids_references_contrast_and_width(browser: Any, address: str, theme: str, width: int) -> None:
    watched = watch(browser, address, color_scheme=theme, viewport={"width": width, "height": 800})
    page = watched.open()
    page.click("#figures-box summary")
    page.click("#techniques-box summary")
    for tab, ready in TABS.items():
        page.click(f"#tab-{tab}")
        page.wait_for_selector(ready)
        page.wait_for_timeout(300)
        assert page.evaluate(LEVELS) == [], "no level of headings is left out"
        assert page.evaluate(SMALL) == [], "what is pressed is at least 24 pixels high and wide (WCAG 2.5.8)"
        assert page.evaluate(HIDDEN_FOCUS) == [], "what is hidden from readers takes no focus"
        assert page.evaluate(NAMELESS) == []
        assert page.evaluate(TWICE) == []
        assert page.evaluate(DANGLING) == []
        assert page.evaluate(FAINT) == []
        overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, f"{tab}: the page is wider than the screen by {overflow} pixels"
    assert page.get_attribute("html", "lang") == "en"
    assert page.locator("h1").count() == page.locator("main").count() == page.locator("header").count() == 1
    assert watched.said == []
    watched.page.context.close()


def test_the_keyboard_reaches_everything(seen: Watched) -> None:
    page = seen.open()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "verdict"
    page.focus("#tab-result")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-sweep"
    page.wait_for_selector("#sweep svg")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#panel-result").is_visible()
    mark = page.locator("#roofline .rp-mark[aria-label^='attention:']")
    mark.focus()
    assert re.search(r"attention: \d+ % of the time", page.inner_text("#tip"))
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()


def test_reports_read_in_a_browser(seen: Watched, tmp_path: Path) -> None:
    """The file of ``--html`` opens from disk, asks for nothing, fits a phone, and its contrast holds in both themes."""
    from ridgepoint.evidence.reproduce import reproduce
    from ridgepoint.report.html_advice import advice_page
    from ridgepoint.report.html_estimate import estimate_page
    from ridgepoint.report.html_reproduce import reproduce_page
    from ridgepoint.report.html_simulation import simulation_page
    from ridgepoint.report.html_sweep import sweep_page

    est = rp.estimate("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=32, context=8192))
    vary = {"batch": "1:256:log2", "context": "1k:128k:log2"}
    swept = rp.sweep("llama-3.1-8b", on="h100-sxm", task="decode", vary=vary)
    advice = rp.advise("llama-3.1-8b", on="h100-sxm", task=rp.Decode(batch=8, context=32768), objective="cost")
    requests = rp.poisson_requests(30.0, 400, "lognormal:512", "128")
    simulated = rp.simulate("llama-3.1-8b", on="h100-sxm", requests=requests)
    files = {
        "estimate": estimate_page(est, "x"),
        "sweep": sweep_page(swept, "x"),
        "advice": advice_page(advice, "x"),
        "simulation": simulation_page(simulated, "x"),
        "reproduce": reproduce_page(reproduce(["keyformer"]), "x"),
    }
    for kind, shown in (
        ("estimate", est._repr_html_()),
        ("sweep", swept._repr_html_()),
        ("advice", advice._repr_html_()),
    ):
        files[f"notebook {kind}"] = f"<!doctype html><html lang=en><title>x</title><h1>Notebook</h1>{shown}"
    for name, text in files.items():
        (tmp_path / f"{name}.html").write_text(text)
        for theme in ("light", "dark"):
            for width in (390, 1000):
                seen.page.emulate_media(color_scheme=theme)
                seen.page.set_viewport_size({"width": width, "height": 800})
                seen.page.goto(f"file://{tmp_path}/{name}.html")
                assert seen.page.evaluate(FAINT) == []
                assert seen.page.evaluate(NAMELESS) == []
                assert seen.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (name, width)
                assert seen.page.evaluate(LEVELS) == []
                assert seen.page.evaluate(HIDDEN_FOCUS) == []
        seen.page.emulate_media(media="print", color_scheme="dark")
        if not name.startswith("notebook"):
            assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert seen.page.evaluate(FAINT) == []
        seen.page.emulate_media(media="screen")
    assert all(url.startswith("file://") for url in seen.asked)
    seen.asked.clear()
