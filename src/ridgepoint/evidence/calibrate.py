"""Fitting a machine's coefficients to measured kernels (design §4): few parameters, robust, within physical bounds.

``free.PARAMETERS`` says which coefficients of a table are free and within which bounds. A fit changes one table at a time;
rows are those whose kernels the table prices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ridgepoint.cost.evaluate import evaluate
from ridgepoint.errors import RidgepointError
from ridgepoint.evidence.free import COARSE, COARSE_S, LATER, OPS, OTHER, PARAMETERS, STARTS, Bounds
from ridgepoint.evidence.rows import Batch, Condition, Rows
from ridgepoint.formats import multiply_format
from ridgepoint.kernels.rates import product_name
from ridgepoint.kernels.unknown import rules_of
from ridgepoint.machines.calibration import Fit, Parameter, fit, robust_spread
from ridgepoint.machines.machine import CLOCK_EXPONENT, Machine
from ridgepoint.numeric import Array
from ridgepoint.ops import Attention, Conv, Gemm, Stream
from ridgepoint.work import Work, ops

# Below this the clock's resolution and launches dominate: such rows count less.
SHORT_S, SHORT_WEIGHT = 5e-6, 0.3


def with_values(machine: Machine, table: str, values: Mapping[str, float]) -> Machine:
    """The machine with some coefficients of one table replaced; ``efficiency.bf16`` reaches into a table of formats."""
    current: dict[str, Any] = msgspec.to_builtins(getattr(machine.coefficients, table))
    for path, value in values.items():
        name, _, key = path.partition(".")
        current[name] = current[name] | {key: value} if key else value
    overridden = dict(machine.device.coefficients) | {table: current}
    return replace(machine, device=msgspec.structs.replace(machine.device, coefficients=overridden))


def measured_s(batch: Batch) -> Array:
    """The measured seconds of a batch's rows."""
    return np.asarray(batch.rows.table.measured()[batch.rows.index] * 1e-6)


def log_errors(batches: Iterable[Batch], table: str, values: Mapping[str, float]) -> Array:
    """log(predicted / measured) of every row of the batches under these values."""
    machines: dict[tuple[str, Condition], Machine] = {}
    parts = []
    for batch in batches:
        key = (batch.sheet.name, batch.condition)
        if key not in machines:
            machines[key] = batch.condition.of(with_values(batch.sheet, table, values))
        predicted = evaluate(batch.work, machines[key], strict=True).time_s
        parts.append(np.log(predicted / measured_s(batch)))
    return np.concatenate(parts) if parts else np.zeros(0)


def weights(batches: list[Batch], favoured: tuple[str, ...] = ()) -> Array:
    """Rows below 5 µs count less, and every format as the square root of its rows, so that none is drowned.

    Machines of ``favoured`` families count four times.
    """
    size: dict[tuple[str, str], int] = {}
    for batch in batches:
        size[_label(batch)] = size.get(_label(batch), 0) + len(batch.rows)
    parts = [
        np.where(measured_s(batch) >= SHORT_S, 1.0, SHORT_WEIGHT)
        * (4.0 if batch.sheet.device.family in favoured else 1.0)
        / np.sqrt(size[_label(batch)])
        for batch in batches
    ]
    joined = np.concatenate(parts)
    return np.asarray(joined / joined.mean())


def _label(batch: Batch) -> tuple[str, str]:
    return batch.rows.text("machine"), batch.rows.text("dtype")


def products(work: Work) -> set[tuple[str, str]]:
    """The matrix products of a work: what the tables call each, and the format that it is computed in."""
    return {
        (product_name(op.acts, op.weights), multiply_format(op.acts, op.weights))
        for op in ops(work)
        if isinstance(op, Gemm)
    }


