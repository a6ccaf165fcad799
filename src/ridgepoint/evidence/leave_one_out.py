"""Leave one machine out: how well a table fitted to other machines predicts one that nobody measured (design §8).

For each machine the table is fitted to all other machines that have a format in common, siblings of its architecture family
counting four times, and its rows are predicted with nothing of its own but the datasheet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from ridgepoint.evidence.calibrate import fit_all, is_own, log_errors, measured_s, products, with_values
from ridgepoint.evidence.free import LATER, LATER_OPS, OPS
from ridgepoint.evidence.rows import Batch, Builder, express
from ridgepoint.evidence.tables import Table
from ridgepoint.evidence.validate import SHORT_S
from ridgepoint.machines.coefficients import coefficients_of
from ridgepoint.machines.machine import Machine

LARGEST_GROUP = 80
"""Rows of one machine, op and format that take part in a fit: enough for a few dozen numbers."""
LEAST_ROWS = 30
# No common number says what an operation draws: it belongs to how a generation feeds its engines.
GENERATION = {"gemm": ("joule_per_flop",)}
OWN = {"gemm": ("grouped_memory",)}
"""What one machine's rows do not tell of another's: CUTLASS's experts of few rows reach a third of B200's bandwidth and nine
tenths of H100's."""
KIN = (("turing", "volta"), ("ampere", "ada"), ("hopper", "blackwell"), ("kepler", "pascal"))
"""Families whose engines are fed alike, the older first: through registers, or straight from shared memory. Relatives
count four times."""
FED = ("gemm", "conv", "attention")
"""Tables that what feeds the engines decides; kernels that stream are alike in families with the same copy engines."""
KIN_FIRST = ("attention",)
"""Tables where relatives alone teach what their rows can tell: how kernels copy and synchronise has no common number."""


@dataclass(frozen=True)
class LeftOut:
    """Errors of one machine's rows (of at least 5 µs) under coefficients that never saw it."""

    table: str
    group: str
    machine: str
    fitted_on: tuple[str, ...]
    rows: int
    mdape: float
    p90: float
    bias: float


def leave_one_out(
    table: Table,
    builders: dict[str, Builder],
    coefficients: str,
    progress: Callable[[str], None] = lambda machine: None,
) -> list[LeftOut]:
    """One result per machine, op and format that the coefficient table prices."""
    ops = (*OPS[coefficients], *LATER_OPS.get(coefficients, ()))
    mine = table.take(np.flatnonzero(np.isin(np.array(table.text["op"]), ops)))
    held = _by_machine(express(mine, builders).batches, coefficients)
    kept = GENERATION.get(coefficients, ())
    known = _by_machine(express(mine.take(sample(mine)), builders).batches, coefficients, kept)
    results = []
    for name, batches in held.items():
        if sum(len(batch.rows) for batch in batches) < LEAST_ROWS:
            continue
        progress(name)
        others = neighbours(name, known)
        lessons = [batch for other in others for batch in known[other]]
        if not any(batch.rows.text("op") in OPS[coefficients] for batch in lessons):
            continue
        family = batches[0].sheet.device.family
        favoured = relatives(family) if coefficients in FED else streamed(family)
        first = _of_relatives(lessons, coefficients, favoured, kept) if coefficients in KIN_FIRST else {}
        without = (*kept, *OWN.get(coefficients, ()))
        values = fit_all(lessons, coefficients, first, without=without, favoured=favoured, steps=6, polish=0).values
        inherited = {path: value for entry in kept for path, value in generation(entry, family, lessons).items()}
        results += _errors(batches, coefficients, values | inherited, tuple(others))
    return results


def _of_relatives(
    lessons: list[Batch], coefficients: str, favoured: tuple[str, ...], kept: tuple[str, ...]
) -> dict[str, float]:
    """What relatives' rows tell; nothing where there are none."""
    theirs = [batch for batch in lessons if batch.sheet.device.family in favoured]
    if not any(is_own(batch, coefficients) for batch in theirs):
        return {}
    return fit_all(theirs, coefficients, without=kept, steps=6, polish=0).values


def relatives(family: str) -> tuple[str, ...]:
    """A family and those whose engines are fed alike, the older first."""
    return next((kin for kin in KIN if family in kin), (family,))


def streamed(family: str) -> tuple[str, ...]:
    """A family and those that copy by the same means: engines of their own since Hopper, threads before.

    >>> streamed("ada"), streamed("blackwell")
    (('ada',), ('hopper', 'blackwell'))
    """
    kin = relatives(family)
    return kin if "hopper" in kin else (family,)


