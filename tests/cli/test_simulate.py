"""`ridgepoint simulate` (design §10)."""

from __future__ import annotations

import csv
import json

import pytest

KEYS = {"ttft_s", "tpot_s", "latency_s", "throughput", "goodput", "requests", "energy_j", "cost_usd", "shares"}
SMALL = ("simulate", "llama-3.1-8b", "--on", "2xh100-sxm", "--rate", "10", "--requests", "200")


def test_the_document_has_the_keys_of_the_contract(run):
    found = run(*SMALL, "--ttft", "200ms", "--json").document
    assert set(found) >= KEYS
    for name in ("ttft_s", "tpot_s", "latency_s"):
        assert found[name]["p50"] <= found[name]["p90"] <= found[name]["p99"]
    assert found["requests"] == {"total": 200, "completed": 200, "failed": 0, "shed": 0, "put_back": 0, "restarted": 0}
    assert sum(found["shares"].values()) == pytest.approx(1.0)
    assert 0.0 < found["goodput"]["attainment"] <= 1.0


def test_the_page_says_what_was_simulated_and_what_limits_it(run):
    page = run(*SMALL).out
    for words in ("2 replicas of 1 device", "Time to first token", "HBM3 bandwidth", "Over time", "Assumptions"):
        assert words in page


def test_a_trace_and_the_files_that_are_written(run, tmp_path):
    trace = tmp_path / "load.csv"
    trace.write_text("arrival_s,input_tokens,output_tokens\n0,100,5\n0.5,200,7\n")
    answer = run("simulate", "llama-3.1-8b", "--on", "h100-sxm", "--trace", str(trace), "--csv", "a.csv",
                 "--perfetto", "b.json", "--json")  # fmt: skip
    assert answer.document["requests"]["completed"] == 2
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [row["output_tokens"] for row in rows] == ["5", "7"]
    assert float(rows[1]["arrived_s"]) == 0.5
    events = json.loads((tmp_path / "b.json").read_text())["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X", "b", "e", "C"}
    steps = run("trace", str(tmp_path / "b.json"), "--json").document
    assert {row["name"] for row in steps["components"]} <= {"read", "decode", "read and decode"}