def entries(batches: list[Batch], each: str) -> list[str]:
    """The entries that the rows can tell of a coefficient with one value for ``each`` product, format, pattern, library.

    What most rows of a kind are is the entry ``default``: elementwise streams, 16-bit attention and convolutions.
    """
    if each == "library":
        return sorted({batch.condition.library for batch in batches} - {""})
    priced = [(batch.sheet, op) for batch in batches for op in ops(batch.work)]
    if each == "grouped product":
        return [f"grouped-{name}" for name in entries(batches, "product")]
    if each == "product":
        return sorted({name for batch in batches for name, _ in products(batch.work)})
    if each == "pattern":
        found = {op.pattern for _, op in priced if isinstance(op, Stream)}
    elif each == "format":
        found = {s.arithmetic(multiply_format(op.acts, op.kv)).format for s, op in priced if isinstance(op, Attention)}
    else:
        found = {s.arithmetic(multiply_format(op.acts, op.weights)).format for s, op in priced if isinstance(op, Conv)}
    return sorted({"default" if name in _USUAL else name for name in found})


_USUAL = ("elementwise", "bf16", "fp16", "fp32")


def parameters(
    batches: list[Batch], table: str, free: Mapping[str, Bounds], fixed: Mapping[str, float]
) -> list[Parameter]:
    """The free parameters of a table that are not fixed, started at the machine's present values."""
    current: dict[str, Any] = msgspec.to_builtins(getattr(batches[0].sheet.coefficients, table))
    formats = dict(sorted(set().union(*(products(batch.work) for batch in batches))))
    found = []
    for name, bounds in free.items():
        if "." in name and name.partition(".")[0] in free:
            continue  # bounds of one entry
        for path in [f"{name}.{key}" for key in entries(batches, bounds.each)] if bounds.each else [name]:
            if path in fixed or path.replace("grouped-", "") in fixed:
                continue
            table_name, _, key = path.partition(".")
            start = current[table_name].get(key, current[table_name]["default"]) if key else current[table_name]
            limits = free.get(path, bounds)
            drawn = name == "joule_per_flop"
            if drawn:
                limits, start = _power_bounds([batch.sheet for batch in batches], formats[key], start)
            start = min(max(start, limits.low), limits.high)
            found.append(Parameter(path, start, limits.low, limits.high, held=not drawn))
    return found


def _power_bounds(machines: Iterable[Machine], format_name: str, start: float) -> tuple[Bounds, float]:
    """Energy per operation between the power limit at peak rate (no cap on any of the machines) and thirty times that."""
    capped = [
        machine.device.power.tdp
        / machine.arithmetic(format_name).flop_per_s
        / (float(machine.device.chip.clock) / 1e9) ** (CLOCK_EXPONENT - 1.0)
        for machine in {machine.device.name: machine for machine in machines}.values()
        if machine.device.power.tdp is not None
    ]
    if not capped:
        return Bounds(1e-14, 1e-10), start or 1e-12
    least = min(capped)
    return Bounds(least, 30.0 * least), start or 2.0 * least


def fit_table(
    batches: list[Batch],
    table: str,
    fixed: Mapping[str, float] | None = None,
    free: Mapping[str, Bounds] | None = None,
    favoured: tuple[str, ...] = (),
    **options: Any,
) -> Fit:
    """The values of a table that fit the batches best; ``fixed`` values are kept, ``free`` ones are those of the table."""
    if not batches:
        raise RidgepointError("no_data", f"no row prices the table '{table}'", "give a table with rows of its ops")
    kept = dict(fixed or {})
    usual = parameters(batches, table, PARAMETERS[table] if free is None else free, kept)
    results = [
        fit(
            started,
            lambda values: log_errors(batches, table, {**kept, **values}),
            weights(batches, favoured),
            other=OTHER.get(table, np.inf),
            **options,
        )
        for started in _starts(usual, table)
    ]
    least = min(result.loss for result in results)
    best = next(result for result in results if result.loss <= 1.01 * least)
    return replace(best, values={**kept, **best.values})


