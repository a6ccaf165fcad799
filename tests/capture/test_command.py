"""``ridgepoint capture``, and its work files and targets in place of a model's name (design §10)."""

import sys
from pathlib import Path

import pytest

from tests.capture.modules_path import MODELS
from tests.cli.conftest import answer


@pytest.fixture(autouse=True)
def own_catalogue(tmp_path, monkeypatch):
    monkeypatch.setenv("RIDGEPOINT_CATALOG", str(tmp_path / "catalogue"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def test_a_work_file_takes_the_place_of_a_model(torch):
    said = answer("capture", f"{MODELS}:language", "--input", "ids: int64[B,S=64]", "--out", "mine.json")
    assert said.code == 0, said
    assert "mine.json: Language" in said.out
    page = answer("analyze", "mine.json", "--on", "mi300x", "--batch", "4096", "--seq", "128")
    assert page.code == 0, page
    assert "layers.*.up" in page.out
    parts = answer("models", "show", "mine.json")
    assert parts.code == 0, parts
    assert "layers" in parts.out
    sweep = answer("sweep", "mine.json", "--on", "mi300x", "--vary", "batch=1,64", "--json")
    assert sweep.code == 0, sweep


def test_both_steps_at_once_give_the_same(torch):
    spec = "ids: int64[B,S=64]"
    answer("capture", f"{MODELS}:language", "--input", spec, "--out", "mine.json")
    one = answer("analyze", f"{MODELS}:language", "--input", spec, "--on", "mi300x", "--batch", "16", "--json").document
    two = answer("analyze", "mine.json", "--on", "mi300x", "--batch", "16", "--json").document
    assert one["time_s"] == two["time_s"]
    assert one["ops"] == two["ops"]


def test_the_document_says_what_was_found(torch):
    found = answer("capture", f"{MODELS}:odd", "--input", "x: float32[B,8]", "--json").document
    forward = found["passes"]["forward"]
    (unknown,) = forward["unknown"]
    assert unknown["call"] == "linalg_qr"
    assert 0.0 < unknown["bytes_share"] < 1.0
    assert "formulas in batch" in forward["method"]


def test_inputs_are_for_code():
    said = answer("analyze", "llama-3.1-8b", "--input", "x: float32[B]", "--on", "h100-sxm", "--json")
    assert said.error["kind"] == "bad_option"


def test_without_the_extra_one_sentence_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    said = answer("capture", f"{MODELS}:language", "--input", "ids: int64[B,8]", "--json")
    assert said.error["kind"] == "missing_extra"
    assert said.error["hint"] == "pip install 'ridgepoint[capture]'"


def test_nothing_is_left_behind_by_a_failure(torch, tmp_path):
    before = set(Path(tmp_path).iterdir())
    assert answer("capture", f"{MODELS}:depends_on_values", "--input", "x: float32[B,8]", "--json").code == 2
    assert set(Path(tmp_path).iterdir()) == before