def test_overload_is_said(run):
    found = run("simulate", "llama-3.1-70b", "--on", "4xh100-sxm", "--tp", "4", "--rate", "100", "--json").document
    assert found["queue"]["overloaded"]
    assert found["queue"]["growth_per_s"] > 10.0
    assert "overloaded" in found["warnings"][0]


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ((), "bad_usage"),
        (("--rate", "5", "--concurrency", "3"), "bad_usage"),
        (("--rate", "fast"), "bad_option"),
        (("--rate", "-1"), "bad_option"),
        (("--rate", "1", "--prompt", "gauss:3"), "bad_length"),
        (("--rate", "1", "--arrivals", "weekly"), "bad_arrivals"),
        (("--rate", "1", "--speculate", "4"), "bad_option"),
        (("--rate", "1", "--engine", "vlm"), "unknown_engine"),
        (("--rate", "1", "--tp", "3"), "bad_plan"),
        (("--rate", "1", "--token-budget", "x"), "bad_count"),
        (("--trace", "none.csv"), "bad_file"),
        (("--turns", "3"), "bad_usage"),
        (("--rate", "1", "--turns", "0.5"), "bad_option"),
        (("--rate", "1", "--static-batch", "8"), "bad_usage"),
        (("--rate", "1", "--no-prefix-cache", "--host-cache", "100G"), "bad_tiers"),
        (("--rate", "1", "--ttft", "soon"), "bad_quantity"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(run, options, kind):
    assert run("simulate", "llama-3.1-8b", "--on", "2xh100-sxm", *options, "--json").error["kind"] == kind


def test_a_model_that_does_not_fit_is_refused_with_what_would(run):
    error = run("simulate", "llama-3.1-70b", "--on", "h100-sxm", "--rate", "1", "--json").error
    assert error["kind"] == "does_not_fit"
    assert "--tp" in error["hint"]


EVERYTHING = (
    "--adapters", "20:8:4", "--failures", "2min:10s", "--autoscale", "8:1:5s", "--host-cache", "50GB", "--disk-cache", "1TB",
    "--power-budget", "1kW:1", "--speculate", "3:0.8,0.6", "--urgent", "0.2",
)  # fmt: skip


def test_what_befalls_replicas_is_printed_and_in_the_document(run, tmp_path):
    found = run(*SMALL, *EVERYTHING, "--csv", "a.csv", "--json").document
    plan = found["plan"]
    assert plan["adapters"] == {"count": 20, "rank": 8, "slots": 4, "skew": 1.0, "share": 1.0}
    assert plan["failures"] == {"mtbf_s": 120.0, "repair_s": 10.0}
    assert plan["tiers"] == {"host_bytes": 50e9, "storage_bytes": 1e12}
    assert plan["budget"]["low"] == 1
    assert plan["scaling"]["start_s"] == 5.0
    assert plan["speculation"]["accepted"] == pytest.approx([0.2, 0.32, 0.192, 0.288])
    for name in ("power_w", "replicas_on", "put_back_per_s", "cache", "busy"):
        assert len(found["series"][name]) == len(found["series"]["end_s"])
    table = found["shares_over_time"]
    assert sum(values[5] for name, values in table.items() if name != "end_s") == pytest.approx(1.0)
    assert found["events"][0]["what"] in ("failed", "starts", "clock 0.9")
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert {"adapter", "restarted", "fetched_tokens"} <= set(rows[0])
    page = run(*SMALL, *EVERYTHING).out
    for words in ("Adapters", "Failures", "Replicas switched on", "power", "limits up to", "replica 1"):
        assert words in page


@pytest.mark.parametrize(
    "options",
    [
        ("--adapters", "many"),
        ("--failures", "1h:1h:1h"),
        ("--autoscale", "x"),
        ("--power-budget", "lots"),
        ("--expert-imbalance", "x"),
        ("--speculate", "2:0.5,0.5,0.5"),
    ],
)
def test_options_that_say_nothing_are_refused(run, options):
    error = run(*SMALL, *options, "--json").error
    assert error["kind"] in ("bad_option", "bad_speculation")
    assert error["hint"]


def test_prompts_are_read_on_other_devices(run):
    """Splitwise's heterogeneous pools: both machines are named, each with its own degrees and cap."""
    said = ("simulate", "llama-3.1-8b", "--on", "2xa100-sxm-80gb", "--prefill-on", "h100-sxm", "--rate", "5",
            "--requests", "60", "--tp", "1", "--power-cap", "300W")  # fmt: skip
    found = run(*said, "--prefill-power-cap", "500W", "--json").document
    assert found["machine"] == "h100-sxm + 2xa100-sxm-80gb"
    assert found["devices"] == 3
    assert found["plan"]["power_cap_w"] == 300.0
    assert found["plan"]["reading"]["power_cap_w"] == 500.0
    assert "of h100-sxm read prompts" in run(*said).out
    assert "--prefill-tp says nothing without other devices" in run(*SMALL, "--prefill-tp", "2").err


def test_requests_that_wait_too_long_are_dropped_and_counted(run):
    answer = run(
        "simulate", "llama-3.1-8b", "--on", "h100-sxm", "--rate", "100", "--requests", "2000", "--shed-after", "300ms"
    )
    assert "dropped after 300 ms in the queue" in answer.out


def test_a_cascade_asks_the_next_model_where_an_answer_is_not_good_enough(run):
    said = ("simulate", "llama-3.2-1b", "--on", "h100-sxm", "--rate", "5", "--requests", "200", "--latency", "20s")
    found = run(*said, "--cascade", "0.2:llama-3.1-8b:2xh100-sxm", "--json").document
    assert found["kind"] == "cascade"
    assert set(found["citations"]) == {line for one in found["models"] for line in one["citations"]}
    assert [one["model"] for one in found["models"]] == ["llama-3.2-1b", "llama-3.1-8b"]
    asked = [one["requests"]["total"] for one in found["models"]]
    assert asked[0] == 200
    assert 20 < asked[1] < 65
    assert found["requests"] == {"total": 200, "completed": 200, "failed": 0}
    assert found["devices"] == 3
    assert found["cost_usd"] == pytest.approx(sum(one["cost_usd"] for one in found["models"]))
    assert 0.9 < found["goodput"]["attainment"] <= 1.0
    page = run(*said, "--cascade", "0.2:llama-3.1-8b:2xh100-sxm").out
    for words in ("cascade of 2 models", "llama-3.1-8b", "Time to first token", "Goodput", "Assumptions"):
        assert words in page


def test_a_router_sends_each_request_to_one_model(run):
    said = ("simulate", "llama-3.2-1b", "--on", "h100-sxm", "--rate", "5", "--requests", "200")
    found = run(
        *said, "--route", "0.3:llama-3.1-8b:h100-sxm", "--route", "0.2:llama-3.2-3b:h100-sxm", "--json"
    ).document
    assert sum(one["requests"]["total"] for one in found["models"]) == 200
    assert found["kind"] == "router"


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (("--cascade", "0.2:llama-3.1-8b"), "write PART:MODEL:MACHINE"),
        (("--cascade", "often:llama-3.1-8b:h100-sxm"), "write PART:MODEL:MACHINE"),
        (("--cascade", "1.2:llama-3.1-8b:h100-sxm"), "from 0 to 1"),
        (
            ("--cascade", "0.2:llama-3.1-8b:h100-sxm", "--route", "0.2:llama-3.1-8b:h100-sxm"),
            "one of --cascade and --route",
        ),
        (("--cascade", "0.2:llama-3.1-8b:h100-sxm", "--csv", "a.csv"), "--csv"),
    ],
)
def test_cascades_that_say_nothing_clear_are_refused(run, said, what):
    answer = run(*SMALL, *said)
    assert answer.code == 2
    assert what in answer.err


