"""``ridgepoint papers`` (design §10)."""

import json

from tests.cli.conftest import Run


# design §10: a list of objects with at least slug; show: the row plus state and run
def test_json_has_what_outside_users_rely_on(run: Run) -> None:
    found = run("papers", "list", "--json").document
    assert len(found) == 549
    assert all(paper["slug"] and paper["name"] and paper["state"] for paper in found)
    one = run("papers", "show", "megatron-lm", "--json").document
    assert one == next(paper for paper in found if paper["slug"] == "megatron-lm")
    assert one["claims"][0]["value"] == 502
    assert one["run"].startswith("ridgepoint ")


def test_a_withheld_figure_is_null_and_said(run: Run) -> None:
    claims = run("papers", "show", "flashattention-3", "--json").document["claims"]
    assert claims
    assert all(claim["value"] is None for claim in claims)
    assert "withheld" in run("papers", "show", "flashattention-3").out


def test_filters_combine(run: Run) -> None:
    found = run("papers", "list", "--mechanism", "moe", "--bottleneck", "interconnect", "--priority", "1", "--json")
    assert found.document
    assert all("moe" in p["mechanism"] and "interconnect" in p["bottleneck"] for p in found.document)
    page = run("papers", "list", "--mechanism", "moe", "--bottleneck", "interconnect", "--priority", "1").out
    assert f"{len(found.document)} papers" in page
    assert "no paper is all of that" in run("papers", "list", "--kind", "law", "--domain", "speech_audio").out


def test_search_takes_words_with_and_without_quotes(run: Run) -> None:
    quoted = run("papers", "search", "cached keys and values too big", "--json").document
    assert quoted == run("papers", "search", "cached", "keys", "and", "values", "too", "big", "--json").document
    assert len(run("papers", "search", "cache", "--top", "3", "--json").document) == 3
    assert "understood as: smaller KV caches" in run("papers", "search", "KV cache").out
    assert "nothing found" in run("papers", "search", "qqqxyzzy").out
    assert run("papers", "search", "qqqxyzzy", "--json").document == []


def test_a_page_says_everything_and_prints_years_as_approximate(run: Run) -> None:
    page = run("papers", "show", "fiddler").out
    for words in ("Mixtral-8x7B", "about 2024", "3 tokens/s", "offload to host memory", "State: "):
        assert words in page
    assert max(map(len, page.splitlines())) <= 100
    assert "about" not in run("papers", "show", "uni-encoder").out.splitlines()[2], "its year is not known"


def test_unknown_names_are_refused_with_the_nearest(run: Run) -> None:
    assert "flashattention" in run("papers", "show", "flashatention", "--json").error["hint"]
    assert run("papers", "list", "--mechanism", "kv_evicton", "--json").error["hint"].startswith("did you mean kv_ev")
    assert run("papers", "search", "?!", "--json").error["kind"] == "bad_search"
    assert run("papers", "list", "--priority", "4").code == 2
    assert json.loads(run("papers", "show", "nothing like it", "--json").out)["error"]["kind"] == "unknown_paper"
