"""``ridgepoint plan train``: the best layouts for a training run, searched exhaustively."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ridgepoint.cli.citing import Citations, print_answer
from ridgepoint.cli.files import Charts, Html, Perfetto, chart_files, write_charts, write_trace
from ridgepoint.cli.numbers import whole_number
from ridgepoint.cli.options import (
    ENGINE,
    FORMATS,
    LAYOUT,
    SETTINGS,
    TRAINING,
    compiled,
    filled,
    input_sizes,
    parameter,
    subjects,
)
from ridgepoint.cli.output import command_line, print_json, progress_bar, teller
from ridgepoint.errors import RidgepointError
from ridgepoint.request import Request, named_machine, plan_values
from ridgepoint.units import parse_count, parse_quantity

if TYPE_CHECKING:
    from ridgepoint.report.picture_file import Wanted
    from ridgepoint.training.answer import TrainPlan
    from ridgepoint.training.emit import Written
    from ridgepoint.training.schedule import TimeLine

PLAN = tuple(
    s
    for s in SETTINGS
    if s.panel in (FORMATS, LAYOUT, TRAINING, ENGINE) and s.table == "plan" and s.field not in ("kv", "speculated")
)
_RUN = "Run"
_SCALES = {"k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}


def takes_training(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameter ``request`` is filled from MODEL, ``--on`` and the options of plans that training knows."""
    subject = subjects()
    shared = [*subject, *(parameter(setting) for setting in PLAN)]
    return filled(command, shared, "request", _request, before=len(subject))


def _request(values: dict[str, Any]) -> Request:
    given = [(s, v) for s in PLAN if (v := values[s.parameter]) is not None]
    plan = {s.field: compiled(v) if s.field == "compiled" else v for s, v in given}
    said = {s.field: s.words.partition("/")[0] for s, _ in given}
    return Request(values["model"], values["machine"], "train", {}, plan, said=said)


@takes_training
def train(
    request: Request,
    global_batch: Annotated[
        str,
        typer.Option(
            "--global-batch", metavar="N", help="Per step: sequences, or tokens (4M-tokens).", show_default=False
        ),
    ],
    seq: Annotated[str, typer.Option("--seq", metavar="N", help="Tokens of a sequence; 8k = 8192.")] = "8k",
    sizes: Annotated[
        list[str] | None, typer.Option("--size", metavar="NAME=N", help="Of a network's input: image_px=512.")
    ] = None,
    tokens: Annotated[
        str | None,
        typer.Option(
            "--tokens",
            metavar="N",
            help="Of the whole run (samples of a network): 15T = 15·10¹².",
            rich_help_panel=_RUN,
        ),
    ] = None,
    objective: Annotated[
        str, typer.Option("--objective", metavar="NAME", help="time, cost or energy.", rich_help_panel=_RUN)
    ] = "time",
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", metavar="SIZE", help="Most per device: 70G.", rich_help_panel=_RUN)
    ] = None,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="Layouts to show.", rich_help_panel=_RUN)] = 10,
    mtbf_hours: Annotated[
        float,
        typer.Option("--mtbf", metavar="HOURS", help="Between failures of one device.", rich_help_panel=_RUN),
    ] = 50_000.0,
    restart: Annotated[
        str,
        typer.Option(
            "--restart", metavar="TIME", help="From a failure to the start from a checkpoint.", rich_help_panel=_RUN
        ),
    ] = "10min",
    blocking: Annotated[
        bool, typer.Option("--blocking-checkpoints", help="Checkpoints stop the training.", rich_help_panel=_RUN)
    ] = False,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Also smaller and larger machines.", rich_help_panel=_RUN)
    ] = False,
    schedule: Annotated[
        bool, typer.Option("--gantt", help="Draw the best layout's pipeline.", rich_help_panel=_RUN)
    ] = False,
    html: Html = None,
    chart: Charts = None,
    perfetto: Perfetto = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--emit",
            metavar="TARGET",
            help="Print the best layout as megatron, deepspeed, fsdp or torchtitan configuration.",
            rich_help_panel=_RUN,
            show_default=False,
        ),
    ] = None,
    citations: Citations = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.", rich_help_panel=_RUN)] = False,
) -> None:
    """The best layouts for a training run: every one that could run is tried."""
    length = whole_number("--seq", seq)
    _check_network(request.model, global_batch, target)
    files = chart_files(chart)
    asked = {
        "batch": sequences(global_batch, length),
        "seq": length,
        "inputs": {name: parse_count(value) for name, value in input_sizes(sizes).items()},
        "tokens": None if tokens is None else parse_tokens(tokens),
        "objective": objective,
        "max_memory": None if max_memory is None else parse_quantity(max_memory, "B"),
        "top": top,
        "mtbf_hours": mtbf_hours,
        "restart_s": parse_quantity(restart, "s"),
        "background": not blocking,
        "scaling": scaling,
    }
    found = _found(request, asked, target, as_json)
    line = _line(found) if schedule else None
    _write_files(found, html, perfetto, files)
    written = None if target is None else _written(found, target)
    _answer(found, written, line, citations, as_json)


