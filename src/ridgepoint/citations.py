"""What a run relied on: publications behind its models, and where its coefficients come from (design §7)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from importlib import resources

from ridgepoint.machines.coefficients import Table
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


def coefficient_sources(machine: Machine, tables: Iterable[str]) -> list[str]:
    """One line per coefficient table: fitted to which measurements, or a family's default, with its spread."""
    lines = []
    for name in sorted(set(tables)):
        table: Table = getattr(machine.coefficients, name)
        origin = table.provenance
        fitted = f"fitted to {origin.rows:,} rows of {origin.source}" if origin.kind == "fitted" else f"{origin.source}"
        lines.append(f"{name} coefficients of {machine.device.name}: {origin.kind}, {fitted}, spread {table.spread:.0%}")
    return lines
