"""What a run relied on: publications behind its models, techniques, and where its coefficients come from (design §7).

A ``Reliance`` is collected cost by cost and united with ``|``; ``lines`` is what ``--citations`` prints.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources

from ridgepoint.cost.evaluate import Cost
from ridgepoint.kernels.unknown import rules_of
from ridgepoint.machines.coefficients import Coefficients, Table, table_origin
from ridgepoint.machines.machine import Machine
from ridgepoint.techniques.registry import sources

TABLES = tuple(name for name in Coefficients.__struct_fields__ if name != "power")
"""Coefficient tables of kernel models."""


@cache
def _references() -> dict[str, dict[str, str]]:
    return tomllib.loads((resources.files("ridgepoint.catalog") / "references.toml").read_text())


def cite(key: str) -> str:
    """The publication behind a key of ``catalog/references.toml``.

    >>> cite("huang-2019")
    'Huang et al.: GPipe: efficient training of giant neural networks using pipeline parallelism. NeurIPS 2019'
    """
    entry = _references()[key]
    return f"{entry['authors']}: {entry['title']}. {entry['where']}"


_WHOSE = {
    "machine": "fitted to this machine",
    "family": "of its architecture",
    "generic": "of other machines, for want of its own",
}


@dataclass(frozen=True)
class Reliance:
    """Keys of publications, techniques as they were applied, and the coefficient tables used of each device type."""

    publications: tuple[str, ...] = ()
    techniques: tuple[str, ...] = ()
    tables: Mapping[str, tuple[Machine, frozenset[str]]] = field(default_factory=dict)
    more: tuple[str, ...] = ()
    """Further lines: papers of the catalogue, host times of an engine."""

    def __or__(self, other: Reliance) -> Reliance:
        tables = dict(self.tables)
        for name, (machine, used) in other.tables.items():
            tables[name] = (machine, used | tables[name][1] if name in tables else used)
        return Reliance(
            _united(self.publications, other.publications),
            _united(self.techniques, other.techniques),
            tables,
            _united(self.more, other.more),
        )

    def on(self, machines: Iterable[Machine]) -> Reliance:
        """The same kernel models on other machines."""
        used = frozenset[str]().union(*(names for _, names in self.tables.values()))
        return replace(self, tables=coefficients_of(machines, used).tables)

    @property
    def lines(self) -> tuple[str, ...]:
        """One line each: publications, techniques, further ones, coefficients (of which device type, if several)."""
        found = [*map(cite, sorted(self.publications)), *dict.fromkeys(sources(self.techniques)), *self.more]
        for name, (machine, used) in self.tables.items():
            own = coefficient_sources(machine, used)
            found += own if len(self.tables) == 1 else [f"{name}: {line}" for line in own]
        return tuple(found)


def _united(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))


def coefficients_of(machines: Iterable[Machine], tables: Iterable[str] = TABLES) -> Reliance:
    """Coefficient tables of machines, all of them where none are named."""
    used = frozenset(tables)
    return Reliance(tables={m.device.name: (m, used) for m in machines})


def reliance(cost: Cost, techniques: tuple[str, ...] = ()) -> Reliance:
    """What one cost relied on.

    >>> from ridgepoint.cost.evaluate import evaluate
    >>> from ridgepoint.machines.catalog import find_machine
    >>> from ridgepoint.ops import Gemm
    >>> found = reliance(evaluate(Gemm(m=8.0, n=64.0, k=64.0), find_machine("h100-sxm")))
    >>> sorted(found.tables["h100-sxm"][1])
    ['gemm']
    """
    used = frozenset(rules_of(op).table for op, _ in cost.occurrences) - {""}
    return Reliance(cost.sources, techniques, {cost.machine.device.name: (cost.machine, used)})


def coefficient_sources(machine: Machine, tables: Iterable[str]) -> list[str]:
    """One line per coefficient table: whose it is, from which measurements or assumption, with its spread."""
    lines = []
    for name in sorted(set(tables)):
        table: Table = getattr(machine.coefficients, name)
        origin = table.provenance
        rows = f"{origin.rows:,} rows of " if origin.rows else ""
        whose = _WHOSE[table_origin(machine.device, name)]
        lines.append(f"{name} coefficients {whose}: {origin.kind}, {rows}{origin.source}, spread {table.spread:.0%}")
    return lines