def _found(request: Request, asked: dict[str, Any], target: str | None, as_json: bool) -> TrainPlan:
    """The plan: what is asked, and what the framework that it is for decides."""
    from ridgepoint.training.planner import plan_train

    machine = named_machine(request.machine)
    own = {} if target is None else _settings_of(target)
    with progress_bar(as_json) as bar:
        told = teller(bar, "layouts")
        return plan_train(request.model or "", on=machine, progress=told, **asked, **{**own, **plan_values(request)})


def _check_network(model: str | None, batch: str, target: str | None) -> None:
    """Refuse what is said of sequences where a network is trained."""
    from ridgepoint.models.networks.network import Network
    from ridgepoint.scenario import find

    found = find(model) if model else None
    if not isinstance(found, Network):
        return
    if batch.rstrip("s").endswith("token"):
        raise RidgepointError(
            "bad_count", f"{found.name} reads samples, no tokens", "give --global-batch in samples: 1024"
        )
    if target is not None:
        raise RidgepointError(
            "bad_model", f"{found.name} is a network; configurations are written for transformers", "leave --emit out"
        )


def _line(found: TrainPlan) -> TimeLine | None:
    """The best layout's schedule, for ``--gantt``."""
    from ridgepoint.training.timeline import has_pipeline, timeline

    if has_pipeline(found.best.estimate):
        return timeline(found.best)
    typer.echo("ridgepoint: the best layout has one stage, so that --gantt draws nothing (try --pp 2)", err=True)
    return None


def _write_files(found: TrainPlan, html: Path | None, perfetto: Path | None, charts: list[Wanted]) -> None:
    """Charts are those of the best layout's step."""
    if html is not None:
        from ridgepoint.files import write_whole
        from ridgepoint.report.html_train import train_plan_page

        write_whole(html, train_plan_page(found, command_line()))
    if charts:
        from ridgepoint.report.charts import pictures

        write_charts(charts, lambda: pictures(found.best.estimate), f"{found.model.name} on {found.machine.name}")
    if perfetto is not None:
        write_trace(found.best.estimate, perfetto)


def _written(found: TrainPlan, target: str) -> Written:
    from ridgepoint.training.emit import emit

    return emit(found, target)


def _answer(found: TrainPlan, written: Written | None, line: TimeLine | None, citations: bool, as_json: bool) -> None:
    """The document, the configuration, or the page."""
    from ridgepoint.report.train_plan import page

    if as_json:
        print_json(found.to_dict() | ({} if written is None else {"emit": written.to_dict()}))
    elif written is not None:
        print(written.text)
        for note in written.notes:
            typer.echo(f"# {note}", err=True)
    else:
        print_answer(lambda width: page(found, width, line), found.citations if citations else ())


def _settings_of(target: str) -> dict[str, Any]:
    """What a plan for a framework takes over from it; an unknown ``--emit`` is refused before anything is searched."""
    from ridgepoint.training.emit import SETTINGS

    if target not in SETTINGS:
        raise RidgepointError("unknown_target", f"unknown --emit '{target}'", "use one of " + ", ".join(SETTINGS))
    return SETTINGS[target]


def sequences(text: str, seq: float) -> int:
    """The batch in sequences, from sequences or tokens.

    >>> sequences("512", 8192.0), sequences("4M-tokens", 8192.0)
    (512, 512)
    """
    number, unit, rest = text.partition("-")
    count = parse_count(number.strip())
    if unit:
        if rest.strip() not in ("tokens", "token", "sequences", "samples"):
            raise RidgepointError("bad_count", f"--global-batch is '{text}'", "write it like 512 or 4M-tokens")
        count = count / seq if rest.strip().startswith("token") else count
    if count < 1 or count != int(count):
        near = max(round(count), 1)
        raise RidgepointError(
            "bad_count",
            f"--global-batch {text} is {count:g} sequences of {seq:g} tokens",
            f"use whole ones, such as {near} ({near * seq:,.0f} tokens)",
        )
    return int(count)


def parse_tokens(text: str) -> float:
    """Tokens of a run, in powers of ten as runs are told.

    >>> parse_tokens("15T"), parse_tokens("300B")
    (15000000000000.0, 300000000000.0)
    """
    scale = _SCALES.get(text[-1:], 1.0)
    try:
        number = float(text[:-1] if text[-1:] in _SCALES else text) * scale
    except ValueError:
        number = 0.0
    if not 0.0 < number < float("inf"):
        raise RidgepointError("bad_count", f"--tokens is '{text}'", "write it like 300B or 15T")
    return number
