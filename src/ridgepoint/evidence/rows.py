"""Rows of a kernel table as works: rows that differ only in numbers become one work with array fields.

``express`` groups a table and asks the builder of each op for the work that such a row times. A row that no work of
this version describes is counted with its reason, never dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ridgepoint.errors import RidgepointError
from ridgepoint.evidence.harness import aging_s, harness_of, host_s
from ridgepoint.evidence.tables import Table
from ridgepoint.formats import FORMATS
from ridgepoint.machines.catalog import find_machine
from ridgepoint.machines.description import BytesPerSecond
from ridgepoint.machines.machine import Machine
from ridgepoint.numeric import Array, Num
from ridgepoint.ops import Host
from ridgepoint.work import Overlap, Seq, Work

_TEXT = ("machine", "op", "dtype", "weight_dtype", "kv_dtype", "source", "framework")


class InexpressibleError(Exception):
    """Why no work describes a row; the text is the reason that the report counts."""


@dataclass(frozen=True)
class Rows:
    """Some rows of a table that share every text column and every tag of their builder."""

    table: Table
    index: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.index)

    def text(self, column: str) -> str:
        """The rows' common text."""
        return str(self.table.text[column][int(self.index[0])])

    def number(self, column: str, default: float | None = None) -> Array:
        """A numeric column; cells that state nothing take ``default`` or make the rows inexpressible."""
        return self._stated(self.table.numbers[column][self.index], column, default)

    def tag(self, key: str, default: str = "") -> str:
        """A text of ``extra`` that the builder groups by."""
        return str(self.table.extra[int(self.index[0])].get(key, default))

    def extra(self, key: str, default: float | None = None) -> Array:
        """A number of ``extra``."""
        values = [self.table.extra[i].get(key) for i in self.index]
        if any(isinstance(v, str | list | dict) for v in values):
            raise InexpressibleError(f"extra.{key} is not a number")
        return self._stated(np.array([np.nan if v is None else float(v) for v in values]), f"extra.{key}", default)

    def _stated(self, values: Array, name: str, default: float | None) -> Array:
        missing = np.isnan(values)
        if missing.any():
            if default is None:
                raise InexpressibleError(f"{name} is not stated")
            return np.where(missing, default, values)
        return values


@dataclass(frozen=True)
class Builder:
    """How rows of one op become a work: ``tags`` are the keys of ``extra`` that split rows into groups."""

    build: Callable[[Rows, Machine], Work]
    tags: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    """Numeric columns whose value decides the form of the work (causal, ranks), and so split rows too."""
    repeated_bytes: Callable[[Rows], Array] | None = None
    """Bytes that a harness touches again and again, which a large cache then holds."""
    copies: float = 0.0
    """How many sets of them it goes through (0: as many as the source's harness usually does)."""
    library: Callable[[Rows], str] | None = None
    """Which library's grouped products or attention the rows timed; empty: the table's own."""
    split: Callable[[Table, int], object] = field(default=lambda table, row: None)
    """What else of a row decides the form of its work (a kernel that takes over at some sizes)."""
    place: Callable[[Rows], str] = field(default=lambda rows: rows.text("machine"))
    """The machine's name, with node counts where several devices take part."""


@dataclass(frozen=True)
class Condition:
    """How a harness found the machine: operands already in the cache, and the library of its grouped products."""

    cached: bool = False
    library: str = ""

    def of(self, machine: Machine) -> Machine:
        """The machine under this condition."""
        if self.library:
            machine = with_library(machine, self.library)
        return from_cache(machine) if self.cached else machine


@dataclass(frozen=True)
class Batch:
    """Rows that one work with array fields describes, on one machine: its ``sheet``, under the harness's condition."""

    rows: Rows
    sheet: Machine
    work: Work
    condition: Condition
    build: Callable[[Rows, Machine], Work]

    def expressed(self, rows: Rows) -> Batch:
        """Other rows of the same form."""
        return Batch(rows, self.sheet, self.build(rows, self.sheet), self.condition, self.build)

    @cached_property
    def machine(self) -> Machine:
        """The machine as the harness found it."""
        return self.condition.of(self.sheet)


@dataclass(frozen=True)
class Expressed:
    """A table as works: the batches, and the reason for each row that has none."""

    table: Table
    batches: list[Batch]
    refused: dict[int, str]


def timed(rows: Rows, kernel: Work) -> Work:
    """The kernel as its source timed it: alone, or behind and beside the host time of an eager call."""
    source = rows.text("source")
    seconds = host_s(source, rows.text("op"), rows.text("machine"), rows.tag("name"))
    if not seconds:
        return kernel
    first = harness_of(source).before
    before = Host(seconds=seconds * first + _aged_s(rows), label="eager call")
    beside = Host(seconds=seconds * (1.0 - first), label="eager call")
    return Seq(before, Overlap(kernel, beside))


