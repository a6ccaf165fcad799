"""Write ``docs/catalogue.md`` from the data: machines, systems, models and networks with their sources.

python -m tools.catalogue             writes the page (`make catalogue`)
python -m tools.catalogue --check     says whether it is up to date (exit code 1 where not)
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ridgepoint.errors import RidgepointError
from ridgepoint.machines.catalog import device_names, find_machine, find_system, system_names
from ridgepoint.machines.description import Device, Price
from ridgepoint.machines.machine import Machine
from ridgepoint.machines.ridge import facts
from ridgepoint.models.catalog import model_entries
from ridgepoint.models.listing import listing
from ridgepoint.models.networks.catalog import network_entries
from ridgepoint.units import si, significant

PAGE = Path(__file__).parent.parent / "docs" / "catalogue.md"
HEAD = """\
# Catalogue

*Written by `make catalogue` from `src/ridgepoint/catalog/`; do not edit it here.*

What Ridgepoint knows by name, and where each figure comes from. `ridgepoint machines show NAME` and
`ridgepoint models show NAME` print all there is about one of them. [Machines](machines.md) says how to add your own.
"""
ABSENT = "–"
KINDS = {
    "gpu": "Graphics processors",
    "tpu": "Tensor processing units",
    "npu": "Other accelerators",
    "wafer": "Wafers",
    "cpu": "Processors",
    "soc": "Systems on a chip",
    "fpga": "Field-programmable gate arrays",
    "mcu": "Microcontrollers",
}


def page() -> str:
    """The whole page."""
    machines = [find_machine(name) for name in device_names()]
    systems, models, networks = system_names(), model_entries(), network_entries()
    contents = (
        f"{len(machines)} machines, {len(systems)} systems, {len(models)} transformers and state-space models, "
        f"{len(networks)} networks of other kinds."
    )
    parts = [HEAD, contents, *_machines(machines), *_systems(systems), *_models(), *_networks()]
    return "\n".join(parts).rstrip() + "\n"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A Markdown table; columns in ``right`` are aligned to the right.

    >>> print(table(["a", "b"], [["x|y", "1"]], right=[1]))
    | a | b |
    | --- | ---: |
    | x\\|y | 1 |
    """
    line = ["---:" if i in right else "---" for i in range(len(titles))]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(titles), line, *cells])


def count(value: float | None) -> str:
    """A number of parameters as people write it.

    >>> count(8.03e9), count(25557032.0), count(None)
    ('8.03 B', '25.6 M', '–')
    """
    if not value:
        return ABSENT
    for scale, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{significant(value / scale)} {name}"
    return f"{value:.0f}"


def _machines(machines: list[Machine]) -> Iterator[str]:
    yield "\n## Machines\n"
    yield (
        "Rates are dense and those of one device: 16 bit is the best of bf16 and fp16, or of the next wider format. The "
        "ridge point is that rate over the main memory's bandwidth. Prices are per device and hour.\n"
    )
    titles = ["name", "", "16 bit", "memory", "bandwidth", "ridge, FLOP/B", "power", "price", "sources"]
    for kind, name in KINDS.items():
        rows = [_machine(machine) for machine in machines if machine.device.kind == kind]
        if rows:
            yield f"### {name}\n"
            yield table(titles, rows, right=(2, 3, 4, 5, 6, 7)) + "\n"


def _machine(machine: Machine) -> list[str]:
    device, known = machine.device, facts(machine)
    rates = [rate for rate in map(partial(_rate, machine), ("bf16", "fp16")) if rate is not None]
    rate = max(rates, default=None)
    return [
        f"`{device.name}`",
        device.title,
        ABSENT if rate is None else si(rate, "FLOP/s"),
        si(machine.memory_bytes, "B"),
        si(machine.memory_bytes_per_s, "B/s"),
        ABSENT if rate is None else significant(rate / machine.memory_bytes_per_s),
        ABSENT if known["tdp_w"] is None else si(float(known["tdp_w"]), "W"),
        _price(device.price),
        _sources(device),
    ]


