"""What the page can ask, each answer a function of a JSON body: the same calls as the command line's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np

from ridgepoint.document import document, plain
from ridgepoint.errors import RidgepointError
from ridgepoint.estimates import Estimate
from ridgepoint.formats import FORMATS
from ridgepoint.machines.catalog import find_machine, names
from ridgepoint.machines.ridge import facts as machine_facts
from ridgepoint.machines.ridge import rates
from ridgepoint.models.architecture import Model
from ridgepoint.models.listing import listing, model_facts, network_facts
from ridgepoint.models.networks.network import Network
from ridgepoint.plan import Plan
from ridgepoint.report.charts import name_of, roofline_picture, share_picture
from ridgepoint.report.headline import result_rows
from ridgepoint.report.html import facts, folded, listed, notes
from ridgepoint.report.html_estimate import (
    estimate_page,
    limits_table,
    machine_values,
    memory_figure,
    time_figure,
    verdict_html,
)
from ridgepoint.report.html_sweep import charts, rows_table, sweep_head, sweep_page
from ridgepoint.request import command_of, sizes_of
from ridgepoint.scenario import usual_task
from ridgepoint.scenario_file import request_text
from ridgepoint.search.axes import Axis, axis, techniques_of
from ridgepoint.search.result import Sweep
from ridgepoint.search.sweep import check, sweep_request
from ridgepoint.search.table import csv_text
from ridgepoint.search.table import document as sweep_document
from ridgepoint.tasks import TASKS
from ridgepoint.web.commands import command
from ridgepoint.web.scenarios import (
    KEYS,
    Asked,
    bad,
    catalogue_model,
    checked_machine,
    checked_techniques,
    read_scenario,
    table,
)

Body = Mapping[str, Any]
MOST_POINTS, MOST_BLOCKS, MOST_AXES = 4096, 64, 5
"""What one request may sweep: points, and estimates of axes that are not vectorised."""
SWEPT = 2
"""Parts of a sweep's head that the page says elsewhere: its title, and what varies."""
FIGURES = ("memory", "bandwidth", "cache", "cache-bandwidth", "link", "network", "host", "tdp", "price")
"""Figures of a machine that the page has sliders for, beside its rates; words of ``machines.settings``."""


@cache
def models() -> list[dict[str, Any]]:
    """Every model and network: name, title, what it is, parameters, context, year."""
    kept = ("name", "title", "kind", "parameters", "max_context", "released")
    return [{key: plain(found[key]) for key in kept} for found in listing()]


@cache
def machines() -> list[dict[str, Any]]:
    """Every machine: names, peak rate, memory, ridge point, power, price."""
    return [{key: plain(v) for key, v in machine_facts(find_machine(name)).items()} for name in names()]


def model(body: Body) -> dict[str, Any]:
    """One model, by name or pasted: counts, shapes, the tasks that it can do with their usual sizes."""
    found = read_scenario({"model": body.get("model")}).model
    assert found is not None  # read_scenario refuses a body without one
    usual = usual_task(found)
    known = network_facts(found, None) if isinstance(found, Network) else model_facts(found)
    return {
        **{key: plain(value) for key, value in known.items()},
        "usual_task": usual.name,
        "tasks": {name: _sizes(name, found) for name in _tasks(found)},
    }


def _tasks(found: Model | Network) -> list[str]:
    if isinstance(found, Network):
        return ["sample" if found.is_sampler else "forward", "train"]
    if found.decoder is None:
        return ["forward", "train"]
    return [name for name in TASKS if name != "sample"]


def _sizes(task: str, found: Model | Network) -> dict[str, Any]:
    """Size → what it usually is."""
    usual = usual_task(found)
    given = usual if usual.name == task else TASKS[task]()
    own = {name: plain(value) for name, value in given.sizes().items() if name in sizes_of(task)}
    if not isinstance(found, Network):
        return {name: value for name, value in own.items() if name not in ("image_px",)}
    kept = {name: value for name, value in own.items() if name in ("batch", "steps")}
    return {**kept, **{name: plain(value) for name, value in found.inputs}}


def machine(body: Body) -> dict[str, Any]:
    """One machine: its facts, and the figures that can be changed, in SI units."""
    found = find_machine(checked_machine(body.get("machine")))
    device = found.device
    links = {word: found.link(scope) for word, scope in (("link", "node"), ("network", "cluster"), ("host", "host"))}
    figures: dict[str, Any] = {fmt: rate for _, fmt, rate in rates(found)}
    figures |= {"memory": found.memory_bytes, "bandwidth": found.memory_bytes_per_s}
    if found.cache is not None:
        figures |= {"cache": found.cache[1], "cache-bandwidth": found.cache[2]}
    figures |= {word: float(link[1].bandwidth) for word, link in links.items() if link is not None}
    figures |= {"tdp": device.power.tdp, "price": None if device.price is None else device.price.usd_per_hour}
    return {
        **{key: plain(value) for key, value in machine_facts(found).items()},
        "nodes": found.nodes,
        "figures": {name: plain(value) for name, value in figures.items() if value is not None},
        "labels": {name: found.resource_label(name) for name in (*device.engines, *device.memory, *device.links)},
    }