def generation(entry: str, family: str, lessons: Iterable[Batch]) -> dict[str, float]:
    """What a family's machines draw per operation by format, where their rows tell: the median of its own family, or of a
    relative's; nothing where no relative is known. Relatives draw alike at one clock: L40S 1.09 times what A100 and RTX A6000
    do, B200 0.90 times what H100 does.
    """
    drawn: dict[tuple[str, str], dict[str, float]] = {}
    for batch in lessons:
        values = getattr(batch.sheet.coefficients.gemm, entry)
        for name, _ in products(batch.work):
            if values.get(name):
                drawn.setdefault((batch.sheet.device.family, name), {})[batch.sheet.name] = values[name]
    found: dict[str, float] = {}
    for teacher in sorted(relatives(family), key=lambda name: name != family):
        for (its, name), by_machine in drawn.items():
            if its == teacher:
                found.setdefault(f"{entry}.{name}", float(np.median(list(by_machine.values()))))
    return found


def sample(table: Table, largest: int = LARGEST_GROUP) -> Any:
    """At most ``largest`` rows of each machine, op, format and framework, spread evenly over their times."""
    columns = (table.text[name] for name in ("machine", "op", "dtype", "framework"))
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, key in enumerate(zip(*columns, strict=True)):
        groups.setdefault(key, []).append(i)
    measured = table.measured()
    kept = []
    for members in groups.values():
        order = np.array(members)[np.argsort(measured[members])]
        kept.append(order[np.linspace(0, len(order) - 1, min(len(order), largest)).astype(int)])
    return np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *kept]))


def neighbours(name: str, known: dict[str, list[Batch]]) -> list[str]:
    """The machines to learn from: those that have a format in common."""
    formats = _formats(known[name])
    return [other for other, batches in known.items() if other != name and formats & _formats(batches)]


def _formats(batches: list[Batch]) -> set[str]:
    """Formats in the rows, both 16-bit ones as one."""
    return {{"bf16": "fp16"}.get(dtype, dtype) for dtype in (batch.rows.text("dtype") for batch in batches)}


def _by_machine(batches: list[Batch], coefficients: str, kept: tuple[str, ...] = ()) -> dict[str, list[Batch]]:
    """Batches by machine, on sheets without fitted values of a table but for those in ``kept``."""
    found: dict[str, list[Batch]] = {}
    for batch in batches:
        own = getattr(batch.sheet.coefficients, coefficients)
        values = {f"{entry}.{name}": value for entry in kept for name, value in getattr(own, entry).items()}
        sheet = with_values(unfitted(batch.sheet, coefficients), coefficients, values)
        found.setdefault(batch.sheet.device.name, []).append(replace(batch, sheet=sheet))
    return found


def unfitted(machine: Machine, coefficients: str) -> Machine:
    """The machine with the common coefficients of a table instead of its family's and its own.

    What they say of libraries is forgotten where relatives teach first: it goes with the other common numbers.
    """
    plain = without_own(machine, coefficients, "generic")
    if coefficients not in KIN_FIRST:
        return plain
    table = plain.device.coefficients[coefficients]
    told = [name for name, bounds in LATER[coefficients].items() if bounds.each == "library" and "." not in name]
    usual = {name: {"default": table[name]["default"]} for name in told}
    overridden = dict(plain.device.coefficients) | {coefficients: table | usual}
    return replace(plain, device=msgspec.structs.replace(plain.device, coefficients=overridden))


def without_own(machine: Machine, coefficients: str, family: str) -> Machine:
    """The machine with a family's coefficients of a table instead of its own."""
    plain = msgspec.structs.replace(machine.device, family=family, coefficients={})
    common: dict[str, Any] = msgspec.to_builtins(getattr(coefficients_of(plain), coefficients))
    overridden = dict(machine.device.coefficients) | {coefficients: common}
    return replace(machine, device=msgspec.structs.replace(machine.device, coefficients=overridden))


def _errors(
    batches: list[Batch], coefficients: str, values: dict[str, float], fitted_on: tuple[str, ...]
) -> list[LeftOut]:
    groups: dict[tuple[str, str], list[Batch]] = {}
    for batch in batches:
        groups.setdefault((batch.rows.text("op"), batch.rows.text("dtype")), []).append(batch)
    results = []
    for (op, dtype), found in sorted(groups.items()):
        long = np.concatenate([measured_s(batch) for batch in found]) >= SHORT_S
        residuals = log_errors(found, coefficients, values)[long]
        if len(residuals):
            ape = np.abs(np.expm1(residuals))
            mdape, p90 = float(np.median(ape)), float(np.percentile(ape, 90))
            bias = float(np.exp(residuals.mean()))
            machine = found[0].sheet.device.name
            results.append(LeftOut(coefficients, f"{op} {dtype}", machine, fitted_on, len(ape), mdape, p90, bias))
    return results
