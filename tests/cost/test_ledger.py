"""The memory ledger: entries against what may be used (design §3)."""

import numpy as np

from ridgepoint.cost.ledger import Ledger


def test_entries_add_up_and_fit_into_what_may_be_used_not_into_the_capacity():
    """An engine reserves memory: a ledger that fills the device to the last byte does not fit."""
    ledger = Ledger({"weights": 70e9, "kv": 5e9}, 80e9, 72e9)
    assert ledger.total_bytes == 75e9
    assert ledger["kv"] == 5e9
    assert ledger.fits is False
    assert Ledger({"weights": 72e9}, 80e9, 72e9).fits is True


def test_a_sweep_fits_point_by_point():
    ledger = Ledger({"weights": 70.0, "kv": np.array([1.0, 2.0, 3.0])}, 80.0, 72.0)
    assert np.array_equal(ledger.fits, [True, True, False])
    assert np.array_equal(ledger.total_bytes, [71.0, 72.0, 73.0])


def test_what_lies_elsewhere_must_fit_there_too():
    """Offloading to a host that is full is no way to make a model fit."""
    ledger = Ledger({"weights": 10e9}, 80e9, 72e9, {"host/optimizer": 100e9, "host/weights": 20e9}, {"host": 110e9})
    assert ledger.kept_in("host") == 120e9
    assert ledger.total_bytes == 10e9
    assert ledger.fits is False
    assert Ledger({"weights": 10e9}, 80e9, 72e9, {"nvme/optimizer": 1e15}).fits is True  # of an unknown size
