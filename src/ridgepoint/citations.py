"""What a run relied on: publications behind its models, and where its coefficients come from (design §7)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from importlib import resources

from ridgepoint.machines.coefficients import Table, table_origin
from ridgepoint.machines.machine import Machine


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