def _rate(machine: Machine, format_name: str) -> float | None:
    try:
        return machine.arithmetic(format_name).flop_per_s
    except RidgepointError:  # integer arithmetic only
        return None


def _price(price: Price | None) -> str:
    if price is None or price.usd_per_hour is None:
        return ABSENT
    return f"${price.usd_per_hour:.2f}, {price.provider}, {price.date}"


def _sources(device: Device) -> str:
    titles = [source.title for key, source in device.sources.items() if not key.startswith("pric")]
    return "; ".join(titles)


def _systems(names: list[str]) -> Iterator[str]:
    yield "## Systems\n"
    yield "Whole nodes, racks and clusters, by name: `dgx-h100`, `4xdgx-h100`.\n"
    titles = ["name", "", "devices", "memory", "link, per device", "network, per device", "host memory", "sources"]
    yield table(titles, [_system(name) for name in names], right=(3, 4, 5, 6)) + "\n"


def _system(name: str) -> list[str]:
    system, machine = find_system(name), find_machine(name)
    links = [machine.link(scope) for scope in ("node", "cluster")]
    node, network = (ABSENT if link is None else si(float(link[1].bandwidth), "B/s") for link in links)
    host = system.device.host
    nodes = f"{system.nodes:,} × " if system.nodes > 1 else ""
    return [
        f"`{name}`",
        system.title,
        f"{nodes}{system.devices_per_node} × `{system.device.name}`",
        si(machine.memory_bytes * machine.devices, "B"),
        node if machine.devices_per_node > 1 else ABSENT,
        network,
        ABSENT if host is None or host.memory is None else si(float(host.memory), "B"),
        "; ".join(source.title for source in system.sheet.sources.values()),
    ]


def _models() -> Iterator[str]:
    yield "## Transformers and state-space models\n"
    yield (
        "Parameters: as published, and as counted from the configuration; active ones are those that a token uses. "
        "Grouped by the `model_type` of their Hugging Face configuration.\n"
    )
    counted = {model["name"]: model for model in listing()}
    entries = sorted(model_entries(), key=lambda e: (str(e.config.get("model_type", "")), e.released, e.parameters))
    titles = ["name", "", "year", "published", "counted", "active", "layers", "source"]
    for family, group in itertools.groupby(entries, key=lambda e: str(e.config.get("model_type", ""))):
        yield f"### {family}\n"
        rows = []
        for entry in group:
            known: dict[str, Any] = counted[entry.name]
            read = known["kind"] != "unreadable"
            sizes = [known["parameters"] if read else None, known["active_parameters"] if read else None]
            layers = ABSENT if known["layers"] is None else str(known["layers"])
            about = [f"`{entry.name}`", entry.title, str(entry.released), count(entry.parameters)]
            rows.append([*about, *map(count, sizes), layers, entry.parameters_source])
        yield table(titles, rows, right=(2, 3, 4, 5, 6)) + "\n"


def _networks() -> Iterator[str]:
    yield "## Networks\n"
    yield "Vision, diffusion, video, graphs, science and more; multiply-adds are those of one sample as published.\n"
    entries = sorted(network_entries(), key=lambda e: (e.domain, e.family, e.released, e.name))
    titles = ["name", "", "year", "parameters", "multiply-adds", "source"]
    for (domain, family), group in itertools.groupby(entries, key=lambda e: (e.domain, e.family)):
        yield f"### {domain}: {family}\n"
        rows = [
            [f"`{e.name}`", e.title, str(e.released or ABSENT), count(e.parameters), count(e.macs), e.source]
            for e in group
        ]
        yield table(titles, rows, right=(2, 3, 4)) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the page, or check it."""
    os.environ["RIDGEPOINT_CATALOG"] = os.devnull
    written = PAGE.read_text("utf-8") if PAGE.is_file() else ""
    fresh = page()
    if "--check" in arguments:
        if written != fresh:
            print("docs/catalogue.md is out of date: `make catalogue` writes it", file=sys.stderr)
        return int(written != fresh)
    PAGE.write_text(fresh, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
