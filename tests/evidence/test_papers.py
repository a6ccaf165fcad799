"""The papers catalogue (design §7, issue "Evidence"): every row, well-formed, in our own words; states that are derived."""

import json
import re
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest

import ridgepoint as rp
from ridgepoint.errors import RidgepointError
from ridgepoint.evidence.papers import catalog
from ridgepoint.evidence.papers.catalog import STATES, Paper, find_paper, list_papers, papers
from ridgepoint.evidence.papers.rows import Row, read_rows, rows
from ridgepoint.evidence.papers.terms import terms

FILES = sorted(
    (file for file in (resources.files("ridgepoint.catalog") / "papers").iterdir() if file.name.endswith(".toml")),
    key=lambda file: file.name,
)
LEAST = """
[[paper]]
slug = "x"
name = "X"
title = "X"
kind = "law"
priority = 1
expressible = "bound"
mechanism = ["theory"]
bottleneck = ["compute"]
domain = "llm"
does = "something"
"""


def published(shared: Path) -> dict[str, dict[str, object]]:
    lines = (shared / "papers" / "papers.jsonl").read_text("utf-8").splitlines()
    return {row["slug"]: row for row in map(json.loads, lines)}


# design §7
def test_every_paper_is_there_once() -> None:
    found = [row.slug for file in FILES for row in read_rows(file.read_text("utf-8"), file.name)]
    assert len(found) == 549
    assert max(Counter(found).values()) == 1
    assert set(found) == set(rows()) == set(papers())
    assert len({row.name for row in rows().values()}) == 549, "a name finds one paper"


def test_tags_come_from_the_controlled_lists_and_all_of_them_are_used() -> None:
    lists = terms()
    assert {tag for row in rows().values() for tag in row.mechanism} == set(lists.mechanism)
    assert {tag for row in rows().values() for tag in row.bottleneck} == set(lists.bottleneck)
    assert {row.domain for row in rows().values()} == set(lists.domain)


def test_rows_are_grouped_by_their_main_mechanism() -> None:
    for file in FILES:
        for row in read_rows(file.read_text("utf-8"), file.name):
            assert terms().mechanism[row.mechanism[0]].family == file.name.removesuffix(".toml"), row.slug


def test_no_value_of_a_withheld_row_is_in_the_catalogue() -> None:
    withheld = [row for row in rows().values() if row.claims_withheld]
    assert len(withheld) == 52
    assert all(claim.value is None for row in withheld for claim in row.claims)
    assert all(claim.value is not None for row in rows().values() if not row.claims_withheld for claim in row.claims)


def test_facts_agree_with_the_collected_ones(shared: Path) -> None:
    """What outside users quote (tags, figures, the position of a claim) is what was collected."""
    for slug, theirs in published(shared).items():
        ours = papers()[slug].to_dict()
        for key in ("title", "name", "year", "kind", "bottleneck", "mechanism", "domain", "models", "hardware"):
            assert ours[key] == theirs[key], (slug, key)
        for key in ("expressible", "priority", "claims_withheld"):
            assert ours[key] == theirs[key], (slug, key)
        values = [None if theirs["claims_withheld"] else claim["value"] for claim in theirs["claims"]]  # type: ignore[attr-defined]
        assert [claim["value"] for claim in ours["claims"]] == values, slug
        assert [claim["metric"] for claim in ours["claims"]] == [claim["metric"] for claim in theirs["claims"]]  # type: ignore[attr-defined]


def test_phrases_are_our_own(shared: Path) -> None:
    """No six words in a row of somebody's sentence; every row says what it does in a short phrase."""
    for slug, theirs in published(shared).items():
        row = rows()[slug]
        assert row.does, slug
        for ours, source in ((row.does, theirs["does"]), (row.feature, theirs["feature"])):
            assert len(ours.split()) <= 22, slug
            assert not runs(ours, 6) & runs(str(source), 6), slug


