"""Claims: predictions never see what papers report; states, comparisons and units are what they say (design §7)."""

from __future__ import annotations

import json
import math
import re
import tomllib
from dataclasses import replace
from importlib import resources

import msgspec
import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.evidence import reproduce as module
from ridgepoint.evidence.claims import SOURCES, Claim, Said, as_scenario, claims, merged, pair
from ridgepoint.evidence.papers.catalog import find_paper, list_papers
from ridgepoint.evidence.quantities import COMPARE, UNITS, figure, in_unit, usual
from ridgepoint.evidence.record import record_text
from ridgepoint.evidence.reproduce import (
    BOUNDED,
    Prediction,
    bound_state,
    document,
    outcome,
    predict,
    reproduce,
    state,
    summary,
)

BASE = Said("llama-2-7b", "a100-sxm-80gb", task={"name": "decode", "batch": 1, "context": 4096})


@pytest.fixture(scope="module")
def outcomes():
    return reproduce()


def test_every_claim_names_a_row_a_position_and_known_sources():
    for claim in claims():
        paper = find_paper(claim.slug)
        assert claim.index is None or 0 <= claim.index < len(paper.claims), claim.slug
        assert claim.assumptions, f"{claim.slug}: every setup rests on something that the abstract does not state"
        assert {source for _, source in claim.assumptions} <= set(SOURCES)


def test_no_claim_is_entered_twice():
    seen = [(c.slug, c.index, c.quantity, c.part) for c in claims() if c.index is not None]
    assert len(seen) == len(set(seen)), sorted(s for s in seen if seen.count(s) > 1)


def test_claims_hold_no_reported_value():
    """Design §7: the reported value is never an input; it does not even stand in the same file."""
    fields = {f.name for f in msgspec.structs.fields(Claim)}
    assert not fields & {"reported", "value", "expected", "factor", "correction"}


def test_predictions_do_not_move_with_reported_values(monkeypatch, outcomes):
    """The mutation test: every reported value is doubled and shifted; no prediction may change."""

    def mutated(slug):
        paper = find_paper(slug)
        other = {"": "at_least", "at_least": "at_most", "at_most": ""}
        lied = tuple(
            msgspec.structs.replace(c, value=None if c.value is None else 2.0 * c.value + 7.0, side=other[c.side])
            for c in paper.claims
        )
        return msgspec.structs.replace(paper, claims=lied)

    monkeypatch.setattr(module, "find_paper", mutated)
    again = reproduce()
    assert [o.prediction.value for o in again] == [o.prediction.value for o in outcomes]
    assert any(a.reported != b.reported for a, b in zip(again, outcomes, strict=True))
    assert all(a.side != b.side for a, b in zip(again, outcomes, strict=True) if a.row is not None)


def test_none_fails(outcomes):
    """A scenario that cannot be built is a mistake in the entry, not a miss of the model."""
    assert not {o.claim.slug: o.prediction.error for o in outcomes if o.state == "failed"}


def test_withheld_rows_are_predicted_without_a_reported_value(outcomes):
    for found in outcomes:
        if found.paper.claims_withheld and found.claim.index is not None:
            assert found.reported is None
            assert found.state == "withheld"


def test_ratio_and_state_agree(outcomes):
    for found in outcomes:
        if found.ratio is not None and found.ratio > 0 and not found.side:
            miss = max(found.ratio, 1.0 / found.ratio)
            assert (miss <= 1.25) == (found.state in ("within 10 %", "within 25 %"))


def test_the_documents_keys_and_summary(outcomes):
    """Design §10, reproduce."""
    said = document(outcomes)
    json.dumps(said, allow_nan=False)
    keys = {"slug", "index", "metric", "unit", "reported", "predicted", "ratio", "state", "assumptions", "scenario"}
    assert all(keys <= entry.keys() for entry in said["claims"])
    counted = summary(outcomes)
    assert sum(counted["states"].values()) == counted["claims"] == len(outcomes)