def choices() -> dict[str, Any]:
    """What a plan may say: formats, names of rules, flags; and all tasks."""
    kinds = {f.name: str(f.type) for f in fields(Plan)}
    return {"formats": list(FORMATS), "tasks": {name: sizes_of(name) for name in TASKS}, "plan": kinds}


def estimate(body: Body) -> dict[str, Any]:
    """One scenario: the document of ``analyze --json``, the command, and with ``"view": true`` the parts of the report."""
    given = table(body, "the body", (*KEYS, "view"))
    asked = _asked(given)
    est = Estimate(asked.scenario)
    view = {"view": _view(est)} if given.get("view") else {}
    labels = {name: name_of(est, name) for name in est.shares}
    return {**document(est), "labels": labels, "command": command_of(asked.request), **view}


def _asked(given: Body) -> Asked:
    return read_scenario({key: value for key, value in given.items() if key in KEYS})


def _view(est: Estimate) -> dict[str, str]:
    """HTML of the report's parts, as the report has them."""
    return {
        "verdict": verdict_html(est),
        "facts": facts(result_rows(est)),
        "warnings": notes("Warnings", est.warnings),
        "shares": share_picture(est).html,
        "limits": limits_table(est),
        "roofline": roofline_picture(est).html,
        "time": time_figure(est),
        "memory": memory_figure(est),
        "grounds": notes("Assumptions", est.assumptions)
        + machine_values(est)
        + folded("Citations", listed(est.citations)),
    }


def report(body: Body) -> str:
    """The report of ``analyze --html``."""
    asked = _asked(body)
    return estimate_page(Estimate(asked.scenario), command_of(asked.request))


def toml(body: Body) -> str:
    """The scenario file; it can be given to every command that takes a scenario."""
    asked = _asked(body)
    _ = asked.scenario  # a file that no command would take is not written
    return request_text(asked.request)


def _swept(body: Body) -> tuple[Sweep, str]:
    given = table(body, "the body", (*KEYS, "vary", "column"))
    asked = _asked(given)
    axes = [axis(name, values) for name, values in table(given.get("vary"), "vary").items()]
    if len(axes) > MOST_AXES:
        raise bad(f"{len(axes)} axes", f"vary at most {MOST_AXES}")
    check(axes, MOST_POINTS)
    blocks = int(np.prod([len(a.values) for a in axes if not a.vectorised]))
    if blocks > MOST_BLOCKS:
        raise RidgepointError(
            "bad_sweep", f"{blocks} estimates", f"vary names and flags over at most {MOST_BLOCKS} combinations"
        )
    for a in axes:
        _check_names(a)
    words = [word for a in axes for word in ("--vary", f"{a.name}={_axis_text(given['vary'][a.name])}")]
    said = command("sweep", replace(asked.request, sizes=_unvaried(asked.request.sizes, axes)), *words)
    return sweep_request(asked.request, axes, resolve=asked.resolve), said


def _axis_text(values: object) -> str:
    return ",".join(map(str, values)) if isinstance(values, list) else str(values)


def _unvaried(sizes: Mapping[str, Any], axes: Sequence[Axis]) -> dict[str, Any]:
    return {name: value for name, value in sizes.items() if name not in {a.name for a in axes}}


def _check_names(a: Axis) -> None:
    """Names that vary are names of the catalogue, too."""
    checks = {"model": catalogue_model, "machine": checked_machine}
    for value in a.values:
        if a.name in checks:
            checks[a.name](str(value))
        elif a.name == "apply":
            checked_techniques(techniques_of(value))


def sweep(body: Body) -> dict[str, Any]:
    """All combinations of ``vary``: the document of ``sweep --json``, and charts of ``column``."""
    found, said = _swept(body)
    column = body.get("column", "time_s")
    if not isinstance(column, str):
        raise bad("column is no name", "write it like time_s")
    view = {
        "head": "".join(list(sweep_head(found))[SWEPT:]),
        "charts": "".join(charts(found, column)),
        "rows": rows_table(found),
    }
    return {**sweep_document(found), "command": said, "view": view}


def sweep_csv(body: Body) -> str:
    """The rows of ``sweep --out FILE.csv``."""
    return csv_text(_swept(body)[0])


def sweep_report(body: Body) -> str:
    """The report of ``sweep --html``."""
    return sweep_page(*_swept(body))
