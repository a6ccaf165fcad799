"""``ridgepoint plan serve``: the cheapest fleet for a load within latency goals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ridgepoint.cli.citing import Citations, print_answer
from ridgepoint.cli.loads import LOAD, Arrivals, Output, Prompt, Rate, Seed, Trace, load_of
from ridgepoint.cli.numbers import per_second, whole_number
from ridgepoint.cli.output import print_json, progress_bar, teller
from ridgepoint.cli.panels import PLAN, Acts, Engine, Kv, Weights, valued
from ridgepoint.errors import RidgepointError
from ridgepoint.units import parse_count, parse_quantity

if TYPE_CHECKING:
    from ridgepoint.serving.offers import Space
    from ridgepoint.serving.outcome import Slo
    from ridgepoint.serving.workload import Requests

GOALS, FLEET, OUT = "Goals", "Fleet", "Output"


def serve(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model name, config.json, or folder with one")],
    devices: Annotated[str, valued("--devices", "NAME,…", "device types to choose from; NAME:N has at most N", FLEET)],
    trace: Trace = None,
    rate: Rate = None,
    prompt: Prompt = None,
    output: Output = None,
    arrivals: Arrivals = None,
    requests: Annotated[
        str | None, valued("--requests", "N", "requests to plan with (4000; a trace's: all)", LOAD)
    ] = None,
    ttft: Annotated[str | None, valued("--ttft", "TIME", "time to first token", GOALS)] = None,
    tpot: Annotated[str | None, valued("--tpot", "TIME", "mean time per further token", GOALS)] = None,
    attainment: Annotated[
        float, valued("--attainment", "P", "part of the requests that keeps them (0.9)", GOALS)
    ] = 0.9,
    power: Annotated[
        str | None, valued("--power", "W", "serve the most within a power budget instead: 1M is a megawatt", FLEET)
    ] = None,
    spare: Annotated[str | None, valued("--spare", "N", "replicas beyond need of every type in use (0)", FLEET)] = None,
    weights: Weights = None,
    acts: Acts = None,
    kv: Kv = None,
    formats: Annotated[
        str,
        valued("--formats", "NAME,…", "choose among given, bf16, fp8, int8, nvfp4, int4; +kv8: cache in 8 bits", PLAN),
    ] = "given",
    tp: Annotated[str | None, valued("--tp", "N", "tensor parallel degree (all are tried)", PLAN)] = None,
    pp: Annotated[str | None, valued("--pp", "N", "pipeline stages (1, 2 and 4 are tried)", PLAN)] = None,
    splits: Annotated[
        bool,
        typer.Option("--splits/--no-splits", help="also pools that read prompts apart", rich_help_panel=PLAN),
    ] = True,
    engine: Engine = "vllm",
    seed: Seed = 0,
    target: Annotated[
        str | None, valued("--emit", "TARGET", "print vllm, sglang, trtllm or kubernetes configuration", OUT)
    ] = None,
    citations: Citations = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.", rich_help_panel=OUT)] = False,
) -> None:
    """The cheapest fleet that serves a load within latency goals."""
    _check_target(target, power)
    names, limits = _devices(devices)
    if power is not None:
        _only_power(
            {"--rate": rate if trace is None else None, "--spare": spare, "a limit in --devices": limits or None}
        )
    usual = rate if power is None or rate is not None or trace is not None else "1"
    said = {"--trace": trace, "--rate": usual, "--prompt": prompt, "--output": output, "--arrivals": arrivals}
    asked = {
        "requests": _load(said, requests, seed),
        "devices": names,
        "slo": _goals(ttft, tpot),
        "attainment": attainment,
        "space": _space(weights, acts, kv, tp, pp, formats, engine, splits),
        "seed": seed,
    }
    if power is not None:
        _print_power(model, asked, parse_quantity(power, "W"), citations, as_json)
        return
    more = {"limits": limits, "spare": 0 if spare is None else whole_number("--spare", spare, least=0)}
    _print_fleet(model, asked | more, target, citations, as_json)


def _print_fleet(model: str, asked: dict[str, Any], target: str | None, citations: bool, as_json: bool) -> None:
    """Print the cheapest fleet for a rate, or what starts it."""
    from ridgepoint.report.fleet import document, page
    from ridgepoint.serving.fleet import plan_serve
    from ridgepoint.serving.launch import emit

    with progress_bar(as_json) as bar:
        found = plan_serve(model, progress=teller(bar, "device types"), **asked)
    written = None if target is None else emit(found, target)
    if as_json:
        print_json(document(found) | ({} if written is None else {"emit": {"target": target, "text": written}}))
    elif written is not None:
        print(written)
    else:
        print_answer(lambda width: page(found, width), found.citations if citations else ())


def _print_power(model: str, asked: dict[str, Any], budget_w: float, citations: bool, as_json: bool) -> None:
    """Print what a power budget serves."""
    from ridgepoint.report.power_plan import document, page
    from ridgepoint.serving.power_plan import plan_power

    with progress_bar(as_json) as bar:
        found = plan_power(model, budget_w=budget_w, progress=teller(bar, "device types"), **asked)
    if as_json:
        print_json(document(found))
        return
    print_answer(lambda width: page(found, width), found.citations if citations else ())


def _check_target(target: str | None, power: str | None) -> None:
    from ridgepoint.serving.launch import TARGETS

    if target is not None and target not in TARGETS:
        raise RidgepointError("unknown_target", f"unknown --emit '{target}'", "use one of " + ", ".join(TARGETS))
    if target is not None and power is not None:
        raise RidgepointError("bad_option", "--emit writes a fleet for a rate", "leave --power out, or --emit")


def _goals(ttft: str | None, tpot: str | None) -> Slo:
    from ridgepoint.serving.outcome import Slo

    return Slo(*(None if v is None else parse_quantity(v, "s") for v in (ttft, tpot)))


def _space(
    weights: str | None,
    acts: str | None,
    kv: str | None,
    tp: str | None,
    pp: str | None,
    formats: str,
    engine: str,
    splits: bool,
) -> Space:
    """The layouts and formats to choose among."""
    from ridgepoint.plan import Plan
    from ridgepoint.serving.offers import Space

    degrees = [None if value is None else parse_count(value) for value in (tp, pp)]
    chosen = tuple(filter(None, (name.strip() for name in formats.split(","))))
    return Space(
        Plan(weights=weights, acts=acts, kv=kv, tp=degrees[0], pp=degrees[1]), engine, chosen or ("given",), splits
    )


def _only_power(said: dict[str, Any]) -> None:
    """Refuse what says something about a fleet for a rate: with ``--power`` the budget says how many requests there are."""
    for option, value in said.items():
        if value is not None:
            raise RidgepointError(
                "bad_usage",
                f"{option} says nothing about the most that a power budget serves",
                "leave it or --power out",
            )


def _devices(text: str) -> tuple[tuple[str, ...], dict[str, int]]:
    """Names, and how many of each there are at most.

    >>> _devices("a10, h100-sxm:16")
    (('a10', 'h100-sxm'), {'h100-sxm': 16})
    """
    names, limits = [], {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, colon, most = part.partition(":")
        names.append(name)
        if colon:
            if not most.isdecimal():
                raise RidgepointError("bad_option", f"--devices says '{part}'", "write a limit like h100-sxm:16")
            from ridgepoint.machines.catalog import find_device

            limits[find_device(name).name] = int(most)
    if not names:
        raise RidgepointError("bad_option", "--devices names none", "write it like --devices a10,h100-sxm")
    return tuple(names), limits


def _load(said: dict[str, Any], requests: str | None, seed: int) -> Requests:
    count = None if requests is None else whole_number("--requests", requests)
    if said["--trace"] is None and said["--rate"] is None:
        raise RidgepointError("bad_usage", "say what arrives: --trace or --rate", "add --trace FILE or --rate 10")
    drawn = load_of(said, count if count is not None or said["--trace"] is not None else 4000, seed)
    # A sample's own rate differs by chance from the one that is asked for, which a fleet is sized for.
    return drawn if said["--trace"] is not None or len(drawn) < 2 else drawn.at_rate(per_second(said["--rate"]))
