"""``ridgepoint machines``: list, show, compare."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ridgepoint.citations import coefficients_of
from ridgepoint.cli.citing import Citations, print_answer
from ridgepoint.cli.output import console, print_json, print_page
from ridgepoint.cli.panels import Json
from ridgepoint.errors import RidgepointError, nearest
from ridgepoint.machines.catalog import find_machine, names
from ridgepoint.machines.description import numbers, provenance
from ridgepoint.machines.machine import Machine
from ridgepoint.machines.ridge import facts, ridges

app = typer.Typer(help="Machines: what is known of them, and from where.", add_completion=False)
SORTS = {
    "name": "name",
    "kind": "kind",
    "vendor": "vendor",
    "released": "released",
    "rate": "flop_per_s",
    "memory": "memory_bytes",
    "bandwidth": "memory_bytes_per_s",
    "ridge": "ridge_flop_per_byte",
    "power": "tdp_w",
    "price": "usd_per_hour",
}
_WORDS = ("name", "kind", "vendor")


@app.command("list")
def list_machines(
    sort: Annotated[str, typer.Option("--sort", metavar="KEY", help=", ".join(SORTS))] = "name",
    text: Annotated[str, typer.Option("--filter", metavar="TEXT", help="Only machines that this text is in.")] = "",
    as_json: Json = False,
) -> None:
    """All machines, one line each."""
    if sort not in SORTS:
        close = nearest(sort, SORTS)
        hint = f"did you mean {' or '.join(close)}?" if close else "use one of " + ", ".join(SORTS)
        raise RidgepointError("bad_option", f"--sort is '{sort}'", hint)
    machines = (m for m in map(find_machine, names()) if _matches(m, text))
    found: list[dict[str, Any]] = [{**facts(m), "aliases": list(m.device.aliases)} for m in machines]
    key = SORTS[sort]
    if sort in _WORDS:
        found.sort(key=lambda m: str(m[key]))
    else:
        found.sort(key=lambda m: -_number(m[key]))
    if as_json:
        print_json(found)
        return
    from rich.text import Text

    from ridgepoint.report.machines import machine_list

    screen = console()
    print_page(machine_list(found, screen.width) if found else Text(f"no machine has '{text}' in it"), screen)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else -1.0


def _matches(machine: Machine, text: str) -> bool:
    device = machine.device
    words = " ".join(
        (machine.name, device.name, device.title, device.vendor, device.kind, device.family, *device.aliases)
    )
    return text.casefold() in words.casefold()


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Machine name, or path of a machine file")],
    citations: Citations = False,
    as_json: Json = False,
) -> None:
    """One machine: every value with its source, ridge points, what real kernels reach."""
    machine = find_machine(name)
    if as_json:
        print_json(_sheet(machine))
        return
    from ridgepoint.report.sheet import machine_page

    print_answer(lambda width: machine_page(machine, width), _cited(machine) if citations else ())


def _sheet(machine: Machine) -> dict[str, Any]:
    import msgspec

    device = machine.device
    values = []
    for path, value in numbers(device):
        source = provenance(device, path)
        values.append({"path": path, "value": value, "source": None if source is None else msgspec.to_builtins(source)})
    points = [
        {
            "format": r.format,
            "engine": r.engine,
            "level": r.level,
            "flop_per_s": r.flop_per_s,
            "flop_per_byte": r.flop_per_byte,
        }
        for r in ridges(machine)
    ]
    return {
        **facts(machine),
        "devices": machine.devices,
        "nodes": machine.nodes,
        "aliases": list(device.aliases),
        "note": device.note,
        "values": values,
        "ridge_points": points,
        "coefficients": msgspec.to_builtins(machine.coefficients),
        "citations": list(_cited(machine)),
    }


def _cited(*machines: Machine) -> tuple[str, ...]:
    """Where the sheets' values and the kernels' coefficients come from."""
    sheets = {
        f"{m.device.name}: {', '.join(filter(None, (source.title, source.date, source.url)))}"
        for m in machines
        for path, _ in numbers(m.device)
        if (source := provenance(m.device, path)) is not None
    }
    return (*sorted(sheets), *coefficients_of(machines).lines)


@app.command()
def compare(
    machine: Annotated[list[str], typer.Argument(metavar="NAME NAME…", help="Two machines or more")],
    citations: Citations = False,
    as_json: Json = False,
) -> None:
    """Machines beside each other, with ratios to the first."""
    machines = [find_machine(name) for name in machine]
    if as_json:
        rates = [{e: dict(s.rates) for e, s in m.device.engines.items()} for m in machines]
        shown = zip(machines, rates, strict=True)
        print_json([facts(m) | {"rates": r, "citations": list(_cited(m))} for m, r in shown])
        return
    from ridgepoint.report.machines import comparison

    print_answer(lambda width: comparison(machines, width), _cited(*machines) if citations else ())