def runs(text: str, length: int) -> set[tuple[str, ...]]:
    words = re.findall(r"[\w.%-]+", text.casefold())
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def test_where_nothing_is_run_the_reason_is_said() -> None:
    for paper in papers().values():
        if paper.run is None:
            assert paper.reason, paper.slug
        if paper.expressible == "none":
            assert paper.run is None
            assert paper.state == "listed"
        if paper.expressible == "profile" and paper.workload is not None:
            assert paper.state != "listed", paper.slug


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ('kind = "laws"', "kind"),
        ("priority = 4", "priority"),
        ('speed = "fast"', "speed"),
        ('claims = [{ metric = "sped", value = 1 }]', "metric"),
        ('claims = [{ metric = "speedup", value = 1, unti = "x" }]', "unti"),
    ],
)
def test_a_slip_in_the_data_is_refused_with_its_place(change: str, where: str) -> None:
    key = change.split(" = ")[0]
    text = "\n".join(line for line in LEAST.splitlines() if not line.startswith(f"{key} = "))
    assert read_rows(LEAST, "fine.toml")
    with pytest.raises(RidgepointError, match=rf"slip\.toml.*{where}") as caught:
        read_rows(text + "\n" + change, "slip.toml")
    assert caught.value.kind == "bad_paper"


def row(**more: object) -> Row:
    (found,) = read_rows(LEAST, "x.toml")
    given = {name: getattr(found, name) for name in found.__struct_fields__}
    return Row(**(given | more))


# design §7: listed, modelled (something runs for it), reproduced (a reported figure is compared with a prediction)
def test_states_follow_from_the_claims_that_exist() -> None:
    (claimed,) = read_rows(LEAST + 'claims = [{ metric = "speedup", value = 2.0 }, { metric = "time" }]', "x.toml")
    assert catalog._paper(claimed, None).state == "listed"
    assert catalog._paper(claimed, {0, 1}).state == "reproduced"
    assert catalog._paper(claimed, {1}).state == "modelled", "a withheld value cannot be compared"
    assert catalog._paper(claimed, set()).state == "modelled", "an effect without a figure"
    assert catalog._paper(claimed, {0}).run == "ridgepoint reproduce x"
    assert catalog._paper(claimed, {7}).state == "modelled", "a position that the row does not have"


def test_the_workload_of_a_technique_is_not_its_effect() -> None:
    workload = find_paper("flashattention").workload
    assert workload is not None
    technique = catalog._paper(row(expressible="with_paper", workload=workload), None)
    assert (technique.state, technique.run is not None) == ("listed", True)
    assert catalog._paper(row(expressible="profile", workload=workload), None).state == "modelled"


def test_filters_hold_for_every_paper_found() -> None:
    found = list_papers(mechanism="kv_eviction", priority=1, domain="llm")
    assert found
    assert all("kv_eviction" in p.mechanism and p.priority == 1 and p.domain == "llm" for p in found)
    assert len(list_papers()) == 549
    assert sum(len(list_papers(state=state)) for state in STATES) == 549
    assert list_papers(bottleneck="storage") == tuple(p for p in papers().values() if "storage" in p.bottleneck)
    assert [p.priority for p in list_papers()] == sorted(p.priority for p in papers().values()), "core ones first"


@pytest.mark.parametrize("name", ["kind", "mechanism", "bottleneck", "domain", "state", "priority"])
def test_an_unknown_filter_is_refused(name: str) -> None:
    with pytest.raises(RidgepointError, match=f"unknown {name}"):
        list_papers(**{name: "zx81"})  # type: ignore[arg-type]


def test_an_unknown_slug_answers_with_the_nearest_ones() -> None:
    assert find_paper("FlashAttention-2").slug == "flashattention-2"
    assert find_paper("Mélange").slug == "melange"
    with pytest.raises(RidgepointError, match="did you mean splitwise") as caught:
        find_paper("splitwize")
    assert caught.value.kind == "unknown_paper"
    with pytest.raises(RidgepointError, match="papers search"):
        find_paper("qqqqqqqqqqqq")


def test_python_says_the_same_words() -> None:
    assert isinstance(rp.papers.show("gptq"), Paper)
    assert len(rp.papers.list(kind="law")) == sum(r.kind == "law" for r in rows().values())
    assert rp.papers.search("gptq")[0].paper.slug == "gptq"


def test_an_unknown_mechanism_is_answered_with_a_few_names_not_with_all() -> None:
    with pytest.raises(RidgepointError) as refused:
        list_papers(mechanism="foo")
    assert len(refused.value.hint) < 160
    with pytest.raises(RidgepointError) as refused:
        list_papers(kind="foo")
    assert "technique" in refused.value.hint, "a short list is given whole"
