"""Registration, names, parameters, conflicts: the same call for built-ins and for users' own (design §6)."""

from __future__ import annotations

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.scenario import scenario
from ridgepoint.techniques.registry import applied, find_technique, load_file, parse, techniques

GIVEN = scenario("llama-3.1-8b", "h100-sxm", rp.Decode(batch=4, context=4096))
OWN = '''
from ridgepoint.techniques.registry import technique
from ridgepoint.techniques.rewrite import with_plan

@technique("own-cache", title="my cache", mechanism=("kv_compression",), quality="unknown", grade="near")
def own_cache(given, values):
    """Keys and values in 8 bits, as my engine keeps them."""
    return with_plan(given, kv="int8")
'''


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kv-quantisation", "kv-quantization"),
        ("kv-quantization:formt=fp8", "format"),
        ("kv-quantization:format=fp9", "fp8"),
        ("kv-quantization:fp8", "key=value"),
        ("speculative-decoding:drafts=1.5", "whole"),
        ("speculative-decoding:acceptance=2", "0 to 1"),
        ("speculative-decoding:draft=llama-9", "llama"),
    ],
)
def test_what_is_written_wrong_is_said_with_what_is_right(text, words):
    with pytest.raises(RidgepointError) as caught:
        applied(GIVEN, [text])
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_two_that_change_the_same_thing_are_refused():
    with pytest.raises(RidgepointError, match="both change"):
        applied(GIVEN, ["kv-quantization:format=int8", "kv-quantization:format=int4"])


def test_applying_keeps_order_and_names():
    found = applied(GIVEN, ["kv-quantization:format=int8", "speculative-decoding:drafts=2"])
    assert found.techniques == ("kv-quantization:format=int8", "speculative-decoding:drafts=2")
    assert found.plan.kv == "int8"
    assert found.plan.speculated == 2.0


def test_a_sweep_over_a_parameter_is_the_single_values():
    """Design §2: scalar ≡ array, through edits as well."""
    found = find_technique("speculative-decoding")
    swept = rp.Estimate(found.apply(GIVEN, {"acceptance": np.array([0.0, 0.5, 0.9])}))
    single = [rp.Estimate(found.apply(GIVEN, {"acceptance": a})).time_s for a in (0.0, 0.5, 0.9)]
    assert swept.time_s == pytest.approx(single)
    assert swept.shape == (3,)


def test_a_users_own_technique_registers_by_the_same_call(tmp_path, monkeypatch):
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    techniques()
    monkeypatch.setattr("ridgepoint.techniques.registry._REGISTERED", dict(techniques()))
    load_file(path)
    assert applied(GIVEN, ["own-cache"]).plan.kv == "int8"
    assert parse("own-cache")[0].summary == "Keys and values in 8 bits, as my engine keeps them."


def test_a_name_that_is_taken_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "mine.py"
    path.write_text(OWN.replace("own-cache", "kv-quantization"))
    monkeypatch.setattr("ridgepoint.techniques.registry._REGISTERED", dict(techniques()))
    with pytest.raises(RidgepointError, match="exists already"):
        load_file(path)


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("1/0")
    with pytest.raises(RidgepointError, match="ZeroDivisionError"):
        load_file(path)
