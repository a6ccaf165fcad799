"""Coefficients (design §4): families overlaid by a machine's own values, each with its provenance, and nothing unread."""

import math
import tomllib
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
from msgspec.structs import replace

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import device_names, find_device, find_machine
from ridgepoint.machines.coefficients import (
    Coefficients,
    Provenance,
    Table,
    coefficients_of,
    family_names,
    likeness,
    table_origin,
)
from ridgepoint.machines.description import Device
from ridgepoint.ops import Gemm

FAMILIES = resources.files("ridgepoint.catalog") / "families"
EVERY_FAMILY = family_names()
FRACTIONS = (
    "efficiency",
    "memory_efficiency",
    "pageable_efficiency",
    "vector_efficiency",
    "state_efficiency",
    "grouped",
)


def of_family(name: str, **own: dict[str, Any]) -> Coefficients:
    """The tables of a family, with what a sheet adds."""
    return coefficients_of(replace(find_device("h100-sxm"), family=name, coefficients=own))


def tables(found: Coefficients) -> Iterator[tuple[str, Table]]:
    for name in found.__struct_fields__:
        yield name, getattr(found, name)


def refused(device: Device) -> RidgepointError:
    with pytest.raises(RidgepointError) as error:
        coefficients_of(device)
    assert error.value.kind == "bad_machine"
    return error.value


@pytest.mark.parametrize("name", EVERY_FAMILY)
class TestEveryFamily:
    # design §4: coefficients live in data, each table with where it comes from. If one of these fails, an estimate on a
    # machine of the family is wrong without a word.
    def test_spreads_are_positive(self, name: str) -> None:
        assert all(0.0 < table.spread < 1.0 for _, table in tables(of_family(name)))

    def test_provenance_is_complete(self, name: str) -> None:
        for table_name, table in tables(of_family(name)):
            origin = table.provenance
            assert origin.kind in ("fitted", "default", "datasheet"), table_name
            assert origin.source, table_name
            assert origin.date, table_name
            if origin.kind == "fitted":
                assert origin.rows > 0, table_name
                assert 0.0 < origin.median_error < 1.0, table_name

    def test_fractions_of_a_peak_do_not_exceed_it(self, name: str) -> None:
        # An efficiency above 1 would put an estimate below its physical limit (design §3: bound ≤ expected).
        for table_name, table in tables(of_family(name)):
            for field in set(FRACTIONS) & set(table.__struct_fields__):
                value = getattr(table, field)
                for number in value.values() if isinstance(value, dict) else [value]:
                    assert 0.0 < number <= 1.0, f"{table_name}.{field}"

    def test_every_number_is_finite_and_not_negative(self, name: str) -> None:
        for table_name, table in tables(of_family(name)):
            for field in table.__struct_fields__:
                value = getattr(table, field)
                if isinstance(value, Provenance):
                    continue
                for number in value.values() if isinstance(value, dict) else [value]:
                    assert math.isfinite(number), f"{table_name}.{field}"
                    assert number >= 0.0, f"{table_name}.{field}"

    def test_what_the_file_says_is_what_counts(self, name: str) -> None:
        own = tables_of_file(name)
        found = of_family(name)
        for table, values in own.items():
            for key, value in values.items():
                read = getattr(getattr(found, table), key)
                assert (read.source == value["source"]) if key == "provenance" else says(read, value), f"{table}.{key}"

    def test_the_rest_is_of_the_family_that_it_is_like(self, name: str) -> None:
        own = tables_of_file(name)
        generic, found = of_family(likeness(name)), of_family(name)
        for table, _ in tables(found):
            for key in getattr(generic, table).__struct_fields__:
                if key not in own.get(table, {}):
                    assert getattr(getattr(found, table), key) == getattr(getattr(generic, table), key)


def tables_of_file(name: str) -> dict[str, Any]:
    """What a family's own file says."""
    return {k: v for k, v in tomllib.loads((FAMILIES / f"{name}.toml").read_text()).items() if k != "like"}