def test_changed_says_only_what_differs():
    changed = merged(BASE, Said(task={"context": 512}, apply=["kv-quantization"]))
    assert changed.task == {"name": "decode", "batch": 1, "context": 512}
    assert changed.model == "llama-2-7b"
    assert merged(BASE, Said(task={"name": "prefill", "prompt": 10})).task == {"name": "prefill", "prompt": 10}
    quantized = msgspec.structs.replace(BASE, apply=["kv-quantization"])
    assert merged(quantized, Said(apply=["token-eviction"])).apply == ["kv-quantization", "token-eviction"]
    assert merged(quantized, Said(apply=["token-eviction"], anew=True)).apply == ["token-eviction"]


def test_the_largest_batch_is_the_largest_that_fits():
    given = as_scenario(
        Said("llama-2-7b", "a100-sxm-80gb", task={"name": "decode", "batch": "largest", "context": 4096})
    )
    assert Estimate(given).memory.fits
    assert not Estimate(replace(given, task=replace(given.task, batch=given.task.batch + 1.0))).memory.fits


def test_a_configuration_stands_for_a_model_that_nobody_named():
    config = {
        "model_type": "llama", "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8,
        "intermediate_size": 1024, "vocab_size": 1000,
    }  # fmt: skip
    given = as_scenario(Said("tiny", "h100-sxm", config=config, task={"name": "decode", "context": 128}))
    assert given.model.name == "tiny"
    assert figure(Estimate(given), "parameters") < 20e6


def test_figures_and_comparisons_on_a_known_pair():
    """Halving the context halves the cache: a factor of 2, 50 per cent less, 100 per cent more the other way."""
    found = pair(Claim("tova", BASE, Said(task={"context": 2048})))
    before, after = (figure(Estimate(s), "memory", "kv") for s in (found.baseline, found.changed))
    assert COMPARE["factor"](before, after) == pytest.approx(2.0)
    assert COMPARE["percent_less"](before, after) == pytest.approx(50.0)
    assert COMPARE["percent_more"](before, after) == pytest.approx(100.0)
    assert COMPARE["difference"](before, after) == pytest.approx(after)


