"""Rows of the papers catalogue as they stand in ``catalog/papers/*.toml``, grouped by primary mechanism.

A row holds facts and short phrases: what the paper names, what it reports (each claim with its baseline and condition), and a
scenario of its workload where one can be said with what the catalogue holds.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Literal

import msgspec

from ridgepoint.errors import RidgepointError

Kind = Literal["analysis", "technique", "workload", "law", "measurement", "other"]
Expressible = Literal["now", "with_paper", "profile", "bound", "tool", "none"]
Side = Literal["", "at_least", "at_most"]
_SIGNS: dict[Side, str] = {"": "", "at_least": "≥ ", "at_most": "≤ "}
Metric = Literal[
    "accuracy_delta",
    "comm_reduction",
    "compression_ratio",
    "cost_reduction",
    "count",
    "energy_reduction",
    "error",
    "flops_reduction",
    "latency",
    "latency_reduction",
    "memory_reduction",
    "mfu",
    "other",
    "params",
    "speedup",
    "throughput",
    "throughput_gain",
    "time",
]


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """One figure that a paper reports. ``value`` is None where it is withheld: the setup is known, the figure is not.

    ``side``: the paper states a bound ("over", "more than", "under"), not the figure itself. "Up to" is no bound but the
    best case's figure.
    """

    metric: Metric
    value: float | None = None
    unit: str = ""
    baseline: str = ""
    condition: str = ""
    side: Side = ""

    @property
    def sign(self) -> str:
        """What stands before the value of a bound.

        >>> Claim("speedup", 10.0, side="at_least").sign, Claim("speedup", 10.0).sign
        ('≥ ', '')
        """
        return _SIGNS[self.side]


class Workload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scenario of what a paper runs, in the keys of a scenario file; ``assumed``: what the paper's abstract does not say."""

    model: str
    machine: str
    task: dict[str, str | int | float]
    inputs: dict[str, int | float] = {}
    plan: dict[str, str | int | float | bool] = {}
    assumed: tuple[Literal["model", "machine", "sizes"], ...] = ()


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One ``[[paper]]`` table.

    ``year`` is approximate (some were filled in from memory). ``does``: what it does; ``feature``: what has to be computed
    for it. ``expressible``: ``now`` the abstract suffices to rebuild it, ``with_paper`` it needs the paper's configuration,
    ``profile`` only its workload is modelled, ``bound`` a formula, ``tool`` an analysis or planning tool itself, ``none``
    nothing to compute. ``reason``: why nothing is run for it. ``priority``: 1 core to 3 peripheral.
    """

    slug: str
    name: str
    title: str
    year: int | None = None
    kind: Kind
    priority: Literal[1, 2, 3]
    expressible: Expressible
    mechanism: tuple[str, ...]
    bottleneck: tuple[str, ...]
    domain: str
    models: tuple[str, ...] = ()
    hardware: tuple[str, ...] = ()
    does: str
    feature: str = ""
    reason: str = ""
    claims_withheld: bool = False
    claims: tuple[Claim, ...] = ()
    workload: Workload | None = None
    command: str = ""
    """The command of ours that does what a paper's tool does, with an example's arguments."""

    @property
    def reference(self) -> str:
        """How citations name the paper."""
        return f"paper {self.slug}: {self.title}" + (f", {self.year}" if self.year else "")


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    paper: tuple[Row, ...]


@cache
def rows() -> dict[str, Row]:
    """All rows by slug, those of higher priority first."""
    folder = resources.files("ridgepoint.catalog") / "papers"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    found = [row for file in files for row in read_rows(file.read_text("utf-8"), file.name)]
    return {row.slug: row for row in sorted(found, key=lambda row: (row.priority, row.slug))}


def read_rows(text: str, where: str) -> tuple[Row, ...]:
    """The rows in the text of a catalogue file; unknown keys and values are refused with their path.

    Errors: ``bad_paper`` with the file and what is wrong in it.
    """
    try:
        return msgspec.convert(tomllib.loads(text), _File).paper
    except tomllib.TOMLDecodeError as error:
        raise RidgepointError("bad_paper", f"{where} is not valid TOML: {error}", "fix the line it names") from None
    except msgspec.ValidationError as error:
        raise RidgepointError("bad_paper", f"{where}: {error}".replace("`$.", "`"), "see the rows beside it") from None
