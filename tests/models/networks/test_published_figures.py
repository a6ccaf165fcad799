"""Networks that are not about vision have the parameters and multiply-adds that their publishers state."""

import numpy as np
import pytest

import ridgepoint as rp
from ridgepoint.models.networks.catalog import Entry, find_network, network_entries, to_network
from ridgepoint.models.networks.registry import play
from ridgepoint.models.networks.tape import Tape

ENTRIES = [entry for entry in network_entries() if entry.domain != "vision"]
ROUNDED = 0.02
"""Papers round to two or three digits."""


def played(entry: Entry, batch: float = 1.0, **sizes: float) -> Tape:
    return play(to_network(entry), Tape(batch), sizes)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_parameters_and_products_are_the_published_ones(entry: Entry) -> None:
    # Wrong: a layer is missing, doubled or has another width than the published model's.
    tape = played(entry)
    if entry.parameters:
        exact = abs(float(f"{entry.parameters:.4g}") / entry.parameters - 1.0) > 1e-9
        assert tape.total_parameters == pytest.approx(entry.parameters, rel=0.002 if exact else ROUNDED)
    if entry.macs:
        assert tape.macs == pytest.approx(entry.macs, rel=0.03)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_entry_says_where_its_figures_come_from(entry: Entry) -> None:
    # Wrong: a published figure without a source, or an entry without either a published figure or a word on why.
    assert len(entry.source) > 10
    if not entry.parameters and not entry.macs:
        assert entry.note or entry.source.startswith("no published")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_sweep_gives_what_single_points_give(entry: Entry) -> None:
    # Wrong: a family decides by the value of a size, or loses an axis of the sweep.
    sizes = {
        name: np.array([value, 2.0 * value]) for name, value in entry.inputs.items() if name not in ("aspect", "frames")
    }
    batches = np.array([1.0, 3.0])
    swept = play(to_network(entry), Tape(batches), sizes)
    for index in range(2):
        single = played(entry, batches[index], **{name: float(v[index]) for name, v in sizes.items()})
        total = np.broadcast_to(swept.macs, (2,))[index]
        assert total == pytest.approx(single.macs, rel=1e-12)
        # Parameters that belong to the input (position tables, Gaussians) are those of the largest point.
        assert index == 0 or swept.total_parameters == pytest.approx(single.total_parameters)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_estimate_takes_at_least_its_physical_limit(entry: Entry) -> None:
    # Wrong: an op that no kernel model gives meaning to, or a time below the limit.
    result = rp.estimate(find_network(entry.name), on="h100-sxm", strict=True)  # type: ignore[arg-type]
    assert 0.0 < result.bound_s <= result.time_s
