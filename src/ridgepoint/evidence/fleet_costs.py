"""What the cheapest fleet for a claim's load costs."""

from __future__ import annotations

from ridgepoint.errors import RidgepointError
from ridgepoint.evidence.claims import Fleet
from ridgepoint.machines.catalog import find_machine
from ridgepoint.models.catalog import find_model
from ridgepoint.serving.fleet import cheapest
from ridgepoint.serving.offers import Space
from ridgepoint.serving.outcome import Slo
from ridgepoint.serving.workload import poisson_requests


def cheapest_usd_per_hour(fleet: Fleet) -> float:
    """Dollars per hour of the cheapest fleet of the devices for the load within its goals, by the steady state.

    Errors: ``no_plan`` where no number of the devices keeps the goals; unknown names.
    """
    load = poisson_requests(fleet.rate, fleet.requests, fleet.prompt, fleet.output).at_rate(fleet.rate)
    machines = tuple(find_machine(name) for name in fleet.machines)
    found = cheapest(
        find_model(fleet.model), machines, load, Slo(fleet.ttft_s, fleet.tpot_s), Space(splits=fleet.splits)
    )
    if found is None:
        raise RidgepointError("no_plan", f"no fleet of {', '.join(fleet.machines)} keeps the goals", "loosen them")
    return found.usd_per_hour
