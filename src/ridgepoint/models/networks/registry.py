"""Families by name: each plays one network onto a tape.

A family is ``family(tape, net, sizes) -> None``: it reads ``net.option(...)``, starts from ``tape.image(...)`` or
``tape.rows(...)`` with the sizes of the input (floats or arrays), and records everything that one forward pass does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ridgepoint.errors import unknown_name
from ridgepoint.models.networks.network import Network
from ridgepoint.models.networks.tape import Tape
from ridgepoint.numeric import Num

Sizes = Mapping[str, Num]
Family = Callable[[Tape, Network, Sizes], None]

FAMILIES: dict[str, Family] = {}


def family(name: str) -> Callable[[Family], Family]:
    """Registers a family under a name; another function of the same name is refused (a module read twice is not)."""

    def register(function: Family) -> Family:
        known = FAMILIES.get(name)
        if known is not None and (known.__module__, known.__name__) != (function.__module__, function.__name__):
            raise ValueError(f"family '{name}' is registered twice")
        FAMILIES[name] = function
        return function

    return register


def play(net: Network, tape: Tape, sizes: Sizes) -> Tape:
    """The tape after one forward pass of ``net`` with inputs of the given sizes (defaults where they are not given)."""
    from ridgepoint.models.networks import families  # registers all of them

    assert families is not None
    if net.family not in FAMILIES:
        raise unknown_name("family", net.family, FAMILIES)
    FAMILIES[net.family](tape, net, {**dict(net.inputs), **sizes})
    return tape
