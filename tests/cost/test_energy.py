"""Power and money: between idle and the limit, prices by the hour (design §3)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgepoint.cost.energy import power_w, usd
from ridgepoint.machines.catalog import device_names, find_machine
from ridgepoint.machines.description import Power, Watts
from ridgepoint.machines.machine import Machine

H100 = find_machine("h100-sxm")
POWER: Any = H100.device.power


def watts(machine: Machine, use: Mapping[str, Any], time_s: Any = 1.0) -> Any:
    return power_w(machine, use, time_s)


@given(
    st.dictionaries(st.sampled_from(["matrix", "hbm", "vector", "nvlink", "launch", "special"]), st.floats(0.0, 1.0))
)
def test_power_lies_between_idle_and_the_limit(use):
    power = watts(H100, use)
    assert power is not None
    assert 0.0 < power <= POWER.tdp * (1 + 1e-12)


def test_power_grows_with_use_and_a_waiting_device_draws_less_than_a_busy_one():
    idle, waiting, busy = (watts(H100, use) for use in ({}, {"launch": 1.0}, {"matrix": 1.0, "hbm": 0.5}))
    assert idle <= waiting < busy


def test_arrays_equal_scalars():
    use = np.array([0.0, 0.3, 1.0])
    found = watts(H100, {"hbm": use}, np.ones(3))
    assert np.allclose(found, [watts(H100, {"hbm": u}) for u in use])


def test_no_power_on_the_sheet_no_watts():
    """A made-up power would look like a measured one."""
    unknown = replace(H100, device=msgspec.structs.replace(H100.device, power=Power()))
    assert watts(unknown, {"hbm": 1.0}) is None
    assert watts(replace(H100, device=msgspec.structs.replace(H100.device, power=Power(tdp=Watts(700)))), {}) > 0


@pytest.mark.parametrize("name", device_names())
def test_every_machine_has_plausible_power(name):
    """Percentages taken for fractions gave a peer 21,563 W (peers §1)."""
    machine = find_machine(name)
    sheet: Any = machine.device.power
    busy = watts(machine, dict.fromkeys((*machine.device.engines, *machine.device.memory), 1.0))
    if busy is not None:
        assert 0.0 <= watts(machine, {}) <= busy <= sheet.tdp * (1 + 1e-12)


def test_money_is_the_hourly_price():
    sheet: Any = H100.device.price
    price = sheet.usd_per_hour
    assert usd(H100, 3600.0) == price
    assert np.array_equal(cast(Any, usd(H100, np.array([0.0, 7200.0]))), [0.0, 2 * price])
    assert usd(replace(H100, device=msgspec.structs.replace(H100.device, price=None)), 1.0) is None