def _aged_s(rows: Rows) -> Num:
    """Seconds by which a host had become slower when it timed each row, the source's rows being in the order of its runs."""
    names = ("source", "op", "machine")
    grown = aging_s(*(rows.text(name) for name in names))
    if not grown:
        return 0.0
    alike = np.all([np.array(rows.table.text[name]) == rows.text(name) for name in names], axis=0)
    lines = np.asarray(rows.table.lines, dtype=float)
    first, last = lines[alike].min(), lines[alike].max()
    return np.asarray(grown * (lines[rows.index] - first) / max(last - first, 1.0))


def groups(table: Table, builders: dict[str, Builder]) -> list[Rows]:
    """Rows that share every text column and what their builder splits by, in order of first appearance."""
    found: dict[tuple[object, ...], list[int]] = {}
    columns = [table.text[name] for name in _TEXT]
    for i, texts in enumerate(zip(*columns, strict=True)):
        builder = builders.get(texts[1])
        key: tuple[object, ...] = texts
        if builder is not None:
            extra = table.extra[i]
            key += tuple(str(extra.get(tag)) for tag in builder.tags)
            key += tuple(str(table.numbers[name][i]) for name in builder.numbers)
            key += (builder.split(table, i),)
        found.setdefault(key, []).append(i)
    return [Rows(table, np.array(index, dtype=np.int64)) for index in found.values()]


def express(table: Table, builders: dict[str, Builder]) -> Expressed:
    """Every row as part of a batch, or refused with a reason."""
    batches: list[Batch] = []
    refused: dict[int, str] = {}
    for rows in groups(table, builders):
        builder = builders.get(rows.text("op"))
        try:
            if builder is None:
                raise InexpressibleError(f"op {rows.text('op')} has no expression")
            sheet = find_machine(builder.place(rows))
            for part, condition in _conditions(rows, builder, sheet):
                batches.append(Batch(part, sheet, builder.build(part, sheet), condition, builder.build))
        except (InexpressibleError, RidgepointError) as error:
            refused |= dict.fromkeys((int(i) for i in rows.index), str(error))
    return Expressed(table, batches, refused)


def _conditions(rows: Rows, builder: Builder, machine: Machine) -> list[tuple[Rows, Condition]]:
    """Rows whose buffers stay in the last-level cache apart from those that stream from main memory."""
    library = builder.library(rows) if builder.library is not None else ""
    usual = harness_of(rows.text("source")).copies
    copies = (builder.copies or usual) if usual else 0.0
    if builder.repeated_bytes is None or machine.cache is None or not copies:
        return [(rows, Condition(library=library))]
    held = builder.repeated_bytes(rows) * copies <= machine.cache[1]
    parts = [(rows.index[~held], False), (rows.index[held], True)]
    return [(Rows(rows.table, index), Condition(cached, library)) for index, cached in parts if len(index)]


def with_library(machine: Machine, library: str) -> Machine:
    """The machine with a library's grouped products or attention as its default; unchanged where no table knows it.

    What a format reaches is said of the table's own kernels, and goes.
    """
    coefficients = dict(machine.device.coefficients)
    for name, kept in _BY_LIBRARY.items():
        table: dict[str, Any] = msgspec.to_builtins(getattr(machine.coefficients, name))
        known = {
            key: {other: value for other, value in table[key].items() if other not in FORMATS}
            | {"default": table[key][entry]}
            for key in kept
            if (entry := _entry(table[key], library))
        }
        if known:
            spread = table.get("spreads", {}).get(library) or table["spread"]
            coefficients[name] = table | known | {"spread": spread}
    return replace(machine, device=msgspec.structs.replace(machine.device, coefficients=coefficients))


_BY_LIBRARY = {
    "gemm": ("grouped", "grouped_memory"),
    "attention": ("libraries", "streams", "resident", "element_clocks"),
}
"""Coefficients with an entry for each library, by table."""


def _entry(values: dict[str, Any], library: str) -> str:
    """A library's own entry for a format (``triton-fp8``), or the one for all; empty where there is neither."""
    return next((name for name in (library, library.partition("-")[0]) if name in values), "")


def from_cache(machine: Machine) -> Machine:
    """The machine with main memory as fast as its last-level cache: what a harness sees that repeats small buffers."""
    if machine.cache is None:
        return machine
    main = machine.device.memory[machine.main_memory]
    fast = msgspec.structs.replace(main, bandwidth=BytesPerSecond(max(machine.cache[2], machine.memory_bytes_per_s)))
    memory = dict(machine.device.memory) | {machine.main_memory: fast}
    return replace(machine, device=msgspec.structs.replace(machine.device, memory=memory))