@pytest.mark.parametrize(
    ("load", "option", "home"),
    [
        (("--rate", "10"), ("--think", "5s"), "--turns"),
        (("--rate", "10"), ("--system", "100"), "--turns"),
        (("--rate", "10"), ("--hash-tokens", "64"), "--trace"),
        (("--rate", "10", "--turns", "3"), ("--arrivals", "even"), "--rate"),
        (("--concurrency", "4"), ("--arrivals", "even"), "--rate"),
        (("--trace", "load.csv"), ("--prompt", "1k"), "--rate"),
        (("--trace", "load.csv"), ("--concurrency", "4"), "leave out one"),
        (("--trace", "load.csv"), ("--turns", "3"), "leave out one"),
    ],
)
def test_options_of_another_load_are_refused(run, load, option, home):
    """An option that is left out in silence answers for another load than the one that was asked for."""
    error = run("simulate", "llama-3.1-8b", "--on", "2xh100-sxm", *load, *option, "--json").error
    assert option[0] in error["message"]
    assert home in error["hint"]


def test_a_fleet_takes_lengths_from_its_trace(run):
    """`plan serve` refuses lengths beside a trace, too."""
    fleet = ("plan", "serve", "llama-3.1-8b", "--devices", "h100-sxm", "--ttft", "1s")
    assert "--prompt" in run(*fleet, "--trace", "load.csv", "--prompt", "1k", "--json").error["message"]


def test_a_chart_that_there_is_not_is_refused_before_anything_is_written(run, tmp_path):
    answer = run(*SMALL, "--html", "a.html", "--csv", "a.csv", "--perfetto", "a.json", "--chart", "nothing=a.svg")
    assert answer.code == 2
    assert list(tmp_path.iterdir()) == []
