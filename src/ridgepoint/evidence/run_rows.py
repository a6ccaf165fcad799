"""Rows of whole runs as scenarios, and their predicted figures (design §8).

Rows that share a model, a machine and everything that is text become one scenario whose task and plan hold arrays; the
reader of their task gives a figure for every metric, from which each row takes its own. A row that no scenario of this
version describes is counted with its reason, never dropped.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ridgepoint.errors import RidgepointError
from ridgepoint.evidence.derived_figures import completed
from ridgepoint.evidence.memory_rows import memory_figures
from ridgepoint.evidence.rows import InexpressibleError, Rows
from ridgepoint.evidence.run_scenarios import TUNED, Figure, Figures, found_machine, found_model, is_tuned
from ridgepoint.evidence.serve_rows import serving_figures
from ridgepoint.evidence.stated_units import of_devices, time_of
from ridgepoint.evidence.step_rows import described, stand_in, step_figures
from ridgepoint.evidence.tables import Table
from ridgepoint.evidence.train_rows import training_figures
from ridgepoint.evidence.tuned_rows import stated_engine, tuned_figures
from ridgepoint.evidence.validate import Predicted
from ridgepoint.evidence.vision_rows import network_figures
from ridgepoint.evidence.whole_runs import TOTAL, as_steps, whole_run
from ridgepoint.machines.machine import Machine
from ridgepoint.models.architecture import Model
from ridgepoint.models.networks.network import Network
from ridgepoint.numeric import Num

Reader = Callable[[Rows, Model | Network, Machine], Figures]
READERS: dict[str, Reader] = {
    "forward": step_figures,
    "prefill": step_figures,
    "decode": step_figures,
    "generate": step_figures,
    "serve": serving_figures,
    "train_step": training_figures,
    "finetune_step": training_figures,
}
_TEXT = ("source", "machine", "framework", "model", "task", "precision", "kv_dtype", "recompute", "mode")
_SPLIT = ("devices", "nodes", "zero_stage")
_OPTIONAL = (
    *("batch", "prompt", "output", "concurrency", "image_px", "tp", "pp", "dp", "ep", "cp", "vp"),
    *("micro_batch", "global_batch"),
)
_RESULTS = frozenset(
    (
        *("repeats", "fraction_of_tdp", "avg_batch", "p99_itl_ms", "params", "grad_accum", "gmacs", "mparams"),
        *("mactivations", "min_ms", "target_qps", "submitter", "platform", "table", "iters", "fsdp"),
        *("release", "global_tokens_M", "micro_num", "software", "params_b", "active_params_b", "device", "hf", "name"),
        *("family", "variant_id", "sched", "section", "tdp_w"),
    )
)
"""Keys of ``extra`` that say nothing about the scenario's form: numbers of each row, or results. No reader of runs asks for
one as a tag, which is that of the group's first row."""


STAND_IN_SPREAD = 1.5
"""How much wider the interval is where another engine stands in."""


def run_groups(table: Table) -> list[Rows]:
    """Rows that one scenario with arrays describes, in order of first appearance."""
    found: dict[tuple[object, ...], list[int]] = {}
    stated = np.stack([~np.isnan(table.numbers[name]) for name in _OPTIONAL], axis=1)
    for i, texts in enumerate(zip(*(table.text[name] for name in _TEXT), strict=True)):
        numbers = tuple(str(table.numbers[name][i]) for name in _SPLIT)
        extra = table.extra[i]
        tags = tuple((key, str(extra[key])) for key in sorted(extra) if key not in _RESULTS)
        key = (*texts, *numbers, stated[i].tobytes(), tags)
        found.setdefault(key, []).append(i)
    return [Rows(table, np.array(index, dtype=np.int64)) for index in found.values()]


