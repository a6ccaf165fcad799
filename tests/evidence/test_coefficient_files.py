"""Where fitted coefficients may be written (design §4, §8)."""

from __future__ import annotations

import pytest

from ridgepoint.errors import RidgepointError
from ridgepoint.evidence import coefficient_files


# design §10: an installed package that rewrote its own catalogue would change every other user's figures
def test_families_are_written_in_a_checkout_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert coefficient_files.writable_family("hopper").name == "hopper.toml"
    monkeypatch.setattr(coefficient_files, "is_checkout", lambda package: False)
    with pytest.raises(RidgepointError, match="installed"):
        coefficient_files.writable_family("hopper")
