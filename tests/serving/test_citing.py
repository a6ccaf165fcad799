"""What a deployment relied on is cited by its parts (design §7)."""

from __future__ import annotations

from typing import Any

import pytest

import ridgepoint as rp
from ridgepoint.citations import Reliance
from ridgepoint.serving.citing import reliance_of
from ridgepoint.serving.deployment import deployment
from ridgepoint.serving.scheduling import Speculation


def relied(on: str = "2xh100-sxm", **parts: Any) -> Reliance:
    return reliance_of(deployment("llama-3.1-8b", on, **parts))


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        ({"prefill_replicas": 1}, "patel-2024"),
        ({"speculation": Speculation.geometric(2, 0.5)}, "leviathan-2023"),
        ({"adapters": rp.Adapters(10, rank=16, slots=4)}, "sheng-2024"),
        ({"sharing": 0.4}, "shi-2025"),
        ({"budget": rp.PowerBudget(1000.0)}, "patel-2024-polca"),
    ],
)
def test_each_part_cites_what_it_rests_on_and_only_then(parts, key):
    assert key in relied(**parts).publications
    assert key not in relied().publications
    assert relied(**parts).lines