def predict_runs(table: Table, progress: Callable[[int], None] = lambda done: None) -> Predicted:
    """Predicted figures of every row of a ``runs`` or ``memory`` table, in the row's own unit; reasons for the others."""
    size = len(table)
    predicted, roofline, spread = (np.full(size, np.nan) for _ in range(3))
    refused: dict[int, str] = {}
    networks: list[tuple[Rows, Network, Machine]] = []
    done: list[tuple[Rows, Figures | str]] = []
    for rows in run_groups(table):
        try:
            steps = as_steps(rows)
            model, machine = found_model(steps), found_machine(steps)
            if isinstance(model, Network) and table.kind == "runs":
                networks.append((steps, model, machine))
                continue
            done += _singly(table.kind, steps, model, machine)
        except (InexpressibleError, RidgepointError) as error:
            done.append((rows, str(error).split("\n")[0]))
        progress(len(rows))
    together = network_figures(networks)
    done += [(rows, figures) for (rows, _, _), figures in zip(networks, together, strict=True)]
    progress(sum(len(rows) for rows, _, _ in networks))
    for rows, figures in done:
        figures = _whole(table, rows, figures)
        for place, i in enumerate(rows.index):
            metric, task, unit = (table.text[name][i] for name in ("metric", "task", "unit"))
            figure, scale = _asked(figures, metric, task, unit), _scale(metric, task, unit, table.numbers["devices"][i])
            if isinstance(figure, str) or isinstance(scale, str):
                refused[int(i)] = figure if isinstance(figure, str) else str(scale)
            elif not np.isfinite(value := _at(figure.value, place) * scale):
                refused[int(i)] = "the prediction is not finite: sizes that the layout cannot hold"
            elif value <= 0.0 and metric != "fits":
                refused[int(i)] = f"{metric} is predicted as none: the model does not fit"
            else:
                predicted[i], roofline[i], spread[i] = (
                    value,
                    _at(figure.roofline, place) * scale,
                    _at(figure.spread, place),
                )
    unknown = np.array([name != "" for name in stand_ins_of(table)])
    spread = np.where(unknown, spread * STAND_IN_SPREAD, spread)
    # A yes or no counts 2 or 1, so that ratios and their logarithms exist.
    answer = np.array([metric == "fits" for metric in table.text["metric"]], dtype=float)
    return Predicted(table, table.measured() + answer, predicted + answer, roofline, spread, refused, [])


def _whole(table: Table, rows: Rows, figures: Figures | str) -> Figures | str:
    """The figures of whole runs where the table's rows are such, or why they have none."""
    try:
        return figures if isinstance(figures, str) else whole_run(Rows(table, rows.index), figures)
    except InexpressibleError as error:
        return str(error)


def _asked(figures: Figures | str, metric: str, task: str, unit: str) -> Figure | str:
    """The figure of a row's metric, or why there is none."""
    if isinstance(figures, str):
        return figures
    name = metric if task == TOTAL else time_of(metric, unit)
    found = figures.get(name, figures.get(metric) if name == "step_s" else None)
    return found or f"{metric} of {task}{f' in {unit}' if name != metric else ''} has no prediction"


def _scale(metric: str, task: str, unit: str, devices: float) -> float | str:
    """What brings a figure to the row's unit, or why nothing does."""
    try:
        return of_devices(metric, task, unit, 1.0 if np.isnan(devices) else devices)
    except InexpressibleError as error:
        return str(error)


def stand_ins_of(table: Table) -> list[str]:
    """The engine that predicts each row in place of software that nobody described; empty where its own does."""
    columns = (table.text[name] for name in ("source", "framework", "mode", "task"))
    return [
        ""
        if described(source, framework, mode) or (framework == TUNED and stated_engine(extra))
        else stand_in(task, mode)
        for source, framework, mode, task, extra in zip(*columns, table.extra, strict=True)
    ]


def _singly(kind: str, rows: Rows, model: Model | Network, machine: Machine) -> list[tuple[Rows, Figures | str]]:
    """Figures of all rows at once; one by one where some sizes among them are impossible."""
    try:
        return [(rows, _figures(kind, rows, model, machine))]
    except RidgepointError as error:
        if len(rows) == 1:
            return [(rows, str(error).split("\n")[0])]
    halves = np.array_split(rows.index, 2)
    return [found for half in halves for found in _singly(kind, Rows(rows.table, half), model, machine)]


def _figures(kind: str, rows: Rows, model: Model | Network, machine: Machine) -> Figures:
    if kind == "memory":
        return memory_figures(rows, model, machine)
    reader = tuned_figures if is_tuned(rows) else READERS.get(rows.text("task"))
    if reader is None:
        raise InexpressibleError(f"task {rows.text('task')} has no scenario")
    return completed(reader(rows, model, machine), rows, float(machine.devices))


def _at(value: Num, place: int) -> float:
    array = np.asarray(value, dtype=float)
    return float(array if array.ndim == 0 else array[place])


def run_names(table: Table) -> list[str]:
    """Task, framework (with its mode where it has several), precision and metric of every row: the groups of a report."""
    modes = [mode if mode in ("eager", "compiled") else "" for mode in table.text["mode"]]
    columns = (table.text["task"], table.text["framework"], modes, table.text["precision"], table.text["metric"])
    return [" ".join(part for part in parts if part) for parts in zip(*columns, strict=True)]