def test_a_family_like_another_says_that_nobody_measured_it() -> None:
    """GeForce Blackwell multiplies as Ada does, not through the tensor memory of B200, whose kernels widen 4-bit weights at
    less than half of the 16-bit rate: the int4 weights of an RTX 5090 made its prefill twice as slow.
    """
    machine = find_machine("rtx-5090")
    assert table_origin(machine.device, "gemm") == "generic"
    wide, narrow = (evaluate(Gemm(m=4096.0, n=8192.0, k=8192.0, weights=w), machine).time_s for w in ("bf16", "int4"))
    assert narrow < 1.1 * wide


def test_every_family_that_a_sheet_names_has_a_file() -> None:
    # A family without a file would be a silent fallback to the generic coefficients (a misspelt one, too).
    assert {find_device(name).family for name in device_names()} <= set(EVERY_FAMILY)


@pytest.mark.parametrize("name", device_names())
def test_the_own_tables_of_every_sheet_are_read(name: str) -> None:
    device = find_device(name)
    found = coefficients_of(device)
    for table, values in device.coefficients.items():
        for key, value in values.items():
            if key != "provenance":
                assert says(getattr(getattr(found, table), key), value)


def says(read: Any, value: Any) -> bool:
    """Whether a coefficient is what a file says; entries without a ``default`` join those of the wider table."""
    joins = isinstance(value, dict) and "default" not in value and "default" in read
    return bool({key: read[key] for key in value} == value if joins else read == value)


def test_entries_join_those_of_the_family_unless_they_say_default() -> None:
    family = of_family("hopper").gemm.start_s
    assert of_family("hopper", gemm={"start_s": {"fp8": 9e-6}}).gemm.start_s == family | {"fp8": 9e-6}
    assert of_family("hopper", gemm={"start_s": {"default": 9e-6}}).gemm.start_s == {"default": 9e-6}
    assert of_family("hopper").gemm.start_s == family, "the family's own table must not change"


def test_a_machine_overrides_its_family() -> None:
    found = of_family("hopper", device={"launch_s": 9e-6})
    assert found.device.launch_s == 9e-6
    assert found.device.memory_efficiency == of_family("hopper").device.memory_efficiency
    assert of_family("hopper").device.launch_s != 9e-6, "the family's own table must not change"


def test_an_unknown_family_is_refused_with_the_nearest() -> None:
    error = refused(replace(find_device("h100-sxm"), family="hoper"))
    assert "'hoper'" in error.message
    assert "hopper" in error.hint


def test_an_unknown_table_is_refused_with_its_path_and_the_nearest() -> None:
    error = refused(replace(find_device("h100-sxm"), coefficients={"gem": {"tail": 0.5}}))
    assert "`coefficients.gem`" in error.message
    assert "gemm" in error.hint


@pytest.mark.parametrize(
    ("table", "values", "path"),
    [
        ("gemm", {"taill": 0.5}, "coefficients.gemm"),
        ("gemm", {"tail": "half"}, "coefficients.gemm.tail"),
        ("gemm", {"tail": 1.5}, "coefficients.gemm.tail"),
        ("device", {"memory_efficiency": 0.0}, "coefficients.device.memory_efficiency"),
        ("device", {"memory_efficiency": math.nan}, "coefficients.device.memory_efficiency"),
        ("device", {"launch_s": -1e-6}, "coefficients.device.launch_s"),
        ("device", {"launch_s": math.inf}, "coefficients.device.launch_s"),
        ("device", {"spread": 0.0}, "coefficients.device.spread"),
        ("collective", {"latency_s": {"node": 1e-6}}, "coefficients.collective.latency_s"),
        ("gemm", {"efficiency": {"fp8": 1.7}}, "coefficients.gemm.efficiency"),
        ("power", {"weights": {"default": -0.1}}, "coefficients.power.weights.default"),
        ("stream", {"provenance": {"kind": "default"}}, "coefficients.stream.provenance"),
    ],
)
def test_a_bad_value_is_refused_with_its_path(table: str, values: dict[str, Any], path: str) -> None:
    error = refused(replace(find_device("h100-sxm"), coefficients={table: values}))
    assert f"`{path}" in error.message
    assert "h100-sxm" in error.message
