"""Useful time of a long run: failures, checkpoints, restarts.

With mean time between failures M of the whole machine, C seconds for a checkpoint and R to restart, an interval of τ useful
seconds takes in expectation (Daly 2006, eq. 20, failures as a Poisson process)

    M · e^(R/M) · (e^((τ + C)/M) − 1)

and the best interval is near √(2CM) (Young 1974); Daly's higher-order estimate is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, expm1, sqrt

from ridgepoint.errors import RidgepointError
from ridgepoint.kernels.storage import bytes_per_s
from ridgepoint.machines.machine import Machine

MTBF_HOURS = 50_000.0
"""Hours between failures of one device with its share of everything else: 419 unexpected interruptions of 16,384 H100 in 54
days (Grattafiori et al. 2024, "The Llama 3 Herd of Models", table 5).
"""
RESTART_S = 600.0
"""Seconds to notice a failure, replace a node and start the processes; reading the checkpoint comes on top."""
STATE_BYTES = 14.0
"""Bytes per parameter of a checkpoint: 16-bit weights, fp32 master weights, two moments."""


def best_interval_s(checkpoint_s: float, mtbf_s: float) -> float:
    """Useful seconds between two checkpoints that lose the least time (Daly 2006, eq. 37); Young's √(2CM) for small C.

    >>> round(best_interval_s(60.0, 3600.0 * 4)), round((2 * 60.0 * 3600.0 * 4) ** 0.5)
    (1275, 1315)
    """
    if checkpoint_s >= 2.0 * mtbf_s:
        return mtbf_s
    ratio = checkpoint_s / (2.0 * mtbf_s)
    return sqrt(2.0 * checkpoint_s * mtbf_s) * (1.0 + sqrt(ratio) / 3.0 + ratio / 9.0) - checkpoint_s


def useful_fraction(interval_s: float, checkpoint_s: float, restart_s: float, mtbf_s: float) -> float:
    """Useful over expected time.

    >>> useful_fraction(1000.0, 10.0, 100.0, 1e12) > 0.99, useful_fraction(1000.0, 10.0, 600.0, 3600.0) < 0.8
    (True, True)
    """
    spent = mtbf_s * exp(restart_s / mtbf_s) * expm1((interval_s + checkpoint_s) / mtbf_s)
    return interval_s / spent


@dataclass(frozen=True)
class Goodput:
    """What failures leave of the time; all in seconds."""

    mtbf_s: float
    checkpoint_s: float
    """How long a checkpoint stops the training."""
    restart_s: float
    interval_s: float
    fraction: float
    checkpoint_bytes: float
    background: bool

    def to_dict(self) -> dict[str, float | bool]:
        """For JSON."""
        return dict(vars(self))


def check_failures(mtbf_hours: float, restart_s: float) -> None:
    """Refuse times between failures that are not positive, and restarts that take less than no time.

    Errors: ``bad_option``.
    """
    if not mtbf_hours > 0.0:
        raise RidgepointError("bad_option", "the time between failures must be positive", "give hours per device")
    if not restart_s >= 0.0:
        raise RidgepointError(
            "bad_option", f"a restart of {restart_s:g} s takes less than no time", "give it like 10min"
        )


def goodput(
    parameters: float,
    machine: Machine,
    *,
    mtbf_hours: float = MTBF_HOURS,
    restart_s: float = RESTART_S,
    background: bool = True,
    devices: float | None = None,
) -> Goodput:
    """The useful part of the time of a model of ``parameters`` on ``devices`` of ``machine`` (all by default).

    Every node writes its share. In the background only the copy to the host's memory stops the training, and a checkpoint
    cannot follow the last one before that one is written.

    Errors: ``bad_option`` for a time that is not positive.
    """
    check_failures(mtbf_hours, restart_s)
    size = parameters * STATE_BYTES
    used = machine.devices if devices is None else devices
    each = size / used
    written = each / bytes_per_s(machine)
    mtbf = 3600.0 * mtbf_hours / used
    link = machine.link("host")
    copied = each / float(link[1].bandwidth) if link is not None else written
    stops = min(copied, written) if background else written
    interval = best_interval_s(stops, mtbf)
    if background:
        interval = max(interval, written)
    restart = restart_s + written
    return Goodput(mtbf, stops, restart, interval, useful_fraction(interval, stops, restart, mtbf), size, background)
