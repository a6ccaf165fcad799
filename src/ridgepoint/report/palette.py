"""Colours by what a resource is, the same in every chart: those of Okabe and Ito, which colour-blind readers tell apart.

M. Okabe and K. Ito, Color Universal Design, 2008; the ninth is from P. Tol's set. In dark surroundings ``style.css``
takes lighter ones of the same hues.
"""

from __future__ import annotations

from ridgepoint.machines.machine import Machine

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
    if resource in machine.device.links:
        return "link"
    return _ENGINES.get(resource) or _WAITS.get(resource) or "latency"


def paint(name: str) -> dict[str, str]:
    """Attributes that fill a shape with a role's colour."""
    return {"class_": f"rp-{name}", "fill": FILLS[name]}
