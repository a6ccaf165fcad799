"""`ridgepoint machines`: list, show, compare (design §10)."""

import pytest

from ridgepoint.machines.catalog import find_device, names
from ridgepoint.machines.description import numbers
from tests.cli.conftest import Run


# design §10
def test_the_list_names_every_machine(run: Run) -> None:
    found = run("machines", "list", "--json").document
    assert [m["name"] for m in found] == sorted(names())
    page = run("machines", "list").out
    assert all(name in page for name in ("h100-sxm", "mi300x", "m2-ultra", "stm32f746"))


def test_the_list_says_how_many_devices_its_figures_are_not_of(run: Run) -> None:
    """A cluster that looks like one of its GPUs misleads by four digits."""
    lines = run("machines", "list").out.splitlines()
    assert "24,576 gpu" in next(line for line in lines if line.startswith("meta-24k-h100"))
    assert "the figures are those of one" in lines[-1]


# design §10
@pytest.mark.parametrize(
    ("key", "field"),
    [("rate", "flop_per_s"), ("memory", "memory_bytes"), ("power", "tdp_w"), ("price", "usd_per_hour")],
)
def test_the_list_is_sorted_largest_first(run: Run, key: str, field: str) -> None:
    values = [m[field] for m in run("machines", "list", "--sort", key, "--json").document]
    known = [v for v in values if v is not None]
    assert known == sorted(known, reverse=True)
    assert values[: len(known)] == known, "what is not known comes last"


# design §10
def test_the_list_is_filtered_by_any_of_its_words(run: Run) -> None:
    found = run("machines", "list", "--filter", "HOPPER", "--json").document
    assert {"h100-sxm", "h200-sxm"} <= {m["name"] for m in found}
    assert {m["family"] for m in found} == {"hopper"}
    (system,) = run("machines", "list", "--filter", "dgx-h100", "--json").document
    assert (system["name"], system["devices"]) == ("dgx-h100", 8)
    assert run("machines", "list", "--filter", "zx81", "--json").document == []
    assert "zx81" in run("machines", "list", "--filter", "zx81").out


# design §4
@pytest.mark.parametrize("name", ["h100-sxm", "m2-ultra", "stm32f746", "epyc-9654", "tpu-v5e"])
def test_a_sheet_shows_every_value_with_its_source(run: Run, name: str) -> None:
    doc = run("machines", "show", name, "--json").document
    assert {v["path"]: v["value"] for v in doc["values"]} == dict(numbers(find_device(name)))
    assert all(v["source"]["title"] for v in doc["values"])
    assert all(table["provenance"]["kind"] for table in doc["coefficients"].values())
    page = run("machines", "show", name)
    assert page.code == 0
    for path, _ in numbers(find_device(name)):
        assert path in page.out
    for words in ("Roofline", "Ridge points", "FLOP per byte", "What real kernels reach", "Sources"):
        assert words in page.out


# design §1
def test_the_ridge_point_is_rate_over_bandwidth(run: Run) -> None:
    points = run("machines", "show", "h100", "--json").document["ridge_points"]
    bf16 = next(p for p in points if (p["format"], p["level"]) == ("bf16", "hbm"))
    assert bf16["flop_per_byte"] == pytest.approx(989.4e12 / 3.35e12)


# design §1
def test_a_node_is_shown_as_its_devices(run: Run) -> None:
    doc = run("machines", "show", "16x8xh100-sxm", "--json").document
    assert (doc["devices"], doc["nodes"]) == (128, 16)
    assert "128 devices in 16 nodes" in run("machines", "show", "16x8xh100-sxm").out
    assert "8 devices in 1 node\n" in run("machines", "show", "dgx-h100").out


# design §1
def test_a_machine_asked_for_by_another_name_says_its_own(run: Run) -> None:
    assert "also: t4, " in run("machines", "show", "Tesla T4").out
    assert "each: h100-sxm, " in run("machines", "show", "8xh100").out


# design §10
def test_machines_are_compared_with_the_first(run: Run) -> None:
    page = run("machines", "compare", "h100-sxm", "b200-sxm", "mi300x").out
    assert "2.27×" in page  # 2.25 over 0.989 PFLOP/s
    many = run(
        "machines", "compare", "h100-sxm", "b200-sxm", "mi300x", "t4", "a100-sxm-80gb", "l40s", "v100-sxm-16gb"
    ).out
    assert "…" not in many
    assert many.count("h100-sxm") == 3, "the first stands in every table"
    named = [m["name"] for m in run("machines", "compare", "h100-sxm", "t4", "--json").document]
    assert named == ["h100-sxm", "t4"]
