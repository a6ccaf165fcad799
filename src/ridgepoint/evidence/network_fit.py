"""Coefficients fitted to whole networks: convolutions, and the passes between them, where nobody timed the kernels.

One number of a network tells little, but networks differ in what they are made of: hundreds of them tell what dense and
depthwise filters, norms and copies take (design §4). Streams and products keep what kernels taught them; where a family has
no kernel measurements they are fitted here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.evidence.calibrate import with_values
from ridgepoint.evidence.free import NETWORKS, ON_CORES, Bounds
from ridgepoint.evidence.rows import InexpressibleError
from ridgepoint.evidence.run_rows import run_groups
from ridgepoint.evidence.run_scenarios import found_machine, found_model
from ridgepoint.evidence.stacked import totals
from ridgepoint.evidence.tables import Table
from ridgepoint.evidence.vision_rows import Passes, pass_seconds, passes
from ridgepoint.machines.calibration import Fit, Parameter, fit
from ridgepoint.machines.coefficients import table_origin
from ridgepoint.machines.machine import Machine
from ridgepoint.models.networks.network import Network
from ridgepoint.numeric import Array
from ridgepoint.serving.engines import with_software

UNCONTROLLED = ("ncnn",)
"""Frameworks whose rows are users' reports, without control of clocks and load: they teach processors alone, of which nobody
measured more, and one report that is far off does not count (``REPORT``)."""
REPORT = 0.45
"""Beyond which |log(predicted / measured)| a report tells of its board's clock, not of its cores."""
MOST = 120
"""Networks of one machine, task, mode and layout that take part."""
_METRICS = {"throughput_samples_s": lambda value, batch: batch / value, "latency_ms": lambda value, batch: value / 1e3}


@dataclass(frozen=True)
class Timed:
    """Passes of one network on one machine, and the seconds that they took."""

    passes: Passes
    machine: Machine
    seconds: Array


def timed_networks(table: Table, family: str, most: int = MOST) -> list[Timed]:
    """A spread of the networks of a table that ran on machines of a family.

    Errors: ``no_data`` where there are none.
    """
    groups: dict[tuple[str, ...], list[Timed]] = {}
    for rows in run_groups(table):
        metric = _METRICS.get(rows.text("metric"))
        try:
            model, machine = found_model(rows), found_machine(rows)
            if metric is None or not isinstance(model, Network) or machine.device.family != family:
                continue
            if rows.text("framework") in UNCONTROLLED and not machine.coefficients.device.processor:
                continue
            one = passes(rows, model, machine)
            machine = with_software(machine, one.engine)
        except (InexpressibleError, RidgepointError):
            continue
        key = (machine.name, *(rows.text(name) for name in ("task", "mode", "precision")), rows.tag("layout"))
        seconds = metric(table.measured()[rows.index], rows.number("batch"))
        groups.setdefault(key, []).append(Timed(one, machine, np.asarray(seconds)))
    found = [
        members[i]
        for members in groups.values()
        for i in np.unique(np.linspace(0, len(members) - 1, min(len(members), most)).astype(int))
    ]
    if not found:
        raise RidgepointError("no_data", f"no networks ran on {family} machines", "give a runs table that has some")
    return found


def changed(machine: Machine, values: Mapping[str, float]) -> Machine:
    """The machine with coefficients of several tables replaced; ``conv.efficiency.fp16`` names table and entry."""
    for table in {path.partition(".")[0] for path in values}:
        own = {path.partition(".")[2]: value for path, value in values.items() if path.partition(".")[0] == table}
        machine = with_values(machine, table, own)
    return machine


def network_errors(networks: list[Timed], values: Mapping[str, float]) -> Array:
    """log(predicted / measured) of every row under these values."""
    by_machine: dict[str, list[Timed]] = {}
    for network in networks:
        by_machine.setdefault(network.machine.name, []).append(network)
    errors = []
    for members in by_machine.values():
        machine = changed(members[0].machine, values)
        every = totals([(one.passes.ops, one.passes.size) for one in members], machine)
        start = 0
        for one in members:
            part = slice(start, start + one.passes.size)
            errors.append(np.log(pass_seconds(one.passes, machine, every, part) / one.seconds))
            start += one.passes.size
    return np.concatenate(errors)


def free_of(networks: list[Timed]) -> dict[str, Bounds]:
    """What these networks may change: tables of their machines that no kernels were fitted to, and convolutions."""
    machine = networks[0].machine
    if machine.coefficients.device.processor:
        return ON_CORES
    return {
        path: bounds
        for path, bounds in NETWORKS.items()
        if path.startswith("conv.") or path.endswith(".permute") or _untaught(machine, path.partition(".")[0])
    }


def _untaught(machine: Machine, table: str) -> bool:
    """Whether no kernels of its own or its family's taught the machine a table."""
    provenance = getattr(machine.coefficients, table).provenance
    from_kernels = provenance.kind == "fitted" and not provenance.source.startswith("networks")
    return table_origin(machine.device, table) == "generic" or not from_kernels


def fit_networks(networks: list[Timed], steps: int = 8) -> Fit:
    """The free coefficients that fit the networks best; names begin with their table's."""
    tables = networks[0].machine.coefficients
    parameters = []
    for path, bounds in free_of(networks).items():
        table, name, *entry = path.split(".")
        value = getattr(getattr(tables, table), name)
        start = value.get(entry[0], value["default"]) if entry else value
        parameters.append(Parameter(path, min(max(start, bounds.low), bounds.high), bounds.low, bounds.high))
    reports = any(one.passes.rows.text("framework") in UNCONTROLLED for one in networks)
    return fit(
        parameters,
        lambda values: network_errors(networks, values),
        noise=0.1 if reports else 0.05,
        steps=steps,
        polish=0,
        other=REPORT if reports else np.inf,
    )


def halves(networks: list[Timed]) -> tuple[list[Timed], list[Timed]]:
    """Every other network: one half to learn from, one to be predicted."""
    return networks[::2], networks[1::2]


def held_back(networks: list[Timed]) -> Fit:
    """A fit to one half with the spread and error of the other."""
    learnt, held = halves(networks)
    found = fit_networks(learnt, steps=5)
    residuals = network_errors(held, found.values)
    return replace(
        found,
        spread=float(np.percentile(np.abs(residuals), 90.0) / 1.645),
        median_error=float(np.median(np.abs(np.expm1(residuals)))),
    )