def _starts(usual: list[Parameter], table: str) -> list[list[Parameter]]:
    """The parameters from their present values, and from others of the one that decides which optimum a fit falls into."""
    name, values = STARTS.get(table, ("", ()))
    if all(parameter.name != name for parameter in usual):
        return [usual]
    others = [[replace(p, start=value) if p.name == name else p for p in usual] for value in values]
    return [*others, usual]


def fit_all(
    batches: list[Batch],
    table: str,
    fixed: Mapping[str, float] | None = None,
    without: tuple[str, ...] = (),
    **options: Any,
) -> Fit:
    """The whole table from the rows of its ops, then what belongs to groups; a fit of what the rows can tell.

    ``without`` names coefficients that keep their present values. The spread and the error are those of all rows that the
    table prices, the grouped ones included.
    """
    batches = [batch for batch in batches if is_priced(batch, table)]
    own = [batch for batch in batches if is_own(batch, table)]
    later = [batch for batch in batches if not is_own(batch, table)]
    free = {name: bounds for name, bounds in PARAMETERS[table].items() if name not in without}
    if own and table in COARSE and np.percentile(np.concatenate([measured_s(batch) for batch in own]), 5) > COARSE_S:
        free = {name: bounds for name, bounds in free.items() if name in COARSE[table]}
    result = fit_table(own, table, fixed, free, **options)
    if not later:
        return result
    of_others = {name: bounds for name, bounds in LATER[table].items() if name not in without}
    second = fit_table(later, table, result.values, of_others, **options)
    # The interval is that of the table's own kernels; in groups of experts they are the usual ones too.
    told = own + later if table == "gemm" else own
    residuals = log_errors(told, table, second.values)
    error = float(np.median(np.abs(np.expm1(residuals))))
    return replace(second, spread=robust_spread(residuals), median_error=error)


def is_priced(batch: Batch, table: str) -> bool:
    """Whether any op of the rows' work asks the table."""
    return any(rules_of(op).table == table for op in ops(batch.work))


def is_own(batch: Batch, table: str) -> bool:
    """Whether the rows are kernels that the table describes itself; those of named libraries are fitted after them."""
    return batch.rows.text("op") in OPS[table] and (table == "gemm" or not batch.condition.library)


def cross_validated(batches: list[Batch], table: str, hold: float = 0.0, folds: int = 3) -> Fit:
    """Residuals of rows held back in blocks of shapes: each fold is predicted from a fit to the others.

    A block is a decade of measured time, so that a fit is tried on sizes that it did not see in that number. Values are
    those of the last fold; spread and error are over all rows held back.
    """
    order = [place for batch in batches for place in _blocks(batch, folds)]
    residuals = []
    result = Fit({}, 0.0, 0.0, 0.0)
    for fold in range(folds):
        kept = [part for part, number in order if number != fold]
        held = [part for part, number in order if number == fold]
        if not held or not any(is_own(part, table) for part in kept):
            continue
        result = fit_all(kept, table, steps=8, polish=0, hold=hold)
        told = held if table == "gemm" else [batch for batch in held if is_own(batch, table)]
        residuals.append(log_errors(told, table, result.values))
    if not residuals:
        raise RidgepointError("no_data", "too few rows to hold any back", "give a table with more shapes")
    found = np.concatenate(residuals)
    return replace(result, spread=robust_spread(found), median_error=float(np.median(np.abs(np.expm1(found)))))


def _blocks(batch: Batch, folds: int) -> list[tuple[Batch, int]]:
    """The batch cut into blocks of neighbouring times, and the fold that each belongs to."""
    block = np.floor(4.0 * np.log10(measured_s(batch))).astype(int) % folds
    return [(part(batch, np.flatnonzero(block == number)), number) for number in np.unique(block).tolist()]


def part(batch: Batch, keep: NDArray[np.int64]) -> Batch:
    """Some rows of a batch, expressed anew."""
    return batch.expressed(Rows(batch.rows.table, batch.rows.index[keep]))
