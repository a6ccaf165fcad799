"""Colours by what a resource is, the same in every chart: those of Okabe and Ito, which colour-blind readers tell apart.

M. Okabe and K. Ito, Color Universal Design, 2008; the ninth is from P. Tol's set. In dark surroundings ``style.css``
takes lighter ones of the same hues.
"""

from __future__ import annotations

from collections.abc import Iterable

from ridgepoint.machines.machine import Machine, inbound

FILLS = {
    "memory": "#0072b2",
    "cache": "#56b4e9",
    "tier": "#882255",
    "matrix": "#d55e00",
    "vector": "#e69f00",
    "link": "#cc79a7",
    "host": "#009e73",
    "launch": "#6b7280",
    "latency": "#b6bcc6",
}
"""Role → fill where no style sheet is."""
SERIES = ("memory", "matrix", "host", "link", "vector", "cache", "tier", "launch", "latency")
"""Roles in an order for things that are no resources."""
LIGHTEST = 3
_OPACITY = {"": None, "2": "0.55", "3": "0.3"}
_ENGINES = {"matrix": "matrix", "vector": "vector", "special": "vector"}
_WAITS = {"launch": "launch", "host": "host", "storage": "tier"}
_MEMORY = {"main": "memory", "cache": "cache"}


def role(machine: Machine, resource: str) -> str:
    """What a resource is, for its colour.

    >>> from ridgepoint.machines.catalog import find_machine
    >>> m = find_machine("8xh100-sxm")
    >>> [role(m, name) for name in ("hbm", "l2", "matrix", "nvlink", "launch", "wave")]
    ['memory', 'cache', 'matrix', 'link', 'launch', 'latency']
    """
    if resource in machine.device.memory:
        return _MEMORY.get(machine.device.memory[resource].role, "tier")
    if inbound(resource) in machine.device.links:
        return "link"
    return _ENGINES.get(resource) or _WAITS.get(resource) or "latency"


def shades(roles: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name → colour of things in a chart, given as (name, role): a second thing of the same role is lighter.

    >>> shades([("nvlink", "link"), ("hbm", "memory"), ("infiniband", "link"), ("bridge", "link")])
    {'nvlink': 'link', 'hbm': 'memory', 'infiniband': 'link 2', 'bridge': 'link 3'}
    """
    met: dict[str, int] = {}
    found = {}
    for name, own in roles:
        met[own] = met.get(own, 0) + 1
        found[name] = own if met[own] == 1 else f"{own} {min(met[own], LIGHTEST)}"
    return found


def paint(colour: str) -> dict[str, str | None]:
    """Attributes that fill a shape with a role's colour, or with a lighter one of it (``shades``).

    >>> paint("link 2")
    {'class_': 'rp-link', 'fill': '#cc79a7', 'fill_opacity': '0.55'}
    """
    name, _, shade = colour.partition(" ")
    return {"class_": f"rp-{name}", "fill": FILLS[name], "fill_opacity": _OPACITY[shade]}