@pytest.mark.parametrize(
    ("claim", "word"),
    [
        (Claim("tova", BASE, quantity="sped"), "speed|quantity"),
        (Claim("tova", BASE, part="*.nothing.*"), "component"),
        (Claim("tova", msgspec.structs.replace(BASE, model="llama-99")), "llama"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said(claim, word):
    found = predict(claim, "speedup", "x")
    assert found.value is None
    assert any(w in found.error for w in word.split("|"))


def test_an_index_beyond_the_row_is_refused():
    with pytest.raises(RidgepointError, match="has no claim 99"):
        outcome(Claim("tova", BASE, index=99))


def test_usual_comparisons_invert_each_other():
    """A speed-up of 2 × and one of 100 % are the same figure."""
    (_, times), (_, percent) = usual("speedup", "x"), usual("speedup", "%")
    assert COMPARE[times](2.0, 1.0) == 2.0
    assert COMPARE[percent](2.0, 1.0) == 100.0
    assert all(in_unit(1.0, unit) == scale for unit, scale in UNITS.items())


def test_states_at_their_borders():
    assert state(Prediction(1.1), 1.0, False) == "within 10 %"
    assert state(Prediction(1.0), 1.25, False) == "within 25 %"
    assert state(Prediction(-1.0), 1.0, False) == "off"
    assert state(Prediction(None, error="no"), 1.0, False) == "failed"
    assert state(Prediction(1.0), None, False) == "withheld"


def test_bounds_agree_on_their_right_side_and_not_far_beyond():
    """100 x for "over 2 x" confirms nothing, nor does 1.9 x; a reduction of 99 % leaves too little for "over 85 %"."""
    assert bound_state(2.0, 2.0, "at_least") == bound_state(4.0, 2.0, "at_least") == "agrees with bound"
    assert bound_state(1.9, 2.0, "at_least") == bound_state(4.1, 2.0, "at_least") == "off bound"
    assert bound_state(12.0, 12.0, "at_most") == bound_state(6.0, 12.0, "at_most") == "agrees with bound"
    assert bound_state(12.1, 12.0, "at_most") == bound_state(5.9, 12.0, "at_most") == "off bound"
    assert bound_state(0.0, 12.0, "at_most") == bound_state(-3.0, 2.0, "at_least") == "off bound"
    assert bound_state(90.0, 85.0, "at_least", percent_less=True) == "agrees with bound"
    assert bound_state(99.0, 85.0, "at_least", percent_less=True) == "off bound"
    assert bound_state(100.0, 85.0, "at_least", percent_less=True) == "off bound", "nothing at all is left"


def test_bounds_are_no_part_of_the_shares(outcomes):
    """Whoever reads 'within 25 %' reads of figures; a bound cannot raise that share, and does not lower it."""
    counted = summary(outcomes)
    bounds = [o for o in outcomes if o.side and o.reported is not None]
    assert bounds
    assert all(o.state in BOUNDED for o in bounds)
    assert all(o.state not in BOUNDED for o in outcomes if not o.side)
    assert counted["bounds"] == {
        "compared": len(bounds),
        "agree": sum(o.state == "agrees with bound" for o in bounds),
    }
    alone = summary([o for o in outcomes if not o.side])
    for name in ("compared", "within_10_percent", "within_25_percent", "median_ratio", "spread"):
        assert counted[name] == alone[name], name


def test_bounds_are_the_papers_words():
    """A row is a bound only where what stands of the paper says so; the best case ("up to") is a figure."""
    words = r"\b(over|more than|at least|less than|below|under|at most|limit|bound|or more|exceed)\b"
    for paper in list_papers():
        for claim in paper.claims:
            said = f"{claim.unit} {claim.condition}"
            assert not claim.side or re.search(words, said), (paper.slug, said)
            assert not (claim.side and "up to" in said), (paper.slug, said)


def test_the_record_of_the_catalogue_is_what_reproduce_gives(outcomes):
    """What advise shows as evidence is not typed: `ridgepoint reproduce --all --record` writes it."""
    kept = tomllib.loads((resources.files("ridgepoint.catalog") / "evidence.toml").read_text("utf-8")).get("papers", {})
    now = tomllib.loads(record_text(outcomes)).get("papers", {})
    assert kept.keys() == now.keys()
    for slug, row in now.items():
        assert all(
            math.isclose(a, b, rel_tol=0.02) for a, b in zip(kept[slug]["ratios"], row["ratios"], strict=True)
        ), slug


def test_what_fits_a_training_step_is_the_largest_that_does():
    """One more sequence, or one more layer, does not fit; utilization without recomputation is three quarters of that with."""
    said = Said(
        "llama-3.2-1b", "a100-sxm-40gb", task={"name": "train", "batch": 1, "seq": 1024}, plan={"recompute": "full"}
    )
    est = Estimate(as_scenario(said))
    largest = figure(est, "largest_micro_batch")
    for size, fits in ((largest, True), (1.01 * largest + 1.0, False)):
        whole = float(int(size))
        given = replace(
            est.scenario,
            task=replace(est.scenario.task, batch=whole),
            plan=replace(est.scenario.plan, micro_batch=whole),
        )
        assert bool(given.build().ledger.fits) is fits
    assert figure(est, "largest_model") > figure(est, "parameters")
    assert figure(est, "longest_sequence") > 1024
    assert figure(est, "mfu") / figure(est, "hfu") == pytest.approx(0.75, rel=0.1)


def test_figures_of_a_whole_machine_follow_from_those_of_a_device():
    given = as_scenario(Said("llama-2-7b", "2xh100-sxm", task={"name": "decode", "batch": 4, "context": 1024}))
    est = Estimate(given)
    assert figure(est, "device_hours") == pytest.approx(2 * est.time_s / 3600)
    assert figure(est, "samples_per_device") * 2 == pytest.approx(figure(est, "samples_per_s"))
    assert 0.0 < figure(est, "communication_share") < 1.0
    assert figure(est, "intensity", "*.attention.attention") == pytest.approx(1.0, rel=0.2)


def test_processes_of_their_own_predict_the_same():
    """Claims on deployments are predicted beside the others where a command has several processors."""
    slugs = ["splitwise", "fiddler"]
    alone, beside = reproduce(slugs), reproduce(slugs, workers=2)
    assert [o.claim for o in alone] == [o.claim for o in beside]
    assert [o.prediction.value for o in alone] == [o.prediction.value for o in beside]
    assert [o.state for o in alone] == [o.state for o in beside]
